"""Whose file is it, of which network, in which variant? Names and shapes say, or say what it might be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import ceil

import numpy as np

from weights.check import matches
from weights.formats.tensors import Tensor
from weights.names import CONVENTIONS, Source, expand
from weights.sources import ALL
from zoo.catalogue import same_network
from zoo.errors import SpecError, WeightsError
from zoo.model import Model, configure
from zoo.models import MODELS
from zoo.nodes import Conv, Head
from zoo.trace import Op, parameters, trace

LONGEST = 200
"""Characters of a tensor's name: more than any network has."""

LEAST = 0.6
"""Share of a table's rows that a file must have for the table to be called near."""


@dataclass(frozen=True)
class Candidate:
    """A source's name, and the variant of its network that the file would be."""

    source: str
    model: Model


def recognise(tensors: Mapping[str, Tensor], source: str | None = None) -> list[Candidate]:
    """All that fit: the same names, and shapes that one choice of classes, channels and width explains.

    Those that compute the same function are given once a source. Raises WeightsError, with what comes nearest, when
    none does.
    """
    if source is not None and source not in ALL:
        raise WeightsError(f"unknown source {source!r}: expected one of {', '.join(ALL)}")
    paths = {path for name in tensors if len(name) < LONGEST for path in _paths(name)}
    tables = [(name, model) for name in (ALL if source is None else [source]) for model in ALL[name].models]
    found: list[Candidate] = []
    problems: dict[tuple[str, str], str] = {}
    for name, model in tables:
        published = MODELS[model]
        if any(c.source == name and same_network(MODELS[c.model.name], published) for c in found):
            continue
        if all(_present(ALL[name], model, paths)):
            try:
                found.append(Candidate(name, variant(tensors, ALL[name], published)))
            except (SpecError, WeightsError) as error:
                problems[name, model] = str(error)
    if found:
        return found
    shares = {table: float(np.mean([*_present(ALL[table[0]], table[1], paths)])) for table in tables}
    nearest = max(problems or shares, key=shares.__getitem__)
    if shares[nearest] < LEAST:
        first = ", ".join(name[:80] for name in list(tensors)[:3])
        raise WeightsError(
            f"its {len(tensors)} tensors ({first}, ...) have not the names of a network of "
            f"{source or 'any source that we know'}; `zoo list` shows the networks and their publishers"
        )
    name, model = nearest
    problem = problems.get(nearest) or _problem(tensors, ALL[name], MODELS[model])
    raise WeightsError(f"not a file of any source; nearest is {name}'s {problem}")


def _problem(tensors: Mapping[str, Tensor], source: Source, model: Model) -> str:
    try:
        return variant(tensors, source, model).name
    except WeightsError as error:
        return str(error)


def variant(tensors: Mapping[str, Tensor], source: Source, published: Model) -> Model:
    """The variant of a published network that these tensors are: classes, input channels, width, auxiliary heads.

    Raises WeightsError, as the check of names and shapes has it, when none is.
    """
    convention = CONVENTIONS[source.framework]
    bare = replace(published, aux=())
    heads = set(source.names(published).values()) - set(source.names(bare).values())
    model = bare if heads.isdisjoint(tensors) else published
    names = source.names(model)
    schema = parameters(model)

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

    ops = trace(model).ops
    first = next(op.path for op in ops if isinstance(op.node, Conv))
    try:
        model = configure(
            published,
            num_classes=dimension("head.fc.weight", 0),
            in_channels=dimension(f"{first}.conv.weight", 1),
            aux=bool(model.aux),
            width=_width([pair for op in ops for pair in counts(op)]),
        )
        schema = parameters(model)
    except SpecError as error:
        raise WeightsError(str(error)) from None
    problems = matches(tensors, {names[n]: convention.shape(p) for n, p in schema.items() if n in names})
    if problems and model.aux:  # a new classifier on the old auxiliary heads, or one of two heads
        trunk = {key: tensor for key, tensor in tensors.items() if key not in heads}
        return variant(trunk, source, published)
    if problems:
        raise WeightsError(f"{model.name}, but: {'; '.join(problems)}")
    return model


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


def _present(source: Source, model: str, paths: set[str]) -> Iterator[bool]:
    """For each row of a network's table, auxiliary heads aside, whether the file has something below it."""
    heads = tuple(f"{aux.name}." for aux in MODELS[model].aux)
    for row in source.models[model].rows:
        theirs, ours = next(expand(row))
        if not f"{ours}.".startswith(heads):
            yield theirs in paths


def _paths(name: str) -> Iterator[str]:
    """A name and all paths above it, whatever separates them."""
    yield name
    for at in np.flatnonzero([character in "./" for character in name]):
        yield name[:at]
