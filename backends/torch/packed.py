"""Convolutions whose weights oneDNN has packed, with ReLU and sum fused in: the operators that `torch.compile` with
freezing uses, called directly, so that nothing is compiled.

oneDNN chooses the layout of a weight by the shape of the input. If a weight has another layout, oneDNN reorders it at
every call. In Inception-v4 at 299 pixels, 15 convolutions (1x1, from 1,024 to 192 channels) need one layout for a
single image and another for more; with the wrong layout they are 14 and 3 times as slow. So weights are packed for
both, and the second copy is kept only where it differs. Images of other sizes use the same weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backends.torch.network import ConvNormAct, Network, Sum
from zoo.language.geometry import border, reach
from zoo.language.nodes import Box, Conv, Depthwise
from zoo.language.trace import Op, trace

SEVERAL = 8
"""The batch size that stands for all above 1: weights packed for 2, 4, 8 or 32 images ran equally fast."""


def _layout(weight: Tensor) -> Tensor:
    """OneDNN's description of a packed weight, as bytes."""
    layout: Tensor = torch.ops.mkldnn._get_mkldnn_serialized_md(weight)
    return layout


class PackedConv(nn.Module):
    """A convolution, and ReLU if the node has one."""

    def __init__(self, op: Op, node: Box, box: ConvNormAct) -> None:
        super().__init__()
        height, width = reach(node)
        self.node = node
        self.same = node.padding == "same" and not (node.stride == height % 2 == width % 2 == 1)
        padding = [0, 0] if self.same or node.padding == "valid" else [height // 2, width // 2]
        self.geometry = (padding, [node.stride] * 2, [node.dilation] * 2, op.groups)
        self.act = "relu" if node.act else "none"
        weight, bias = box.conv.weight.detach(), box.conv.bias
        pack = torch.ops.mkldnn._reorder_convolution_weight
        self.single, self.several = (pack(weight, *self.geometry, [images, *op.inputs]) for images in (1, SEVERAL))
        if torch.equal(_layout(self.single), _layout(self.several)):
            self.several = self.single
        self.bias = None if bias is None else bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.mkldnn._convolution_pointwise(
            self._padded(x), self._weight(x), self.bias, *self.geometry, self.act, [], ""
        )

    def plus(self, x: Tensor, other: Tensor, unary: str | None) -> Tensor:
        """The convolution of x, plus `other`, then ReLU if `unary` is "relu"."""
        return torch.ops.mkldnn._convolution_pointwise.binary(
            self._padded(x), other, self._weight(x), self.bias, *self.geometry, "add", 1.0, unary, [], None
        )

    def _weight(self, x: Tensor) -> Tensor:
        return self.single if x.shape[0] == 1 else self.several

    def _padded(self, x: Tensor) -> Tensor:
        if not self.same:
            return x
        (top, bottom), (left, right) = (
            border("same", n, k, self.node.stride) for n, k in zip(x.shape[2:], reach(self.node), strict=True)
        )
        return F.pad(x, (left, right, top, bottom))


class PackedSum(nn.Module):
    """shortcut(x) + body(x), then ReLU if the node has one, computed by the body's last convolution."""

    def __init__(self, total: Sum, last: PackedConv) -> None:
        super().__init__()
        self.body = total.body[:-1] if isinstance(total.body, nn.Sequential) else nn.Identity()
        self.last, self.shortcut = last, total.shortcut
        self.unary = "relu" if isinstance(total.act, nn.ReLU) else None

    def forward(self, x: Tensor) -> Tensor:
        return self.last.plus(self.body(x), self.shortcut(x), self.unary)


def pack(net: Network) -> None:
    """Replace the network's convolutions by packed ones, in place. Batch norms must have been folded already."""
    for op in trace(net.spec).ops:
        if isinstance(op.node, Conv | Depthwise):
            box = net.get_submodule(op.path)
            assert isinstance(box, ConvNormAct)
            net.set_submodule(op.path, PackedConv(op, op.node, box))
    for name, module in list(net.named_modules()):
        if isinstance(module, Sum) and module.scale == 1:
            last = module.body[-1] if isinstance(module.body, nn.Sequential) else module.body
            if isinstance(last, PackedConv) and last.act == "none":
                net.set_submodule(name, PackedSum(module, last))
