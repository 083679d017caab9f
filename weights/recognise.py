"""Recognise, from the names and shapes of a file's tensors, the publishers and networks whose file it may be."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import ceil

import numpy as np

from weights.formats.tensors import Tensor
from weights.manifest import matches
from weights.names import Naming, Table, expand
from weights.sources import all_sources
from weights.sources.native import Native, identity
from weights.wrappers import some
from zoo.catalogue import models
from zoo.errors import SpecError, WeightsError
from zoo.language.diff import same_network
from zoo.language.model import Model, configure
from zoo.language.nodes import (
    AdaptiveAvgPool,
    AvgPool,
    Conv,
    Depthwise,
    Head,
    MaxPool,
    NormRelu,
    Relu,
    assert_never,
)
from zoo.language.trace import Op, parameters, trace

LONGEST = 200
"""Longest tensor name that is considered, in characters: more than any network has."""

LEAST_SHARE = 0.6
"""Share of a table's rows that a file must have for an error to name that table as the nearest."""

DEEPEST_PREFIX = 4
"""Most components of a prefix, as in "state.model.module.backbone."."""

MOST_PREFIXES = 12
"""How many prefixes are tried, those with the most tensors first."""

AVERAGE = re.compile(r"(^|[._])(ema|swa|averaged?)[._]")
"""Matches prefixes below which the tensors are a moving average of the weights."""


class NotRecognised(WeightsError):
    """No table fits; `share` says how near the nearest is, from 0 to 1."""

    def __init__(self, message: str, share: float) -> None:
        super().__init__(message)
        self.share = share


@dataclass(frozen=True)
class Candidate:
    """What a file may be: a source's name, the registered network, and the naming of the variant that the file holds.

    `trunk` is the naming of the variant without its classifier, where the file has none that fits.
    """

    source: str
    published: Model
    naming: Naming
    trunk: Naming | None = None

    @property
    def model(self) -> Model:
        """The variant."""
        return self.naming.model

    def of(self, model: Model) -> Candidate:
        """The same names for another model with the same tensors."""
        return replace(self, naming=self.naming.of(model))


def recognise(
    tensors: Mapping[str, Tensor],
    source: str | None = None,
    num_classes: int | None = None,
    wanted: Model | None = None,
) -> list[Candidate]:
    """All candidates: every name must fit, and one choice of classes, channels and width must explain all shapes.

    Of networks that compute the same function, each source contributes one. With `num_classes`, a file without the
    network's classifier fits too, for a new one with that many classes, and other tensors beside the trunk are ignored.
    `wanted` is a network that need not be registered: a file under that network's own paths is recognised as it. Raises
    NotRecognised, with the nearest match, when nothing fits.
    """
    if source is not None and source not in all_sources():
        raise WeightsError(f"unknown source {source!r}: expected one of {', '.join(all_sources())}")
    paths = {path for name in tensors if len(name) < LONGEST for path in _paths(name)}
    tables: list[tuple[str, Model, Table]] = []
    for name in all_sources() if source is None else [source]:
        own = {wanted.name: wanted} if wanted and isinstance(all_sources()[name], Native) else {}
        known = {**models(), **own}
        named = {**all_sources()[name].models, **{model: identity(one) for model, one in own.items()}}
        tables += [(name, known[model], table) for model, table in named.items() if model in known]
    found: list[Candidate] = []
    trunks: list[Candidate] = []
    problems: dict[tuple[str, str], str] = {}
    for name, published, table in tables:
        if any(c.source == name and same_network(c.published, published) for c in found):
            continue
        naming = all_sources()[name].naming(published)
        if all(_rows_present(table, published, paths)):
            try:
                found.append(Candidate(name, published, variant(tensors, naming)))
            except (SpecError, WeightsError) as error:
                problems[name, published.name] = str(error)
        if not found and published.head and all(_rows_present(table, published, paths, head=False)):
            trunks += _trunk(tensors, name, naming, num_classes)
    if found:
        return _told_by_classes(found, wanted)
    if trunks and num_classes is not None:
        return _distinct(trunks)
    if trunks:
        nearest = trunks[0].source, trunks[0].published.name
        problem = problems.get(nearest) or _problem(tensors, trunks[0].naming)
        raise NotRecognised(
            f"not a file of any known source; the nearest is {nearest[0]}'s {problem}. All layers but the classifier "
            "fit: give num_classes (--num-classes N) to take them and make a new classifier",
            1.0,
        )
    shares = {
        (name, published.name): float(np.mean([*_rows_present(table, published, paths)] or [False]))
        for name, published, table in tables
    }
    nearest = max(problems or shares, key=shares.__getitem__)
    if shares[nearest] < LEAST_SHARE:
        first = ", ".join(name[:80] for name in list(tensors)[:3])
        raise NotRecognised(
            f"its {len(tensors)} tensors ({first}, ...) do not have the names of a network of "
            f"{source or 'any known source'}; `zoo list` shows the networks and their publishers; for a network of "
            "your own give model= (--model), or keep the .json that was written beside the file",
            shares[nearest],
        )
    name = nearest[0]
    published = next(one for source_name, one, _ in tables if (source_name, one.name) == nearest)
    problem = problems.get(nearest) or _problem(tensors, all_sources()[name].naming(published))
    raise NotRecognised(f"not a file of any known source; the nearest is {name}'s {problem}", shares[nearest])


def _told_by_classes(found: list[Candidate], wanted: Model | None) -> list[Candidate]:
    """The candidates whose number of classes fits, and those of the wanted network.

    inception_v3.fid has the names and shapes of torchvision's inception_v3, except for its 1008 classes. So a network
    that is published with a number of classes other than ImageNet's is a candidate only for files with that number.
    """
    own = [c for c in found if c.published.num_classes != Model.num_classes]
    kept = [c for c in own if c.model.num_classes == c.published.num_classes] or [c for c in found if c not in own]
    chosen = [c for c in found if c in kept or (wanted is not None and c.published.name == wanted.name)]
    return chosen or found


def recognise_part(
    tensors: dict[str, Tensor],
    removed: list[str],
    source: str | None,
    num_classes: int | None,
    prefix: str | None,
    wanted: Model | None = None,
) -> tuple[dict[str, Tensor], list[Candidate]]:
    """As `recognise`, for a file that may hold a larger module that contains the network.

    Returns the network's tensors, named without the prefix, and the candidates; adds a line for each thing that was
    left out to `removed`. The prefix is the one whose tensors fit a network. Raises WeightsError if there are several.
    """
    nearest: NotRecognised | None = None
    if prefix is None:
        try:
            return tensors, recognise(tensors, source, num_classes, wanted)
        except NotRecognised as error:
            nearest = error
    found: dict[str, tuple[dict[str, Tensor], list[Candidate]]] = {}
    for start in _prefixes(tensors) if prefix is None else [prefix]:
        if any(start.startswith(shorter) for shorter in found):
            continue  # a part of a network that was found
        part = {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
        try:
            found[start] = part, recognise(part, source, num_classes, wanted)
        except NotRecognised as error:
            if nearest is None or error.share > nearest.share:
                nearest = NotRecognised(f"below the prefix {start!r}: {error}", error.share)
    starts = [start for start in found if not AVERAGE.search(start)] or list(found)
    if len(starts) > 1:
        raise WeightsError(f"networks below {' and '.join(map(repr, starts))}: choose one with prefix= (--prefix)")
    if not starts:
        assert nearest is not None
        raise nearest
    start = starts[0]
    removed.append(f"the prefix {start!r}")
    outside = [name for name in tensors if not name.startswith(start)]
    if outside:
        removed.append(f"{len(outside)} tensors outside it: {some(outside)}")
    return found[start]


def _prefixes(tensors: Mapping[str, Tensor]) -> list[str]:
    """Prefixes that the names of a network inside a larger module may have, those of most tensors first."""
    counts: Counter[str] = Counter()
    for name in tensors:
        if len(name) < LONGEST:
            words = name.split(".")[:-1][:DEEPEST_PREFIX]
            counts.update(".".join(words[: i + 1]) + "." for i in range(len(words)))
    return [prefix for prefix, count in counts.most_common(MOST_PREFIXES) if count > 1]


def _distinct(trunks: list[Candidate]) -> list[Candidate]:
    """One candidate for each source and network."""
    kept: list[Candidate] = []
    for one in trunks:
        if not any(c.source == one.source and same_network(c.published, one.published) for c in kept):
            kept.append(one)
    return kept


def _trunk(tensors: Mapping[str, Tensor], source: str, naming: Naming, num_classes: int | None) -> Iterator[Candidate]:
    """The candidate for a file that has all of the network's tensors but its classifiers; none for other files."""
    published = naming.model
    plain = naming.of(replace(published, aux=()))
    bare = naming.of(replace(published, aux=(), head=None, taps=(published.stages[-1].name,)))
    if _fits(tensors, plain):
        return  # the classifier is not what is wrong
    try:
        trunk = variant(_restricted(tensors, bare), bare)
        model = configure(
            published,
            num_classes=num_classes,
            in_channels=trunk.model.in_channels,
            width=trunk.model.width / published.width,
            aux=False,
        )
        parameters(model)
    except (SpecError, WeightsError):
        return
    yield Candidate(source, published, naming.of(model), trunk)


def _restricted(tensors: Mapping[str, Tensor], naming: Naming) -> dict[str, Tensor]:
    keys = set(naming.keys.values())
    return {key: tensor for key, tensor in tensors.items() if key in keys}


def _fits(tensors: Mapping[str, Tensor], naming: Naming) -> bool:
    """Whether the tensors include those of the network."""
    try:
        variant(_restricted(tensors, naming), naming)
    except (SpecError, WeightsError):
        return False
    return True


def _problem(tensors: Mapping[str, Tensor], naming: Naming) -> str:
    try:
        return variant(tensors, naming).model.name
    except WeightsError as error:
        return str(error)


def variant(tensors: Mapping[str, Tensor], naming: Naming) -> Naming:
    """The naming of the variant of a network that has exactly these tensors.

    Classes, input channels, width and auxiliary heads are read off the shapes. Raises WeightsError when no variant has
    these names and shapes.
    """
    published, convention = naming.model, naming.convention
    heads = set(naming.keys.values()) - set(naming.of(replace(published, aux=())).keys.values())
    naming = naming.of(replace(published, aux=())) if heads.isdisjoint(tensors) else naming
    names, schema = naming.keys, parameters(naming.model)

    def dimension(tensor: str, axis: int) -> int:
        given = tensors.get(names[tensor])
        order = convention.axes.get(schema[tensor].kind, range(len(schema[tensor].shape)))
        if given is None or len(given.shape) != len(schema[tensor].shape):
            return schema[tensor].shape[axis]
        return given.shape[list(order).index(axis)]

    def counts(op: Op) -> Iterator[tuple[int, int]]:
        match op.node:
            case Conv(channels=channels):
                yield channels, dimension(f"{op.path}.conv.weight", 0)
            case Head(hidden=hidden):
                if hidden is not None:
                    yield hidden, dimension(f"{op.path}.hidden.weight", 0)
            case Depthwise() | NormRelu() | Relu() | MaxPool() | AvgPool() | AdaptiveAvgPool():
                pass
            case _:
                assert_never(op.node)

    traced = trace(naming.model)
    first = traced.first_conv
    try:
        model = configure(
            published,
            num_classes=dimension("head.fc.weight", 0) if published.head else None,
            in_channels=dimension(f"{first.path}.conv.weight", 1) if first else None,
            aux=bool(naming.model.aux),
            width=_width([pair for op in traced.ops for pair in counts(op)]),
        )
        parameters(model)
    except SpecError as error:
        raise WeightsError(str(error)) from None
    found = naming.of(model)
    problems = matches(tensors, found.shapes)
    if problems and model.aux:  # auxiliary heads for other classes, or only one of two heads
        trunk = {key: tensor for key, tensor in tensors.items() if key not in heads}
        return variant(trunk, naming.of(published))
    if problems:
        raise WeightsError(f"{model.name}, but: {'; '.join(problems)}")
    return found


def _width(counts: list[tuple[int, int]]) -> float:
    """The roundest factor that turns all published channel counts into the given ones, or else the commonest ratio."""
    if all(published == given for published, given in counts):
        return 1.0
    low = max((given - 4) / published if given > 8 else 1e-4 for published, given in counts)
    high = min((given + 4) / published for published, given in counts)
    for unit in (1, 2, 4, 8, 10, 16, 20, 100, 1000, 10_000):
        width = ceil(low * unit) / unit
        if 0 < width < high:
            return width
    return Counter(given / published for published, given in counts).most_common(1)[0][0]


def _rows_present(table: Table, model: Model, paths: set[str], head: bool = True) -> Iterator[bool]:
    """For each row of a network's table, whether the file has a tensor below its path; rows of auxiliary heads are left
    out, and with `head=False` those of the classifier.
    """
    left_out = (*(f"{aux.name}." for aux in model.aux), *(() if head else ("head.",)))
    for row in table.rows:
        theirs, ours = next(expand(row))
        if not f"{ours}.".startswith(left_out):
            yield theirs in paths


def _paths(name: str) -> Iterator[str]:
    """A name and all paths above it, with "." or "/" between components."""
    yield name
    for at in np.flatnonzero([character in "./" for character in name]):
        yield name[:at]
