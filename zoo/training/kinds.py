"""How a flag's value is read, from a word of the command line or from what YAML made of one."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal


@dataclass(frozen=True)
class Kind:
    """How a flag's value is read: from a word of the command line, or from what YAML made of one.

    read      the value; raises ValueError, TypeError or OverflowError for what is none
    expected  what to say then
    hint      what --help adds to the flag's help
    nargs     argparse's; with "+", `read` gets a list where there are several words
    repeats   whether a flag given again adds to what it was given before
    """

    read: Callable[[Any], Any]
    expected: str
    metavar: str
    hint: str = ""
    nargs: Literal["?", "+"] | None = None
    repeats: bool = False


def numeric(type_: type[int] | type[float], interval: str) -> Kind:
    """A finite number in an interval: `numeric(float, "[0, 1)")`."""
    low, high = (float(end) for end in interval[1:-1].split(","))
    above = operator.ge if interval[0] == "[" else operator.gt
    below = operator.le if interval[-1] == "]" else operator.lt

    def read(value: Any) -> int | float:
        if isinstance(value, bool) or not isinstance(value, str | int | type_):
            raise TypeError
        number = type_(value)
        if not (above(number, low) and below(number, high)):
            raise ValueError
        return number

    noun, metavar = ("an integer", "N") if type_ is int else ("a number", "X")
    return Kind(read, f"{noun} in {interval}", metavar, "" if "inf" in interval else f"; in {interval}")


def integer(interval: str) -> Kind:
    """An integer in an interval."""
    return numeric(int, interval)


def number(interval: str) -> Kind:
    """A finite number in an interval."""
    return numeric(float, interval)


def choice(*names: str, **aliases: str) -> Kind:
    """One of some words, in upper or lower case; an alias stands for one of them."""
    known = {name.lower(): name for name in names} | aliases

    def read(value: Any) -> str:
        try:
            return known[str(value).lower()]
        except KeyError:
            raise ValueError from None

    return Kind(read, f"one of {', '.join(names)}", "NAME", f"; one of {', '.join(names)}")


def several(kind: Kind, example: str, count: int = 0, order: Callable[[Any, Any], bool] | None = None) -> Kind:
    """A tuple of such values: `count` of them unless 0, each two neighbours in `order`."""

    def read(value: Any) -> tuple[Any, ...]:
        values = tuple(kind.read(part) for part in _parts(value))
        in_order = order is None or all(map(order, values, values[1:]))
        if not values or len(values) != (count or len(values)) or not in_order:
            raise ValueError
        return values

    how_many = {0: "numbers", 2: "two numbers", 3: "three numbers"}[count]
    expected = f"{how_many}, each {kind.expected}{', in rising order' if order else ''}, e.g. {example}"
    return Kind(read, expected, kind.metavar, kind.hint, nargs="+")


def either(*kinds: Kind) -> Kind:
    """What the first of these can read that can read it."""

    def read(value: Any) -> Any:
        for kind in kinds:
            try:
                return kind.read(value)
            except (ValueError, TypeError, OverflowError):
                continue
        raise ValueError

    nargs = next((kind.nargs for kind in kinds if kind.nargs), None)
    return replace(kinds[-1], read=read, expected=" or ".join(kind.expected for kind in kinds), nargs=nargs)


def maybe(kind: Kind) -> Kind:
    """Such a value or None, for which the words None and null stand, and no word at all."""
    return either(word("None", None, "", "none", "null"), kind)


def word(expected: str, meaning: Any, *words: str) -> Kind:
    """The one meaning of some words, or that meaning itself."""

    def read(value: Any) -> Any:
        if value is not meaning and str(value).lower() not in words:
            raise ValueError
        return meaning

    return Kind(read, expected, "")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _device(value: Any) -> str:
    if not re.fullmatch(r"cpu|gpu(:\d+)?", _text(value).lower()):
        raise ValueError
    return str(value).lower()


def _parts(value: Any) -> list[Any]:
    """The words or numbers in `0.08 1`, `0.08,1`, `(0.08, 1.0)`, [0.08, 1]."""
    values = value if isinstance(value, list | tuple) else [value]
    split = (re.split(r"[\s,()\[\]]+", v) if isinstance(v, str) else [v] for v in values)
    return [part for parts in split for part in parts if part != ""]


def _paths(value: Any) -> tuple[str, ...]:
    return tuple(path for path in map(_text, value if isinstance(value, list | tuple) else [value]) if path)


def _names(value: Any) -> tuple[str, ...]:
    return tuple(name.strip() for part in _paths(value) for name in part.split(",") if name.strip())


YES, NO = word("yes", True, "true", "yes", "on", "1"), word("no", False, "false", "no", "off", "0")
TEXT = Kind(_text, "text", "TEXT")
FILE = replace(TEXT, metavar="FILE")
FOLDER = replace(TEXT, metavar="DIR")
FILES = Kind(_paths, "files or folders", "FILE", nargs="+", repeats=True)
NAMES = Kind(_names, "names", "NAME", nargs="+", repeats=True)
SWITCH = replace(either(YES, NO), metavar="BOOL", nargs="?")
RESUME = replace(either(maybe(word("no", None, "false", "no")), word("yes", "auto", "true", "auto"), FILE), nargs="?")
DEVICE = Kind(_device, "cpu, gpu or gpu:1", "DEVICE", ": cpu, gpu or gpu:1")
COUNT, COUNT_OR_0 = integer("[1, inf)"), integer("[0, inf)")
SHARE, BELOW_1, FROM_0, ABOVE_0 = number("[0, 1]"), number("[0, 1)"), number("[0, inf)"), number("(0, inf)")
PIXEL = number("[0, 255]")
SPLITS = replace(either(word("0", 0, "0"), word("3", 3, "3")), metavar="N", hint="; 0 or 3")
AMP = replace(choice("O0", "O1", "O2", "O3"), hint="")
