"""Weights and inputs for which no gradient depends on a decision that float32 rounding can turn.

The derivative of ReLU jumps from 0 to 1 at 0, and a max pool passes the gradient to the largest value of a window.
Among millions of values some always lie so close to 0, or to the largest of their window, that rounding decides. Then
two correct implementations differ by a thousandth in a gradient. So biases are shifted first, which moves all values of
a channel away from 0, and then inputs are moved by about 1e-5 where that was not enough: behind convolutions without
a bias, and in front of max pools.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from backends.torch import network as backend
from backends.torch.double import double, tensor
from backends.torch.network import Branches, ConvNormAct, Network, PreActivation, SameMaxPool2d, Sum
from zoo.language.geometry import border, pair
from zoo.language.model import Model

Array = NDArray[Any]
Hook = Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor | None]

CLEARANCE = 0.02
"""How far from 0 to search for a gap between a channel's values, whose standard deviation is about 1."""

MARGIN = 1e-5
"""Values that are closer than this to 0, or to the largest of their window, are moved away. It is a share of the root
mean square of the map. Rounding in float32 moves values by less than a tenth of it."""

MOVES = 30
"""The most moves of one input."""


@torch.no_grad()
def shift_biases(model: Model, arrays: Mapping[str, Array], part_inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Shift biases, by about a hundredth, until no input of a ReLU is near 0; returns the new weights.

    Each channel's bias moves so that 0 falls into the middle of the widest gap between the channel's values near 0.
    """
    net = double(model, arrays)
    net.train()
    for layer in _before_relus(net):
        layer.register_forward_hook(_shift_bias(layer))
    for module in net.modules():
        if isinstance(module, Sum) and isinstance(module.act, nn.ReLU):
            last = [layer for layer in module.body.modules() if isinstance(layer, nn.Conv2d | nn.BatchNorm2d)][-1]
            module.register_forward_hook(_shift_last_bias(last))
    for part, x in part_inputs.items():
        net.get_submodule(part)(tensor(x))
    shifted = backend.dump(net)
    return {n: a if n.endswith((".bn.mean", ".bn.var")) else shifted[n].astype(np.float32) for n, a in arrays.items()}


def _before_relus(net: Network) -> Iterator[nn.Module]:
    """The layers whose output is the input of a ReLU: convolutions, or their batch norms."""
    for module in net.modules():
        if isinstance(module, PreActivation):
            yield module.bn
        elif isinstance(module, ConvNormAct) and isinstance(module.act, nn.ReLU):
            yield _last_layer(module)
        elif isinstance(module, nn.Sequential):
            for before, after in itertools.pairwise(module):
                if isinstance(after, nn.ReLU):
                    yield from _ends(before)


def _ends(module: nn.Module) -> Iterator[nn.Module]:
    """The layers whose outputs are a module's output, or some of its channels."""
    if isinstance(module, ConvNormAct) and not isinstance(module.act, nn.ReLU):
        yield _last_layer(module)
    elif isinstance(module, nn.Sequential):
        yield from _ends(module[-1])
    elif isinstance(module, Branches):
        for branch in module.children():
            yield from _ends(branch)


def _last_layer(module: ConvNormAct) -> nn.Module:
    return module.bn if isinstance(module.bn, nn.BatchNorm2d) else module.conv


def _shift_bias(layer: nn.Module) -> Hook:
    """A hook of a layer that feeds a ReLU."""

    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return output + _shift(layer, output, 1.0)[:, None, None]

    return hook


def _shift_last_bias(last: nn.Module) -> Hook:
    """A hook of a residual sum with a ReLU, whose body ends with the layer `last`.

    The output that the hook receives is past the ReLU, so the hook computes the sum again.
    """

    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        assert isinstance(module, Sum)
        x = inputs[0]
        before = module.shortcut(x) + module.scale * module.body(x)
        return torch.relu(before + _shift(last, before, module.scale)[:, None, None])

    return hook


def _shift(layer: nn.Module, values: Tensor, scale: float) -> Tensor:
    """Shift the layer's bias; returns the resulting shift of `values`, [C].

    `values` [N, C, H, W] contain the bias multiplied by `scale`. A layer without a bias, as in mindcv's GoogLeNet, is
    left as it is.
    """
    bias = layer.bias
    if not isinstance(bias, Tensor):
        return values.new_zeros(values.shape[1])
    old = bias.double().clone()
    shifts = torch.zeros_like(old)
    for channel in range(len(old)):
        near = values[:, channel]
        near = near[near.abs() < CLEARANCE].sort().values
        if len(near):
            edges = torch.cat([near.new_tensor([-CLEARANCE]), near, near.new_tensor([CLEARANCE])])
            widest = (edges[1:] - edges[:-1]).argmax()
            shifts[channel] = -(edges[widest] + edges[widest + 1]) / 2
    bias.copy_((old + shifts / scale).float())  # a value that float32 holds exactly
    return (bias.double() - old) * scale


def move_input(net: Network, part: str, x: Array) -> Array:
    """Move a part's input [N, C, H, W] until nothing in the part is within `MARGIN` of a kink; returns it as float32.

    `net` is in float64 and in training mode. For every value within the margin, the distance that it lacks to twice the
    margin is added up. The input moves down the gradient of this sum, by the step that would bring the sum to 0 if it
    were linear (Polyak's step). Layers that receive the part's input itself are left out: nothing is rounded there.
    """
    module = net.get_submodule(part)
    missing: list[Tensor] = []

    def record(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        (z,) = inputs
        if z is not given:
            missing.append(_missing(z.abs() if isinstance(layer, nn.ReLU) else _leads(layer, z, output), z))

    layers = [layer for layer in module.modules() if isinstance(layer, nn.ReLU | nn.MaxPool2d)]
    hooks = [layer.register_forward_hook(record) for layer in layers]
    for _ in range(MOVES):
        missing.clear()
        given = tensor(x).requires_grad_()
        module(given)
        total = torch.cat([torch.zeros(1), *missing]).sum()
        if not missing or not total.item():
            break
        (gradient,) = torch.autograd.grad(total, given)
        square = float(gradient.square().sum())
        if not square:
            break
        x = (given.detach() - total.item() / square * gradient).float().numpy()
    for hook in hooks:
        hook.remove()
    return x


def _leads(pool: nn.Module, x: Tensor, output: Tensor) -> Tensor:
    """By how much the largest value of each window of a max pool exceeds the second largest."""
    assert isinstance(pool, nn.MaxPool2d)
    kernels, strides, halves = pair(pool.kernel_size), pair(pool.stride), pair(pool.padding)
    pads: list[int] = []
    for size, windows, kernel, stride, half in zip(
        x.shape[2:], output.shape[2:], kernels, strides, halves, strict=True
    ):
        before = border("same", size, kernel, stride)[0] if isinstance(pool, SameMaxPool2d) else half
        pads = [before, max((windows - 1) * stride + kernel - size - before, 0), *pads]
    windowed = F.pad(x, pads, value=-torch.inf)
    for axis, (windows, kernel, stride) in enumerate(zip(output.shape[2:], kernels, strides, strict=True), 2):
        windowed = windowed.narrow(axis, 0, (windows - 1) * stride + kernel).unfold(axis, kernel, stride)
    largest, second = windowed.flatten(4).topk(2).values.unbind(-1)
    return largest - second


def _missing(distances: Tensor, x: Tensor) -> Tensor:
    """What each distance within the margin lacks to twice the margin, in margins; distances of 0 are exact."""
    margin = MARGIN * x.detach().square().mean().sqrt().item()
    near = distances[(distances > 0) & (distances < margin)]
    return 2 - near / margin
