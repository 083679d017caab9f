"""Write canonical weights under any source's names and format, and convert checkpoints between sources."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from weights import formats, sidecar, store
from weights.checkpoints import Checkpoint, counterpart, open_checkpoint, resolve
from weights.flavours import transfer
from weights.formats.tensors import Tensor
from weights.manifest import check
from weights.names import Naming, Source
from weights.recognise import variant
from weights.sources import all_sources
from weights.sources.native import NATIVE, Native
from weights.wrappers import unwrap
from zoo.arguments import integer
from zoo.catalogue import models
from zoo.errors import WeightsError
from zoo.files import atomic_write
from zoo.frameworks import CONVENTIONS, FRAMEWORKS
from zoo.language.diff import same_network
from zoo.language.model import Model

Array = NDArray[Any]


class Target(NamedTuple):
    """A source and a format to write: keys of `all_sources()` and of `FORMATS`."""

    source: str
    format: str

    @property
    def holds_metadata(self) -> bool:
        """Whether the files hold the network's spec, preprocessing and class names."""
        return self.source == store.FORMAT or self.source == self.format == "mindspore"


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
    """Write canonical arrays of `model` under a source's names; returns a line for each thing that was done.

    model   a Model; or what `resolve` takes, whose variant is then read off the arrays
    to      a key of `all_sources()`; by default the canonical store for .safetensors, and the names of `zoo.build`'s
            networks for PyTorch's, MindSpore's and Paddle's files
    format  a key of `FORMATS`, by default the one of the path's suffix
    source, licence, notes
            go into the metadata, with the network's spec, of canonical files and of .ckpt files of `zoo.build`'s
            networks; other files hold tensors alone (`convert` writes a .json beside them)

    The file is written atomically. Raises WeightsError when the arrays do not fit the model, when the source has no
    network with the same outputs, or when the file cannot be written.
    """
    chosen = target(path, to, format)
    if not isinstance(model, Model):
        headers = {name: Tensor(a.shape, a.dtype.name, partial(np.asarray, a)) for name, a in arrays.items()}
        model = variant(headers, NATIVE["zoo"].naming(resolve(model))).model
    return _write(Path(path), arrays, model, chosen, {"source": source, "licence": licence, **(notes or {})}, False)


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
    prefix: str | None = None,
) -> dict[str, Any]:
    """Read a checkpoint and write it for another source; returns what `zoo convert` reports as JSON.

    num_classes  1000 removes the background class of a file with 1001; any other number than the file's makes new
                 classifiers

    Other arguments, and errors, are those of `open_checkpoint` and `write`. Class names, input size and preprocessing
    are kept: in the metadata if the format has any, otherwise in OUT.json, which `open_checkpoint` reads.
    """
    chosen = target(out, to, format)
    if Path(out).exists() and Path(path).exists() and Path(out).samefile(path):
        raise WeightsError(f"{out}: is the file that is converted: choose another name")
    opened = open_checkpoint(path, source, model, ema=ema, num_classes=num_classes, prefix=prefix)
    held = opened.model
    own = held.num_classes
    if num_classes is not None:
        held = replace(held, num_classes=integer(num_classes, "num_classes"))
    arrays, opened.done = opened.arrays_for(held)
    notes, lines = _carried(opened, own, held)
    beside = not chosen.holds_metadata and (bool(opened.preprocess_from) or "class_names" in notes or _ambiguous(
        held, chosen.source
    ))  # fmt: skip
    opened.done += [*_write(Path(out), arrays, held, chosen, notes, beside), *lines]
    if beside:
        what = "network, input size and preprocessing" + (", class names" if "class_names" in notes else "")
        opened.done.append(f"{what}: in {sidecar.path_of(Path(out))}, as {chosen.format} files hold tensors alone")
    if to is None and (hint := _publishers_hint(held, chosen)):
        opened.notes.append(hint)
    return {
        **opened.document(),
        "out": str(out),
        "to": chosen.source,
        "beside": str(sidecar.path_of(Path(out))) if beside else None,
    }


def target(path: str | Path, to: str | None, format: str | None) -> Target:
    """The source and the format to write, with defaults. Raises WeightsError when they cannot be combined."""
    format = format or formats.format_for(path)
    if format not in formats.FORMATS:
        raise WeightsError(f"unknown format {format!r}: expected one of {', '.join(formats.FORMATS)}")
    if formats.FORMATS[format].write is None:
        raise WeightsError(
            f"{path}: a .keras file holds Keras's own description of the layers, which only Keras can write: "
            "write a .weights.h5, and in Keras load_weights() and save()"
        )
    to = to or {"safetensors": "zoo"}.get(format) or format.removesuffix("-legacy")
    if to not in all_sources():
        raise WeightsError(f"unknown source {to!r}: expected one of {', '.join(all_sources())}")
    allowed = CONVENTIONS[all_sources()[to].framework].formats
    if format not in allowed:
        suffixes = ", ".join(formats.FORMATS[name].suffixes[0] for name in allowed if formats.FORMATS[name].suffixes)
        raise WeightsError(f"{path}: {to} keeps weights in {suffixes} files")
    return Target(to, format)


def _write(
    path: Path, arrays: Mapping[str, Array], model: Model, chosen: Target, notes: Mapping[str, str], beside: bool
) -> list[str]:
    """As `write`; with `beside`, also write the metadata to a .json beside the file."""
    check(arrays, model)
    arrays, naming, done = _for_source(arrays, model, chosen.source)
    native = naming.write(arrays)
    framework = FRAMEWORKS.get(naming.framework)
    described = {**store.describe(naming.model), **notes, "names": chosen.source}
    tag = framework.safetensors_tag if framework else chosen.source
    metadata = described if chosen.holds_metadata else {"format": tag}
    writer = formats.FORMATS[chosen.format].write
    assert writer is not None
    try:
        with atomic_write(path) as part:
            writer(part, native, metadata)
            if beside:
                sidecar.write(path, described, unwrap(formats.read(part).tree).tensors)
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise WeightsError(f"{path}: cannot write the weights: {reason}") from None
    return done


def _carried(opened: Checkpoint, own_classes: int, held: Model) -> tuple[dict[str, str], list[str]]:
    """The metadata that a conversion keeps, and a line on class names that it drops."""
    notes = {
        "source": opened.metadata.get("source") or " or ".join(opened.document()["sources"]),
        "licence": opened.metadata.get("licence", ""),
    }
    if not opened.preprocess_from:
        notes["preprocess_assumed"] = opened.document()["preprocess_of"]
    names = opened.class_names
    if names and (own_classes, held.num_classes) == (1001, 1000):
        names = names[1:]
    elif names and held.num_classes != own_classes:
        return notes, [f"{len(names)} class names left out: the classifier is a new one, of {held.num_classes} classes"]
    return (notes | {"class_names": json.dumps(names)} if names else notes), []


def _ambiguous(model: Model, to: str) -> bool:
    """Whether a file with the source's names alone would not be recognised as this network."""
    published = models().get(model.name)
    if published is None or not isinstance(all_sources()[to], Native):
        return published is None
    return not same_network(model, counterpart(model, published))


def _publishers_hint(model: Model, chosen: Target) -> str:
    """For files of `zoo.build`'s networks in a format that publishers use: how to write a publisher's file instead."""
    if chosen.source not in FRAMEWORKS:
        return ""
    sources = [
        name
        for name, source in all_sources().items()
        if source.framework == chosen.source and name not in NATIVE and _has(source, model)
    ]
    names = f"its names are those of zoo.build({model.name!r}, {chosen.source!r}), which no publisher's class can load"
    return f"{names}; --to {' or --to '.join(sources)} writes a publisher's" if sources else names


def _has(source: Source, model: Model) -> bool:
    """Whether a publisher has a network that computes what `model` does."""
    family = model.name.partition(".")[0]
    return model.name in source.models or any(
        same_network(model, counterpart(model, models()[name]))
        for name in source.models
        if name in models() and name.partition(".")[0] == family
    )


def _for_source(arrays: Mapping[str, Array], model: Model, to: str) -> tuple[Mapping[str, Array], Naming, list[str]]:
    """The weights for a network that the source has: the same one, or one of its family with the same outputs."""
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
