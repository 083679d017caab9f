"""The reference for training: PyTorch in float64, on the CPU.

In float32, gradients of a whole network cannot be compared: rounding errors grow from layer to layer beyond any useful
tolerance (docs/training.md). So each stage and head is compared alone, given the same input and the same gradient with
respect to its output. This module makes those inputs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from backends.torch import network as backend
from backends.torch.network import Branches, ConvNormAct, Network, PreActivation, Sum
from zoo.language.model import Model

Array = NDArray[Any]
Hook = Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor | None]

CLEARANCE = 0.02
"""How far from 0 to search for a gap between a channel's values, whose standard deviation is about 1."""


def double(model: Model, arrays: Mapping[str, Array]) -> Network:
    """The network in float64, with the given weights."""
    net = backend.build(model)
    backend.load(net, arrays)
    return net.double()


def tensor(array: Array) -> Tensor:
    """The array in float64."""
    return torch.from_numpy(array).double()


@torch.no_grad()
def inputs(net: Network, parts: Iterable[str], run: Callable[[], Any]) -> dict[str, tuple[Array, tuple[int, ...]]]:
    """Call `run` with the network in training mode; returns each part's input, as float32, and its output's shape."""
    net.train()
    recorded: dict[str, tuple[Array, tuple[int, ...]]] = {}

    def record(part: str) -> Hook:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            recorded[part] = (inputs[0].float().numpy(), tuple(output.shape))

        return hook

    hooks = [net.get_submodule(part).register_forward_hook(record(part)) for part in parts]
    run()
    for hook in hooks:
        hook.remove()
    return recorded


@torch.no_grad()
def clear_of_kinks(model: Model, arrays: Mapping[str, Array], part_inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Shift biases, by about a hundredth, until no input of a ReLU is near 0; returns the new weights.

    The derivative of ReLU jumps from 0 to 1 at 0, and among millions of values some always lie so close to 0 that
    float32 rounding decides their sign. Each channel's bias moves so that 0 falls into the middle of the widest gap
    between the channel's values near 0.
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
