"""Borders, strides and receptive fields of a model, computed without a tensor."""

from __future__ import annotations

from math import prod

from zoo.language.model import Model
from zoo.language.nodes import (
    AdaptiveAvgPool,
    AvgPool,
    Chain,
    Concat,
    Conv,
    Depthwise,
    Head,
    Kernel,
    MaxPool,
    Node,
    NormRelu,
    PoolPadding,
    Relu,
    Residual,
    assert_never,
    children,
)


def pair(kernel: Kernel) -> tuple[int, int]:
    """A kernel's (height, width)."""
    return kernel if isinstance(kernel, tuple) else (kernel, kernel)


def reach(node: Conv | Depthwise | MaxPool | AvgPool) -> tuple[int, int]:
    """The (height, width) that a window spans, dilation included."""
    dilation = node.dilation if isinstance(node, Conv | Depthwise) else 1
    height, width = pair(node.kernel)
    return (height - 1) * dilation + 1, (width - 1) * dilation + 1


def border(padding: PoolPadding, n: int, kernel: int, stride: int) -> tuple[int, int]:
    """Pixels of padding before and after `n` pixels, for a window that spans `kernel`; see `PoolPadding`."""
    match padding:
        case "half":
            return kernel // 2, kernel // 2
        case "valid":
            return 0, 0
        case "same":
            # ceil(n / stride) windows, written so that tracers can take n for a tensor or a symbol
            total = (n - 1) // stride * stride + kernel - n
            total = total if kernel >= stride else max(total, 0)
            return total // 2, total - total // 2
        case "ceil":
            return 0, -(n - kernel) % stride
    assert_never(padding)


def stride(node: Node) -> int:
    """The factor by which a node divides height and width (borders aside)."""
    match node:
        case Conv() | Depthwise() | MaxPool() | AvgPool():
            return node.stride
        case NormRelu() | Relu() | AdaptiveAvgPool() | Head():
            return 1
        case Chain(nodes):
            return prod(stride(child) for child in nodes)
        case Concat(branches):
            return stride(branches[0])
        case Residual(body):
            return stride(body)
    assert_never(node)


def reductions(model: Model) -> dict[str, int]:
    """Each stage's reduction: the input's height over that of its feature map, borders aside."""
    total, result = 1, {}
    for stage in model.stages:
        total *= stride(stage.node)
        result[stage.name] = total
    return result


def receptive_fields(model: Model) -> dict[str, int]:
    """Each stage's receptive field: the side, in input pixels, of the square that one of its values depends on."""
    fields, size, jump = {}, (1, 1), 1
    for stage in model.stages:
        size = _grow(stage.node, size, jump)
        jump *= stride(stage.node)
        fields[stage.name] = max(size)
    return fields


def levels(model: Model) -> list[str]:
    """The last stage at each reduction; integer `out_indices` count these.

    timm's `features_only` counts reductions too, but at some it takes an earlier map: `mixed_3a` of Inception-v4 at 4.
    """
    return list({reduction: name for name, reduction in reductions(model).items()}.values())


def _grow(node: Node, size: tuple[int, int], jump: int) -> tuple[int, int]:
    """The receptive field (height, width) after `node`.

    size  the receptive field before it
    jump  distance between neighbouring values of its input, in pixels of the image
    """
    match node:
        case Conv() | Depthwise() | MaxPool() | AvgPool():
            height, width = reach(node)
            return size[0] + (height - 1) * jump, size[1] + (width - 1) * jump
        case NormRelu() | Relu() | AdaptiveAvgPool() | Head():
            return size
        case Chain(nodes):
            for child in nodes:
                size = _grow(child, size, jump)
                jump *= stride(child)
            return size
        case Concat() | Residual():
            sizes = [size, *(_grow(child, size, jump) for _, child in children(node))]
            return max(height for height, _ in sizes), max(width for _, width in sizes)
    assert_never(node)
