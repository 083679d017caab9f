"""OpenVINO: fast inference."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from backends.device import require
from backends.engine import Engine, EngineOptions
from backends.graph_network import classifier, engine
from backends.openvino.network import compiled, core, gpus, version
from zoo.errors import UnavailableError
from zoo.language.model import Model

__all__ = ["classifier", "deploy"]


def deploy(model: Model, arrays: Mapping[str, NDArray[np.generic]], options: EngineOptions) -> Engine:
    """A compiled OpenVINO model: see `backends.Deploys.deploy`.

    Raises UnavailableError for bf16 on a processor that does not have it.
    """
    options.require("openvino", ("fp32", "fp16") if options.on_gpu else ("fp32", "bf16", "int8"))
    if options.device is not None:
        require(options.device, "openvino", version(), gpus)
    if options.dtype == "bf16" and "BF16" not in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise UnavailableError("openvino: this processor has no bfloat16")
    return engine(f"OpenVINO {version()}", model, arrays, options, compiled)
