"""Judging an engine in the same way as a backend: against the float64 reference, and against itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backends.engine import Engine
from zoo.errors import BackendError, SpecError
from zoo.language.interpreter import Interpreter
from zoo.language.model import Model
from zoo.language.rewrites import for_inference
from zoo.language.trace import least_size, trace
from zoo.parity.bands import bands

Array = NDArray[Any]

REPEATS = 5


@dataclass(frozen=True)
class Verdict:
    """Differences of an engine's outputs, each max |y - z| / max |z|.

    reference    between a batch and the float64 reference
    repeated     between `REPEATS` runs of the same batch
    single       between images run one by one and in a batch
    other_size   between a batch run after an image of another size, and before; None where the network takes no other
                 size
    tolerance    the largest difference that rounding explains in the engine's dtype: see `zoo.parity.bands`
    """

    reference: float
    repeated: float
    single: float
    other_size: float | None
    tolerance: float

    @property
    def ok(self) -> bool:
        found = (self.reference, self.repeated, self.single, self.other_size or 0.0)
        return all(value <= self.tolerance for value in found)


def judge(engine: Engine, model: Model, arrays: Mapping[str, Array], images: int = 2) -> Verdict:
    """Run an engine on uniform noise between -1 and 1 at the native size, and compare.

    `model` and `arrays`, its float32 weights, are what the engine was made from. Raises BackendError for int8, whose
    error can be judged only on data.
    """
    dtype = engine.options.dtype
    if dtype == "int8":
        raise BackendError(f"{dtype}: an engine in {dtype} is judged by its accuracy on data (validate.py)")
    model, arrays = for_inference(model, arrays)
    shape = (images, model.in_channels, model.size, model.size)
    x = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    tape = Interpreter(model, {name: a.astype(np.float64) for name, a in arrays.items()}).tape(x)
    outputs = {name: tape[name] for name in (model.taps or ("logits",))}
    expected = list(outputs.values())
    tolerance = max(bands(model, arrays, x, outputs, dtype).values())
    runs = [_listed(engine(x)) for _ in range(REPEATS)]
    singles = [_listed(engine(x[i : i + 1])) for i in range(images)]
    single = [np.concatenate(parts) for parts in zip(*singles, strict=True)]
    other = other_size(model)
    after = None
    if other is not None:
        engine(np.zeros((1, model.in_channels, other, other), np.float32))
        after = _difference(_listed(engine(x)), runs[0])
    return Verdict(
        _difference(runs[0], expected),
        max(_difference(again, runs[0]) for again in runs),
        _difference(single, runs[0]),
        after,
        tolerance,
    )


def verify(engine: Engine, model: Model, arrays: Mapping[str, Array]) -> Verdict:
    """The same as `judge`, but raises BackendError, with the figures, when the engine is out of tolerance."""
    verdict = judge(engine, model, arrays)
    if not verdict.ok:
        raise BackendError(f"{engine!r} is wrong or unsteady: {verdict}")
    return verdict


def other_size(model: Model) -> int | None:
    """A smaller input size that the network takes; None if there is none."""
    for size in range(model.size - 32, least_size(model) - 1, -32):
        try:
            trace(model, size)
        except SpecError:
            continue
        if _fits(model, size):
            return size
    return None


def _fits(model: Model, size: int) -> bool:
    """Whether the classifier has the same tensors at this size. One that flattens its input does not."""
    return trace(model, size).parameters == trace(model).parameters


def _listed(outputs: Any) -> list[Array]:
    return outputs if isinstance(outputs, list) else [outputs]


def _difference(ours: list[Array], theirs: list[Array]) -> float:
    """The largest relative difference of the outputs; infinite where a value is not finite."""
    found = [float(np.abs(a - b).max() / (np.abs(b).max() or 1.0)) for a, b in zip(ours, theirs, strict=True)]
    return max((value if np.isfinite(value) else np.inf) for value in found)
