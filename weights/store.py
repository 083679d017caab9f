"""The canonical store: one safetensors file, spec names, OIHW, and what one must know to use it.

Metadata: `format` ("zoo"), `spec` (the model's document, zoo.language.document), `model` (its name), `source` and
`licence`; train.py adds `class_names`. Files written before the spec was in them have `num_classes`, `in_channels`,
`width`, `aux`, `size`, `norm` and `preprocess` instead, and are read as the registered network of that name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from zoo.catalogue import spec
from zoo.errors import SpecError, WeightsError
from zoo.language.document import from_json, to_json
from zoo.language.model import Model, Preprocess, configure

FORMAT = "zoo"


def describe(model: Model, source: str = "", licence: str = "") -> dict[str, str]:
    """The metadata of a canonical file for `model`."""
    return {"format": FORMAT, "model": model.name, "spec": to_json(model), "source": source, "licence": licence}


def described(metadata: Mapping[str, str]) -> Model:
    """The model that a canonical file's metadata describe. Raises WeightsError when they describe none."""
    try:
        return from_json(metadata["spec"]) if "spec" in metadata else _named(metadata)
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError, SpecError) as error:
        kind = "" if isinstance(error, SpecError) else f"{type(error).__name__}: "
        raise WeightsError(f"its metadata do not describe a network: {kind}{str(error)[:200]}") from None


def _named(metadata: Mapping[str, str]) -> Model:
    """The registered network that an old file names, with the file's size and preprocessing."""
    model = configure(
        spec(metadata["model"]),
        num_classes=int(metadata["num_classes"]),
        in_channels=int(metadata["in_channels"]),
        width=float(metadata["width"]),
        aux=metadata["aux"] == "true",
    )
    norm, how = json.loads(metadata["norm"]), json.loads(metadata["preprocess"])
    if (norm and norm["eps"]) != (model.norm and model.norm.eps):
        raise ValueError(f"{model.name} with batch norm {metadata['norm'][:80]}")
    preprocess = Preprocess(**{**how, "mean": tuple(how["mean"]), "std": tuple(how["std"])})
    return replace(model, size=int(metadata["size"]), preprocess=preprocess)
