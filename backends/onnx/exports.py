"""ONNX files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backends.engine import ExportOptions
from backends.onnx_graph import Dtype, checked, graph
from zoo.language.model import Model


def export(model: Model, arrays: Mapping[str, NDArray[np.generic]], path: Path, options: ExportOptions) -> None:
    """Write an ONNX model: see `backends.Exports.export`. `options.metadata` goes into `metadata_props`."""
    options.require("onnx", ("fp32", "fp16"))
    dtype: Dtype = "fp16" if options.dtype == "fp16" else "fp32"
    proto = graph(
        model,
        arrays,
        dtype=dtype,
        height=options.size,
        width=options.size,
        dynamic_size=options.dynamic_size,
        metadata=options.metadata,
    )
    path.with_suffix(".onnx").write_bytes(checked(proto).SerializeToString())
