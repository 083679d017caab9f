"""Checking that arrays fit a model: used for files, for naming tables and by every backend."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from weights.formats.tensors import Tensor
from zoo.errors import WeightsError
from zoo.language.model import Model
from zoo.language.trace import parameters

Array = NDArray[np.generic]
SHOWN = 3
"""How many tensors a message names for each kind of problem; it always gives their count."""


def check(arrays: Mapping[str, Array], model: Model) -> None:
    """Raise WeightsError unless `arrays` have the model's names and shapes, are float32 or float64, and finite."""
    problems = matches(arrays, {name: parameter.shape for name, parameter in parameters(model).items()})
    if not problems:
        wrong = [f"{name} {a.dtype}" for name, a in arrays.items() if a.dtype not in (np.float32, np.float64)]
        problems += _listed("neither float32 nor float64", wrong)
    if not problems:
        with np.errstate(over="ignore", invalid="ignore"):
            problems += _listed("with NaN or infinity", [name for name, a in arrays.items() if not _finite(a)])
    if problems:
        fail(model, problems)


def _finite(array: Array) -> bool:
    """Whether all elements are finite as float32. A finite sum proves it, and is faster to compute."""
    total = np.add.reduce(array, axis=None, dtype=np.float32)
    return math.isfinite(total) or bool(np.isfinite(array.astype(np.float32)).all())


def restrict(arrays: Mapping[str, Array], model: Model, published: Model) -> dict[str, Array]:
    """`arrays` without those of parts of `published` that its variant `model` lacks: auxiliary heads, later stages."""
    unused = parameters(published).keys() - parameters(model).keys()
    return {name: array for name, array in arrays.items() if name not in unused}


def matches(arrays: Mapping[str, Array | Tensor], shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """The differences between the names and shapes of `arrays` and `shapes`, a line for each kind of difference."""
    missing = [name for name in shapes if name not in arrays]
    surplus = [name for name in arrays if name not in shapes]
    wrong = [
        f"{name} {list(arrays[name].shape)} (expected {list(shape)})"
        for name, shape in shapes.items()
        if name in arrays and arrays[name].shape != shape
    ]
    return _listed("missing", missing) + _listed("surplus", surplus) + _listed("of another shape", wrong)


def fail(model: Model, problems: list[str]) -> NoReturn:
    """Raise the WeightsError for these problems."""
    raise WeightsError(f"{model.name}: the weights do not fit: {'; '.join(problems)}")


def _listed(what: str, names: list[str]) -> list[str]:
    if not names:
        return []
    more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return [f"{len(names)} {what}: {', '.join(name[:200] for name in names[:SHOWN])}{more}"]
