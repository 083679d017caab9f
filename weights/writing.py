"""Writing canonical weights as any source names and keeps them, and converting a checkpoint from one to another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from weights import formats, store
from weights.checkpoints import counterpart, open_checkpoint, resolve
from weights.flavours import transfer
from weights.formats.tensors import Tensor
from weights.manifest import check
from weights.names import Naming
from weights.recognise import variant
from weights.sources import all_sources
from weights.sources.native import NATIVE, Native
from zoo.arguments import integer
from zoo.catalogue import models
from zoo.errors import WeightsError
from zoo.files import atomic_write
from zoo.frameworks import CONVENTIONS, FRAMEWORKS
from zoo.language.diff import same_network
from zoo.language.model import Model

Array = NDArray[Any]


def write(
    path: str | Path,
    arrays: Mapping[str, Array],
    model: str | Path | Model,
    *,
    to: str | None = None,
    format: str | None = None,
    source: str = "",
    licence: str = "",
    notes: Mapping[str, str] | None = None,
) -> list[str]:
    """Write canonical arrays of `model` as a source names and keeps them; returns what was done to them.

    model   a Model; or what `resolve` takes, whose variant is then read off the arrays
    to      a key of `all_sources()`; by default the canonical store for .safetensors, and the names of `zoo.build`'s
            networks for PyTorch's, MindSpore's and Paddle's files
    format  a key of `FORMATS`, by default the one that the file's name asks for
    source, licence, notes
            go into the metadata of the canonical store and of MindSpore's files of `zoo.build`'s networks, which hold
            the network's spec too

    The file appears complete, at the end, or not at all. Raises WeightsError when the arrays do not fit the model, when
    the source has no network with the same outputs, or when the file cannot be written.
    """
    to, format = target(path, to, format)
    if not isinstance(model, Model):
        headers = {name: Tensor(a.shape, a.dtype.name, partial(np.asarray, a)) for name, a in arrays.items()}
        model = variant(headers, NATIVE["zoo"].naming(resolve(model))).model
    check(arrays, model)
    arrays, naming, done = _for_source(arrays, model, to)
    native = naming.write(arrays)
    framework = FRAMEWORKS.get(naming.framework)
    metadata = {"format": framework.safetensors_tag if framework else to}
    if to == store.FORMAT or to == format == "mindspore":
        metadata = {**store.describe(naming.model, source, licence), **(notes or {}), "names": to}
    writer = formats.FORMATS[format].write
    assert writer is not None
    try:
        with atomic_write(path) as part:
            writer(part, native, metadata)
    except (OSError, RuntimeError, SafetensorError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise WeightsError(f"{path}: cannot write the weights: {reason}") from None
    return done


def convert(
    path: str | Path,
    out: str | Path,
    *,
    model: str | Path | Model | None = None,
    source: str | None = None,
    to: str | None = None,
    format: str | None = None,
    num_classes: int | None = None,
    ema: bool = False,
) -> dict[str, Any]:
    """Read a checkpoint and write it for another source; returns what `zoo convert` reports as JSON.

    `num_classes` of 1000 takes the background class off a file with 1001. Arguments and errors are those of
    `open_checkpoint` and `write`.
    """
    to, format = target(out, to, format)
    opened = open_checkpoint(path, source, model, ema=ema)
    held = opened.model
    if num_classes is not None:
        held = replace(held, num_classes=integer(num_classes, "num_classes"))
    arrays, opened.done = opened.arrays_for(held)
    origin = opened.metadata.get("source") or " or ".join(opened.document()["sources"])
    done = write(out, arrays, held, to=to, format=format, source=origin, licence=opened.metadata.get("licence", ""))
    opened.done += done
    return {**opened.document(), "out": str(out), "to": to}


def target(path: str | Path, to: str | None, format: str | None) -> tuple[str, str]:
    """The source and the format to write, defaults filled in. Raises WeightsError when they do not go together."""
    format = format or formats.format_for(path)
    if format not in formats.FORMATS:
        raise WeightsError(f"unknown format {format!r}: expected one of {', '.join(formats.FORMATS)}")
    if format == "keras-zip":
        raise WeightsError(
            f"{path}: a .keras file holds Keras's own description of the layers, which only Keras can write: "
            "write a .weights.h5, load_weights() it, and save()"
        )
    to = to or {"safetensors": "zoo"}.get(format) or format.removesuffix("-legacy")
    if to not in all_sources():
        raise WeightsError(f"unknown source {to!r}: expected one of {', '.join(all_sources())}")
    allowed = CONVENTIONS[all_sources()[to].framework].formats
    if format not in allowed:
        suffixes = ", ".join(formats.FORMATS[name].suffixes[0] for name in allowed if formats.FORMATS[name].suffixes)
        raise WeightsError(f"{path}: {to} keeps weights in {suffixes} files")
    return to, format


def _for_source(arrays: Mapping[str, Array], model: Model, to: str) -> tuple[Mapping[str, Array], Naming, list[str]]:
    """The weights as a network that the source has: the same, or one of that family with the same outputs."""
    source = all_sources()[to]
    if isinstance(source, Native):
        return arrays, source.naming(model), []
    published = models().get(model.name, model)
    if model.name in source.models and same_network(model, counterpart(model, published)):
        return arrays, source.naming(model), []
    family = model.name.partition(".")[0]
    reasons = []
    for name in sorted(source.models, key=lambda name: name != model.name):
        if name.partition(".")[0] == family and name in models():
            other = counterpart(model, models()[name])
            try:
                moved, done = transfer(arrays, model, other)
            except WeightsError as error:
                reasons.append(str(error))
                continue
            written = [] if name == model.name else [f"{model.name} written as {other.name}"]
            return moved, source.naming(other), [*written, *done]
    why = reasons[0] if reasons else f"it publishes {', '.join(source.models)}"
    raise WeightsError(f"{to} has no network with the outputs of {model.name}: {why}")
