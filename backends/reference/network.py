"""The NumPy reference as a backend: float64, on the CPU, inference only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backends.device import Device
from weights.manifest import check
from zoo.errors import BackendError, UnavailableError
from zoo.language.interpreter import Interpreter
from zoo.language.model import Model
from zoo.language.trace import parameters


def version() -> str:
    return np.__version__


def gpus() -> int:
    return 0


def build(model: Model, device: Device | None = None) -> Interpreter:
    """The interpreter, its weights not yet loaded. Raises UnavailableError for a GPU."""
    if device is not None and device.kind != "cpu":
        raise UnavailableError("reference: runs on the CPU only")
    return Interpreter(model)


def load(net: Interpreter, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Copy canonical weights in. Raises WeightsError, leaving the network unchanged, when they do not fit."""
    check(arrays, net.spec)
    net.weights = {name: arrays[name].astype(np.float64) for name in parameters(net.spec)}


def dump(net: Interpreter) -> dict[str, NDArray[np.float32]]:
    """Copies of the weights as canonical arrays."""
    return {name: array.astype(np.float32) for name, array in net.weights.items()}


def train(net: Interpreter) -> None:
    """Raises BackendError: the reference does not train."""
    raise BackendError("reference: runs in inference only: leave out train=True")


def predict(net: Interpreter, x: NDArray[np.float32], tape: bool = False) -> dict[str, NDArray[Any]]:
    """Run a batch [N, C, H, W]: see `backends.Runs.predict`. Results are float64."""
    return net.tape(x) if tape else net.spec.named(net(x))
