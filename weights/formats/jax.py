"""Flax's .msgpack: nested dictionaries with arrays as leaves, as `flax.serialization` (0.12) writes them.

An array is an extension of type 1: a packed triple of its shape, the name of its type, and its bytes. Flax cuts arrays
above a gigabyte into chunks.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from weights.formats.tensors import Array, Contents, Mapped, Tensor, encode, from_buffer, plain_sizes

ARRAY, SCALAR = 1, 3
"""Types of Flax's extensions that hold an array."""

CHUNKED = "__msgpack_chunked_array__"

COLLECTIONS = ("params", "batch_stats")
"""The dictionaries in which `flax.linen` keeps weights and running statistics."""


def claims(file: Mapped) -> bool:
    """Whether it begins with a dictionary of at least one entry whose first key is a text."""
    head = bytes(file.bytes[:6])
    start = 1 if 0x81 <= head[0] <= 0x8F else {0xDE: 3, 0xDF: 5}.get(head[0], len(head))
    return head[start : start + 1] != b"" and (0xA0 <= head[start] <= 0xBF or 0xD9 <= head[start] <= 0xDB)


def read(file: Mapped) -> Contents:
    """The arrays by their paths."""
    tree = msgpack.unpackb(file.bytes, ext_hook=_extension, strict_map_key=False)
    return contents(tree) if isinstance(tree, dict) else Contents("jax", tree)


def contents(tree: Mapping[Any, Any]) -> Contents:
    """The leaves of nested dictionaries by their paths, joined with dots.

    `linen`'s collections are read as one network's tensors.
    """
    if isinstance(tree.get("params"), dict):
        collections = [tree[name] for name in COLLECTIONS if isinstance(tree.get(name), dict)]
        weights = {key: leaf for collection in collections for key, leaf in _flat(collection)}
        return Contents("jax", {"params": weights, **{n: leaf for n, leaf in tree.items() if n not in COLLECTIONS}})
    return Contents("jax", dict(_flat(tree)))


def _extension(code: int, data: bytes) -> Any:
    return _tensor(data) if code in (ARRAY, SCALAR) else msgpack.ExtType(code, data)


def _tensor(data: bytes) -> Tensor:
    shape, dtype, content = msgpack.unpackb(data, raw=True)
    if not isinstance(dtype, bytes) or not isinstance(content, bytes):
        raise ValueError("an array without the name of its type, or without bytes")
    return from_buffer(content, dtype.decode(), tuple(shape))


def _flat(tree: Mapping[Any, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """The leaves by their paths. The last step of `nnx.State`'s paths, "value", is left out."""
    found: list[tuple[str, Any]] = []
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict) and CHUNKED in value:
            found.append((path, _joined(value)))
        elif isinstance(value, dict) and isinstance(leaf := value.get("value"), Tensor) and len(value) == 1:
            found.append((path, leaf))
        elif isinstance(value, dict):
            found += _flat(value, f"{path}.")
        else:
            found.append((path, value))
    return found


def _joined(chunks: Mapping[str, Any]) -> Tensor:
    """An array that was cut into chunks; the chunks and the sizes are dictionaries with the keys "0", "1", ..."""
    shape, parts = (tuple(chunks[key][str(i)] for i in range(len(chunks[key]))) for key in ("shape", "chunks"))
    if not all(isinstance(part, Tensor) and part.dtype == parts[0].dtype for part in parts) or not plain_sizes(shape):
        raise ValueError("an array in chunks of several types")
    if sum(prod(part.shape) for part in parts) != prod(shape):
        raise ValueError(f"an array {list(shape)} in chunks of other sizes")
    return Tensor(shape, parts[0].dtype, partial(_concatenated, parts, shape))


def _concatenated(parts: tuple[Tensor, ...], shape: tuple[int, ...]) -> Array:
    joined: Array = np.concatenate([np.asarray(part).reshape(-1) for part in parts])
    return joined.reshape(shape)


def write(path: Path, arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """A file that `flax.serialization.msgpack_restore` reads; names are cut at their dots into nested dictionaries."""
    tree: dict[str, Any] = {}
    for name, array in arrays.items():
        *steps, last = name.split(".")
        place = tree
        for step in steps:
            place = place.setdefault(step, {})
        place[last] = array
    with path.open("wb") as file:
        packer = msgpack.Packer(default=_packed)
        _write(file, packer, tree)


def _write(file: Any, packer: msgpack.Packer, tree: Mapping[str, Any]) -> None:
    """Write a dictionary array by array: no more than one is in memory twice."""
    file.write(packer.pack_map_header(len(tree)))
    for name, value in tree.items():
        file.write(packer.pack(name))
        if isinstance(value, dict):
            _write(file, packer, value)
        else:
            file.write(packer.pack(value))


def _packed(array: Array) -> msgpack.ExtType:
    return msgpack.ExtType(ARRAY, msgpack.packb((array.shape, array.dtype.name, bytes(encode(array)))))
