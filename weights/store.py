"""The canonical store: one safetensors file, spec names, OIHW float32, and what one must know to use it.

Metadata: `format` ("zoo"), `model`, `num_classes`, `in_channels`, `width`, `aux`, `size`, `norm` and `preprocess`
(JSON), `source`, `licence`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from weights.check import check, restrict
from zoo.errors import WeightsError
from zoo.files import whole
from zoo.model import Model

Array = NDArray[np.generic]
FORMAT = "zoo"


def write(path: str | Path, arrays: Mapping[str, Array], model: Model, *, source: str = "", licence: str = "") -> None:
    """Write canonical arrays for `model`, or nothing: the file appears whole, under its name, at the end.

    `source` says where the weights come from, `licence` under which terms. Raises WeightsError when the arrays do
    not fit the model or the file cannot be written.
    """
    check(arrays, model)
    metadata = {
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
    try:
        with whole(path) as part:
            save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, part, metadata)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path}: cannot write the weights: {getattr(error, 'strerror', None) or error}") from None


def read(path: str | Path) -> tuple[dict[str, Array], dict[str, str]]:
    """The arrays and the metadata of a canonical file.

    Raises WeightsError when the file is missing, damaged, or not one that `write` made.
    """
    with _opened(path) as (file, metadata):
        return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118 (not a dict)


def read_metadata(path: str | Path) -> dict[str, str]:
    """The metadata of a canonical file, without its arrays. Raises WeightsError as `read` does."""
    with _opened(path) as (_, metadata):
        return metadata


def read_for(path: str | Path, model: Model, published: Model) -> dict[str, Array]:
    """The arrays of a canonical file for `model`, a variant of `published` that may lack some of its parts.

    Raises WeightsError when the file is for another network or does not fit.
    """
    arrays, metadata = read(path)
    if metadata.get("model") != model.name:
        raise WeightsError(f"{path}: holds {metadata.get('model')}, which is not {model.name}; build that one")
    arrays = restrict(arrays, model, published)
    try:
        check(arrays, model)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None
    return arrays


@contextmanager
def _opened(path: str | Path) -> Iterator[tuple[Any, dict[str, str]]]:
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: {'not a file' if path.exists() else 'no such file'}")
    try:
        with safe_open(path, framework="np") as file:
            metadata = dict(file.metadata() or {})
            if metadata.get("format") != FORMAT:
                raise WeightsError(
                    f"{path}: not canonical weights: no format={FORMAT!r} in its metadata, as weights.write leaves it"
                )
            yield file, metadata
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: not a readable safetensors file: {error}") from None
    except (TypeError, AttributeError, ValueError):
        raise WeightsError(
            f"{path}: holds tensors of a type that NumPy does not have; canonical weights are float32"
        ) from None
