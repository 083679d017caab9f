"""Whose file is it, of which network, in which variant? Names and shapes say, or say what it might be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import ceil

import numpy as np

from weights.formats.tensors import Tensor
from weights.manifest import matches
from weights.names import Naming, Table, expand
from weights.sources import all_sources
from zoo.catalogue import models
from zoo.errors import SpecError, WeightsError
from zoo.language.diff import same_network
from zoo.language.model import Model, configure
from zoo.language.nodes import Conv, Head
from zoo.language.trace import Op, parameters, trace

LONGEST = 200
"""Characters of a tensor's name: more than any network has."""

LEAST = 0.6
"""Share of a table's rows that a file must have for the table to be called near."""


@dataclass(frozen=True)
class Candidate:
    """What a file may be: a source's name, the registered network, and the variant of it that the file would hold."""

    source: str
    published: Model
    naming: Naming

    @property
    def model(self) -> Model:
        """The variant."""
        return self.naming.model


def recognise(tensors: Mapping[str, Tensor], source: str | None = None) -> list[Candidate]:
    """All that fit: the same names, and shapes that one choice of classes, channels and width explains.

    Of networks that compute the same function, each source has one. Raises WeightsError, with the nearest match, when
    none fits.
    """
    if source is not None and source not in all_sources():
        raise WeightsError(f"unknown source {source!r}: expected one of {', '.join(all_sources())}")
    paths = {path for name in tensors if len(name) < LONGEST for path in _paths(name)}
    known = models()
    tables = [
        (name, model, table)
        for name in (all_sources() if source is None else [source])
        for model, table in all_sources()[name].models.items()
        if model in known
    ]
    found: list[Candidate] = []
    problems: dict[tuple[str, str], str] = {}
    for name, model, table in tables:
        published = known[model]
        if any(c.source == name and same_network(c.published, published) for c in found):
            continue
        if all(_present(table, published, paths)):
            naming = all_sources()[name].naming(published)
            try:
                found.append(Candidate(name, published, variant(tensors, naming)))
            except (SpecError, WeightsError) as error:
                problems[name, model] = str(error)
    if found:
        return found
    shares = {
        (name, model): float(np.mean([*_present(table, known[model], paths)] or [False]))
        for name, model, table in tables
    }
    nearest = max(problems or shares, key=shares.__getitem__)
    if shares[nearest] < LEAST:
        first = ", ".join(name[:80] for name in list(tensors)[:3])
        raise WeightsError(
            f"its {len(tensors)} tensors ({first}, ...) do not have the names of a network of "
            f"{source or 'any known source'}; `zoo list` shows the networks and their publishers"
        )
    name, model = nearest
    problem = problems.get(nearest) or _problem(tensors, all_sources()[name].naming(known[model]))
    raise WeightsError(f"not a file of any known source; the nearest is {name}'s {problem}")


def _problem(tensors: Mapping[str, Tensor], naming: Naming) -> str:
    try:
        return variant(tensors, naming).model.name
    except WeightsError as error:
        return str(error)


def variant(tensors: Mapping[str, Tensor], naming: Naming) -> Naming:
    """The variant of a network that these tensors are, as the same source names it.

    Classes, input channels, width and auxiliary heads are read off the shapes. Raises WeightsError when names and
    shapes are those of no variant.
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
            case Head(hidden=int() as hidden):
                yield hidden, dimension(f"{op.path}.hidden.weight", 0)

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
    if problems and model.aux:  # a new classifier on the old auxiliary heads, or one of two heads
        trunk = {key: tensor for key, tensor in tensors.items() if key not in heads}
        return variant(trunk, naming.of(published))
    if problems:
        raise WeightsError(f"{model.name}, but: {'; '.join(problems)}")
    return found


def _width(counts: list[tuple[int, int]]) -> float:
    """The roundest factor that makes the given channel counts of the published ones; failing that, the commonest."""
    if all(published == given for published, given in counts):
        return 1.0
    low = max((given - 4) / published if given > 8 else 1e-4 for published, given in counts)
    high = min((given + 4) / published for published, given in counts)
    for unit in (1, 2, 4, 8, 10, 16, 20, 100, 1000, 10_000):
        width = ceil(low * unit) / unit
        if 0 < width < high:
            return width
    return Counter(given / published for published, given in counts).most_common(1)[0][0]


def _present(table: Table, model: Model, paths: set[str]) -> Iterator[bool]:
    """For each row of a network's table, auxiliary heads aside, whether the file has something below it."""
    heads = tuple(f"{aux.name}." for aux in model.aux)
    for row in table.rows:
        theirs, ours = next(expand(row))
        if not f"{ours}.".startswith(heads):
            yield theirs in paths


def _paths(name: str) -> Iterator[str]:
    """A name and all paths above it, whatever separates them."""
    yield name
    for at in np.flatnonzero([character in "./" for character in name]):
        yield name[:at]
