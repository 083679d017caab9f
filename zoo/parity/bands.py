"""How much of an error rounding explains: bands, measured by running the reference in lower precision.

`Rounded` is the float64 interpreter with float32 arithmetic, the operands of its products rounded to a dtype, and the
channels that each product sums over in random order. No order is the right one: frameworks, processors and batch sizes
differ in it. So several runs show how far correct implementations lie from float64, for exactly these weights and
inputs. The band is `MARGIN` times the largest error of those runs, and at least `FLOOR` units in the last place of the
largest value, because a few runs may all be lucky.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from zoo.language.interpreter import Interpreter, conv2d
from zoo.language.model import Model
from zoo.language.nodes import Box, Conv, Depthwise, Node

Array = NDArray[Any]
Precision: TypeAlias = Literal["fp32", "tf32", "bf16", "fp16"]

MARGIN = 4.0
"""The band divided by the largest of `RUNS` errors. Frameworks sum in blocks of other sizes, fold batch norm into
weights or not, and fuse multiply with add: docs/parity.md has their errors divided by those of `Rounded`."""

SINGLE = 2.0
"""The factor on the band of a single operation. Some kernels add all products into one accumulator, which rounds more
than the blocks of a matrix product do; through a network this averages out. In 40 random networks like Inception-v3,
the error of a convolution in PyTorch was up to 5.8 times that of `Rounded`."""

RUNS = 3

FLOOR = 16
"""Units in the last place, of the largest value, within which nothing is reported."""

BITS = {"fp32": 24, "tf32": 11, "bf16": 8, "fp16": 11}
"""Bits of the significand, the leading one included."""


def unit(precision: Precision) -> float:
    """The distance from 1 to the next larger number."""
    return float(2.0 ** (1 - BITS[precision]))


def rounded(x: Array, precision: Precision) -> NDArray[np.float32]:
    """float32 values rounded to the nearest of `precision`, ties to even; float16 overflows to infinity."""
    x = np.ascontiguousarray(x, np.float32)
    if precision == "fp16":
        with np.errstate(over="ignore"):
            return x.astype(np.float16).astype(np.float32)
    drop = 24 - BITS[precision]
    if not drop:
        return x
    bits = x.view(np.uint32).astype(np.int64)
    nearest = (bits + (1 << (drop - 1)) - 1 + ((bits >> drop) & 1)) >> drop << drop
    return nearest.astype(np.uint32).view(np.float32).reshape(x.shape)


class Rounded(Interpreter):
    """The interpreter in float32, with products of rounded operands, summed over the channels in a random order.

    In bf16 and fp16 every leaf's output is rounded too, as it is when it is stored in that dtype.
    """

    dtype = np.float32

    def __init__(
        self, model: Model, weights: Mapping[str, Array], precision: Precision, random: np.random.Generator
    ) -> None:
        super().__init__(model, {name: array.astype(np.float32) for name, array in weights.items()})
        self.precision: Precision = precision
        self.random = random

    def run(self, node: Node, path: str, x: Array) -> Array:
        y = super().run(node, path, x)
        return rounded(y, self.precision) if self.precision in ("bf16", "fp16") else y

    def convolve(self, node: Box, path: str, x: Array) -> Array:
        weight = rounded(self.weights[f"{path}.conv.weight"], self.precision)
        x = rounded(x, self.precision)
        if isinstance(node, Conv):
            order = self.random.permutation(x.shape[1])
            x, weight = x[:, order], weight[:, order]
        else:
            assert isinstance(node, Depthwise)
        y = conv2d(x, weight, node)
        return y + self.weights[f"{path}.conv.bias"][:, None, None] if node.bias else y

    def linear(self, path: str, x: Array) -> Array:
        order = self.random.permutation(x.shape[1])
        weight = rounded(self.weights[f"{path}.weight"], self.precision)
        product = rounded(x, self.precision)[:, order] @ weight[:, order].T
        return np.asarray(product + self.weights[f"{path}.bias"])


def error(y: Array, reference: Array) -> float:
    """The error, max |y - reference| / max |reference|; infinite where y is not finite or has another shape."""
    if y.shape != reference.shape or not np.isfinite(y).all():
        return float("inf")
    return float(np.abs(y - reference).max()) / (float(np.abs(reference).max()) or 1.0)


def band(errors: Sequence[float], precision: Precision = "fp32") -> float:
    """The largest error that rounding explains, from the errors of runs of `Rounded`."""
    finite = [value for value in errors if np.isfinite(value)]
    return max(MARGIN * max(finite, default=0.0), FLOOR * unit(precision))


def bands(
    model: Model,
    arrays: Mapping[str, Array],
    inputs: Array,
    expected: Mapping[str, Array],
    precision: Precision = "fp32",
    *,
    runs: int = RUNS,
    seed: int = 0,
) -> dict[str, float]:
    """The band of every output in `expected` (stages, "logits", auxiliary heads), from runs of the whole network.

    arrays    canonical weights, float32
    inputs    a batch [N, C, H, W], float32
    expected  what `Interpreter.tape` returns for them in float64, or a part of it
    """
    nets = [Rounded(model, arrays, precision, np.random.default_rng([seed, run])) for run in range(runs)]
    tapes = [net.tape(inputs) for net in nets]
    return {name: band([error(tape[name], value) for tape in tapes], precision) for name, value in expected.items()}


def band_of(
    compute: Callable[[Interpreter], Array],
    model: Model,
    arrays: Mapping[str, Array],
    expected: Array,
    precision: Precision = "fp32",
    *,
    runs: int = RUNS,
    seed: int = 0,
) -> float:
    """The band of one operation, which `compute` runs in the interpreter that it is given: `SINGLE` times `band`."""
    nets = [Rounded(model, arrays, precision, np.random.default_rng([seed, run])) for run in range(runs)]
    return SINGLE * band([error(compute(net), expected) for net in nets], precision)
