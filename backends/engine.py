"""Engines: networks made ready for inference, with one interface whichever framework runs them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backends.device import Device
from backends.predict import float32
from zoo.arguments import integer
from zoo.errors import BackendError, UnavailableError
from zoo.frameworks import DTYPES, Dtype
from zoo.language.model import Model
from zoo.language.trace import InputCheck

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class EngineOptions:
    """How to run a network. Raises BackendError for an unknown dtype, and for `calibration` without int8.

    dtype        what convolutions and matrix products compute in; images and outputs are float32
    device       None means the CPU
    threads      the number of threads on the CPU; by default $OMP_NUM_THREADS, or the number of processors that this
                 process may use (MindSpore chooses its own default)
    compiler     one of the framework's compilers; "" is its default (see each engines.py)
    calibration  for int8: preprocessed images, float32 [N, C, H, W], on which the ranges of activations are measured
    """

    dtype: Dtype = "fp32"
    device: Device | None = None
    threads: int | None = None
    compiler: str = ""
    calibration: Float32 | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise BackendError(f"unknown dtype {self.dtype!r}: expected one of {', '.join(DTYPES)}")
        if self.threads is not None:
            integer(self.threads, "threads")
        if self.calibration is not None and self.dtype != "int8":
            raise BackendError(f"calibration is for int8, not {self.dtype}: leave it out, or add dtype='int8'")

    @property
    def on_gpu(self) -> bool:
        return self.device is not None and self.device.kind == "gpu"

    @property
    def thread_count(self) -> int:
        """The number of threads, with the default filled in."""
        return available_threads() if self.threads is None else self.threads

    def images_to_calibrate(self, model: Model) -> Float32:
        """The images of `calibration`. Raises BackendError if there are none, InputError for a wrong dtype or shape."""
        if self.calibration is None or not len(self.calibration):
            raise BackendError("int8: give calibration, images to measure the ranges of activations on")
        images = float32(self.calibration)
        InputCheck(model)(images.shape)
        return images

    def require(self, backend: str, dtypes: Sequence[str], compilers: Sequence[str] = ("",)) -> None:
        """Raise UnavailableError unless the backend has the dtype, BackendError unless it has the compiler."""
        if self.dtype not in dtypes:
            raise UnavailableError(
                f"{backend}: no {self.dtype} on {self.device or 'cpu'}: expected {' or '.join(dtypes)}"
            )
        if self.compiler not in compilers:
            names = " or ".join(filter(None, compilers)) or "none"
            raise BackendError(f"{backend}: no compiler {self.compiler!r}: expected {names}")


@dataclass(frozen=True)
class ExportOptions:
    """How to write a network into a file for other programs.

    format        a key of `zoo.exporting.FORMATS`
    dtype         what weights are stored in
    size          side of the images in pixels, by default the native one
    dynamic_size  write a network that takes images of any size
    metadata      strings to store in the file, by name (ONNX, torch.export, OpenVINO)
    """

    format: str
    dtype: Dtype = "fp32"
    size: int | None = None
    dynamic_size: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)

    def require(self, backend: str, dtypes: Sequence[str]) -> None:
        """Raise BackendError unless the backend can write the dtype."""
        if self.dtype not in dtypes:
            raise BackendError(f"{backend}: writes no {self.dtype}: expected {' or '.join(dtypes)}")


def available_threads() -> int:
    """The number of threads to use: $OMP_NUM_THREADS, or the number of processors that this process may use."""
    wanted = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    if wanted.isdecimal() and int(wanted):
        return int(wanted)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Engine:
    """A network made ready for inference.

    Called on images, float32 [N, C, H, W] with any N and any size that the network takes, it returns NumPy float32:
    logits [N, classes], or the list of feature maps of a network with taps. Calls from several threads are safe: they
    run one after another. `close()`, or the end of a `with` block, frees what the engine holds.

    spec         the Model that it was made from
    description  the framework, its version, and how it runs the network
    options      as they were given
    seconds      the time it took to make, by step: "rewrite", then "build", "compile" or both
    """

    def __init__(
        self,
        spec: Model,
        run: Callable[[Float32], Sequence[NDArray[Any]]],
        description: str,
        options: EngineOptions,
        seconds: Mapping[str, float],
    ) -> None:
        self.spec, self.description, self.options, self.seconds = spec, description, options, dict(seconds)
        self._run: Callable[[Float32], Sequence[NDArray[Any]]] | None = run
        self._lock, self._check_input = threading.Lock(), InputCheck(spec)

    def __call__(self, x: Float32) -> Any:
        """Raises InputError for images that the network cannot take, BackendError after `close()`."""
        x = float32(x)
        self._check_input(x.shape)
        with self._lock:
            if self._run is None:
                raise BackendError(f"{self.spec.name}: this engine is closed")
            outputs = [np.asarray(output, np.float32) for output in self._run(x)]
        return outputs if self.spec.taps else outputs[0]

    def close(self) -> None:
        """Free what the engine holds. Closing twice does nothing."""
        with self._lock:
            self._run = None

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, place: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{self.spec.name}, {self.description}>"
