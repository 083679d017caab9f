"""ONNX Runtime: fast inference."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from backends.device import require
from backends.engine import Engine, EngineOptions
from backends.graph_network import classifier, engine
from backends.onnx.network import compiled, gpus, version
from zoo.language.model import Model

__all__ = ["classifier", "deploy"]


def deploy(model: Model, arrays: Mapping[str, NDArray[np.generic]], options: EngineOptions) -> Engine:
    """An ONNX Runtime session: see `backends.Deploys.deploy`. "fp16" on a CPU computes in float32."""
    options.require("onnx", ("fp32", "tf32", "fp16") if options.on_gpu else ("fp32", "fp16", "int8"))
    if options.device is not None:
        require(options.device, "onnx", version(), gpus)
    return engine(f"ONNX Runtime {version()}", model, arrays, options, compiled)
