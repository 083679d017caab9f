"""The 1,000 classes of ImageNet's ILSVRC-2012, in the order of their synsets, which all publishers use.

imagenet_classes.txt has a line for each: the synset's number in WordNet 3.0, and its words. There, more words tell the
two synsets "crane" apart; in WordNet, only their definitions do.
"""

from __future__ import annotations

from collections import Counter
from functools import cache
from importlib.resources import files

BACKGROUND = "background"
"""The first of 1,001 classes, in networks that are trained with TF-slim's labels."""


@cache
def synsets() -> tuple[tuple[str, str], ...]:
    """For each class, the synset's number ("n01440764") and its words ("tench, Tinca tinca")."""
    text = (files("zoo.data") / "imagenet_classes.txt").read_text(encoding="utf-8")
    rows = (line.split("\t") for line in text.splitlines())
    return tuple((number, words) for number, words in rows)


@cache
def class_names(count: int = 1000) -> tuple[str, ...]:
    """A name for each of 1,000 or 1,001 classes: the first word of its synset, or all words where two share the first.

    Empty for other counts.
    """
    if count not in (1000, 1001):
        return ()
    first = Counter(words.split(", ")[0] for _, words in synsets())
    names = tuple(words if first[words.split(", ")[0]] > 1 else words.split(", ")[0] for _, words in synsets())
    return names if count == 1000 else (BACKGROUND, *names)
