"""Writing a network for programs that know nothing of this project: ONNX, torch.export, MindIR, ..."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import weights
from backends import exports
from backends.engine import ExportOptions
from zoo.arguments import integer
from zoo.errors import BackendError, SpecError, WeightsError, ZooError
from zoo.files import replaced
from zoo.frameworks import Dtype
from zoo.language.document import to_json
from zoo.language.model import Model, at_size
from zoo.language.nodes import AdaptiveAvgPool, Head
from zoo.language.rewrites import deployable
from zoo.language.trace import InputCheck, trace


@dataclass(frozen=True)
class Format:
    """A format: the backend that writes it, the suffixes of its files (users name the first), and its title."""

    backend: str
    suffixes: tuple[str, ...]
    title: str


FORMATS = {
    "onnx": Format("onnx", (".onnx",), "ONNX"),
    "torch-export": Format("torch", (".pt2",), "torch.export"),
    "aotinductor": Format("torch", (".pt2",), "AOTInductor, compiled for processors like this one"),
    "mindir": Format("mindspore", (".mindir",), "MindSpore's MindIR"),
    "paddle": Format("paddle", (".json", ".pdiparams"), "Paddle's inference model"),
    "jax-export": Format("jax", (".jax",), "JAX's exported program"),
    "openvino": Format("openvino", (".xml", ".bin"), "OpenVINO's intermediate representation"),
}
"""Where several formats share a suffix, the first is the default for it."""


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
    """Write a network for inference on float32 images [N, C, H, W], with any N; returns what `zoo export` reports.

    model         anything that `weights.resolve` takes; a checkpoint brings its weights along
    out           the file to write; its suffix decides the format, unless `format` is given
    checkpoint    the weights; without one they are random, from `seed`
    format        a key of `FORMATS`
    dtype         "fp16" stores weights in half precision, in ONNX and OpenVINO
    size          side of the images in pixels; by default the network's
    dynamic_size  for images of any size
    ema           the moving average of the weights in `checkpoint`

    Batch norm is folded into the convolutions (`zoo.language.rewrites.deployable`). The files appear together, once
    they are complete. Raises SpecError for an unknown model or a network that cannot take such images, WeightsError for
    an unknown format or a file that cannot be read or written, and BackendError when the format's backend is missing or
    fails.
    """
    out = Path(out)
    name = format_of(out, format)
    chosen = FORMATS[name]
    targets = [out.with_suffix(suffix) for suffix in chosen.suffixes]
    _check_targets(targets, (model, checkpoint))
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
    if dynamic_size:
        _check_any_size(spec, size)
    side = spec.size if size is None else integer(size, "the size")
    InputCheck(spec)((1, spec.in_channels, side, side))
    spec = at_size(spec, side)
    rewritten, folded = deployable(spec, arrays)
    metadata |= {"model": spec.name, "spec": to_json(spec), "preprocess": preprocessing(spec)}
    options = ExportOptions(name, dtype, size, dynamic_size, metadata)
    try:
        with replaced(targets) as files:
            exports(chosen.backend).export(rewritten, folded, files[0], options)
    except ZooError:
        raise
    except OSError as error:
        raise WeightsError(f"{out}: cannot write it: {error.strerror or error}") from None
    except Exception as error:  # of the framework's exporter
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BackendError(f"{chosen.title}: cannot export {spec.name}: {reason[:300]}") from error
    return {
        "model": spec.name,
        "checkpoint": None if checkpoint is None else str(checkpoint),
        "format": name,
        "files": [str(target) for target in targets],
        "input": ["N", spec.in_channels, *(["H", "W"] if dynamic_size else [side, side])],
        "dtype": dtype,
        "preprocess": json.loads(metadata["preprocess"]),
    }


def _check_targets(targets: Sequence[Path], sources: Sequence[str | Path | Model | None]) -> None:
    """Raise WeightsError if a target cannot be written, or is a file that is being exported."""
    given = {Path(source).resolve() for source in sources if isinstance(source, str | Path)}
    for target in targets:
        if not target.parent.is_dir():
            raise WeightsError(f"{target}: cannot write there: no such folder")
        if target.is_dir():
            raise WeightsError(f"{target}: cannot write there: it is a folder")
        if target.resolve() in given:
            raise WeightsError(f"{target}: is the file that is being exported: choose another name")


def _check_any_size(model: Model, size: int | None) -> None:
    """Raise SpecError if the network cannot take images of any size, or `size` is given too."""
    if size is not None:
        raise SpecError("size and dynamic_size exclude each other")
    for op in trace(replace(model, aux=())).ops:
        if isinstance(op.node, Head) and not op.node.pool:
            raise SpecError(f"{op.path}: a classifier without global pooling needs a fixed input size")
        if isinstance(op.node, AdaptiveAvgPool) and op.node.size > 1:
            raise SpecError(f"{op.path}: an adaptive pool needs a fixed input size")


def format_of(out: Path, format: str | None) -> str:
    """The key of `FORMATS` for a file. Raises WeightsError for an unknown format, and for a suffix it does not have."""
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
            "fit": how.fit,
            "resize": how.resize,
            "crop": model.size,
            "interpolation": how.interpolation,
            "mean": how.mean,
            "std": how.std,
            "channels": how.channels,
        }
    )
