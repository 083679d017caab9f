"""Calls as lines of Python, formatted as black and ruff format them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

WIDTH = 88
"""The largest number of characters in a line: black's default."""


@dataclass(frozen=True)
class Width:
    """A number of channels: the sum of the numbers that these keys stand for."""

    keys: tuple[str, ...]

    def text(self, names: Mapping[str, str]) -> str:
        """The sum, with its numbers added up: "inputs + 96"."""
        terms = [names[key] for key in self.keys]
        total = sum(int(term) for term in terms if term.isdigit())
        return " + ".join([*(term for term in terms if not term.isdigit()), *([str(total)] if total else [])])


@dataclass(frozen=True)
class Call:
    """A call. Its arguments are texts, widths or calls, by position or by keyword (`Named`)."""

    function: str
    arguments: tuple[Argument, ...] = ()


@dataclass(frozen=True)
class Named:
    """An argument by keyword."""

    keyword: str
    value: str | Width | Call


Argument: TypeAlias = "str | Width | Call | Named"


def lines(argument: Argument, names: Mapping[str, str], before: str, after: str = "", indent: int = 0) -> list[str]:
    """`before`, the argument and `after`, in one line of at most WIDTH characters or in several."""
    if isinstance(argument, Named):
        return lines(argument.value, names, f"{before}{argument.keyword}=", after, indent)
    one = " " * indent + before + _flat(argument, names) + after
    if len(one) <= WIDTH or not isinstance(argument, Call) or not argument.arguments:
        return [one]
    inside = ", ".join(_flat(each, names) for each in argument.arguments)
    head = " " * indent + f"{before}{argument.function}("
    if indent + 4 + len(inside) <= WIDTH and len(argument.arguments) == 1:
        return [head, " " * (indent + 4) + inside, " " * indent + ")" + after]
    body = [line for each in argument.arguments for line in lines(each, names, "", ",", indent + 4)]
    return [head, *body, " " * indent + ")" + after]


def call(argument: Argument, names: Mapping[str, str]) -> str:
    """An argument in one line."""
    return _flat(argument, names)


def _flat(argument: Argument, names: Mapping[str, str]) -> str:
    match argument:
        case str():
            return argument
        case Width():
            return argument.text(names)
        case Named(keyword, value):
            return f"{keyword}={_flat(value, names)}"
        case Call(function, arguments):
            return f"{function}({', '.join(_flat(each, names) for each in arguments)})"


def signature(arguments: Sequence[str], indent: int = 4) -> list[str]:
    """The first lines of a constructor with these arguments after `self`."""
    one = " " * indent + f"def __init__({', '.join(['self', *arguments])}) -> None:"
    if len(one) <= WIDTH:
        return [one]
    inside = [" " * (indent + 4) + f"{argument}," for argument in ("self", *arguments)]
    return [" " * indent + "def __init__(", *inside, " " * indent + ") -> None:"]


def several(items: Sequence[str]) -> str:
    """Names in words: "a", "a and b", or, for more, which must be consecutive, "a to c"."""
    if len(items) < 3:
        return " and ".join(items)
    return f"{items[0]} to {items[-1]}"
