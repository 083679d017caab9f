"""What frameworks and publishers call a tensor: tables, read both ways.

A *convention* is a framework's: the last component of the names of batch-norm tensors, and the orientation of
linear weights. A *source* is a publisher's: rows that rename module paths, on top of its framework's convention.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from weights.check import fail, matches
from zoo.errors import WeightsError
from zoo.model import Model
from zoo.trace import parameters

Array = NDArray[np.generic]
Row = tuple[str, str]
BRACE = r"\{(.*?)\}"


@dataclass(frozen=True)
class Convention:
    """How a framework names and lays out tensors, where that differs from the canonical names and OIHW, [out, in]."""

    suffixes: Mapping[str, str] = field(default_factory=dict)
    linear_in_out: bool = False
    ignored: tuple[str, ...] = ()

    def rename(self, name: str) -> str:
        """The framework's name for a canonical one: for torch, `stem.bn.mean` -> `stem.bn.running_mean`."""
        for canonical, native in self.suffixes.items():
            if name.endswith(f".{canonical}"):
                return name.removesuffix(canonical) + native
        return name

    def orient(self, array: Array) -> Array:
        """A canonical array in the framework's layout, or back: the map is its own inverse."""
        return array.T if self.linear_in_out and array.ndim == 2 else array


CONVENTIONS: dict[str, Convention] = {
    "reference": Convention(),
    "torch": Convention({"bn.mean": "bn.running_mean", "bn.var": "bn.running_var"}, ignored=("num_batches_tracked",)),
    "mindspore": Convention(
        {"bn.weight": "bn.gamma", "bn.bias": "bn.beta", "bn.mean": "bn.moving_mean", "bn.var": "bn.moving_variance"}
    ),
    "paddle": Convention({"bn.mean": "bn._mean", "bn.var": "bn._variance"}, linear_in_out=True),
}


@dataclass(frozen=True)
class Source:
    """A publisher: its framework and, for each model, rows (publisher's module path, canonical module path).

    Braces expand in step on both sides: ("features.{6..9}", "mixed_5{b..e}") is four rows. A row claims everything
    below its path unless a longer row does.
    """

    framework: str
    models: Mapping[str, tuple[Row, ...]]

    def names(self, model: Model) -> dict[str, str]:
        """The publisher's key for each canonical name of `model`; raises WeightsError where the rows do not fit."""
        if model.name not in self.models:
            known = ", ".join(self.models) or "none"
            raise WeightsError(f"{model.name}: this source has no naming table for it; it has {known}")
        rows = {canonical: source for row in self.models[model.name] for source, canonical in expand(row)}
        convention = CONVENTIONS[self.framework]
        keys = {}
        for name in parameters(model):
            prefix = next((p for p in _prefixes(name) if p in rows), None)
            if prefix is None:
                raise WeightsError(f"{model.name}: no row of the naming table claims {name}")
            keys[name] = rows[prefix] + convention.rename(name).removeprefix(prefix)
        if len(set(keys.values())) != len(keys):
            twice = next(k for k in keys.values() if list(keys.values()).count(k) > 1)
            raise WeightsError(f"{model.name}: two tensors would be called {twice}")
        return keys

    def read(self, arrays: Mapping[str, Array], model: Model) -> dict[str, Array]:
        """The publisher's arrays under canonical names, in canonical layout.

        Raises WeightsError when a tensor is missing, surplus or of another shape.
        """
        convention = CONVENTIONS[self.framework]
        keys = self.names(model)
        found = {key: a for key, a in arrays.items() if key.rpartition(".")[2] not in convention.ignored}
        schema = parameters(model)
        shapes = {key: convention.orient(np.empty(schema[name].shape, np.bool_)).shape for name, key in keys.items()}
        problems = matches(found, shapes)
        if problems:
            fail(model, problems)
        return {name: convention.orient(found[key]) for name, key in keys.items()}

    def write(self, arrays: Mapping[str, Array], model: Model) -> dict[str, Array]:
        """Canonical arrays under the publisher's names, in its framework's layout."""
        convention = CONVENTIONS[self.framework]
        return {key: convention.orient(arrays[name]) for name, key in self.names(model).items()}


def expand(row: Row) -> Iterator[Row]:
    """The rows a row with braces stands for; the k-th brace of either side goes with the k-th of the other."""
    templates = [re.sub(BRACE, "{}", side) for side in row]
    choices = [[_alternatives(brace) for brace in re.findall(BRACE, side)] for side in row]
    if [len(brace) for brace in choices[0]] != [len(brace) for brace in choices[1]]:
        raise WeightsError(f"naming table: the braces of {row[0]!r} and {row[1]!r} do not go in step")
    for source, canonical in zip(itertools.product(*choices[0]), itertools.product(*choices[1]), strict=True):
        yield templates[0].format(*source), templates[1].format(*canonical)


def _alternatives(brace: str) -> list[str]:
    first, dots, last = brace.partition("..")
    if not dots:
        return brace.split(",")
    if first.isdigit():
        return [str(i) for i in range(int(first), int(last) + 1)]
    return [chr(i) for i in range(ord(first), ord(last) + 1)]


def _prefixes(name: str) -> Iterator[str]:
    while "." in name:
        name = name.rpartition(".")[0]
        yield name
