"""JAX: what any `flax.nnx.Module` computes, operation by operation.

Only layers of the classes nnx.Conv, nnx.Linear and nnx.BatchNorm, and of classes derived from them, are seen. A network
that calls `jax.lax` itself, or runs under `jax.jit`, hides its operations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import flax.nnx as nnx
import jax
import numpy as np
from numpy.typing import NDArray

from backends.jax.network import channels_first
from backends.observed import Array, Observation, running
from zoo.errors import BackendError

KINDS: dict[type[nnx.Module], Any] = {nnx.Conv: "conv", nnx.Linear: "linear", nnx.BatchNorm: "norm"}
ROLES = {
    "conv": {"kernel": "weight", "bias": "bias"},
    "linear": {"kernel": "weight", "bias": "bias"},
    "norm": {"scale": "weight", "bias": "bias", "mean": "mean", "var": "var"},
}
"""Flax's names of a layer's tensors, and their roles."""

STATISTICS = ("mean", "var")


def load(path: Path) -> Any:
    """Raises BackendError: JAX's exported programs do not show their operations."""
    raise BackendError(f"{path}: JAX's files do not show a network's operations: give package.module:function")


def assign(net: nnx.Module, tensors: Mapping[str, Array]) -> None:
    """Set parameters and running statistics by the network's own names; linear weights are [outputs, inputs] here."""
    found = _variables(net)
    for name, array in tensors.items():
        found[name].value = jax.numpy.asarray(_native(array))


def observe(net: Any, x: Array, training: bool = False) -> Observation:
    """Run the network once: see `backends.observed.Observes.observe`. It may take [N, C, H, W] or [N, H, W, C]."""
    if not isinstance(net, nnx.Module):
        raise BackendError(f"expected a flax.nnx.Module, not {type(net).__name__}")
    copy: Any = nnx.clone(net)
    found = Observation()
    names = {id(module): ".".join(map(str, path)) for path, module in copy.iter_modules()}
    updated: list[tuple[int, Any]] = []
    with running(training), _watching(found, names, updated):
        (copy.train if training else copy.eval)()
        output = copy(jax.numpy.asarray(x))
    for place, layer in updated:
        new = {f"new_{role}": found.keep(_tensors(layer, "norm")[role]) for role in STATISTICS}
        found.operations[place].parameters.update(new)
    found.finish(output, len(x), np.asarray)
    return found


@contextmanager
def _watching(found: Observation, names: Mapping[int, str], updated: list[tuple[int, Any]]) -> Iterator[None]:
    """Record every call of Flax's layers while this is active.

    `updated` gets the batch norms that change their running statistics, each with the index of its operation: the final
    statistics are known only after the network has run.
    """
    own = {cls: cls.__call__ for cls in KINDS}
    try:
        for cls, call in own.items():
            cls.__call__ = _recorded(call, KINDS[cls], found, names, updated)  # type: ignore[method-assign]
        yield
    finally:
        for cls, call in own.items():
            cls.__call__ = call  # type: ignore[method-assign]


def _recorded(
    call: Callable[..., Any], kind: Any, found: Observation, names: Mapping[int, str], updated: list[tuple[int, Any]]
) -> Callable[..., Any]:
    def recorded(layer: Any, x: Any, *more: Any, **options: Any) -> Any:
        name, given = names.get(id(layer), ""), _tensors(layer, kind)
        y = call(layer, x, *more, **options)
        own = {role: f"{name}.{attribute}" if name else attribute for attribute, role in ROLES[kind].items()}
        own = {role: each for role, each in own.items() if role in given}
        settings: dict[str, Any] = {}
        if kind == "conv":
            settings = {"stride": layer.strides, "padding": layer.padding, "dilation": layer.kernel_dilation}
            settings["groups"] = layer.feature_group_count
        elif kind == "norm":
            settings = {"eps": float(layer.epsilon)}
            if not layer.use_running_average:
                updated.append((len(found.operations), layer))
        found.add(kind, name, channels_first(_numpy(x)), channels_first(_numpy(y)), given, own, **settings)
        return y

    return recorded


def _tensors(layer: Any, kind: str) -> dict[str, NDArray[Any]]:
    """A layer's tensors by role, in canonical layout."""
    found = {role: getattr(layer, attribute, None) for attribute, role in ROLES[kind].items()}
    return {role: _canonical(_numpy(variable.value)) for role, variable in found.items() if variable is not None}


def _variables(net: nnx.Module) -> dict[str, Any]:
    """Parameters and running statistics by their paths."""
    return {
        ".".join(map(str, (*path, name))): value
        for path, module in net.iter_modules()
        for name, value in vars(module).items()
        if isinstance(value, nnx.Param | nnx.BatchStat)
    }


def _canonical(array: NDArray[Any]) -> NDArray[Any]:
    """Flax's kernel as [outputs, inputs, height, width] or [outputs, inputs]."""
    return array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T


def _native(array: NDArray[Any]) -> NDArray[Any]:
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T


def _numpy(array: Any) -> NDArray[Any]:
    return np.array(array, np.float32)
