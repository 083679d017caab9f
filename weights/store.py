"""The canonical store: one safetensors file, spec names, OIHW, and what one must know to use it.

Metadata: `format` ("zoo"), `model`, `num_classes`, `in_channels`, `width`, `aux`, `size`, `norm` and `preprocess`
(JSON), `source`, `licence`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace

from zoo.catalogue import spec
from zoo.errors import SpecError, WeightsError
from zoo.model import Model, Preprocess, configure

FORMAT = "zoo"


def describe(model: Model, source: str = "", licence: str = "") -> dict[str, str]:
    """The metadata of a canonical file for `model`."""
    return {
        "format": FORMAT,
        "model": model.name,
        "num_classes": str(model.num_classes),
        "in_channels": str(model.in_channels),
        "width": str(model.width),
        "aux": str(bool(model.aux)).lower(),
        "size": str(model.size),
        "norm": json.dumps(asdict(model.norm) if model.norm else None),
        "preprocess": json.dumps(asdict(model.preprocess)),
        "source": source,
        "licence": licence,
    }


def described(metadata: Mapping[str, str]) -> Model:
    """The model that a canonical file's metadata describe, with its preprocessing.

    Raises WeightsError when they describe none.
    """
    try:
        model = configure(
            spec(metadata["model"]),
            num_classes=int(metadata["num_classes"]),
            in_channels=int(metadata["in_channels"]),
            width=float(metadata["width"]),
            aux=metadata["aux"] == "true",
        )
        given = json.loads(metadata["preprocess"])
        given |= {key: tuple(given[key]) for key in ("mean", "std")}
        return replace(model, preprocess=Preprocess(**given))
    except (KeyError, ValueError, TypeError, SpecError) as error:
        raise WeightsError(f"its metadata do not describe a network: {type(error).__name__}: {error}") from None
