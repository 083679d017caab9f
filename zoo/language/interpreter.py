"""The float64 reference: every node in NumPy, as close to its definition as speed allows. Inference only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.language.geometry import border, reach
from zoo.language.model import Model, Norm
from zoo.language.nodes import (
    AdaptiveAvgPool,
    AvgPool,
    Box,
    Chain,
    Concat,
    Conv,
    Depthwise,
    Head,
    MaxPool,
    Node,
    NormRelu,
    Relu,
    Residual,
    assert_never,
    children,
)
from zoo.language.trace import InputCheck

Array = NDArray[Any]


class Interpreter:
    """A model and its float64 weights; call it on a batch [N, C, H, W] for logits [N, classes] or feature maps."""

    dtype: type[np.floating[Any]] = np.float64

    def __init__(self, model: Model, weights: Mapping[str, Array] | None = None) -> None:
        self.spec = model
        self.check_input = InputCheck(model)
        self.weights: dict[str, Array] = dict(weights or {})

    def __call__(self, x: NDArray[np.generic]) -> Array | list[Array]:
        self.check_input(x.shape)
        tape = self.tape(x)
        return [tape[name] for name in self.spec.taps] if self.spec.taps else tape["logits"]

    def tape(self, x: NDArray[np.generic]) -> dict[str, Array]:
        """Every stage's output by name, then "logits", then every auxiliary head's logits by its name."""
        value: Array = x.astype(self.dtype)
        tape: dict[str, Array] = {}
        for stage in self.spec.stages:
            value = tape[stage.name] = self.run(stage.node, stage.name, value)
        if self.spec.head is not None:
            tape["logits"] = self.run(self.spec.head, "head", value)
        for aux in self.spec.aux:
            tape[aux.name] = self.run(aux.node, aux.name, tape[aux.after])
        return tape

    def run(self, node: Node, path: str, x: Array) -> Array:
        match node:
            case Chain():
                for name, child in children(node):
                    x = self.run(child, f"{path}.{name}", x)
                return x
            case Concat():
                return np.concatenate([self.run(child, f"{path}.{name}", x) for name, child in children(node)], 1)
            case Residual():
                straight = x if node.shortcut is None else self.run(node.shortcut, f"{path}.shortcut", x)
                x = straight + node.scale * self.run(node.body, f"{path}.body", x)
                return np.maximum(x, 0) if node.act else x
            case Conv() | Depthwise():
                x = self.convolve(node, path, x)
                x = self.normalise(path, x) if node.norm else x
                return np.maximum(x, 0) if node.act else x
            case NormRelu():
                return np.maximum(self.normalise(path, x), 0)
            case Relu():
                return np.maximum(x, 0)
            case MaxPool():
                return np.asarray(reduce(np.maximum, _taps(windows(x, node, -np.inf))))
            case AvgPool():
                return avg_pool(x, node)
            case AdaptiveAvgPool(size):
                return adaptive_avg_pool(x, size)
            case Head():
                x = x.mean((2, 3)) if node.pool else x.reshape(len(x), -1)
                if node.hidden is not None:
                    x = self.linear(f"{path}.hidden", x)
                    x = np.maximum(x, 0) if node.act else x
                return self.linear(f"{path}.fc", x)
        assert_never(node)

    def convolve(self, node: Box, path: str, x: Array) -> Array:
        y = conv2d(x, self.weights[f"{path}.conv.weight"], node)
        return y + self.weights[f"{path}.conv.bias"][:, None, None] if node.bias else y

    def normalise(self, path: str, x: Array) -> Array:
        return batch_norm(x, self.weights, f"{path}.bn", self.spec.norm) if self.spec.norm else x

    def linear(self, path: str, x: Array) -> Array:
        return x @ self.weights[f"{path}.weight"].T + self.weights[f"{path}.bias"]


def windows(x: Array, node: Box | MaxPool | AvgPool, fill: float) -> Array:
    """Every window of a padded batch: a view [N, C, H', W', kernel height, kernel width]."""
    kernel, stride = reach(node), node.stride
    pads = [border(node.padding, n, k, stride) for n, k in zip(x.shape[2:], kernel, strict=True)]
    if any(map(any, pads)):
        x = np.pad(x, [(0, 0), (0, 0), *pads], constant_values=fill)
    views = np.lib.stride_tricks.sliding_window_view(x, kernel, (2, 3))  # type: ignore[call-overload]
    step = node.dilation if isinstance(node, Conv | Depthwise) else 1
    return np.asarray(views[:, :, ::stride, ::stride, ::step, ::step])


def conv2d(x: Array, weight: Array, node: Box) -> Array:
    """Cross-correlation with [outputs, inputs (depthwise: 1), kernel height, kernel width], zeros at the border."""
    patches = windows(x, node, 0.0)
    y = np.empty((len(x), len(weight), *patches.shape[2:4]), np.result_type(x, weight))
    matrix = np.ascontiguousarray(weight).reshape(len(weight), -1)
    for image, result in zip(patches, y, strict=True):  # one at a time, for less memory and fewer misses of the caches
        if isinstance(node, Depthwise):
            product = np.empty_like(result)
            result[:] = 0
            for tap, factors in zip(_taps(image), matrix.T, strict=True):
                result += np.multiply(tap, factors[:, None, None], out=product)
        else:
            columns = image.transpose(0, 3, 4, 1, 2).reshape(matrix.shape[1], -1)
            np.matmul(matrix, columns, out=result.reshape(len(weight), -1))
    return y


def batch_norm(x: Array, weights: Mapping[str, Array], path: str, norm: Norm) -> Array:
    """Normalise each channel by its running statistics."""
    weight, bias, mean, var = (weights[f"{path}.{name}"] for name in ("weight", "bias", "mean", "var"))
    scale = weight / np.sqrt(var + norm.eps)
    y = x * scale[:, None, None]
    y += (bias - mean * scale)[:, None, None]
    return np.asarray(y)


def avg_pool(x: Array, node: AvgPool) -> Array:
    """Sum over each window, divided by the number of its pixels: all of them, or those inside the image."""
    total = reduce(np.add, _taps(windows(x, node, 0.0)))
    count: Any = node.kernel**2
    if not node.count_include_pad:
        count = windows(np.ones_like(x[:1, :1]), node, 0.0).sum((-2, -1))
    return np.asarray(total / count)


def _taps(views: Array) -> Iterator[Array]:
    """Each pixel position of a window, as an array over all windows: far faster than reducing the last two axes."""
    return (views[..., i, j] for i, j in np.ndindex(*views.shape[-2:]))


def adaptive_avg_pool(x: Array, size: int) -> Array:
    """Means over windows [floor(i n / size), ceil((i + 1) n / size)) in either direction."""
    rows, columns = ([(i * n // size, -(-(i + 1) * n // size)) for i in range(size)] for n in x.shape[2:])
    means = [[x[:, :, top:bottom, left:right].mean((2, 3)) for left, right in columns] for top, bottom in rows]
    return np.moveaxis(np.array(means), (0, 1), (2, 3))


class _Calibration(Interpreter):
    """Measures each batch norm's statistics on the features that reach it, before it normalises them."""

    def normalise(self, path: str, x: Array) -> Array:
        if self.spec.norm:
            self.weights[f"{path}.bn.mean"], self.weights[f"{path}.bn.var"] = x.mean((0, 2, 3)), x.var((0, 2, 3))
        return super().normalise(path, x)

    def convolve(self, node: Box, path: str, x: Array) -> Array:
        if self.spec.norm is None:
            self.weights[f"{path}.conv.weight"] /= super().convolve(node, path, x).std()
        return super().convolve(node, path, x)


def calibrate(model: Model, arrays: Mapping[str, NDArray[np.float32]], x: Array) -> dict[str, NDArray[np.float32]]:
    """`arrays` with batch-norm statistics measured on the batch `x`.

    Without a norm, each convolution's weights are scaled instead, so that its outputs have unit variance.
    """
    net = _Calibration(model, {name: array.astype(np.float64) for name, array in arrays.items()})
    net.tape(x)
    return {name: net.weights[name].astype(np.float32) for name in arrays}
