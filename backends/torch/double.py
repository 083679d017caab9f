"""The judge of training: PyTorch in float64. What goes into each part of a network, and what must come out of it.

A whole training step of such a network proves nothing at float32: rounding, amplified from layer to layer, fills any
tolerance (docs/training.md). So every part is judged alone, given the same input and the same gradient of its output.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from backends.torch import network as backend
from backends.torch.network import ConvNormAct, Network, PreActivation, Sum
from zoo.language.model import Model

Array = NDArray[Any]

CLEARANCE = 0.02
"""How far from 0 a gap between a channel's values may be looked for; they have a standard deviation of about 1."""


def double(model: Model, arrays: Mapping[str, Array]) -> Network:
    """The network in float64."""
    net = backend.build(model)
    backend.load(net, arrays)
    return net.double()


@torch.no_grad()
def inputs(net: Network, images: Array) -> dict[str, tuple[Array, tuple[int, ...]]]:
    """Each part's input in a training pass, rounded to float32, and the shape of its output."""
    net.train()
    seen: dict[str, tuple[Array, tuple[int, ...]]] = {}

    def keep(part: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            seen[part] = (inputs[0].float().numpy(), tuple(output.shape))

        return hook

    for part in net.spec.parts:
        net.get_submodule(part).register_forward_hook(keep(part))
    net(torch.from_numpy(images).double())
    return seen


@torch.no_grad()
def clear_of_kinks(model: Model, arrays: Mapping[str, Array], given: Mapping[str, Array]) -> dict[str, Array]:
    """The weights with biases shifted, by a hundredth or so, until no value in front of a ReLU is near 0.

    At a kink the derivative is 0 on one side and 1 on the other, and of millions of values some always lie within
    float32's rounding of it. Each channel's bias moves so that 0 falls into the middle of the widest gap near it.
    """
    net = double(model, arrays)
    net.train()
    for module in net.modules():
        if isinstance(module, PreActivation) or (isinstance(module, ConvNormAct) and isinstance(module.act, nn.ReLU)):
            layer: nn.Module = module.bn
            if isinstance(module, ConvNormAct) and not isinstance(module.bn, nn.BatchNorm2d):
                layer = module.conv
            layer.register_forward_hook(_shift_bias(layer, 1.0))
        elif isinstance(module, Sum) and isinstance(module.act, nn.ReLU):
            last = [layer for layer in module.body.modules() if isinstance(layer, nn.Conv2d | nn.BatchNorm2d)][-1]
            _before_sum(module, last)
    for part, x in given.items():
        net.get_submodule(part)(torch.from_numpy(x).double())
    moved = backend.dump(net)
    return {n: a if n.endswith((".bn.mean", ".bn.var")) else moved[n].astype(np.float32) for n, a in arrays.items()}


def _shift_bias(layer: nn.Module, scale: float) -> Any:
    def hook(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        return output + _move(layer, output, scale)[:, None, None]

    return hook


def _before_sum(module: Sum, last: nn.Module) -> None:
    """The sum's own output is past its ReLU: take it again from its two terms."""

    def hook(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        assert isinstance(module, Sum)
        x = inputs[0]
        before = module.shortcut(x) + module.scale * module.body(x)
        return torch.relu(before + _move(last, before, module.scale)[:, None, None])

    module.register_forward_hook(hook)


def _move(layer: nn.Module, values: Tensor, scale: float) -> Tensor:
    """Move the layer's bias; returns by how much its `values` [N, C, H, W] move for it, [C]."""
    bias = layer.bias
    assert isinstance(bias, Tensor)
    old = bias.double().clone()
    shifts = torch.zeros_like(old)
    for channel in range(len(old)):
        near = values[:, channel]
        near = near[near.abs() < CLEARANCE].sort().values
        if len(near):
            edges = torch.cat([near.new_tensor([-CLEARANCE]), near, near.new_tensor([CLEARANCE])])
            widest = (edges[1:] - edges[:-1]).argmax()
            shifts[channel] = -(edges[widest] + edges[widest + 1]) / 2
    bias.copy_((old + shifts / scale).float())  # float32 must hold it too
    return (bias.double() - old) * scale
