"""MindSpore: what any `nn.Cell`, or a MindIR file, computes, operation by operation.

A cell runs in PyNative mode. Only cells of the classes nn.Conv2d, nn.Dense and nn.BatchNorm2d, and of classes derived
from them, are seen. A network that calls `mindspore.ops` itself hides its operations; as a MindIR file it shows them
all.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mindspore as ms
from mindspore import Tensor, nn
from mindspore.ops import functional as F
from numpy.typing import NDArray

from backends.mindspore import mindir
from backends.mindspore.network import modes_kept
from backends.observed import Array, Observation, running
from zoo.errors import BackendError

BOX_ROLES = {"weight": "weight", "bias": "bias"}
NORM_ROLES = {"gamma": "weight", "beta": "bias", "moving_mean": "mean", "moving_variance": "var"}
"""Attributes of cells, and their roles."""


def load(path: Path) -> mindir.Graph:
    """A MindIR file: see `backends.mindspore.mindir`. Raises BackendError for any other file."""
    return mindir.load(path)


def assign(net: nn.Cell | mindir.Graph, tensors: Mapping[str, Array]) -> None:
    """Set parameters and buffers by the network's own names."""
    if isinstance(net, mindir.Graph):
        mindir.assign(net, tensors)
        return
    state = dict(net.parameters_and_names())
    for name, array in tensors.items():
        F.assign(state[name], Tensor(array))


def observe(net: Any, x: Array, training: bool = False) -> Observation:
    """Run the network once: see `backends.observed.Observes.observe`."""
    if isinstance(net, mindir.Graph):
        if training:
            raise BackendError("a MindIR file cannot be run in training: give package.module:function")
        return mindir.observe(net, x)
    if not isinstance(net, nn.Cell):
        raise BackendError(f"expected a mindspore.nn.Cell, not {type(net).__name__}")
    mode = ms.get_context("mode")
    found, hooks = Observation(), list[Any]()
    norms = [cell for _, cell in net.cells_and_names() if isinstance(cell, nn.BatchNorm2d)] if training else []
    statistics = [(p, p.value().copy()) for cell in norms for p in (cell.moving_mean, cell.moving_variance)]
    for name, cell in net.cells_and_names():
        if isinstance(cell, nn.Conv2d):
            hooks += _watch(found, "conv", name, cell, BOX_ROLES)
        elif isinstance(cell, nn.Dense):
            hooks += _watch(found, "linear", name, cell, BOX_ROLES)
        elif isinstance(cell, nn.BatchNorm2d):
            hooks += _watch(found, "norm", name, cell, NORM_ROLES)
    try:
        ms.set_context(mode=ms.PYNATIVE_MODE)  # a graph runs no hooks
        with running(training), modes_kept(net):
            net.set_train(training)
            output = net(Tensor(x))
    finally:
        ms.set_context(mode=mode)
        for parameter, value in statistics:
            F.assign(parameter, value)
        for hook in hooks:
            hook.remove()
    found.finish(output, len(x), _numpy)
    return found


def _watch(found: Observation, kind: Any, name: str, cell: Any, roles: Mapping[str, str]) -> list[Any]:
    """Record the cell whenever it runs; returns the hooks that do so."""

    def parameters(cell: Any) -> dict[str, NDArray[Any]]:
        tensors = {role: getattr(cell, attribute, None) for attribute, role in roles.items()}
        return {role: _numpy(tensor).copy() for role, tensor in tensors.items() if isinstance(tensor, Tensor)}

    def note(cell: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        arrays = before.pop()
        names = {role: f"{name}.{attribute}" if name else attribute for attribute, role in roles.items()}
        names = {role: own for role, own in names.items() if role in arrays}
        if kind == "norm" and cell.training:
            arrays |= {f"new_{role}": array for role, array in parameters(cell).items() if role in ("mean", "var")}
        settings: dict[str, Any] = {}
        if kind == "conv":
            settings = {"stride": list(cell.stride[-2:]), "padding": [cell.pad_mode, cell.padding]}
            settings |= {"dilation": list(cell.dilation[-2:]), "groups": cell.group}
        elif kind == "norm":
            settings = {"eps": float(cell.eps)}
        found.add(kind, name, _numpy(inputs[0]), _numpy(output), arrays, names, **settings)

    before: list[dict[str, NDArray[Any]]] = []
    return [
        cell.register_forward_pre_hook(lambda cell, inputs: before.append(parameters(cell))),
        cell.register_forward_hook(note),
    ]


def _numpy(tensor: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = tensor.astype(ms.float32).asnumpy()
    return array
