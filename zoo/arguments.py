"""Checks of numbers that callers give."""

from __future__ import annotations

import operator
from typing import Any

from zoo.errors import SpecError


def integer(value: Any, what: str, least: int = 1) -> int:
    """`value`, a Python or NumPy integer, as an int.

    Raises SpecError, which calls it `what`, for other types (bool included) and for integers below `least`.
    """
    try:
        number = -1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = -1
    if number < least:
        raise SpecError(f"{what} must be an integer of at least {least}, not {value!r}")
    return number


def within(value: Any, low: float, high: float) -> bool:
    """Whether `value` is a number from `low` to `high`. A bool is not, nor is NaN."""
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
