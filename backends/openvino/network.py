"""OpenVINO: run a Model as an ONNX graph, inference only."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from backends.device import Device, require
from backends.engine import EngineOptions
from backends.graph_network import GraphNetwork, Run, dump, load, predict, train
from zoo.language.model import Model

__all__ = ["build", "compiled", "dump", "gpus", "load", "predict", "train", "version"]

PRECISIONS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16", "int8": "f32"}
"""What OpenVINO computes in, by dtype. By default it would use bfloat16 wherever the processor has it."""


@cache
def core() -> Any:
    return openvino.Core()


def version() -> str:
    return str(openvino.__version__).partition("-")[0]


def gpus() -> int:
    """The number of GPUs that OpenVINO sees, which are Intel's."""
    return sum(name.startswith("GPU") for name in core().available_devices)


def build(model: Model, device: Device | None = None) -> GraphNetwork:
    """The network, before weights are loaded. Raises UnavailableError when there is no such GPU."""
    if device is not None:
        require(device, "openvino", version(), gpus)
    return GraphNetwork(model, compiled, EngineOptions(device=device))


def compiled(proto: bytes, options: EngineOptions) -> Run:
    """A compiled model, as a function of the images."""
    settings = {"INFERENCE_PRECISION_HINT": PRECISIONS[options.dtype], "PERFORMANCE_HINT": "LATENCY"}
    if options.on_gpu and options.device is not None:
        device = f"GPU.{options.device.index}"
    else:
        device, settings = "CPU", {**settings, "INFERENCE_NUM_THREADS": str(options.thread_count)}
    request = core().compile_model(core().read_model(model=proto), device, settings).create_infer_request()

    def run(x: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        # The outputs are OpenVINO's own memory, which the next call overwrites.
        return [np.array(value) for value in request.infer({0: x}).values()]

    return run
