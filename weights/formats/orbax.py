"""Orbax's folders, as `orbax.checkpoint` (0.12) writes them: arrays in Zarr, read by TensorStore, which runs nothing.

_METADATA, a JSON file, has the tree: the path of each array, which is also its name in the store.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from weights.formats.jax import contents
from weights.formats.tensors import ITEMSIZE, Array, Contents, Tensor, plain_sizes
from zoo.errors import WeightsError

METADATA = "_METADATA"
ARRAYS = ("jax.Array", "np.ndarray")
LARGEST = 64 << 20
"""The most bytes of _METADATA; for 1,000 arrays it takes 0.5 MB."""


def read(metadata: Path) -> Contents:
    """The arrays of the folder that a _METADATA file is in.

    Raises WeightsError when TensorStore is not installed, or the folder is damaged.
    """
    try:
        import tensorstore
    except ImportError:
        raise WeightsError(
            f"{metadata.parent}: Orbax's folders are read by TensorStore: pip install tensorstore"
        ) from None
    try:
        if metadata.stat().st_size > LARGEST:
            raise ValueError(f"{METADATA} has more than {LARGEST:,} bytes")
        document = json.loads(metadata.read_bytes())
        paths = [
            tuple(str(step["key"]) for step in entry["key_metadata"])
            for entry in document["tree_metadata"].values()
            if entry["value_metadata"]["value_type"] in ARRAYS
        ]
        opened = [tensorstore.open(_spec(metadata.parent, path, document), read=True, open=True) for path in paths]
        tree: dict[str, Any] = {}
        for path, store in zip(paths, opened, strict=True):
            place = tree
            for step in path[:-1]:
                place = place.setdefault(step, {})
            place[path[-1]] = _tensor(metadata.parent, store.result())
        return contents(tree)
    except (ArithmeticError, AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError) as error:
        raise WeightsError(f"{metadata.parent}: a damaged folder of Orbax's: {_first_line(error)}") from None


def _spec(folder: Path, path: tuple[str, ...], document: Mapping[str, Any]) -> dict[str, Any]:
    """Where TensorStore finds an array. A missing part of it is an error, and is not read as zeros.

    Raises ValueError for a name that leads out of the folder.
    """
    name, base = ".".join(path), {"driver": "file", "path": f"{folder.resolve()}/"}
    if "/" in name or name in (".", ".."):
        raise ValueError(f"array {name!r} would lie outside of the folder")
    files = {"driver": "file", "path": f"{folder.resolve()}/{name}/"}
    store = {"driver": "ocdbt", "base": base, "path": f"{name}/"} if document["use_ocdbt"] else files
    driver = "zarr3" if document.get("use_zarr3") else "zarr"
    return {"driver": driver, "kvstore": store, "fill_missing_data_reads": False}


def _tensor(folder: Path, store: Any) -> Tensor:
    shape, dtype = tuple(store.shape), str(store.dtype.name)
    if dtype not in ITEMSIZE or not plain_sizes(shape):
        raise ValueError(f"an array {list(shape)[:8]} of {dtype}")
    return Tensor(shape, dtype, partial(_elements, folder, store))


def _elements(folder: Path, store: Any) -> Array:
    try:
        array: Array = np.asarray(store.read().result())
    except (OSError, ValueError) as error:
        raise WeightsError(f"{folder}: a damaged folder of Orbax's: {_first_line(error)}") from None
    return array.astype(np.float32) if store.dtype.name == "bfloat16" else array


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
