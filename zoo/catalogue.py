"""Looking models up: by name, by pattern, by their figures."""

from __future__ import annotations

import difflib
import fnmatch
from dataclasses import asdict, replace
from typing import Any

from zoo.arguments import integer
from zoo.errors import SpecError
from zoo.geometry import receptive_fields, reductions
from zoo.model import Model, Preprocess
from zoo.models import ALIASES, MODELS
from zoo.nodes import Conv, Depthwise, Head
from zoo.trace import Trace, least_size, trace


def list_models(pattern: str = "*") -> list[str]:
    """The names that match a shell pattern, flavours included: `list_models("inception*")`.

    An alias that matches stands for its model.
    """
    return sorted({*fnmatch.filter(MODELS, pattern), *(ALIASES[alias] for alias in fnmatch.filter(ALIASES, pattern))})


def spec(name: str) -> Model:
    """The published network of that name or alias, auxiliary heads included. Raises SpecError with near names."""
    if isinstance(name, str) and ALIASES.get(name, name) in MODELS:
        return MODELS[ALIASES.get(name, name)]
    near = difflib.get_close_matches(str(name), [*MODELS, *ALIASES], n=3, cutoff=0.5) or list_models()
    raise SpecError(f"unknown model {name!r}: did you mean {' or '.join(near)}?")


def same_network(a: Model, b: Model) -> bool:
    """Whether both compute the same function of the same weights in inference, on the main path."""

    def inference(model: Model) -> Model:
        head = replace(model.head, dropout=0.0) if model.head else None
        norm = replace(model.norm, decay=0.0) if model.norm else None
        neutral = replace(model, name="", publishers=(), paper="", size=0, preprocess=Preprocess(resize=0))
        return replace(neutral, head=head, norm=norm, aux=())

    return inference(a) == inference(b)


def info(name: str, size: int | None = None) -> dict[str, Any]:
    """A network's figures, from the spec alone, for one square input of `size` pixels (its own by default).

    parameters, parameters_with_aux   trainable elements, without and with auxiliary heads
    buffers                           elements of running statistics, without auxiliary heads
    macs                              multiply-adds of convolutions and linear layers, without auxiliary heads
    flops                             twice that
    activations                       output elements of convolutions, Radosavovic et al. 2020, arXiv:2003.13678
    layers                            convolutions and linear layers on the main path
    same_network_as                   flavours that compute the same function of the same weights
    stages                            name, channels, height, width, reduction, receptive field, parameters, macs

    Raises SpecError for an unknown name and for a size the network cannot take.
    """
    full = spec(name)
    model = replace(full, aux=())
    least = least_size(model)
    size = full.size if size is None else integer(size, f"{name}: size")
    if size < least:
        raise SpecError(f"{name}: size must be at least {least} pixels, not {size}")
    traced = trace(model, size)
    return {
        "model": full.name,
        "paper": full.paper,
        "publishers": list(full.publishers),
        "same_network_as": [other.name for other in MODELS.values() if other is not full and same_network(full, other)],
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
        "activations": sum(op.outputs.size for op in traced.ops if isinstance(op.node, Conv | Depthwise)),
        "layers": sum(_layers(op.node) for op in traced.ops),
        "stages": _stages(model, traced),
    }


def _layers(node: object) -> int:
    match node:
        case Conv() | Depthwise():
            return 1
        case Head(hidden=hidden):
            return 1 + (hidden is not None)
        case _:
            return 0


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
