"""The canonical store: one safetensors file, spec names, OIHW, and what one must know to use it.

Metadata: `format` ("zoo"), `model`, `num_classes`, `in_channels`, `width`, `aux`, `size`, `norm` and `preprocess`
(JSON), `source`, `licence`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from zoo.arguments import within
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
    """The model that a canonical file's metadata describe, with its size and preprocessing.

    Raises WeightsError when they describe none, or another batch norm than that network has.
    """
    try:
        model = configure(
            spec(metadata["model"]),
            num_classes=int(metadata["num_classes"]),
            in_channels=int(metadata["in_channels"]),
            width=float(metadata["width"]),
            aux=metadata["aux"] == "true",
        )
        norm = json.loads(metadata["norm"])
        if (norm and norm["eps"]) != (model.norm and model.norm.eps):
            raise ValueError(f"{model.name} with batch norm {metadata['norm'][:80]}")
        return replace(model, size=int(metadata["size"]), preprocess=_preprocess(json.loads(metadata["preprocess"])))
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError, SpecError) as error:
        reason = f"{type(error).__name__}: {str(error)[:200]}"
        raise WeightsError(f"its metadata do not describe a network: {reason}") from None


def _preprocess(given: Mapping[str, Any]) -> Preprocess:
    """Raises ValueError for what no image can be put through."""
    result = Preprocess(**{**given, "mean": tuple(given["mean"]), "std": tuple(given["std"])})
    numbers = (result.resize, *result.mean, *result.std)
    if not all(within(number, -1e6, 1e6) for number in numbers) or len(numbers) != 7:
        raise ValueError("preprocess: numbers were expected, three for mean and std")
    if result.interpolation not in ("bilinear", "bicubic") or result.channels not in ("RGB", "BGR"):
        raise ValueError(f"preprocess: interpolation {result.interpolation!r}, channels {result.channels!r}")
    return result
