"""A card as a document."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import weights
from weights.checkpoints import counterpart
from weights.flavours import pair
from weights.published import Published, find, of
from zoo import catalogue
from zoo.errors import WeightsError
from zoo.frameworks import FRAMEWORKS
from zoo.language.diff import differences, grouped, matters
from zoo.language.model import Model
from zoo.models import MODELS, PUBLISHERS

MEASURED = Path(__file__).with_name("measured.json")
"""`make cards` writes it, from docs/speed.md, docs/peers.md and the result of `zoo parity`."""


def info(model: str | Path | Model, size: int | None = None) -> dict[str, Any]:
    """What is known about a network: the document of `zoo info`.

    `model` is anything that `zoo.build` takes: a name, a name of published weights, a Model, "package.module:NAME", a
    .json document, or a checkpoint that says which network it holds. `size` is the side of the input in pixels, the
    model's own by default.

    The keys of `zoo.catalogue.info`, and

    preprocessing  how images are preprocessed, in words (`preprocess` has the figures)
    published      published weights of the network, and of others that compute the same function: name, publisher,
                   address, licence, classes, top1 and top5 in percent, figure (where the publisher states these),
                   preprocessing in words, note
    flavours       other networks of the same family: whether weights convert exactly, and what differs
    measured       figures of this project's own measurements, for networks of this package: errors against float64
                   arithmetic and against publishers' own classes, milliseconds
    code           the call that builds the network in each framework

    Raises SpecError for an unknown name and for a size that the network cannot take, and WeightsError for a checkpoint
    that does not say which network it holds.
    """
    spec = weights.resolve(model)
    figures = catalogue.info(spec, size)
    rows = of(spec.name) + [row for name in figures["same_network_as"] for row in of(name)] if _takes(spec) else []
    return figures | {
        "preprocessing": spec.preprocess.describe(spec.size),
        "published": [
            {
                "name": row.name,
                "publisher": PUBLISHERS[row.source],
                "address": row.address,
                "licence": row.licence,
                "classes": row.classes,
                "top1": row.top1,
                "top5": row.top5,
                "figure": row.figure,
                "preprocessing": row.preprocess.describe(row.size),
                "note": row.note,
            }
            for row in rows
        ],
        "flavours": _flavours(spec),
        "measured": measured()["models"].get(spec.name, {}) if MODELS.get(spec.name) == spec else {},
        "code": {framework: _code(model, spec, rows, framework) for framework in FRAMEWORKS},
    }


def _takes(spec: Model) -> bool:
    """Whether the published weights of a network's name fit it: it may differ from that network only in its variant."""
    known = catalogue.models().get(spec.name)
    return known is None or (known.width == spec.width and counterpart(spec, known) == spec)


def _code(model: str | Path | Model, spec: Model, rows: Sequence[Published], framework: str) -> str:
    """The call that builds what `model` names, with published weights if it is a published network."""
    known = catalogue.models().get(spec.name)
    if known is not None and replace(spec, preprocess=known.preprocess) == known:
        row = (find(model) if isinstance(model, str) else None) or next(iter(rows), None)
        if row:
            return f'zoo.build("{row.name}", "{framework}", pretrained=True)'
        return f'zoo.build("{spec.name}", "{framework}")'
    if isinstance(model, Model):
        return f'zoo.build(model, "{framework}")'
    if weights.is_checkpoint(model):
        return f'zoo.build(checkpoint="{model}", backend="{framework}")'
    return f'zoo.build("{model}", "{framework}")'


@cache
def measured() -> dict[str, Any]:
    """Measured figures: those of each network under "models", and the machine on which times were measured."""
    document: dict[str, Any] = json.loads(MEASURED.read_text(encoding="utf-8"))
    return document


def fastest(name: str) -> float | None:
    """Measured milliseconds for one image in the fastest float32 engine; None for networks that were not measured."""
    times = measured()["models"].get(name, {}).get("milliseconds", [])
    return min((float(one) for run_by, one, _ in times if run_by.endswith("fp32")), default=None)


def _flavours(spec: Model) -> list[dict[str, Any]]:
    family = spec.name.partition(".")[0]
    return [
        _flavour(spec, counterpart(spec, other))
        for name, other in catalogue.models().items()
        if name != spec.name and name.partition(".")[0] == family
    ]


def _flavour(spec: Model, other: Model) -> dict[str, Any]:
    """`converts` says whether weights of `spec` can become weights of `other` with the same outputs."""
    try:
        pair(spec, other)
    except WeightsError:
        converts = False
    else:
        converts = True
    bare = [replace(each, aux=()) for each in (spec, other)]
    found = grouped([difference for difference in differences(*bare) if matters(difference)])
    return {
        "model": other.name,
        "converts": converts,
        "differences": [
            {"what": what, "here": here, "there": there, "where": places}
            for (what, here, there), places in found.items()
        ],
    }
