"""What all comparisons of backends share: checks, entries of backends that are missing or fail, and the verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import weights
from zoo.arguments import integer, within
from zoo.errors import BackendError, InputError, UnavailableError, ZooError
from zoo.frameworks import FRAMEWORKS
from zoo.language.model import Model, configure
from zoo.language.trace import InputCheck

CLASSES = 10
"""Classes of networks in training: the gradients of so small a classifier tell as much as those of a large one."""


def outcome(judge: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """The entry of a backend: what `judge` returns of the arguments, or why the backend was skipped or failed."""
    try:
        return judge(*arguments)
    except UnavailableError as error:
        return {"skipped": str(error)}
    except ZooError as error:
        return {"error": str(error), "ok": False}


def all_ok(entries: Iterable[Mapping[str, Any]]) -> bool:
    """Whether everything that was judged is right, and something was."""
    judged = [entry["ok"] for entry in entries if "ok" in entry]
    return bool(judged) and all(judged)


def check_tolerance(tolerance: float | None) -> None:
    """Raise InputError unless the tolerance is None or a number from 0 to 1."""
    if tolerance is not None and not within(tolerance, 0, 1):
        raise InputError(f"the tolerance must be from 0 to 1, not {tolerance!r}")


def to_train(
    models: Sequence[str | Path | Model], backends: Sequence[str], width: float, size: int | None, batch: int
) -> list[tuple[Model, int]]:
    """The networks to train, with ten classes, and the side of their images in pixels.

    Raises BackendError for a backend that does not train, and ZooError for invalid models, sizes and batches.
    """
    for name in backends:
        if name not in FRAMEWORKS:
            raise BackendError(f"unknown backend {name!r}: expected some of {', '.join(FRAMEWORKS)}")
    integer(batch, "the batch", least=2)
    found = []
    for model in models:
        spec = configure(weights.resolve(model), width=width, num_classes=CLASSES)
        side = spec.size if size is None else integer(size, "the size")
        InputCheck(spec)((batch, spec.in_channels, side, side), True)
        found.append((spec, side))
    return found
