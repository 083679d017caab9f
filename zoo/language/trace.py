"""One walk over a model: every operation with its name, shapes, parameters and multiply-adds.

Names come from structure. `mixed_7b.branch2.3.branch1.conv.weight` is the path in the spec, the module path in
every framework, and the key in the canonical weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod
from typing import Literal, NamedTuple

from zoo.errors import InputError, SpecError
from zoo.language.geometry import border, pair, reach
from zoo.language.model import Model
from zoo.language.nodes import (
    AdaptiveAvgPool,
    AvgPool,
    Chain,
    Concat,
    Conv,
    Depthwise,
    Head,
    Leaf,
    MaxPool,
    Node,
    NormRelu,
    Relu,
    Residual,
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
    kind: Literal["conv", "depthwise", "linear", "vector"]
    trainable: bool = True

    @property
    def count(self) -> int:
        return prod(self.shape)


@dataclass(frozen=True)
class Op:
    """A leaf at its place in the network, with all that a framework needs to know about it.

    `groups` are a convolution's; `macs` counts the multiply-adds of convolutions and linear layers for one image.
    """

    path: str
    node: Leaf
    inputs: Shape
    outputs: Shape
    parameters: tuple[Parameter, ...] = ()
    macs: int = 0
    groups: int = 1


@dataclass(frozen=True)
class Trace:
    """All operations in order of execution (auxiliary heads last), the output of each stage, and that of every node
    by its path, combinators included.
    """

    ops: tuple[Op, ...]
    stages: dict[str, Shape]
    shapes: dict[str, Shape]

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

    @property
    def first_conv(self) -> Op | None:
        """The convolution that reads the image, if there is one."""
        return next((op for op in self.ops if isinstance(op.node, Conv)), None)


def trace(model: Model, height: int | None = None, width: int | None = None) -> Trace:
    """Walk the model for an input of `height` x `width` pixels (native size by default; square without `width`).

    Raises SpecError, with the path, where shapes do not fit: for an input that is too small, branches of different
    sizes, or an auxiliary head whose linear layer is for another input size.
    """
    height = model.size if height is None else height
    width = height if width is None else width
    shape = Shape(model.in_channels, height, width)
    ops: list[Op] = []
    stages: dict[str, Shape] = {}
    shapes: dict[str, Shape] = {}
    for stage in model.stages:
        shape = _walk(model, stage.node, stage.name, shape, ops, shapes)
        stages[stage.name] = shape
    if model.head is not None:
        _walk(model, model.head, "head", shape, ops, shapes)
    for aux in model.aux:
        _walk(model, aux.node, aux.name, stages[aux.after], ops, shapes)
    result = Trace(tuple(ops), stages, shapes)
    if model.aux and (height, width) != (model.size, model.size):
        _check_native(model, result)
    return result


@lru_cache(maxsize=64)
def parameters(model: Model) -> dict[str, Parameter]:
    """Every tensor of the model by canonical name, in order of execution. The dictionary is cached: leave it as is."""
    return trace(model).parameters


@lru_cache(maxsize=256)
def least_size(model: Model) -> int:
    """The smallest square input, in pixels, that passes through the network and its auxiliary heads, if any."""
    for size in range(1, model.size):
        try:
            trace(model, size)
        except SpecError:
            continue
        return size
    return model.size


class InputCheck:
    """Checks whether a network can take a batch, and remembers the answer for each size."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.reasons: dict[tuple[int, int, bool], str | None] = {}

    def __call__(self, shape: Sequence[int], training: bool = False) -> None:
        """Raise InputError unless `shape` is [N, in_channels, height, width] and passes through the network.

        In training it must pass through the auxiliary heads too.
        """
        model = self.model
        if len(shape) != 4 or shape[1] != model.in_channels:
            raise InputError(
                f"{model.name}: expected a batch of shape [N, {model.in_channels}, height, width], not {list(shape)}"
            )
        key = (int(shape[2]), int(shape[3]), training)
        if key not in self.reasons:
            self.reasons[key] = self._reason(*key)
        if reason := self.reasons[key]:
            raise InputError(f"{model.name}: an input of {key[0]} x {key[1]} pixels {reason}")

    def _reason(self, height: int, width: int, training: bool) -> str | None:
        model = self.model if training else replace(self.model, aux=())
        try:
            trace(model, height, width)
        except SpecError as error:
            least = least_size(model)
            if min(height, width) < least:
                heads = " with auxiliary heads" if model.aux else ""
                return f"is too small: at least {least} x {least}{heads}, natively {model.size} x {model.size}"
            return f"does not fit: {error}"
        return None


def _walk(model: Model, node: Node, path: str, shape: Shape, ops: list[Op], shapes: dict[str, Shape]) -> Shape:
    """The output of a node. Adds its operations to `ops`, and its output and those of the nodes in it to `shapes`."""
    shapes[path] = _output(model, node, path, shape, ops, shapes)
    return shapes[path]


def _output(model: Model, node: Node, path: str, shape: Shape, ops: list[Op], shapes: dict[str, Shape]) -> Shape:
    match node:
        case Chain():
            for name, child in children(node):
                shape = _walk(model, child, f"{path}.{name}", shape, ops, shapes)
            return shape
        case Concat():
            outputs = [
                (name, _walk(model, child, f"{path}.{name}", shape, ops, shapes)) for name, child in children(node)
            ]
            first = outputs[0][1]
            if any(output[1:] != first[1:] for _, output in outputs):
                sizes = ", ".join(f"{name} {output.height}x{output.width}" for name, output in outputs)
                raise SpecError(f"{path}: branches differ in height x width: {sizes}")
            return first._replace(channels=sum(output.channels for _, output in outputs))
        case Residual():
            ends = [_walk(model, child, f"{path}.{name}", shape, ops, shapes) for name, child in children(node)]
            straight = shape if node.shortcut is None else ends[1]
            if ends[0] != straight:
                raise SpecError(f"{path}: body and shortcut differ: {ends[0]}, {straight}")
            return straight
        case Conv() | Depthwise() | NormRelu() | Relu() | MaxPool() | AvgPool() | AdaptiveAvgPool() | Head():
            op = _op(model, node, path, shape)
            ops.append(op)
            return op.outputs
    assert_never(node)


def _op(model: Model, node: Leaf, path: str, shape: Shape) -> Op:
    match node:
        case Conv():
            return _box(model, node, path, shape, node.channels, shape.channels)
        case Depthwise():
            return _box(model, node, path, shape, shape.channels, 1)
        case NormRelu():
            return Op(path, node, shape, shape, tuple(_norm(path, shape.channels)) if model.norm else ())
        case Relu():
            return Op(path, node, shape, shape)
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
            macs = sum(tensor.count for tensor in tensors if tensor.kind == "linear")
            return Op(path, node, shape, Shape(model.num_classes, 1, 1), tuple(tensors), macs)
    assert_never(node)


def _box(model: Model, node: Conv | Depthwise, path: str, shape: Shape, outputs: int, inputs: int) -> Op:
    """The operation of a convolution; `inputs` is the number of channels that each output channel reads."""
    height, width = _window(path, node, shape)
    kind: Literal["conv", "depthwise"] = "depthwise" if isinstance(node, Depthwise) else "conv"
    weight = Parameter(f"{path}.conv.weight", (outputs, inputs, *pair(node.kernel)), kind)
    bias = (Parameter(f"{path}.conv.bias", (outputs,), "vector"),) if node.bias else ()
    norm = tuple(_norm(path, outputs)) if model.norm and node.norm else ()
    macs = weight.count * height * width
    groups = shape.channels // inputs
    return Op(path, node, shape, Shape(outputs, height, width), (weight, *bias, *norm), macs, groups)


def _window(path: str, node: Conv | Depthwise | MaxPool | AvgPool, shape: Shape) -> tuple[int, int]:
    sizes = []
    for n, kernel in zip(shape[1:], reach(node), strict=True):
        padded = n + sum(border(node.padding, n, kernel, node.stride))
        if padded < kernel:
            raise SpecError(f"{path}: input {shape} is smaller than the kernel of {node}")
        sizes.append((padded - kernel) // node.stride + 1)
    return sizes[0], sizes[1]


def _norm(path: str, channels: int) -> Iterator[Parameter]:
    for name in ("weight", "bias", "mean", "var"):
        yield Parameter(f"{path}.bn.{name}", (channels,), "vector", trainable=name in ("weight", "bias"))


def _linear(path: str, features: int, outputs: int) -> list[Parameter]:
    return [
        Parameter(f"{path}.weight", (outputs, features), "linear"),
        Parameter(f"{path}.bias", (outputs,), "vector"),
    ]


def _check_native(model: Model, result: Trace) -> None:
    native = parameters(model)
    for name, parameter in result.parameters.items():
        if parameter.shape != native[name].shape:
            raise SpecError(
                f"{name}: {parameter.shape[1]} features at this input size, but {native[name].shape[1]} at the native "
                f"{model.size} x {model.size}, for which the auxiliary head is made; build with aux=False"
            )
