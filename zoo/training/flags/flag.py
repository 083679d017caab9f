"""A row of the table of flags, and the conditions under which a flag is used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeVar

from zoo.training.flags.types import FlagType

Script = Literal["train", "validate"]
Value = TypeVar("Value")


class Condition(NamedTuple):
    """`holds` says whether a run uses a flag; `otherwise` ends the sentence "--FLAG has no effect ..." if it does not.

    `otherwise` is a format string that takes the names of flags: "with --opt {opt}".
    """

    holds: Callable[[Any], bool]
    otherwise: str


@dataclass(frozen=True)
class Flag:
    """What the table says about a flag.

    type       how its value is read
    help       for --help, which adds the type's hint and the default
    unset      what a default of None stands for, for --help
    script     the script that has it; None: both
    learning   whether it changes what a run learns, so that a resumed run reports a new value
    used       when a run uses it; None: always
    needs      returns an error message, without the flag's name, if the value does not go with the other flags; else ""
    synonyms   names that other programs give to it, for the hint of an error
    """

    name: str
    default: Any
    type: FlagType
    help: str
    unset: str
    script: Script | None
    learning: bool
    used: Condition | None
    needs: Callable[[Any], str] | None
    synonyms: tuple[str, ...]


def flag(
    default: Value,
    type_: FlagType,
    help: str,
    unset: str = "none",
    *,
    script: Script | None = None,
    learning: bool = True,
    used: Condition | None = None,
    needs: Callable[[Any], str] | None = None,
    synonyms: tuple[str, ...] = (),
) -> Value:
    """A field of `Arguments`: its default, and as metadata the row of the table (but for the name, the field's own)."""
    row = Flag("", default, type_, help, unset, script, learning, used, needs, synonyms)
    return field(default=default, metadata={"flag": row})


def train(default: Value, type_: FlagType, help: str, unset: str = "none", **columns: Any) -> Value:
    """A flag of train.py only."""
    return flag(default, type_, help, unset, script="train", **columns)


def validate(default: Value, type_: FlagType, help: str, unset: str = "none", **columns: Any) -> Value:
    """A flag of validate.py only."""
    return flag(default, type_, help, unset, script="validate", learning=False, **columns)


def never(otherwise: str) -> Condition:
    """No run uses the flag."""
    return Condition(lambda a: False, otherwise)


def with_any(*names: str) -> Condition:
    """Runs in which one of these flags is set."""
    return Condition(
        lambda a: any(getattr(a, name) for name in names), f"without {' or '.join(f'--{name}' for name in names)}"
    )


def with_schedule(*names: str) -> Condition:
    """Runs with one of these schedules."""
    return Condition(lambda a: a.scheduler in names, "with --scheduler {scheduler}")


def with_optimizer(*names: str) -> Condition:
    """Runs with one of these optimizers."""
    return Condition(lambda a: a.opt in names, "with --opt {opt}")
