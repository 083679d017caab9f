"""Naming tables: what publishers call each tensor, used for reading and for writing.

A *source* is a publisher. For each of its networks it has a *table*: rows that rename module paths, and the arithmetic
that its files need. Its framework's *convention* (zoo.frameworks) gives the last component of names and the order of
axes. A *naming* is the table and the convention for one model; it is passed to whatever reads or writes tensors.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weights.formats.tensors import Tensor, release
from weights.manifest import check, fail, matches
from zoo.errors import WeightsError
from zoo.frameworks import CONVENTIONS, Convention
from zoo.language.model import Model
from zoo.language.rewrites import fold_gammas
from zoo.language.trace import parameters

Array = NDArray[Any]
Row = tuple[str, str]
BRACE = r"\{(.*?)\}"
EXACT = (np.float16, np.float32)
"""Types that float32 holds exactly; bfloat16 has become float32 by the time it is read."""


@dataclass(frozen=True)
class Table:
    """How a publisher names and stores the tensors of one model.

    rows     pairs (publisher's path, canonical path). Braces expand in step on both sides: ("features.{6..9}",
             "mixed_5{b..e}") is four rows. A row claims all tensors below its path that no longer row claims
    scale    factors by which canonical tensors are multiplied on reading. PaddleClas's dropout multiplies by 1 - p in
             inference, so its classifier's weights are multiplied by 1 - p here
    without  ends of canonical names that the publisher does not store because they are 1: gammas
    order    the publisher's layers in the order of its files, where that is not the order of execution
    """

    rows: tuple[Row, ...]
    scale: Mapping[str, float] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    order: tuple[str, ...] = ()


@dataclass(frozen=True)
class Naming:
    """How a publisher names and stores the tensors of `model`: its framework's convention and its table."""

    framework: str
    table: Table
    model: Model

    @property
    def convention(self) -> Convention:
        return CONVENTIONS[self.framework]

    def of(self, model: Model) -> Naming:
        """The same table for a variant of the model."""
        return replace(self, model=model)

    @cached_property
    def keys(self) -> dict[str, str]:
        """The publisher's key for each canonical name that its files have; do not modify it.

        Raises WeightsError where the rows do not fit the model.
        """
        rows = {canonical: source for row in self.table.rows for source, canonical in expand(row)}
        convention, keys = self.convention, {}
        for name in parameters(self.model):
            if name.endswith(self.table.without):
                continue
            claim = next((path for path in _paths(name) if path in rows), None)
            if claim is None:
                raise WeightsError(f"{self.model.name}: no row of the naming table claims {name}")
            tail = convention.rename(name).removeprefix(claim).removeprefix(".") if claim != name else ""
            keys[name] = rows[claim] + (convention.separator + tail if tail else "")
        if len(set(keys.values())) != len(keys):
            twice = next(key for key in keys.values() if list(keys.values()).count(key) > 1)
            raise WeightsError(f"{self.model.name}: two tensors would be called {twice}")
        return keys

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor in the publisher's files, by its key."""
        schema = parameters(self.model)
        return {key: self.convention.shape(schema[name]) for name, key in self.keys.items()}

    def read(self, arrays: Mapping[str, Array | Tensor]) -> dict[str, Array]:
        """The publisher's tensors as canonical arrays, copied one at a time.

        float16 and bfloat16 become float32, which holds them exactly; float64 stays. Raises WeightsError when a tensor
        is missing, surplus, of another shape, not floating-point, or not finite.
        """
        table, convention, keys = self.table, self.convention, self.keys
        found = {key: a for key, a in arrays.items() if not key.endswith(convention.ignored)}
        if problems := matches(found, self.shapes):
            fail(self.model, problems)
        result: dict[str, Array] = {}
        for name, parameter in parameters(self.model).items():
            if name not in keys:
                array: Array = np.ones(parameter.shape, np.float32)
            else:
                given = np.asarray(found[keys[name]])
                dtype = np.float32 if given.dtype in EXACT else given.dtype
                array = np.array(convention.restore(given, parameter), dtype, order="C")
                release(given)
            if name in table.scale:
                array *= array.dtype.type(table.scale[name])
            result[name] = array
        check(result, self.model)
        return result

    def write(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Canonical arrays under the publisher's names, in its framework's layout and order; views where possible.

        PyTorch's counters of batches are added, as 0. Gammas that the publisher does not store are multiplied into the
        convolutions before them, which is exact in inference. Raises WeightsError when the arrays do not fit.
        """
        check(arrays, self.model)
        table, convention = self.table, self.convention
        if table.without:
            _, arrays = fold_gammas(self.model, arrays)
        result: dict[str, Array] = {}
        for name, key in self.keys.items():
            array = arrays[name]
            array = array / array.dtype.type(table.scale[name]) if name in table.scale else array
            result[key] = convention.orient(array, parameters(self.model)[name])
            if convention.counter and name.endswith("bn.var"):
                result[f"{key.rpartition('.')[0]}.{convention.counter}"] = np.zeros((), np.int64)
        places = {layer: i for i, layer in enumerate(table.order)}
        if places:
            result = dict(sorted(result.items(), key=lambda item: places[item[0].rpartition(convention.separator)[0]]))
        return result


@dataclass(frozen=True)
class Source:
    """A publisher: its framework, and a table for each of its networks, by the network's name in this project."""

    framework: str
    tables: Mapping[str, Table]
    made: dict[Model, Naming] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def models(self) -> Mapping[str, Table]:
        """The tables by the network's name."""
        return self.tables

    def naming(self, model: Model) -> Naming:
        """How the publisher names `model`. Raises WeightsError where it has no table for a network of that name."""
        if model not in self.made:
            self.made[model] = Naming(self.framework, self._table(model), model)
        return self.made[model]

    def _table(self, model: Model) -> Table:
        if model.name not in self.tables:
            known = ", ".join(self.tables) or "none"
            raise WeightsError(f"{model.name}: this source has no naming table for it; it has {known}")
        return self.tables[model.name]


def expand(row: Row) -> Iterator[Row]:
    """The rows that a row with braces stands for; the k-th braces of both sides expand together.

    Raises WeightsError when they have different numbers of alternatives.
    """
    if "{" not in row[0] + row[1]:
        yield row
        return
    templates = [re.sub(BRACE, "{}", side) for side in row]
    choices = [[_alternatives(brace) for brace in re.findall(BRACE, side)] for side in row]
    if [len(brace) for brace in choices[0]] != [len(brace) for brace in choices[1]]:
        raise WeightsError(f"naming table: the braces of {row[0]!r} and {row[1]!r} have different lengths")
    for source, canonical in zip(itertools.product(*choices[0]), itertools.product(*choices[1]), strict=True):
        yield templates[0].format(*source), templates[1].format(*canonical)


def _alternatives(brace: str) -> list[str]:
    first, dots, last = brace.partition("..")
    if not dots:
        return brace.split(",")
    if first.isdigit():
        return [str(i) for i in range(int(first), int(last) + 1)]
    return [chr(i) for i in range(ord(first), ord(last) + 1)]


def _paths(name: str) -> Iterator[str]:
    """The name itself, then every path above it, longest first."""
    while name:
        yield name
        name = name.rpartition(".")[0]
