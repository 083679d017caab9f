"""Operations that a network needs for one image, by the conventions of the tools that published tables come from.

Convolutions and linear layers are 98% or more of each count. The conventions differ in what they add for other layers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from zoo.language.model import Model
from zoo.language.nodes import (
    AdaptiveAvgPool,
    AvgPool,
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
from zoo.language.trace import Op, trace


def counted_by(model: Model, size: int | None = None) -> dict[str, int]:
    """Operations for one image of `size` x `size` pixels (the network's own size by default), by convention.

    Each counts the multiply-adds of convolutions and linear layers (`trace(model).macs`), and further operations.
    Auxiliary heads are counted if the model has them.

    fvcore     2 for each value that batch norm normalises: `FlopCountAnalysis` of fvcore 0.1.5. timm's tables
    paddle     as fvcore, and biases of convolutions and average pooling: `paddle.flops`. PaddleClas's newer tables
    mmcv       as fvcore, and biases of convolutions, ReLUs and the inputs of pools: `get_model_complexity_info` of
               mmcv 1.x. mmpretrain's tables
    thop_2019  4 for each value that batch norm normalises, biases of convolutions, average pooling, and additions of
               linear layers: thop 0.0.31 of September 2019. zhulf0804's table

    Raises SpecError for a size that the network cannot take.
    """
    traced = trace(model, size)
    all_extras = [_extras(op) for op in traced.ops]
    extras = Extras(*map(sum, zip(*all_extras, strict=True)))
    rectified = [path for name, part in model.parts.items() for path in _rectified_sums(part, name)]
    relus = extras.relu + sum(traced.shapes[path].size for path in rectified)
    convolutions = traced.macs + extras.bias
    return {
        "fvcore": traced.macs + 2 * extras.norm,
        "paddle": convolutions + 2 * extras.norm + extras.average + extras.global_average,
        "mmcv": convolutions + 2 * extras.norm + relus + extras.pooled,
        "thop_2019": convolutions + 4 * extras.norm + extras.window + extras.global_average + extras.additions,
    }


class Extras(NamedTuple):
    """What conventions count beside multiply-adds of convolutions and linear layers."""

    norm: int = 0
    """Values that batch norm normalises."""
    bias: int = 0
    """Values to which a convolution adds a bias."""
    relu: int = 0
    """Values that ReLUs return."""
    pooled: int = 0
    """Values that pools take, global ones included."""
    average: int = 0
    """Values that average pools return."""
    window: int = 0
    """The same, times the side of the window plus 1. (thop took the side for the window's area.)"""
    global_average: int = 0
    """Additions and divisions of global and adaptive average pools."""
    additions: int = 0
    """Additions of linear layers."""


def _extras(op: Op) -> Extras:
    size, shape = op.outputs.size, op.inputs
    match op.node:
        case Conv(bias=bias) | Depthwise(bias=bias):
            return Extras(
                norm=size * any(".bn." in tensor.name for tensor in op.parameters),
                bias=size * bias,
                relu=size * op.node.act,
            )
        case NormRelu():
            return Extras(norm=size * bool(op.parameters), relu=size)
        case Relu():
            return Extras(relu=size)
        case MaxPool():
            return Extras(pooled=shape.size)
        case AvgPool(kernel):
            return Extras(pooled=shape.size, average=size, window=size * (kernel + 1))
        case AdaptiveAvgPool(side):
            cells = (shape.height // side) * (shape.width // side)
            return Extras(pooled=shape.size, global_average=size * (cells + 1))
        case Head(hidden=hidden, pool=pool, act=act):
            averaged = Extras(pooled=shape.size, global_average=shape.size + shape.channels) if pool else Extras()
            outputs = size + (hidden or 0)
            return averaged._replace(relu=(hidden or 0) * act, additions=op.macs - outputs)
    assert_never(op.node)


def _rectified_sums(node: Node, path: str) -> Iterator[str]:
    """The paths of residual sums with a ReLU."""
    match node:
        case Chain() | Concat() | Residual():
            if isinstance(node, Residual) and node.act:
                yield path
            for name, child in children(node):
                yield from _rectified_sums(child, f"{path}.{name}")
