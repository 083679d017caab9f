"""What runs a model: one module a framework, all with the functions of `Backend`. Importing this imports none."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from backends.device import Device
from zoo.errors import BackendError, UnavailableError
from zoo.model import Model

Array = NDArray[np.generic]

REQUIREMENTS = {
    "torch": "torch>=2.4",
    "mindspore": "mindspore>=2.7,<2.9",
    "paddle": "paddlepaddle>=3.0",
}
"""What to install for each framework; pyproject.toml's extras say the same."""

BACKENDS = (*REQUIREMENTS, "reference")


class Backend(Protocol):
    """The contract that `tests/frameworks/test_contract.py` holds every backend to.

    Networks are the framework's own modules.
    """

    def version(self) -> str:
        """The framework's version."""

    def gpus(self) -> int:
        """How many the framework sees."""

    def build(self, model: Model, device: Device | None = None) -> Any:
        """The network with weights yet to be loaded. Raises UnavailableError when there is no such device."""

    def load(self, net: Any, arrays: Mapping[str, Array]) -> None:
        """Copy canonical weights in. Raises WeightsError, with the network unchanged, when they do not fit."""

    def dump(self, net: Any) -> dict[str, NDArray[np.float32]]:
        """The network's weights as canonical arrays of their own."""

    def predict(self, net: Any, x: NDArray[np.float32], tape: bool = False) -> dict[str, NDArray[np.floating[Any]]]:
        """Run a batch [N, C, H, W] in eval mode: {"logits": [N, classes]}, or each tap's feature map by stage.

        With `tape`: every stage's output, "logits", and every auxiliary head's logits.
        """

    def classifier(
        self, net: Any, graph: bool = False, half: bool = False
    ) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
        """A function of a batch [N, C, H, W] that gives its logits [N, classes] in eval mode.

        It is compiled with `graph`; with `half`, convolutions and matrix products are in half precision, as the
        framework's automatic mixed precision has it. Raises UnavailableError where the device has none.
        """


def get(name: str) -> Backend:
    """The backend of that name, its framework imported into this process.

    Raises UnavailableError when its framework is not installed, BackendError when there is no such backend or when
    importing it here would abort the process: MindSpore after Paddle does, as both bring a oneDNN under the same
    symbols.
    """
    if name not in BACKENDS:
        raise BackendError(f"unknown backend {name!r}: expected one of {', '.join(BACKENDS)}")
    if name in REQUIREMENTS and not _found(name):
        raise UnavailableError(f"{name} is not installed: pip install '{REQUIREMENTS[name]}'")
    if name == "mindspore" and "paddle" in sys.modules and "mindspore" not in sys.modules:
        raise BackendError(
            "mindspore: this process has imported paddle, after which MindSpore aborts it; "
            "import mindspore first, or give each framework a process of its own as `zoo parity` does"
        )
    try:
        if name == "paddle" and "paddle" not in sys.modules:
            _import_paddle()
        return cast(Backend, importlib.import_module(f"backends.{name}"))
    except (ImportError, OSError) as error:
        raise UnavailableError(f"{name} is installed but cannot be imported: {error}") from error


def _import_paddle() -> None:
    """Import Paddle for all cores, on one of which it computes otherwise, and without its remarks about that."""
    if kernels := _mkl_kernels():
        os.environ.setdefault("MKL_DEBUG_CPU_TYPE", kernels)
    if "OMP_NUM_THREADS" in os.environ:
        return
    sharing = int(os.environ.get("PADDLE_TRAINERS_NUM", 1))
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // sharing))
    with contextlib.redirect_stderr(io.StringIO()):
        importlib.import_module("paddle")


def _mkl_kernels(cpuinfo: str = "/proc/cpuinfo") -> str | None:
    """What MKL_DEBUG_CPU_TYPE has Paddle's own MKL take on a processor that is not Intel's: 7, AVX-512; 5, AVX2.

    Left alone it takes its slowest kernels there, a fourth of the speed (benchmarks/training.py). None: leave it.
    """
    try:
        lines = Path(cpuinfo).read_text().partition("\n\n")[0].splitlines()
    except (OSError, ValueError):
        return None
    facts = {name.strip(): value.split() for name, _, value in (line.partition(":") for line in lines)}
    flags = set(facts.get("flags", ()))
    if facts.get("vendor_id") not in (["AuthenticAMD"], ["HygonGenuine"]):
        return None
    if flags >= {"avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512cd"}:
        return "7"
    return "5" if flags >= {"avx2", "fma"} else None


def _found(name: str) -> bool:
    module: ModuleType | None = sys.modules.get(name)
    return module is not None or importlib.util.find_spec(name) is not None
