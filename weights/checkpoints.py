"""Open checkpoints of any source: recognise the network, and read its weights under canonical names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from weights import hub, published, remote, sidecar, store
from weights.adapt import adapt
from weights.describe import describe, question
from weights.flavours import pair, transfer
from weights.formats.tensors import Tensor
from weights.initial import initial
from weights.manifest import check, fail, matches
from weights.published import Published
from weights.recognise import Candidate, recognise_part, variant
from weights.sources import all_sources
from weights.sources.native import Native
from weights.wrappers import some, unwrap
from zoo.arguments import integer
from zoo.catalogue import models, spec
from zoo.errors import SpecError, WeightsError
from zoo.language.diff import same_network
from zoo.language.model import Model, configure
from zoo.language.trace import parameters
from zoo.models import ALIASES

Array = NDArray[Any]

MOST_NAMES = 4
"""How many names the tensors of a file may have on average. In modules that share weights they have two or three."""


@dataclass
class Checkpoint:
    """An opened checkpoint, recognised; its tensors are not read yet.

    path             as it was given: a file or a folder
    format           a key of `FORMATS`
    tensors          the network's tensors, under the file's names
    metadata         those of the file, or of the .json beside it
    removed          a line for each thing that was in the file besides the network
    notes            a line for each other thing that the user should know
    candidates       every source and network that it may be
    chosen           the candidate that it is; None if names alone cannot tell
    wanted           the network that it is read for, if that is another flavour
    preprocess_from  where the preprocessing comes from: "the file", "config.json", the name of the .json beside it, or
                     the name of a row of `weights.published`; "" if nothing gives it and the publisher's is assumed
    has_average      whether it also holds a moving average of the weights
    done             a line for each thing that was done to the arrays when they were read
    """

    path: Path
    format: str
    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    removed: list[str]
    notes: list[str]
    candidates: list[Candidate]
    chosen: Candidate | None
    wanted: Model | None = None
    preprocess_from: str = ""
    has_average: bool = False
    done: list[str] = field(default_factory=list)

    @property
    def model(self) -> Model:
        """The variant that `arrays` are for. Raises WeightsError if names alone cannot tell which it is."""
        return self.wanted or self._choice().model

    @property
    def described(self) -> bool:
        """Whether the file, or the .json beside it, says which network it holds."""
        return self.metadata.get("format") == store.FORMAT

    @property
    def class_names(self) -> list[str]:
        """The names of the file's classes in order; empty where they are not known."""
        return store.class_names(self.metadata, (self.chosen or self.candidates[0]).model.num_classes)

    def arrays(self, seed: int = 0) -> dict[str, Array]:
        """The canonical arrays of `model`, read now; a classifier that the file does not have is made from `seed`.

        Raises WeightsError when they do not fit or are not finite.
        """
        model, chosen = self.model, self._choice()
        self.done = []
        try:
            if chosen.trunk is None:
                arrays = chosen.naming.read(self.tensors)
            else:
                arrays = {**initial(chosen.model, seed), **chosen.trunk.read(self.tensors)}
                classes = chosen.model.num_classes
                self.done.append(
                    f"no classifier that fits in the file: a new one of {classes} classes, from seed {seed}"
                )
            if self.wanted is not None:
                arrays, done = transfer(arrays, chosen.model, model)
                check(arrays, model)
                self.done += done
        except WeightsError as error:
            raise WeightsError(f"{self.path}: {error}") from None
        return arrays

    def arrays_for(self, wanted: Model, seed: int = 0) -> tuple[dict[str, Array], list[str]]:
        """The arrays for a variant of `model`, and a line for each thing that was done to them; see `adapt`."""
        arrays = self.arrays(seed)
        try:
            adapted, done = adapt(arrays, self.model, wanted, seed)
        except WeightsError as error:
            raise WeightsError(f"{self.path}: {error}") from None
        return adapted, [*self.done, *done]

    def document(self) -> dict[str, Any]:
        """What is known of the file, as JSON: `weights.describe.describe`."""
        return describe(self)

    def _choice(self) -> Candidate:
        if self.chosen is None:
            raise WeightsError(f"{self.path}: {question(self.candidates)}")
        return self.chosen


def open_checkpoint(
    path: str | Path,
    source: str | None = None,
    model: str | Path | Model | None = None,
    *,
    ema: bool = False,
    num_classes: int | None = None,
    prefix: str | None = None,
) -> Checkpoint:
    """Open and recognise a checkpoint of any format and source; nothing in it is run.

    path         a file, one of several shards or their index, a folder of the Hugging Face hub, or a name that
                 `weights.remote.locate` takes: published weights are downloaded unless they are in the cache
    source       a key of `all_sources()`; by default whichever fits
    model        the network to read it for, as `resolve` takes it. It decides between flavours that have the same
                 names; a file of another flavour is converted where that is exact in inference
    ema          take the moving average of the weights
    num_classes  also open a file whose classifier is missing or is not the network's, for a new one with that many
                 classes; a file with the network's classifier opens as without it
    prefix       the network is the part of a larger module below this prefix, e.g. "student."; by default the prefix
                 whose tensors fit a network

    Raises WeightsError, with the path, for a file that holds no such weights.
    """
    wanted = None if model is None else resolve(model)
    if num_classes is not None:
        num_classes = integer(num_classes, "num_classes")
    located, row = remote.locate(path)
    path, files = Path(path), hub.read(located)
    contents, notes = files.contents, list[str]()
    metadata, preprocess_from = contents.metadata, ""
    try:
        tree = contents.tree if metadata.get("holds") != "state" else _of_state(contents.tree)
        tensors, removed, has_average = unwrap(tree, ema)
        once = {tensor.location or (name,): tensor.nbytes for name, tensor in tensors.items()}
        declared = sum(tensor.nbytes for tensor in tensors.values())
        if sum(once.values()) > files.size or declared > MOST_NAMES * files.size:
            raise WeightsError(f"its tensors would take {declared:,} bytes, and the file has {files.size:,}")
        if metadata.get("format") == store.FORMAT:
            preprocess_from = "the file"
        elif beside := _sidecar(files.paths, tensors, notes):
            metadata, preprocess_from = {**metadata, **beside, "format": store.FORMAT}, sidecar.path_of(path).name
        if preprocess_from:
            candidates = [_described(metadata, tensors, source)]
        else:
            tensors, candidates = recognise_part(tensors, removed, source, num_classes, prefix, wanted)
            if row:
                candidates, metadata = _with_row(row, candidates, metadata)
            candidates, metadata, said_by = _with_config(files.config, candidates, metadata, notes)
            preprocess_from = said_by or (row.name if row else "")
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None
    if metadata.get("preprocess_assumed"):
        preprocess_from = ""
    tensors = _of_network(tensors, candidates[0], removed)
    opened = Checkpoint(
        path, contents.format, tensors, metadata, removed, notes, candidates, None,
        preprocess_from=preprocess_from, has_average=has_average,
    )  # fmt: skip
    if has_average and not ema:
        notes.append("it also holds a moving average of the weights: ema=True (--ema) takes that")
    if len({candidate.model.name for candidate in candidates}) == 1:
        opened.chosen = candidates[0]
    if row and not opened.described:
        _read_for(opened, row.spec)
    if wanted is not None:
        _read_for(opened, wanted)
    return opened


def read(
    path: str | Path, source: str | None = None, model: str | Path | Model | None = None, *, ema: bool = False
) -> tuple[dict[str, Array], dict[str, Any]]:
    """Canonical arrays, float32 or float64, by name, and what is known of the file that they come from, as JSON.

    Arguments and errors are those of `open_checkpoint`; a file whose names fit several flavours needs `model`.
    """
    opened = open_checkpoint(path, source, model, ema=ema)
    arrays = opened.arrays()
    return arrays, opened.document()


def resolve(model: str | Path | Model) -> Model:
    """The network that `model` names.

    model   anything that `zoo.catalogue.spec` takes; the name of published weights, which stands for their network and
            preprocessing (nothing is downloaded); or a checkpoint as `open_checkpoint` takes it

    Raises SpecError for an unknown name, WeightsError for a file that is not recognised or may be several networks.
    """
    if isinstance(model, Model):
        return model
    if is_checkpoint(model):
        return open_checkpoint(model).model
    row = published.find(str(model))
    return row.spec if row else spec(model)


def is_checkpoint(model: str | Path) -> bool:
    """Whether `model` is a checkpoint, a file or a folder of the hub, and not a name or a .json document."""
    if str(model) in models() or str(model) in ALIASES:
        return False
    if remote.is_address(model):
        return True
    path = Path(model)
    return hub.holds_weights(path) or (path.is_file() and (path.suffix != ".json" or path.name.endswith(hub.INDEX)))


def counterpart(model: Model, other: Model) -> Model:
    """`other` with the classes, input channels, width and auxiliary heads of `model`, and with its input size and
    preprocessing, which belong to the weights.
    """
    width = model.width / other.width
    heads = set(model.aux) >= set(configure(other, width=width).aux)
    result = configure(
        other,
        num_classes=model.num_classes,
        in_channels=model.in_channels,
        width=width,
        aux=bool(model.aux) and heads,
    )
    return replace(result, size=model.size, preprocess=model.preprocess)


def _of_state(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A state of train.py as nested dictionaries: its tensors are called weights/NAME, ema/NAME and SLOT/NAME."""
    nested: dict[str, Any] = {}
    for key, tensor in tree.items():
        part, slash, name = key.partition("/")
        if slash:
            nested.setdefault(part, {})[name] = tensor
        else:
            nested[key] = tensor
    return nested


def _sidecar(paths: tuple[Path, ...], tensors: Mapping[str, Tensor], notes: list[str]) -> dict[str, str]:
    """The metadata in the .json beside a weight file; none, with a note, if it does not belong to these weights."""
    if len(paths) != 1:
        return {}
    try:
        return sidecar.read(paths[0], tensors)
    except WeightsError as error:
        notes.append(f"ignored: {error}")
        return {}


def _described(metadata: Mapping[str, str], tensors: Mapping[str, Tensor], source: str | None) -> Candidate:
    """The candidate that the metadata describe. Raises WeightsError if the tensors do not fit it."""
    names = metadata.get("names", store.FORMAT)
    if names not in all_sources():
        raise WeightsError(
            f"its metadata say that its names are those of {names[:80]!r}, expected one of {', '.join(all_sources())}"
        )
    if source not in (None, names):
        raise WeightsError(f"its metadata say that its names are those of {names}, not {source}: leave out --from")
    model = store.described(metadata)
    try:
        naming = all_sources()[names].naming(model)
        problems = matches(tensors, naming.shapes)
    except (RecursionError, SpecError) as error:
        raise WeightsError(f"its metadata do not describe a network: {type(error).__name__}: {error}") from None
    if problems:
        fail(model, problems)
    return Candidate(names, model, naming)


def _with_row(
    row: Published, candidates: list[Candidate], metadata: dict[str, str]
) -> tuple[list[Candidate], dict[str, str]]:
    """The candidates with the preprocessing of a published row, and the metadata with its source and licence."""
    fed = [one.of(replace(one.model, size=row.size, preprocess=row.preprocess)) for one in candidates]
    return fed, {**metadata, "source": row.name, "licence": row.licence}


def _with_config(
    path: Path | None, candidates: list[Candidate], metadata: dict[str, str], notes: list[str]
) -> tuple[list[Candidate], dict[str, str], str]:
    """The candidates with the preprocessing of a hub folder's config.json, and the metadata with its class names.

    The third result is "config.json" if that file gives any preprocessing, otherwise "".
    """
    if path is None:
        return candidates, metadata, ""
    try:
        config = hub.read_config(path)
        fed = [one.of(config.applied(one.model)) for one in candidates]
        for one in fed:
            parameters(one.model)
    except (SpecError, WeightsError) as error:
        notes.append(f"ignored: {hub.CONFIG}: {str(error).removeprefix(f'{path}: ')}")
        return candidates, metadata, ""
    candidates = fed
    notes += [f"{hub.CONFIG}: {note}" for note in config.notes]
    metadata = dict(metadata)
    if config.architecture:
        metadata["architecture"] = config.architecture
    if config.class_names and len(config.class_names) == candidates[0].model.num_classes:
        metadata["class_names"] = json.dumps(config.class_names)
    elif config.class_names:
        classes = candidates[0].model.num_classes
        notes.append(f"{hub.CONFIG}: ignored: {len(config.class_names)} names for {classes} classes")
    return candidates, metadata, hub.CONFIG if config.feeds else ""


def _of_network(tensors: dict[str, Tensor], one: Candidate, removed: list[str]) -> dict[str, Tensor]:
    """The tensors that the recognised network has; others are auxiliary heads or a classifier that do not fit it."""
    keys = set((one.trunk or one.naming).keys.values())
    others = [name for name in tensors if name not in keys]
    if others and one.trunk:
        removed.append(f"{len(others)} tensors that are not the network's: {some(others)}")
    elif others:
        removed.append(f"{len(others)} tensors of auxiliary heads for other classes: {others[0]}, ...")
    return {name: tensor for name, tensor in tensors.items() if name in keys}


def _read_for(opened: Checkpoint, wanted: Model) -> None:
    """Set `opened.chosen` and `opened.wanted` so that `opened.model` is `wanted` in the file's variant."""
    fits = (c for c in opened.candidates if same_network(c.model, counterpart(c.model, wanted)))
    opened.chosen = next(fits, opened.chosen)
    own = opened._choice()
    if own.model.name == wanted.name and same_network(own.model, counterpart(own.model, wanted)):
        return
    source = all_sources()[own.source]
    other = counterpart(own.model, wanted)
    if same_network(own.model, other) and (isinstance(source, Native) or wanted.name in source.models):
        opened.chosen = _renamed(opened, own, wanted)
        return
    try:
        pair(own.model, other)
    except WeightsError as error:
        raise WeightsError(f"{opened.path}: {error}") from None
    opened.wanted = other


def _renamed(opened: Checkpoint, own: Candidate, wanted: Model) -> Candidate:
    """The candidate under another name of the same network; its preprocessing is the file's if that is known."""
    naming = all_sources()[own.source].naming(wanted)
    model = counterpart(own.model, wanted) if own.trunk else variant(opened.tensors, naming).model
    fed = own.model if opened.described or opened.preprocess_from else wanted
    naming = naming.of(replace(model, size=fed.size, preprocess=fed.preprocess))
    return replace(own, published=wanted, naming=naming)
