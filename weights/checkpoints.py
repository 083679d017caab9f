"""Opening checkpoints of any source: what they hold, which network it is, and its weights under canonical names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from weights import formats, store
from weights.adapt import adapt
from weights.describe import describe, question
from weights.flavours import pair, transfer
from weights.formats.tensors import Tensor
from weights.manifest import check, fail, matches
from weights.recognise import Candidate, recognise, variant
from weights.sources import all_sources
from weights.sources.native import Native
from weights.wrappers import DEEPEST, PREFIXES, strip, unwrap
from zoo.catalogue import models, spec
from zoo.errors import WeightsError
from zoo.language.diff import same_network
from zoo.language.model import Model, configure
from zoo.models import ALIASES

Array = NDArray[Any]
OUTER = ("backbone.", "network.", "_network.", "_backbone.", "model.", "net.", "encoder.", "student.", "Student.")
"""What else may stand before every name: the part of a larger module that the network is."""

DESCRIBED = (store.FORMAT, "mindspore")
"""Sources whose files can say themselves what network they hold."""


@dataclass
class Checkpoint:
    """An opened file, recognised, its tensors not yet read.

    `candidates` are all it may be; `chosen` is the one it is, None while names alone cannot tell. `wanted` is the
    network it is read for, if that is another flavour. `done` lists what was done to the arrays that were read.
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
        return self.wanted or self._choice().model

    @property
    def described(self) -> bool:
        """Whether the file itself says which network it holds, and how it is fed."""
        return self.metadata.get("format") == store.FORMAT

    def arrays(self) -> dict[str, Array]:
        """The canonical arrays of `model`, read now. Raises WeightsError when they do not fit or are not finite."""
        model, chosen = self.model, self._choice()
        try:
            arrays = chosen.naming.read(self.tensors)
            if self.wanted is not None:
                arrays, done = transfer(arrays, chosen.model, model)
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
        """What is known of the file, as JSON has it: `weights.describe.describe`."""
        return describe(self)

    def _choice(self) -> Candidate:
        if self.chosen is None:
            raise WeightsError(f"{self.path}: {question(self.candidates)}")
        return self.chosen


def open_checkpoint(
    path: str | Path, source: str | None = None, model: str | Path | Model | None = None, *, ema: bool = False
) -> Checkpoint:
    """Open a checkpoint file of any format and source, and recognise it; nothing in it is run.

    source  a key of `all_sources()`; by default whichever fits
    model   the network to read it for, as `resolve` takes it: what the file is where its names fit several flavours,
            and otherwise what it is turned into where that is exact in inference
    ema     take the moving average of the weights

    Raises WeightsError, with the path, for a file that holds no such weights.
    """
    path = Path(path)
    contents = formats.read(path)
    described = contents.metadata.get("format") == store.FORMAT
    try:
        tree = contents.tree if contents.metadata.get("holds") != "state" else _of_state(contents.tree)
        tensors, removed = unwrap(tree, ema)
        size, declared = path.stat().st_size, sum(tensor.nbytes for tensor in tensors.values())
        if declared > size:
            raise WeightsError(f"its tensors would take {declared:,} bytes, and the file has {size:,}")
        if described:
            candidates = [_described(contents.metadata, tensors, source)]
        else:
            tensors, candidates = _recognise(tensors, removed, source)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None
    tensors = _without_heads(tensors, candidates[0], removed)
    opened = Checkpoint(path, contents.format, tensors, contents.metadata, removed, candidates, None)
    if len({candidate.model.name for candidate in candidates}) == 1:
        opened.chosen = candidates[0]
    if model is not None:
        _read_for(opened, resolve(model))
    return opened


def read(
    path: str | Path, source: str | None = None, model: str | Path | Model | None = None, *, ema: bool = False
) -> tuple[dict[str, Array], dict[str, Any]]:
    """Canonical arrays, float32 or float64, by name, and what is known of the file they come from (as `zoo inspect`).

    Arguments and errors are those of `open_checkpoint`; a file whose flavour its names do not tell needs `model`.
    """
    opened = open_checkpoint(path, source, model, ema=ema)
    arrays = opened.arrays()
    return arrays, opened.document()


def resolve(model: str | Path | Model) -> Model:
    """The network that `model` names: all that `zoo.spec` takes, or the path of a checkpoint, whose network it is.

    Raises SpecError for what names no network, WeightsError for a file that does not say which it is.
    """
    if isinstance(model, Model) or not is_checkpoint(model):
        return spec(model)
    return open_checkpoint(model).model


def is_checkpoint(model: str | Path) -> bool:
    """Whether a network is named by a file that holds weights, rather than by a name or a .json document."""
    if str(model) in models() or str(model) in ALIASES:
        return False
    return Path(model).is_file() and Path(model).suffix != ".json"


def counterpart(model: Model, other: Model) -> Model:
    """`other` in the variant that `model` is, fed as `model` is: preprocessing belongs to the weights."""
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
    """What a canonical file says it is, if its tensors agree."""
    names = metadata.get("names", store.FORMAT)
    if names not in DESCRIBED:
        raise WeightsError(f"its metadata say that its names are {names[:80]!r}, not one of {', '.join(DESCRIBED)}")
    if source not in (None, names):
        raise WeightsError(f"canonical weights, of {metadata.get('source') or 'no known source'}: leave out --from")
    model = store.described(metadata)
    naming = all_sources()[names].naming(model)
    if problems := matches(tensors, naming.shapes):
        fail(model, problems)
    return Candidate(names, model, naming)


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
    keys = set(one.naming.keys.values())
    others = [name for name in tensors if name not in keys]
    if others:
        removed.append(f"{len(others)} tensors of auxiliary heads for other classes: {others[0]}, ...")
    return {name: tensor for name, tensor in tensors.items() if name in keys}


def _read_for(opened: Checkpoint, wanted: Model) -> None:
    """Choose what the file is, and what it is read for, so that `opened.model` is `wanted` in the file's variant."""
    fits = (c for c in opened.candidates if same_network(c.model, counterpart(c.model, wanted)))
    opened.chosen = next(fits, opened.chosen)
    own = opened._choice()
    if own.model.name == wanted.name and same_network(own.model, counterpart(own.model, wanted)):
        return
    source = all_sources()[own.source]
    other = counterpart(own.model, wanted)
    if same_network(own.model, other) and (isinstance(source, Native) or wanted.name in source.models):
        naming = variant(opened.tensors, source.naming(wanted))
        if opened.described:
            naming = naming.of(replace(naming.model, size=own.model.size, preprocess=own.model.preprocess))
        opened.chosen = Candidate(own.source, wanted, naming)
        return
    try:
        pair(own.model, other)
    except WeightsError as error:
        raise WeightsError(f"{opened.path}: {error}") from None
    opened.wanted = other
