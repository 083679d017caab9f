"""Looking models up: by name, by pattern, by their figures; and registering more of them."""

from __future__ import annotations

import difflib
import fnmatch
import importlib
import logging
import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from zoo.arguments import integer
from zoo.errors import SpecError
from zoo.language.complexity import counted_by
from zoo.language.diff import same_network
from zoo.language.document import from_json
from zoo.language.geometry import levels, receptive_fields, reductions
from zoo.language.model import Model
from zoo.language.nodes import (
    AdaptiveAvgPool,
    AvgPool,
    Conv,
    Depthwise,
    Head,
    Leaf,
    MaxPool,
    NormRelu,
    Relu,
    assert_never,
)
from zoo.language.trace import Trace, least_size, trace
from zoo.models import ALIASES, MODELS

ENTRY_POINTS = "inception_zoo.models"
"""The group of entry points by which other packages add models: each is a Model, or a list or tuple of Models."""

logger = logging.getLogger("zoo")
_registered = dict(MODELS)


def register(model: Model) -> Model:
    """Add a model under its name, so that it is found wherever a name is accepted; returns the model.

    Raises SpecError when another model has that name, and for anything but a Model.
    """
    if not isinstance(model, Model):
        raise SpecError(f"zoo.register: expected a zoo.language.Model, not {type(model).__name__}")
    if _registered.get(model.name, model) != model or model.name in ALIASES:
        raise SpecError(f"zoo.register: there is another model called {model.name!r}: choose another name")
    _registered[model.name] = model
    return model


def models() -> Mapping[str, Model]:
    """All models by name: built in, added by other packages' entry points, registered in this process."""
    _load_entry_points()
    return _registered


@cache
def _load_entry_points() -> None:
    for point in entry_points(group=ENTRY_POINTS):
        try:
            found = point.load()
            for model in found if isinstance(found, list | tuple) else (found,):
                register(model)
        except Exception as error:  # another package's fault must not stop this one
            logger.warning(
                "entry point %s = %s: left out: %s: %s", point.name, point.value, type(error).__name__, error
            )


def list_models(pattern: str = "*") -> list[str]:
    """The names of models, flavours included, that match a shell pattern, sorted: `list_models("inception*")`.

    An alias that matches is listed as its model.
    """
    return sorted({*fnmatch.filter(models(), pattern), *(ALIASES[alias] for alias in fnmatch.filter(ALIASES, pattern))})


def spec(model: str | Path | Model) -> Model:
    """The network that `model` names, auxiliary heads included.

    model   a name or alias as in `list_models`, a Model (returned as it is), "package.module:NAME", or the path of a
            .json document

    Raises SpecError, with similar names, when there is none. (`weights.resolve` takes checkpoints too.)
    """
    if isinstance(model, Model):
        return model
    name = os.fspath(model) if isinstance(model, str | Path) else model
    if isinstance(name, str):
        if (known := ALIASES.get(name, name)) in models():
            return models()[known]
        if name.endswith(".json"):
            return _read(Path(name))
        if ":" in name:
            return _import(name)
    near = difflib.get_close_matches(str(name), [*models(), *ALIASES], n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "`zoo list` shows all names"
    raise SpecError(f"unknown model {name!r}: {hint}")


def _read(path: Path) -> Model:
    try:
        return from_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: cannot read the model: {getattr(error, 'strerror', None) or error}") from None
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from None


def _import(name: str) -> Model:
    """The Model of "package.module:NAME", the working folder's modules included."""
    module, _, attribute = name.partition(":")
    try:
        with _working_folder_first():
            value: Any = importlib.import_module(module)
        for part in attribute.split("."):
            value = getattr(value, part)
    except Exception as error:  # whatever the user's module raises
        raise SpecError(
            f"{name}: expected package.module:NAME of a Model, but {error}{_where(error, module)}"
        ) from None
    if not isinstance(value, Model):
        raise SpecError(f"{name}: expected a zoo.language.Model, not {type(value).__name__}")
    return value


def _where(error: Exception, module: str) -> str:
    """The last line of the user's module that an error comes from, in brackets; nothing if it was not reached."""
    name = f"{module.rpartition('.')[2]}.py"
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).name == name]
    return f" ({name}, line {lines[-1]})" if lines else ""


@contextmanager
def _working_folder_first() -> Iterator[None]:
    sys.path.insert(0, os.getcwd())
    try:
        yield
    finally:
        sys.path.pop(0)


def info(model: str | Path | Model, size: int | None = None) -> dict[str, Any]:
    """A network's figures, from the spec alone, for an input of `size` x `size` pixels (by default its native size).

    `model` is anything that `spec` takes.

    parameters, parameters_with_aux   trainable elements, without and with auxiliary heads
    buffers                           elements of running statistics, without auxiliary heads
    macs                              multiply-adds of convolutions and linear layers, without auxiliary heads
    flops                             twice that
    counted_by                        operations as other tools count them: `zoo.language.complexity.counted_by`
    activations                       output elements of convolutions, Radosavovic et al. 2020, arXiv:2003.13678
    layers                            number of convolutions and linear layers, without auxiliary heads
    same_network_as                   flavours that compute the same function of the same weights
    feature_maps                      stages whose outputs `features_only=True` returns
    stages                            name, channels, height, width, reduction, receptive field, parameters, macs

    Raises SpecError for an unknown name and for a size that the network cannot take.
    """
    full = spec(model)
    name, main = full.name, replace(full, aux=())
    least = least_size(main)
    size = full.size if size is None else integer(size, f"{name}: size")
    if size < least:
        raise SpecError(f"{name}: size must be at least {least} pixels, not {size}")
    traced = trace(main, size)
    return {
        "model": full.name,
        "paper": full.paper,
        "publishers": list(full.publishers),
        "same_network_as": [
            other.name for other in models().values() if other.name != name and same_network(full, other)
        ],
        "aliases": sorted(alias for alias, target in ALIASES.items() if target == full.name),
        "size": size,
        "least_size": least,
        "num_classes": full.num_classes,
        "in_channels": full.in_channels,
        "norm": asdict(full.norm) if full.norm else None,
        "preprocess": {"size": full.size, **asdict(full.preprocess)},
        "aux": {aux.name: aux.after for aux in full.aux},
        "parameters": traced.trainable,
        "parameters_with_aux": trace(full).trainable,
        "buffers": traced.buffers,
        "macs": traced.macs,
        "flops": 2 * traced.macs,
        "counted_by": counted_by(main, size),
        "activations": sum(op.outputs.size for op in traced.ops if isinstance(op.node, Conv | Depthwise)),
        "layers": sum(_layers(op.node) for op in traced.ops),
        "feature_maps": levels(main),
        "stages": _stages(main, traced),
    }


def _layers(node: Leaf) -> int:
    match node:
        case Conv() | Depthwise():
            return 1
        case Head(hidden=hidden):
            return 1 + (hidden is not None)
        case NormRelu() | Relu() | MaxPool() | AvgPool() | AdaptiveAvgPool():
            return 0
    assert_never(node)


def _stages(model: Model, traced: Trace) -> list[dict[str, Any]]:
    reduction, receptive = reductions(model), receptive_fields(model)
    rows = []
    for name, shape in traced.stages.items():
        ops = [op for op in traced.ops if op.path == name or op.path.startswith(f"{name}.")]
        rows.append(
            {
                "name": name,
                **shape._asdict(),
                "reduction": reduction[name],
                "receptive_field": receptive[name],
                "parameters": sum(p.count for op in ops for p in op.parameters if p.trainable),
                "macs": sum(op.macs for op in ops),
            }
        )
    return rows
