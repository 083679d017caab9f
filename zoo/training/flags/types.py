"""Flag types: how a flag's value is read, from a word of the command line or from a value of YAML."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal


@dataclass(frozen=True)
class FlagType:
    """How the value of a flag is read.

    read      returns the value of a command-line word or of a YAML value; raises ValueError, TypeError or OverflowError
              for an invalid one
    expected  what was expected, for the error message
    metavar   stands for the value in --help
    hint      what --help adds to the flag's own help
    nargs     as in argparse; with "+", `read` gets a list if there are several words
    repeats   whether a flag that is given again adds to the value instead of replacing it
    """

    read: Callable[[Any], Any]
    expected: str
    metavar: str
    hint: str = ""
    nargs: Literal["?", "+"] | None = None
    repeats: bool = False


def numeric(type_: type[int] | type[float], interval: str) -> FlagType:
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
    return FlagType(read, f"{noun} in {interval}", metavar, "" if "inf" in interval else f"; in {interval}")


def integer(interval: str) -> FlagType:
    """An integer in an interval."""
    return numeric(int, interval)


def number(interval: str) -> FlagType:
    """A finite number in an interval."""
    return numeric(float, interval)


def choice(*names: str, **aliases: str) -> FlagType:
    """One of several words, in upper or lower case; an alias stands for one of them."""
    known = {name.lower(): name for name in names} | aliases

    def read(value: Any) -> str:
        try:
            return known[str(value).lower()]
        except KeyError:
            raise ValueError from None

    return FlagType(read, f"one of {', '.join(names)}", "NAME", f"; one of {', '.join(names)}")


def several(item: FlagType, example: str, count: int = 0, order: Callable[[Any, Any], bool] | None = None) -> FlagType:
    """A tuple: `count` items (0: any number above 0), each pair of neighbours in `order`."""

    def read(value: Any) -> tuple[Any, ...]:
        values = tuple(item.read(part) for part in _parts(value))
        in_order = order is None or all(map(order, values, values[1:]))
        if not values or len(values) != (count or len(values)) or not in_order:
            raise ValueError
        return values

    how_many = {0: "numbers", 2: "two numbers", 3: "three numbers"}[count]
    expected = f"{how_many}, each {item.expected}{', in rising order' if order else ''}, e.g. {example}"
    return FlagType(read, expected, item.metavar, item.hint, nargs="+")


def either(*types: FlagType) -> FlagType:
    """The first of several types that can read the value."""

    def read(value: Any) -> Any:
        for type_ in types:
            try:
                return type_.read(value)
            except (ValueError, TypeError, OverflowError):
                continue
        raise ValueError

    nargs = next((type_.nargs for type_ in types if type_.nargs), None)
    return replace(types[-1], read=read, expected=" or ".join(type_.expected for type_ in types), nargs=nargs)


def optional(type_: FlagType) -> FlagType:
    """A value of this type or None, which is written None, null or as an empty word."""
    return either(word("None", None, "", "none", "null"), type_)


def word(expected: str, meaning: Any, *words: str) -> FlagType:
    """A single value, `meaning`, that is written as one of several words."""

    def read(value: Any) -> Any:
        if value is not meaning and str(value).lower() not in words:
            raise ValueError
        return meaning

    return FlagType(read, expected, "")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _device(value: Any) -> str:
    if not re.fullmatch(r"cpu|gpu(:\d+)?", _text(value).lower()):
        raise ValueError
    return str(value).lower()


def _parts(value: Any) -> list[Any]:
    """The words or numbers of `0.08 1`, `0.08,1`, `(0.08, 1.0)` and [0.08, 1]."""
    values = value if isinstance(value, list | tuple) else [value]
    split = (re.split(r"[\s,()\[\]]+", v) if isinstance(v, str) else [v] for v in values)
    return [part for parts in split for part in parts if part != ""]


def _paths(value: Any) -> tuple[str, ...]:
    return tuple(path for path in map(_text, value if isinstance(value, list | tuple) else [value]) if path)


def _names(value: Any) -> tuple[str, ...]:
    return tuple(name.strip() for part in _paths(value) for name in part.split(",") if name.strip())


YES, NO = word("yes", True, "true", "yes", "on", "1"), word("no", False, "false", "no", "off", "0")
TEXT = FlagType(_text, "text", "TEXT")
FILE = replace(TEXT, metavar="FILE")
FOLDER = replace(TEXT, metavar="DIR")
FILES = FlagType(_paths, "files or folders", "FILE", nargs="+", repeats=True)
NAMES = FlagType(_names, "names", "NAME", nargs="+", repeats=True)
SWITCH = replace(either(YES, NO), metavar="BOOL", nargs="?")
RESUME = replace(
    either(optional(word("no", None, "false", "no")), word("yes", "auto", "true", "auto"), FILE), nargs="?"
)
DEVICE = FlagType(_device, "cpu, gpu or gpu:1", "DEVICE", ": cpu, gpu or gpu:1")
COUNT, COUNT_OR_0 = integer("[1, inf)"), integer("[0, inf)")
SHARE, BELOW_1, FROM_0, ABOVE_0 = number("[0, 1]"), number("[0, 1)"), number("[0, inf)"), number("(0, inf)")
PIXEL = number("[0, 255]")
SPLITS = replace(either(word("0", 0, "0"), word("3", 3, "3")), metavar="N", hint="; 0 or 3")
AMP = replace(choice("O0", "O1", "O2", "O3"), hint="")
