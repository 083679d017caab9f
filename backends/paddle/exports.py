"""Paddle's inference model: a program in .json, its weights in .pdiparams."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backends.engine import ExportOptions
from backends.paddle.engines import save, silent
from backends.paddle.network import build, load
from zoo.language.model import Model


def export(model: Model, arrays: Mapping[str, NDArray[np.generic]], path: Path, options: ExportOptions) -> None:
    """Write both files: see `backends.Exports.export`."""
    options.require("paddle", ("fp32",))
    net = build(model)
    load(net, arrays)
    with silent():
        save(net, path.with_suffix(""), None if options.dynamic_size else options.size or model.size)
