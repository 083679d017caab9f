"""Writing a network for programs that know nothing of this project: ONNX, torch.export, MindIR, ..."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import weights
from backends import exports
from backends.engine import ExportOptions
from zoo.arguments import integer
from zoo.errors import BackendError, SpecError, WeightsError
from zoo.files import default_mode
from zoo.frameworks import Dtype
from zoo.language.document import to_json
from zoo.language.model import Model
from zoo.language.rewrites import deployable
from zoo.language.trace import InputCheck


@dataclass(frozen=True)
class Format:
    """A format: the backend that writes it, its files' suffixes (the first is the one that is named), its title."""

    backend: str
    suffixes: tuple[str, ...]
    title: str


FORMATS = {
    "onnx": Format("onnx", (".onnx",), "ONNX"),
    "torch-export": Format("torch", (".pt2",), "torch.export"),
    "aotinductor": Format("torch", (".pt2",), "AOTInductor, compiled for processors like this one"),
    "mindir": Format("mindspore", (".mindir",), "MindSpore's MindIR"),
    "paddle": Format("paddle", (".json", ".pdiparams"), "Paddle's inference model"),
    "openvino": Format("openvino", (".xml", ".bin"), "OpenVINO's intermediate representation"),
}
"""Of formats with the same suffix, the first is the suffix's own."""


def export(
    model: str | Path | Model,
    out: str | Path,
    *,
    checkpoint: str | Path | None = None,
    format: str | None = None,
    dtype: Dtype = "fp32",
    size: int | None = None,
    dynamic_size: bool = False,
    ema: bool = False,
    seed: int = 0,
) -> dict[str, Any]:
    """Write a network in inference, for float32 images [N, C, H, W] and any N; returns what `zoo export` reports.

    model         anything that `weights.resolve` takes; a checkpoint brings its weights along
    out           its suffix decides the format, unless `format` names one of `FORMATS`
    checkpoint    its weights; without one they are random, from `seed`
    dtype         "fp16" stores weights in half precision, in ONNX and OpenVINO
    size          side of the images in pixels; by default the network's
    dynamic_size  for images of any size

    Batch norm is folded into the convolutions (`zoo.language.rewrites.deployable`). The files appear together, once
    they are complete. Raises SpecError, WeightsError, BackendError.
    """
    out = Path(out)
    name = format_of(out, format)
    chosen = FORMATS[name]
    if not out.parent.is_dir():
        raise WeightsError(f"{out}: cannot write there: no such folder")
    if checkpoint is None and not isinstance(model, Model) and weights.is_checkpoint(model):
        checkpoint = model
    metadata = {"licence": "", "source": ""}
    if checkpoint is None:
        spec = weights.resolve(model)
        arrays: Any = weights.initial(spec, seed)
    else:
        opened = weights.open_checkpoint(checkpoint, model=model, ema=ema)
        spec = opened.model
        arrays = {key: np.asarray(array, np.float32) for key, array in opened.arrays().items()}
        metadata |= {"source": " or ".join(opened.document()["sources"]), "licence": opened.metadata.get("licence", "")}
        if opened.class_names:
            metadata["class_names"] = json.dumps(opened.class_names)
    if size is not None and dynamic_size:
        raise SpecError("size and dynamic_size exclude each other")
    side = spec.size if size is None else integer(size, "the size")
    InputCheck(spec)((1, spec.in_channels, side, side))
    rewritten, folded = deployable(spec, arrays)
    metadata |= {"model": spec.name, "spec": to_json(spec), "preprocess": preprocessing(spec)}
    options = ExportOptions(name, dtype, size, dynamic_size, metadata)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
        part = Path(folder) / out.name
        exports(chosen.backend).export(rewritten, folded, part, options)
        files = [part.with_suffix(suffix) for suffix in chosen.suffixes]
        if missing := [file.name for file in files if not file.exists()]:
            raise BackendError(f"{chosen.title}: wrote no {missing[0]}")
        targets = [out.with_suffix(suffix) for suffix in chosen.suffixes]
        for file, target in reversed(list(zip(files, targets, strict=True))):  # the file that is named comes last
            file.chmod(default_mode())
            file.replace(target)
    return {
        "model": spec.name,
        "checkpoint": None if checkpoint is None else str(checkpoint),
        "format": name,
        "files": [str(target) for target in targets],
        "input": ["N", spec.in_channels, *(["H", "W"] if dynamic_size else [side, side])],
        "dtype": dtype,
        "preprocess": json.loads(preprocessing(spec)),
    }


def format_of(out: Path, format: str | None) -> str:
    """The key of `FORMATS` for a file. Raises WeightsError for unknown formats and suffixes that are not theirs."""
    if format is not None and format not in FORMATS:
        raise WeightsError(f"unknown format {format!r}: expected one of {', '.join(FORMATS)}")
    names = [name for name, row in FORMATS.items() if row.suffixes[0] == out.suffix and format in (None, name)]
    if not names:
        known = ", ".join(f"{row.suffixes[0]} ({row.title})" for row in FORMATS.values())
        of = f"of {format}" if format else "that says the format"
        raise WeightsError(f"{out}: expected a suffix {of}: {FORMATS[format].suffixes[0] if format else known}")
    return names[0]


def preprocessing(model: Model) -> str:
    """How images become the network's input, as JSON (`zoo.language.model.Preprocess`)."""
    how = model.preprocess
    return json.dumps(
        {
            "resize": how.resize,
            "crop": model.size,
            "interpolation": how.interpolation,
            "mean": how.mean,
            "std": how.std,
            "channels": how.channels,
        }
    )
