"""Checkpoints of any source: opened, recognised, read, written, converted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from weights import formats, store
from weights.adapt import adapt
from weights.check import check, fail, matches
from weights.flavours import pair, transfer
from weights.formats.tensors import Tensor
from weights.names import CONVENTIONS
from weights.recognise import Candidate, recognise, variant
from weights.sources import ALL
from weights.sources.native import NATIVE
from weights.wrappers import DEEPEST, PREFIXES, strip, unwrap
from zoo.arguments import integer
from zoo.catalogue import same_network, spec
from zoo.diff import differences, matters
from zoo.errors import WeightsError
from zoo.files import whole
from zoo.model import Model, configure
from zoo.models import MODELS
from zoo.trace import parameters

Array = NDArray[Any]
OUTER = ("backbone.", "network.", "_network.", "_backbone.", "model.", "net.", "encoder.", "student.", "Student.")
"""What else may stand before every name: the part of a larger module that the network is."""

DESCRIBED = (store.FORMAT, "mindspore")
"""Sources whose files can say themselves what network they hold."""

TAGS = {"torch": "pt", "mindspore": "ms", "paddle": "pd"}
"""What each framework writes as `format` into a safetensors file's metadata."""


@dataclass
class Checkpoint:
    """An opened file, recognised, its tensors not yet read.

    `candidates` are all it may be; `chosen` is the one it is, None while names alone cannot tell. `wanted` is the
    network it is read for, if that is another flavour.
    """

    path: Path
    format: str
    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    removed: list[str]
    candidates: list[Candidate]
    chosen: Candidate | None
    wanted: Model | None = None
    done: list[str] = field(default_factory=list)

    @property
    def model(self) -> Model:
        """The variant that `arrays` are for. Raises WeightsError while names alone cannot tell which it is."""
        if self.wanted is not None:
            return self.wanted
        if self.chosen is None:
            raise WeightsError(f"{self.path}: {self.question()}")
        return self.chosen.model

    def question(self) -> str:
        """Which flavours the file may be of, and what differs between them."""
        flavours = _flavours(self.candidates)
        first = flavours[0]
        others = (f"{other.name} ({_differences(first, other)})" for other in flavours[1:])
        return f"its names fit {first.name}, and also {'; '.join(others)}. Say which it is: --model, or model="

    def arrays(self) -> dict[str, Array]:
        """The canonical arrays of `model`, read now. Raises WeightsError when they do not fit or are not finite."""
        model = self.model
        assert self.chosen is not None
        try:
            arrays = ALL[self.chosen.source].read(self.tensors, self.chosen.model)
            if self.wanted is not None:
                arrays, done = transfer(arrays, self.chosen.model, model)
                check(arrays, model)
                self.done = done
        except WeightsError as error:
            raise WeightsError(f"{self.path}: {error}") from None
        return arrays

    def arrays_for(self, wanted: Model, seed: int = 0) -> tuple[dict[str, Array], list[str]]:
        """The arrays for a variant of `model`, and what was done to them, as `adapt` does it."""
        arrays = self.arrays()
        try:
            adapted, done = adapt(arrays, self.model, wanted, seed)
        except WeightsError as error:
            raise WeightsError(f"{self.path}: {error}") from None
        return adapted, [*self.done, *done]

    def document(self) -> dict[str, Any]:
        """What is known of the file, and of the arrays that are read from it, as JSON has it.

        `model` is the network that `arrays` are for; `converted_from` the file's own where that is another flavour;
        `possible` what else its names fit.
        """
        flavours = _flavours(self.candidates)
        chosen = self.chosen.model if self.chosen else None
        known = self.metadata.get("format") == store.FORMAT
        one = self.wanted or chosen or flavours[0]
        its = [c for c in self.candidates if chosen is None or same_network(MODELS[c.model.name], MODELS[chosen.name])]
        others = [other for other in flavours if chosen is None or other not in [c.model for c in its]]
        return {
            "file": str(self.path),
            "format": self.format,
            "sources": list(dict.fromkeys(c.source for c in its)),
            "model": one.name if chosen else None,
            "converted_from": chosen.name if chosen and self.wanted else None,
            "possible": [
                {
                    "model": other.name,
                    "differs_in": [d._asdict() for d in differences(chosen or one, other) if matters(d)],
                }
                for other in others
            ],
            "num_classes": one.num_classes,
            "in_channels": one.in_channels,
            "width": one.width,
            "aux": [aux.name for aux in one.aux],
            "tensors": len(self.tensors),
            "elements": sum(int(np.prod(tensor.shape)) for tensor in self.tensors.values()),
            "dtypes": dict(Counter(tensor.dtype for tensor in self.tensors.values())),
            "preprocess_known": known,
            "preprocess": {"size": one.size, **asdict(one.preprocess)},
            "preprocess_of": "the file" if known else one.publishers[0] if one.publishers else "the paper",
            "removed": self.removed,
            "operations": self.done,
            "metadata": self.metadata,
        }


def open_checkpoint(
    path: str | Path, source: str | None = None, model: str | None = None, *, ema: bool = False
) -> Checkpoint:
    """Open a checkpoint file of any format and source, and recognise it; nothing in it is run.

    `source` is a key of `ALL`, by default whichever fits. `model` names the network to read it for: what the file is
    where its names fit several flavours, and otherwise what it is turned into where that is exact in inference. `ema`
    takes the moving average of the weights. Raises WeightsError, with the path, for a file that holds no such weights.
    """
    path = Path(path)
    contents = formats.read(path)
    try:
        tree = contents.tree if contents.metadata.get("holds") != "state" else _of_state(contents.tree)
        tensors, removed = unwrap(tree, ema)
        size, declared = path.stat().st_size, sum(tensor.nbytes for tensor in tensors.values())
        if declared > size:
            raise WeightsError(f"its tensors would take {declared:,} bytes, and the file has {size:,}")
        if contents.metadata.get("format") == store.FORMAT:
            candidates = [_described(contents.metadata, tensors, source)]
        else:
            tensors, candidates = _recognise(tensors, removed, source)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None
    tensors = _without_heads(tensors, candidates[0], removed)
    opened = Checkpoint(path, contents.format, tensors, contents.metadata, removed, candidates, None)
    if len(_flavours(candidates)) == 1:
        opened.chosen = candidates[0]
    if model is not None:
        wanted = spec(model)
        opened.chosen = next((c for c in candidates if same_network(MODELS[c.model.name], wanted)), opened.chosen)
        if opened.model.name != wanted.name:
            opened.chosen, opened.wanted = _as_wanted(opened, wanted)
    return opened


def read(
    path: str | Path, source: str | None = None, model: str | None = None, *, ema: bool = False
) -> tuple[dict[str, Array], dict[str, Any]]:
    """Canonical arrays, float32 or float64, by name, and what is known of the file they come from (as `zoo inspect`).

    Arguments and errors are those of `open_checkpoint`; a file whose flavour its names do not tell needs `model`.
    """
    opened = open_checkpoint(path, source, model, ema=ema)
    arrays = opened.arrays()
    return arrays, opened.document()


def write(
    path: str | Path,
    arrays: Mapping[str, Array],
    model: str | Model,
    *,
    to: str | None = None,
    format: str | None = None,
    source: str = "",
    licence: str = "",
    notes: Mapping[str, str] | None = None,
) -> list[str]:
    """Write canonical arrays of `model` as a source names and keeps them; returns what was done to them.

    `to` is a key of `ALL`; by default the canonical store for .safetensors, and the names of `zoo.build`'s networks for
    PyTorch's, MindSpore's and Paddle's files. `format` is a key of `FORMATS`, by default the one that the file's name
    asks for. The canonical store and MindSpore's files of `zoo.build`'s networks say what network they hold and how it
    is fed; `source`, `licence` and `notes` go there too. The file appears whole, at the end, or not at all.
    Raises WeightsError when the arrays do not fit the model, when the source has no network with the same outputs, or
    when the file cannot be written.
    """
    to, format = _target(path, to, format)
    if isinstance(model, str):
        model = variant({name: _header(array) for name, array in arrays.items()}, NATIVE["zoo"], spec(model))
    check(arrays, model)
    arrays, model, done = _for_source(arrays, model, to)
    native = ALL[to].write(arrays, model)
    metadata = {"format": TAGS.get(ALL[to].framework, to)}
    if to == store.FORMAT or to == format == "mindspore":
        metadata = {**store.describe(model, source, licence), **(notes or {}), "names": to}
    writer = formats.FORMATS[format].write
    assert writer is not None
    try:
        with whole(path) as part:
            writer(part, native, metadata)
    except (OSError, RuntimeError, SafetensorError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise WeightsError(f"{path}: cannot write the weights: {reason}") from None
    return done


def convert(
    path: str | Path,
    out: str | Path,
    *,
    model: str | None = None,
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
    to, format = _target(out, to, format)
    opened = open_checkpoint(path, source, model, ema=ema)
    held = opened.model
    if num_classes is not None:
        held = replace(held, num_classes=integer(num_classes, "num_classes"))
    arrays, opened.done = opened.arrays_for(held)
    origin = opened.metadata.get("source") or " or ".join(opened.document()["sources"])
    done = write(out, arrays, held, to=to, format=format, source=origin, licence=opened.metadata.get("licence", ""))
    opened.done += done
    return {**opened.document(), "out": str(out), "to": to}


def _of_state(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A state of train.py: its tensors are called weights/NAME, ema/NAME and the optimizer's SLOT/NAME."""
    nested: dict[str, Any] = {}
    for key, tensor in tree.items():
        part, slash, name = key.partition("/")
        if slash:
            nested.setdefault(part, {})[name] = tensor
        else:
            nested[key] = tensor
    return nested


def _described(metadata: Mapping[str, str], tensors: Mapping[str, Tensor], source: str | None) -> Candidate:
    """What a canonical file says it is, if its tensors say so too."""
    names = metadata.get("names", store.FORMAT)
    if names not in DESCRIBED:
        raise WeightsError(f"its metadata say that its names are {names[:80]!r}, not one of {', '.join(DESCRIBED)}")
    if source not in (None, names):
        raise WeightsError(f"canonical weights, of {metadata.get('source') or 'no known source'}: leave out --from")
    model = store.described(metadata)
    keys = ALL[names].names(model)
    problems = matches(tensors, {keys[name]: parameter.shape for name, parameter in parameters(model).items()})
    if problems:
        fail(model, problems)
    return Candidate(names, model)


def _recognise(
    tensors: dict[str, Tensor], removed: list[str], source: str | None
) -> tuple[dict[str, Tensor], list[Candidate]]:
    """As `recognise`, with whatever stands before all names taken off when they mean nothing with it."""
    for _ in range(DEEPEST):
        try:
            return tensors, recognise(tensors, source)
        except WeightsError:
            stripped = strip(tensors, (*OUTER, *PREFIXES), removed)
            if stripped is None:
                raise
            tensors = stripped
    return tensors, recognise(tensors, source)


def _without_heads(tensors: dict[str, Tensor], one: Candidate, removed: list[str]) -> dict[str, Tensor]:
    """The tensors that the recognised network has: all, or without auxiliary heads that do not fit it."""
    keys = set(ALL[one.source].names(one.model).values())
    others = [name for name in tensors if name not in keys]
    if others:
        removed.append(f"{len(others)} tensors of auxiliary heads for other classes: {others[0]}, ...")
    return {name: tensor for name, tensor in tensors.items() if name in keys}


def _flavours(candidates: list[Candidate]) -> list[Model]:
    """The networks among them, each once."""
    return list({candidate.model.name: candidate.model for candidate in candidates}.values())


def _differences(first: Model, second: Model) -> str:
    texts = []
    for difference in differences(first, second):
        text = f"{difference.what} {difference.second} for {difference.first}"
        if text not in texts and matters(difference):
            texts.append(text)
    more = f", and {len(texts) - 3} more" if len(texts) > 3 else ""
    return ", ".join(texts[:3]) + more


def _as_wanted(opened: Checkpoint, wanted: Model) -> tuple[Candidate, Model | None]:
    """What the file is, and what it is read for: the wanted network itself where the source knows it by that name."""
    model, own = opened.model, opened.chosen
    assert own is not None
    if same_network(MODELS[model.name], wanted) and wanted.name in ALL[own.source].models:
        its = variant(opened.tensors, ALL[own.source], wanted)
        known = opened.metadata.get("format") == store.FORMAT
        return Candidate(own.source, replace(its, preprocess=model.preprocess) if known else its), None
    other = _counterpart(model, wanted)
    try:
        pair(model, other)
    except WeightsError as error:
        raise WeightsError(f"{opened.path}: {error}") from None
    return own, other


def _counterpart(model: Model, published: Model) -> Model:
    """The other network in the same variant, fed as the first one was: preprocessing belongs to the weights."""
    other = configure(
        published,
        num_classes=model.num_classes,
        in_channels=model.in_channels,
        width=model.width,
        aux=bool(model.aux) and set(model.aux) >= set(configure(published, width=model.width).aux),
    )
    return replace(other, preprocess=model.preprocess)


def _for_source(arrays: Mapping[str, Array], model: Model, to: str) -> tuple[Mapping[str, Array], Model, list[str]]:
    """The weights as a network that the source has: the same, or one of that family with the same outputs."""
    if model.name in ALL[to].models:
        return arrays, model, []
    family = model.name.partition(".")[0]
    reasons = []
    for name in ALL[to].models:
        if name.partition(".")[0] == family:
            other = _counterpart(model, spec(name))
            try:
                moved, done = transfer(arrays, model, other)
            except WeightsError as error:
                reasons.append(str(error))
                continue
            return moved, other, [f"{model.name} written as {other.name}", *done]
    why = reasons[0] if reasons else f"it publishes {', '.join(ALL[to].models)}"
    raise WeightsError(f"{to} has no network with the outputs of {model.name}: {why}")


def _target(path: str | Path, to: str | None, format: str | None) -> tuple[str, str]:
    """The source and the format to write, defaults filled in; raises WeightsError when they do not go together."""
    format = format or formats.format_for(path)
    if format not in formats.FORMATS:
        raise WeightsError(f"unknown format {format!r}: expected one of {', '.join(formats.FORMATS)}")
    if format == "keras-zip":
        raise WeightsError(
            f"{path}: a .keras file holds Keras's own description of the layers, which only Keras can write: "
            "write a .weights.h5, load_weights() it, and save()"
        )
    to = to or {"safetensors": "zoo"}.get(format) or format.removesuffix("-legacy")
    if to not in ALL:
        raise WeightsError(f"unknown source {to!r}: expected one of {', '.join(ALL)}")
    allowed = CONVENTIONS[ALL[to].framework].formats
    if format not in allowed:
        suffixes = ", ".join(formats.FORMATS[name].suffixes[0] for name in allowed if formats.FORMATS[name].suffixes)
        raise WeightsError(f"{path}: {to} keeps weights in {suffixes} files")
    return to, format


def _header(array: Array) -> Tensor:
    return Tensor(array.shape, array.dtype.name, lambda: array)
