"""MindSpore's MindIR."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor
from numpy.typing import NDArray

from backends.engine import ExportOptions
from backends.mindspore.network import build, load
from zoo.language.model import Model


def export(model: Model, arrays: Mapping[str, NDArray[np.generic]], path: Path, options: ExportOptions) -> None:
    """Write a .mindir: see `backends.Exports.export`."""
    options.require("mindspore", ("fp32",))
    net = build(model)
    load(net, arrays)
    side = None if options.dynamic_size else options.size or model.size
    images = Tensor(shape=[None, model.in_channels, side, side], dtype=ms.float32)
    ms.export(net, images, file_name=str(path.with_suffix(".mindir")), file_format="MINDIR")
