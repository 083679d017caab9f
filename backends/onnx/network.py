"""ONNX Runtime: run a Model as an ONNX graph, inference only."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from backends.device import Device, require
from backends.engine import EngineOptions
from backends.graph_network import GraphNetwork, Run, dump, load, predict, train
from backends.onnx_graph import INPUT
from zoo.errors import UnavailableError
from zoo.language.model import Model

__all__ = ["build", "compiled", "dump", "gpus", "load", "predict", "train", "version"]

ERRORS_ONLY = 3
"""ONNX Runtime's log level."""


def version() -> str:
    return str(ort.__version__)


def gpus() -> int:
    """1 if this build of ONNX Runtime has CUDA, else 0: it does not count devices."""
    return int("CUDAExecutionProvider" in ort.get_available_providers())


def build(model: Model, device: Device | None = None) -> GraphNetwork:
    """The network, before weights are loaded. Raises UnavailableError when there is no such GPU."""
    if device is not None:
        require(device, "onnx", version(), gpus)
    return GraphNetwork(model, compiled, EngineOptions(device=device))


def compiled(proto: bytes, options: EngineOptions) -> Run:
    """A session for an ONNX model, as a function of the images."""
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = options.thread_count
    settings.log_severity_level = ERRORS_ONLY
    provider: tuple[str, dict[str, str]] = ("CPUExecutionProvider", {})
    if options.on_gpu and options.device is not None:
        # TensorFloat-32 rounds the operands of convolutions to 10 bits of mantissa: only when asked for.
        tf32 = str(int(options.dtype == "tf32"))
        provider = ("CUDAExecutionProvider", {"device_id": str(options.device.index), "use_tf32": tf32})
    session = ort.InferenceSession(proto, settings, providers=[provider])
    session.disable_fallback()
    if session.get_providers()[0] != provider[0]:
        raise UnavailableError(f"onnx: {provider[0]} cannot be used here: see ONNX Runtime's requirements for it")

    def run(x: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        return list(session.run(None, {INPUT: x}))

    return run
