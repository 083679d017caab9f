"""The reference for training: PyTorch in float64, on the CPU.

In float32, gradients of a whole network cannot be compared: rounding errors grow from layer to layer beyond any useful
tolerance (docs/training.md). So each stage and head is compared alone, given the same input and the same gradient with
respect to its output. This module makes those inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from backends.torch import network as backend
from backends.torch.network import Network
from zoo.language.model import Model

Array = NDArray[Any]
Hook = Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor | None]


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
    """Call `run` with the network in training mode; returns each part's input as float32, and its output's shape."""
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
