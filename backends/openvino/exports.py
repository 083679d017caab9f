"""OpenVINO's intermediate representation: a graph in .xml, its weights in .bin."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import openvino
from numpy.typing import NDArray

from backends.engine import ExportOptions
from backends.onnx_graph import graph
from backends.openvino.network import core
from zoo.language.model import Model


def export(model: Model, arrays: Mapping[str, NDArray[np.generic]], path: Path, options: ExportOptions) -> None:
    """Write both files: see `backends.Exports.export`. With "fp16" the weights are stored in float16."""
    options.require("openvino", ("fp32", "fp16"))
    proto = graph(
        model, arrays, height=options.size, width=options.size, dynamic_size=options.dynamic_size
    ).SerializeToString()
    read = core().read_model(model=proto)
    for name, value in options.metadata.items():
        read.set_rt_info(value, ["zoo", name])
    openvino.save_model(read, path.with_suffix(".xml"), compress_to_fp16=options.dtype == "fp16")
