"""What runs a model: one folder per framework, with the same file names in each.

    network.py    native modules, and the functions of `Runs`
    engines.py    the functions of `Deploys`
    exports.py    the functions of `Exports`
    training.py   `Trainer` (backends.training)
    processes.py  `Processes` (zoo.training.processes)
    source.py     `DIALECT` (zoo.source.dialect), which imports no framework
    observe.py    the functions of `Observes` (backends.observed)
    explain.py    gradients of a logit, for Grad-CAM

ONNX Runtime and OpenVINO have the first three, ONNX Runtime observe.py too, and the NumPy reference only network.py.
Importing this package imports no framework.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from backends.device import Device
from backends.engine import Engine, EngineOptions, ExportOptions
from zoo.errors import BackendError, UnavailableError
from zoo.frameworks import FRAMEWORKS, RUNTIMES, Runtime
from zoo.language.model import Model

Array = NDArray[np.generic]
Float32 = NDArray[np.float32]

BACKENDS = (*FRAMEWORKS, *RUNTIMES, "reference")


class Runs(Protocol):
    """Builds networks, which are the framework's own modules, and runs them in inference."""

    def version(self) -> str:
        """The framework's version."""

    def gpus(self) -> int:
        """The number of GPUs that the framework sees."""

    def build(self, model: Model, device: Device | None = None) -> Any:
        """The network in eval mode, its weights not yet loaded. Raises UnavailableError when the device is missing."""

    def train(self, net: Any) -> None:
        """Put the network into training mode. Raises BackendError when the backend does not train."""

    def load(self, net: Any, arrays: Mapping[str, Array]) -> None:
        """Copy canonical weights in. Raises WeightsError, leaving the network unchanged, when they do not fit."""

    def dump(self, net: Any) -> dict[str, Float32]:
        """Copies of the network's weights as canonical arrays."""

    def predict(self, net: Any, x: Float32, tape: bool = False) -> dict[str, NDArray[np.floating[Any]]]:
        """Run a batch [N, C, H, W] in eval mode: {"logits": [N, classes]}, or each tap's feature map by stage name.

        With `tape`: every stage's output, "logits", and every auxiliary head's logits. Arrays are float32, those of the
        NumPy reference float64. Without `tape`, raises InputError for images that the network cannot take.
        """


class Deploys(Protocol):
    """Runs networks fast in inference."""

    def deploy(self, model: Model, arrays: Mapping[str, Array], options: EngineOptions) -> Engine:
        """An engine that runs the network the fastest way; `zoo.build(..., mode="deploy")` calls this.

        `arrays` are its canonical weights, float32. Raises UnavailableError when the device, or the dtype on this
        device, is not available, and BackendError for other options that the backend does not have.
        """

    def classifier(self, net: Any, graph: bool = False, half: bool = False) -> Callable[[Float32], Float32]:
        """A function from a batch, float32 [N, C, H, W], to its logits, float32 [N, classes], in eval mode.

        `graph` compiles it. With `half`, convolutions and matrix products run in half precision, as in the framework's
        automatic mixed precision. Raises UnavailableError where the device has no half precision, and BackendError
        where the backend has no mixed precision.
        """


class Exports(Protocol):
    """Writes networks as files that the framework's own tools run, without this project."""

    def export(self, model: Model, arrays: Mapping[str, Array], path: Path, options: ExportOptions) -> None:
        """Write the files of `options.format`: `path` with each of the format's suffixes in `zoo.exporting.FORMATS`.

        The network maps float32 images [N, C, H, W], any N, to logits. `model` and `arrays` have already been rewritten
        for inference. Raises BackendError for a dtype that the backend does not write.
        """


def get(name: str) -> Runs:
    """The backend of that name; its framework is imported into this process.

    Raises UnavailableError when the framework is not installed, and BackendError when there is no such backend, when
    the framework is installed but cannot be imported, or when importing it here would abort the process.
    """
    runs: Runs = load(name, "network")
    return runs


def deploys(name: str) -> Deploys:
    """The backend's fast inference. Raises as `get` does, and BackendError for a backend that has none."""
    engines: Deploys = load(name, "engines")
    return engines


def exports(name: str) -> Exports:
    """The backend's files for other programs. Raises as `get` does, and BackendError for a backend that has none."""
    module: Exports = load(name, "exports")
    return module


def load(name: str, module: str) -> Any:
    """A module of a backend's folder, e.g. "network" or "training". Raises as `get` does."""
    if name not in BACKENDS:
        raise BackendError(f"unknown backend {name!r}: expected one of {', '.join(BACKENDS)}")
    if not _has(name, module):
        others = " or ".join(other for other in BACKENDS if _has(other, module))
        raise BackendError(f"backend {name} runs networks only: it has no {module}; use {others}")
    if row := _row(name):
        _import_framework(row)
    return importlib.import_module(f"backends.{name}.{module}")


def _has(name: str, module: str) -> bool:
    return importlib.util.find_spec(f"backends.{name}.{module}") is not None


def installed(package: str) -> bool:
    """Whether a package is installed; it is not imported."""
    return package in sys.modules or importlib.util.find_spec(package) is not None


def _row(name: str) -> Runtime | None:
    return FRAMEWORKS.get(name) or RUNTIMES.get(name)


def _import_framework(row: Runtime) -> None:
    if row.package in sys.modules:
        return
    if not all(map(installed, row.packages)):
        raise UnavailableError(f"{row.name} is not installed: pip install '{row.requirement}'")
    for other in row.aborts_after:
        if other in sys.modules:
            raise BackendError(
                f"{row.name}: this process has imported {other}, after which importing {row.title} aborts it; import "
                f"{row.name} first, or run each framework in a process of its own as `zoo parity` does"
            )
    for variable, value in row.environment().items():
        os.environ.setdefault(variable, value)
    try:
        with contextlib.redirect_stderr(io.StringIO()) if row.quiet_import else contextlib.nullcontext():
            importlib.import_module(row.package)
    except Exception as error:  # a broken installation may raise anything
        raise BackendError(f"{row.name} is installed but cannot be imported: {error}") from error
