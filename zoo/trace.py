"""One walk over a model: every operation with its name, shapes, parameters and multiply-adds.

Names come from structure. `mixed_7b.branch2.3.branch1.conv.weight` is the path in the spec, the module path in
every framework, and the key in the canonical weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod
from typing import NamedTuple

from zoo.errors import InputError, SpecError
from zoo.model import Model
from zoo.nodes import (
    AdaptiveAvgPool,
    AvgPool,
    Chain,
    Concat,
    Conv,
    Head,
    Kernel,
    Leaf,
    MaxPool,
    Node,
    PoolPadding,
    assert_never,
    children,
)


class Shape(NamedTuple):
    """The shape of one image's features."""

    channels: int
    height: int
    width: int

    @property
    def size(self) -> int:
        return prod(self)

    def __str__(self) -> str:
        return f"{self.channels} x {self.height} x {self.width}"


@dataclass(frozen=True)
class Parameter:
    """A tensor of the network under its canonical name; statistics of batch norm are not trainable."""

    name: str
    shape: tuple[int, ...]
    trainable: bool = True

    @property
    def count(self) -> int:
        return prod(self.shape)


@dataclass(frozen=True)
class Op:
    """A leaf in its place. `macs` counts the multiply-adds of convolutions and linear layers for one image."""

    path: str
    node: Leaf
    inputs: Shape
    outputs: Shape
    parameters: tuple[Parameter, ...] = ()
    macs: int = 0


@dataclass(frozen=True)
class Trace:
    """All operations in order of execution (auxiliary heads last), and the output of each stage."""

    ops: tuple[Op, ...]
    stages: dict[str, Shape]

    @property
    def parameters(self) -> dict[str, Parameter]:
        return {parameter.name: parameter for op in self.ops for parameter in op.parameters}

    @property
    def trainable(self) -> int:
        """Elements of all trainable tensors."""
        return sum(parameter.count for parameter in self.parameters.values() if parameter.trainable)

    @property
    def buffers(self) -> int:
        """Elements of all running statistics."""
        return sum(parameter.count for parameter in self.parameters.values() if not parameter.trainable)

    @property
    def macs(self) -> int:
        """Multiply-adds of convolutions and linear layers for one image."""
        return sum(op.macs for op in self.ops)


def pair(kernel: Kernel) -> tuple[int, int]:
    """A kernel's (height, width)."""
    return kernel if isinstance(kernel, tuple) else (kernel, kernel)


def border(padding: PoolPadding, n: int, kernel: int, stride: int) -> tuple[int, int]:
    """Pixels of padding before and after `n` pixels; `zoo.nodes` names the kinds."""
    match padding:
        case "half":
            return kernel // 2, kernel // 2
        case "valid":
            return 0, 0
        case "same":
            total = max((-(-n // stride) - 1) * stride + kernel - n, 0)
            return total // 2, total - total // 2
        case "ceil":
            return 0, -(n - kernel) % stride
    assert_never(padding)


def trace(model: Model, height: int | None = None, width: int | None = None) -> Trace:
    """Walk the model for an input of `height` x `width` pixels (native size by default; square without `width`).

    Raises SpecError, with the path, where shapes do not fit: an input too small, branches of different sizes,
    an auxiliary head whose linear layer is for another input size.
    """
    height = model.size if height is None else height
    width = height if width is None else width
    shape = Shape(model.in_channels, height, width)
    ops: list[Op] = []
    stages: dict[str, Shape] = {}
    for stage in model.stages:
        shape = _walk(model, stage.node, stage.name, shape, ops)
        stages[stage.name] = shape
    if model.head is not None:
        _walk(model, model.head, "head", shape, ops)
    for aux in model.aux:
        _walk(model, aux.node, aux.name, stages[aux.after], ops)
    result = Trace(tuple(ops), stages)
    if model.aux and (height, width) != (model.size, model.size):
        _check_native(model, result)
    return result


@lru_cache(maxsize=64)
def parameters(model: Model) -> dict[str, Parameter]:
    """The schema of the model's weights: every tensor by canonical name, in order of execution. Do not change it."""
    return trace(model).parameters


@lru_cache(maxsize=256)
def least_size(model: Model, training: bool = False) -> int:
    """The smallest square input, in pixels, that passes through the network; auxiliary heads run in training only."""
    model = model if training else replace(model, aux=())
    for size in range(1, model.size):
        try:
            trace(model, size)
        except SpecError:
            continue
        return size
    return model.size


def check_input(model: Model, shape: tuple[int, ...], least: int) -> None:
    """Raise InputError unless `shape` is a batch [N, in_channels, height, width] of at least `least` pixels a side."""
    if len(shape) != 4 or shape[1] != model.in_channels:
        raise InputError(
            f"{model.name}: expected a batch of shape [N, {model.in_channels}, height, width], not {list(shape)}"
        )
    if shape[2] < least or shape[3] < least:
        raise InputError(
            f"{model.name}: an input of {shape[2]} x {shape[3]} pixels is too small: at least {least} x {least}, "
            f"natively {model.size} x {model.size}"
        )


def stride(node: Node) -> int:
    """By how much a node divides height and width (borders aside)."""
    match node:
        case Conv() | MaxPool() | AvgPool():
            return node.stride
        case AdaptiveAvgPool() | Head():
            return 1
        case Chain(nodes):
            return prod(stride(child) for child in nodes)
        case Concat(branches):
            return stride(branches[0])
    assert_never(node)


def reductions(model: Model) -> dict[str, int]:
    """Each stage's reduction: the input's height over that of its feature map, borders aside."""
    total, result = 1, {}
    for stage in model.stages:
        total *= stride(stage.node)
        result[stage.name] = total
    return result


def levels(model: Model) -> list[str]:
    """The last stage at each reduction: what integer `out_indices` count, as timm's `features_only` does."""
    return list({reduction: name for name, reduction in reductions(model).items()}.values())


def _walk(model: Model, node: Node, path: str, shape: Shape, ops: list[Op]) -> Shape:
    match node:
        case Chain():
            for name, child in children(node):
                shape = _walk(model, child, f"{path}.{name}", shape, ops)
            return shape
        case Concat():
            outputs = [(name, _walk(model, child, f"{path}.{name}", shape, ops)) for name, child in children(node)]
            first = outputs[0][1]
            if any(output[1:] != first[1:] for _, output in outputs):
                sizes = ", ".join(f"{name} {output.height}x{output.width}" for name, output in outputs)
                raise SpecError(f"{path}: branches differ in height x width: {sizes}")
            return first._replace(channels=sum(output.channels for _, output in outputs))
        case _:
            op = _op(model, node, path, shape)
            ops.append(op)
            return op.outputs


def _op(model: Model, node: Leaf, path: str, shape: Shape) -> Op:
    match node:
        case Conv():
            height, width = _window(path, node, shape)
            kernel = pair(node.kernel)
            out = Shape(node.channels, height, width)
            weight = Parameter(f"{path}.conv.weight", (node.channels, shape.channels, *kernel))
            norm = tuple(_norm(path, node.channels)) if model.norm else ()
            return Op(path, node, shape, out, (weight, *norm), weight.count * height * width)
        case MaxPool() | AvgPool():
            return Op(path, node, shape, Shape(shape.channels, *_window(path, node, shape)))
        case AdaptiveAvgPool(size):
            return Op(path, node, shape, Shape(shape.channels, size, size))
        case Head():
            features = shape.channels if node.pool else shape.size
            tensors = []
            if node.hidden is not None:
                tensors += _linear(f"{path}.hidden", features, node.hidden)
                features = node.hidden
            tensors += _linear(f"{path}.fc", features, model.num_classes)
            macs = sum(tensor.count for tensor in tensors if len(tensor.shape) == 2)
            return Op(path, node, shape, Shape(model.num_classes, 1, 1), tuple(tensors), macs)
    assert_never(node)


def _window(path: str, node: Conv | MaxPool | AvgPool, shape: Shape) -> tuple[int, int]:
    sizes = []
    for n, kernel in zip(shape[1:], pair(node.kernel), strict=True):
        padded = n + sum(border(node.padding, n, kernel, node.stride))
        if padded < kernel:
            raise SpecError(f"{path}: input {shape} is smaller than the kernel of {node}")
        sizes.append((padded - kernel) // node.stride + 1)
    return sizes[0], sizes[1]


def _norm(path: str, channels: int) -> Iterator[Parameter]:
    for name in ("weight", "bias", "mean", "var"):
        yield Parameter(f"{path}.bn.{name}", (channels,), trainable=name in ("weight", "bias"))


def _linear(path: str, features: int, outputs: int) -> list[Parameter]:
    return [Parameter(f"{path}.weight", (outputs, features)), Parameter(f"{path}.bias", (outputs,))]


def _check_native(model: Model, result: Trace) -> None:
    native = parameters(model)
    for name, parameter in result.parameters.items():
        if parameter.shape != native[name].shape:
            raise SpecError(
                f"{name}: {parameter.shape[1]} features at this input size, but {native[name].shape[1]} at the native "
                f"{model.size} x {model.size}, for which the auxiliary head is made; build with aux=False"
            )
