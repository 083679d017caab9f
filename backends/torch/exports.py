"""PyTorch's files: a program of torch.export, or a package that AOTInductor has compiled for this kind of processor."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from backends.engine import ExportOptions
from backends.torch.compiled import package, program
from backends.torch.engines import with_weights
from zoo.language.model import Model


def export(model: Model, arrays: Mapping[str, NDArray[np.generic]], path: Path, options: ExportOptions) -> None:
    """Write a .pt2: see `backends.Exports.export`. A program keeps the metadata as its extra file "zoo.json"."""
    options.require("torch", ("fp32",))
    net = with_weights(model, arrays)
    size = options.size or model.size
    with torch.no_grad():
        exported = program(net, torch.zeros(2, model.in_channels, size, size), options.dynamic_size)
    path = path.with_suffix(".pt2")
    if options.format == "aotinductor":
        package(exported, path)
    else:
        torch.export.save(exported, path, extra_files={"zoo.json": json.dumps(dict(options.metadata))})
