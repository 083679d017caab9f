"""What frameworks and publishers call a tensor: tables, read both ways.

A *convention* is a framework's: the last component of a tensor's name, and the order of its axes. A *source* is a
publisher's: for each model a *table* of rows that rename module paths, and the arithmetic that its files need.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weights.check import check, fail, matches
from weights.formats.tensors import Tensor, release
from zoo.errors import WeightsError
from zoo.model import Model
from zoo.trace import Parameter, parameters

Array = NDArray[Any]
Row = tuple[str, str]
BRACE = r"\{(.*?)\}"
EXACT = (np.float16, np.float32)
"""What float32 holds exactly; bfloat16 is float32 when it comes."""


@dataclass(frozen=True)
class Convention:
    """How a framework names and lays out tensors, where that differs from the canonical names, OIHW and [out, in].

    `suffixes` are (canonical, native) ends of names, `axes` the order of the canonical axes for each kind of tensor,
    `separator` stands between path and tensor. `counter` is an integer that the framework keeps beside a norm's
    statistics, no weight. `formats` are the kinds of file its weights go into.
    """

    suffixes: Mapping[str, str] = field(default_factory=dict)
    axes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    separator: str = "."
    counter: str = ""
    formats: tuple[str, ...] = ("safetensors",)

    @property
    def ignored(self) -> tuple[str, ...]:
        """Ends of names that are no weights."""
        return (self.counter,) if self.counter else ()

    def rename(self, name: str) -> str:
        """The framework's name for a canonical one: for torch, `stem.bn.mean` -> `stem.bn.running_mean`."""
        for canonical, native in self.suffixes.items():
            if name.endswith(f".{canonical}"):
                return name.removesuffix(canonical) + native
        return name

    def orient(self, array: Array, parameter: Parameter) -> Array:
        """A canonical array in the framework's layout."""
        return array.transpose(self.axes[parameter.kind]) if parameter.kind in self.axes else array

    def restore(self, array: Array, parameter: Parameter) -> Array:
        """An array of the framework's in canonical layout."""
        return array.transpose(np.argsort(self.axes[parameter.kind])) if parameter.kind in self.axes else array

    def shape(self, parameter: Parameter) -> tuple[int, ...]:
        """The shape a tensor has in the framework's layout."""
        return tuple(parameter.shape[axis] for axis in self.axes.get(parameter.kind, range(len(parameter.shape))))


CONVENTIONS: dict[str, Convention] = {
    "zoo": Convention(),
    "torch": Convention(
        {"bn.mean": "bn.running_mean", "bn.var": "bn.running_var"},
        counter="num_batches_tracked",
        formats=("torch", "torch-legacy", "safetensors"),
    ),
    "mindspore": Convention(
        {"bn.weight": "bn.gamma", "bn.bias": "bn.beta", "bn.mean": "bn.moving_mean", "bn.var": "bn.moving_variance"},
        formats=("mindspore", "safetensors"),
    ),
    "paddle": Convention(
        {"bn.mean": "bn._mean", "bn.var": "bn._variance"}, {"linear": (1, 0)}, formats=("paddle", "safetensors")
    ),
    "keras": Convention(
        {
            "conv.weight": "conv.kernel",
            "fc.weight": "fc.kernel",
            "bn.weight": "bn.gamma",
            "bn.bias": "bn.beta",
            "bn.mean": "bn.moving_mean",
            "bn.var": "bn.moving_variance",
        },
        {"conv": (2, 3, 1, 0), "depthwise": (2, 3, 0, 1), "linear": (1, 0)},
        separator="/",
        formats=("keras", "keras-legacy"),
    ),
}


@dataclass(frozen=True)
class Table:
    """One model's tensors as a publisher has them.

    A row is (publisher's path, canonical path). Braces expand in step on both sides: ("features.{6..9}",
    "mixed_5{b..e}") is four rows. A row claims everything below its path unless a longer row does.

    `scale` are factors on canonical tensors when they are read: PaddleClas's dropout multiplies by 1 - p in
    inference, so its classifier's weights are worth that much less. `without` are ends of canonical names that the
    publisher does not have because they are 1: gammas. `order` are the publisher's layers in the order of its files,
    where that is not the order of execution.
    """

    rows: tuple[Row, ...]
    scale: Mapping[str, float] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    order: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """A publisher: its framework, and a table for each model, by canonical name."""

    framework: str
    models: Mapping[str, Table]
    made: dict[Model, dict[str, str]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def names(self, model: Model) -> dict[str, str]:
        """The publisher's key for each canonical name of `model` that its files have; made once, do not change it.

        Raises WeightsError where the source has no table for the model or its rows do not fit.
        """
        if model not in self.made:
            self.made[model] = self._make_names(model)
        return self.made[model]

    def _make_names(self, model: Model) -> dict[str, str]:
        table = self._table(model)
        rows = {canonical: source for row in table.rows for source, canonical in expand(row)}
        convention = CONVENTIONS[self.framework]
        keys = {}
        for name in parameters(model):
            if name.endswith(table.without):
                continue
            claim = next((path for path in _paths(name) if path in rows), None)
            if claim is None:
                raise WeightsError(f"{model.name}: no row of the naming table claims {name}")
            tail = convention.rename(name).removeprefix(claim).removeprefix(".") if claim != name else ""
            keys[name] = rows[claim] + (convention.separator + tail if tail else "")
        if len(set(keys.values())) != len(keys):
            twice = next(key for key in keys.values() if list(keys.values()).count(key) > 1)
            raise WeightsError(f"{model.name}: two tensors would be called {twice}")
        return keys

    def read(self, arrays: Mapping[str, Array | Tensor], model: Model) -> dict[str, Array]:
        """The publisher's tensors as canonical arrays of their own, one read at a time.

        float16 and bfloat16 become float32, which holds them exactly; float64 stays. Raises WeightsError when a tensor
        is missing, surplus, of another shape, not of floating point, or not finite.
        """
        table, convention, keys = self._table(model), CONVENTIONS[self.framework], self.names(model)
        schema = parameters(model)
        found = {key: a for key, a in arrays.items() if not key.endswith(convention.ignored)}
        problems = matches(found, {key: convention.shape(schema[name]) for name, key in keys.items()})
        if problems:
            fail(model, problems)
        result: dict[str, Array] = {}
        for name, parameter in schema.items():
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
        check(result, model)
        return result

    def write(self, arrays: Mapping[str, Array], model: Model) -> dict[str, Array]:
        """Canonical arrays under the publisher's names, in its framework's layout and order; views where they can be.

        PyTorch's counters of batches are among them, at 0.

        Gammas that the publisher does not have go into the convolutions before them, which is exact in inference.
        Raises WeightsError when the arrays do not fit the model.
        """
        check(arrays, model)
        table, convention, keys = self._table(model), CONVENTIONS[self.framework], self.names(model)
        if table.without:
            arrays = fold_gammas(arrays)
        result: dict[str, Array] = {}
        for name, key in keys.items():
            array = arrays[name]
            array = array / array.dtype.type(table.scale[name]) if name in table.scale else array
            result[key] = convention.orient(array, parameters(model)[name])
            if convention.counter and name.endswith("bn.var"):
                result[f"{key.rpartition('.')[0]}.{convention.counter}"] = np.zeros((), np.int64)
        places = {layer: i for i, layer in enumerate(table.order)}
        if places:
            result = dict(sorted(result.items(), key=lambda item: places[item[0].rpartition(convention.separator)[0]]))
        return result

    def _table(self, model: Model) -> Table:
        if model.name not in self.models:
            known = ", ".join(self.models) or "none"
            raise WeightsError(f"{model.name}: this source has no naming table for it; it has {known}")
        return self.models[model.name]


def fold_gammas(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Canonical arrays of the same function in inference, with every gamma 1.

    g (w x - m) / s + b = ((g w) x - g m) / s + b, for gammas of either sign.
    """
    result = dict(arrays)
    for name, gamma in arrays.items():
        box, dot, tail = name.rpartition("bn.weight")
        if dot and not tail and not (gamma == 1).all():
            weight = arrays[f"{box}conv.weight"]
            result[f"{box}conv.weight"] = weight * gamma.reshape(-1, *[1] * (weight.ndim - 1))
            result[f"{box}bn.mean"] = arrays[f"{box}bn.mean"] * gamma
            result[name] = np.ones_like(gamma)
    return result


def expand(row: Row) -> Iterator[Row]:
    """The rows a row with braces stands for; the k-th brace of either side goes with the k-th of the other."""
    if "{" not in row[0] + row[1]:
        yield row
        return
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


def _paths(name: str) -> Iterator[str]:
    """The name itself, then every path above it, longest first."""
    while name:
        yield name
        name = name.rpartition(".")[0]
