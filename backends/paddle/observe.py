"""Paddle: what any `nn.Layer`, or a saved inference model, computes, operation by operation.

Only layers of the classes nn.Conv2D, nn.Linear, nn.BatchNorm2D and nn.BatchNorm (which may end in a ReLU of its own),
and of classes derived from them, are seen. A network that calls `paddle.nn.functional` itself hides its operations;
saved as an inference model (`paddle.jit.save`) it shows them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import paddle
from numpy.typing import NDArray
from paddle import Tensor, nn

from backends.observed import Array, Observation, running
from backends.paddle import program
from backends.paddle.network import modes_kept
from zoo.errors import BackendError

NORMS = (nn.layer.norm._BatchNormBase, nn.BatchNorm)
NORM_ROLES = {"weight": "weight", "bias": "bias", "_mean": "mean", "_variance": "var"}
"""Attributes of a batch norm, and their roles."""


def load(path: Path) -> program.Program:
    """An inference model: see `backends.paddle.program`. Raises BackendError for any other file."""
    return program.load(path)


def assign(net: nn.Layer | program.Program, tensors: Mapping[str, Array]) -> None:
    """Set parameters and buffers by the network's own names; linear weights are [outputs, inputs] here."""
    if isinstance(net, program.Program):
        program.assign(net, tensors)
        return
    state = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    for name, array in tensors.items():
        state[name].set_value(array.T if array.ndim == 2 else array)


def observe(net: Any, x: Array, training: bool = False) -> Observation:
    """Run the network once: see `backends.observed.Observes.observe`."""
    if isinstance(net, program.Program):
        if training:
            raise BackendError("an inference model cannot be run in training: give package.module:function")
        return program.observe(net, x)
    if not isinstance(net, nn.Layer):
        raise BackendError(f"expected a paddle.nn.Layer, not {type(net).__name__}")
    found, hooks = Observation(), list[Any]()
    norms = [layer for layer in net.sublayers(include_self=True) if isinstance(layer, NORMS)] if training else []
    statistics = [(tensor, tensor.clone()) for layer in norms for tensor in (layer._mean, layer._variance)]
    for name, layer in net.named_sublayers(include_self=True):
        if isinstance(layer, nn.Conv2D):
            hooks += _watch(found, "conv", name, layer, {"weight": "weight", "bias": "bias"})
        elif isinstance(layer, nn.Linear):
            hooks += _watch(found, "linear", name, layer, {"weight": "weight", "bias": "bias"})
        elif isinstance(layer, NORMS):
            hooks += _watch(found, "norm", name, layer, NORM_ROLES)
    try:
        with running(training), modes_kept(net), paddle.no_grad():
            (net.train if training else net.eval)()
            output = net(paddle.to_tensor(x, place=net.parameters()[0].place))
    finally:
        for buffer, value in statistics:
            buffer.set_value(value)
        for hook in hooks:
            hook.remove()
    found.finish(output, len(x), _numpy)
    return found


def _watch(found: Observation, kind: Any, name: str, layer: Any, roles: Mapping[str, str]) -> list[Any]:
    """Record the layer whenever it runs; returns the hooks that do so."""

    def parameters(layer: Any) -> dict[str, NDArray[Any]]:
        tensors = {role: getattr(layer, attribute, None) for attribute, role in roles.items()}
        arrays = {role: _numpy(tensor).copy() for role, tensor in tensors.items() if tensor is not None}
        if kind == "linear":
            arrays["weight"] = arrays["weight"].T
        return arrays

    def start(layer: Any, inputs: tuple[Tensor, ...]) -> None:
        before.append((_numpy(inputs[0]), parameters(layer)))

    def note(layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        x, arrays = before.pop()
        names = {role: f"{name}.{attribute}" if name else attribute for attribute, role in roles.items()}
        names = {role: own for role, own in names.items() if role in arrays}
        if kind == "norm" and layer.training:
            arrays |= {f"new_{role}": array for role, array in parameters(layer).items() if role in ("mean", "var")}
        settings: dict[str, Any] = {}
        if kind == "conv":
            settings = {"stride": layer._stride, "padding": layer._padding, "dilation": layer._dilation}
            settings["groups"] = layer._groups
        elif kind == "norm":
            settings = {"eps": float(layer._epsilon)}
            if getattr(layer, "_act", None):
                settings["act"] = layer._act
        found.add(kind, name, x, _numpy(output), arrays, names, **settings)

    before: list[tuple[NDArray[Any], dict[str, NDArray[Any]]]] = []
    return [layer.register_forward_pre_hook(start), layer.register_forward_post_hook(note)]


def _numpy(tensor: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = tensor.detach().cpu().astype("float32").numpy()
    return array
