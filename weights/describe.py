"""What is known of an opened checkpoint, as JSON: the result of `zoo inspect`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from math import prod
from typing import Any

from weights.recognise import Candidate
from zoo.language.diff import differences, matters, same_network
from zoo.language.model import Model


def question(candidates: Sequence[Candidate]) -> str:
    """The text of an error: which flavours a file may be of, and what differs between them."""
    first, *others = flavours(candidates)
    texts = (f"{other.name} ({_differences(first, other)})" for other in others)
    return f"its names fit {first.name}, and also {'; '.join(texts)}. Say which it is: --model, or model="


def flavours(candidates: Sequence[Candidate]) -> list[Model]:
    """The networks of the candidates, each once."""
    return list({candidate.model.name: candidate.model for candidate in candidates}.values())


def describe(opened: Any) -> dict[str, Any]:
    """What is known of the file of a `weights.Checkpoint`, and of the arrays that are read from it.

    `model` is the network that the arrays are for, `converted_from` the file's own network if that is another flavour,
    and `possible` are the other flavours that its names fit. `preprocess_of` says where the preprocessing comes from
    (`Checkpoint.preprocess_from`) or, if `preprocess_known` is false, whose preprocessing is assumed.
    """
    chosen = opened.chosen.model if opened.chosen else None
    all_flavours = flavours(opened.candidates)
    one = opened.wanted or chosen or all_flavours[0]
    same = [c for c in opened.candidates if chosen is None or same_network(c.model, chosen)]
    others = [other for other in all_flavours if chosen is None or other not in [c.model for c in same]]
    fed = chosen or one
    assumed = opened.metadata.get("preprocess_assumed") or (fed.publishers[0] if fed.publishers else fed.name)
    return {
        "file": str(opened.path),
        "format": opened.format,
        "sources": list(dict.fromkeys(c.source for c in same)),
        "model": one.name if chosen else None,
        "converted_from": chosen.name if chosen and opened.wanted else None,
        "possible": [
            {
                "model": other.name,
                "differs_in": [d._asdict() for d in differences(chosen or one, other) if matters(d)],
            }
            for other in others
        ],
        "num_classes": one.num_classes,
        "class_names": opened.class_names,
        "in_channels": one.in_channels,
        "width": one.width,
        "aux": [aux.name for aux in one.aux],
        "classifier": not any(candidate.trunk for candidate in opened.candidates),
        "moving_average": opened.has_average,
        "tensors": len(opened.tensors),
        "elements": sum(prod(tensor.shape) for tensor in opened.tensors.values()),
        "dtypes": dict(Counter(tensor.dtype for tensor in opened.tensors.values())),
        "preprocess_known": bool(opened.preprocess_from),
        "preprocess": {"size": one.size, **asdict(one.preprocess)},
        "preprocess_of": opened.preprocess_from or assumed,
        "removed": opened.removed,
        "notes": opened.notes,
        "operations": opened.done,
        "metadata": opened.metadata,
    }


def _differences(first: Model, second: Model) -> str:
    texts = []
    for difference in differences(first, second):
        text = f"{difference.what} {difference.second} for {difference.first}"
        if text not in texts and matters(difference):
            texts.append(text)
    more = f", and {len(texts) - 3} more" if len(texts) > 3 else ""
    return ", ".join(texts[:3]) + more
