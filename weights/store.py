"""The canonical file: safetensors with canonical names, OIHW, and metadata that describe the network.

Metadata: `format` ("zoo"), `spec` (the model's document, zoo.language.document), `model` (its name), `source` and
`licence`. Where known, `class_names` is a JSON list of the classes in order; `preprocess_assumed` names the publisher
whose preprocessing was taken because the original file did not say how it was fed. Files written before `spec` existed
have `num_classes`, `in_channels`, `width`, `aux`, `size`, `norm` and `preprocess` instead, and are read as the
registered network of that name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from zoo.catalogue import models
from zoo.errors import SpecError, WeightsError
from zoo.language.document import from_json, to_json
from zoo.language.model import Model, Preprocess, configure
from zoo.language.trace import parameters

FORMAT = "zoo"


def describe(model: Model, source: str = "", licence: str = "") -> dict[str, str]:
    """The metadata of a canonical file for `model`."""
    return {"format": FORMAT, "model": model.name, "spec": to_json(model), "source": source, "licence": licence}


def described(metadata: Mapping[str, str]) -> Model:
    """The model that a canonical file's metadata describe. Raises WeightsError when they describe none."""
    try:
        model = from_json(metadata["spec"]) if "spec" in metadata else _registered(metadata)
        parameters(model)
    except (ArithmeticError, AttributeError, KeyError, RecursionError, TypeError, ValueError, SpecError) as error:
        kind = "" if isinstance(error, SpecError) else f"{type(error).__name__}: "
        message = " ".join(str(error).split())[:200]
        raise WeightsError(f"its metadata do not describe a network: {kind}{message}") from None
    return model


def class_names(metadata: Mapping[str, str], num_classes: int) -> list[str]:
    """The class names in a file's metadata; [] unless there are `num_classes` of them."""
    try:
        names = json.loads(metadata.get("class_names") or "[]")
    except (RecursionError, ValueError):
        return []
    plain = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return names if plain and len(names) == num_classes else []


def _registered(metadata: Mapping[str, str]) -> Model:
    """The registered network that a file without `spec` names, with the file's size and preprocessing."""
    name = metadata["model"]
    if name not in models():  # `spec` would also take, and import, package.module:NAME
        raise ValueError(f"unknown model {name[:80]!r}")
    model = configure(
        models()[name],
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
