"""PyTorch's files: the zip archive of 1.6 and later, and the stream of pickles before it.

A pickle describes the tensors; their storages are members `NAME/data/0`, ... of the archive, or follow the pickles.
Both are read and written without PyTorch, as torch/serialization.py (2.13) has them.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from weights.formats import archive, pickles
from weights.formats.pickles import Function, as_tuple, emit, emit_global
from weights.formats.tensors import ITEMSIZE, Array, Contents, Mapped, Tensor, decode, encode, plain_sizes
from zoo.errors import WeightsError

STORAGES = {
    "Float": "float32", "Double": "float64", "Half": "float16", "BFloat16": "bfloat16", "Bool": "bool",
    "Long": "int64", "Int": "int32", "Short": "int16", "Char": "int8", "Byte": "uint8",
}  # fmt: skip
LEGACY = (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True})
"""The legacy format's magic number, version, and description of the machine."""

ALIGNMENT = 64
"""Alignment of storages within the archive, in bytes, as PyTorch aligns them for mapping."""


class StorageType(NamedTuple):
    dtype: str


class Storage:
    """Elements of one type; `data`, their bytes, may be set later."""

    def __init__(self, dtype: str, count: int, order: str = "<", start: int = 0) -> None:
        if not plain_sizes((count, start)):
            raise ValueError("a storage whose number of elements is not a plain integer")
        self.dtype, self.count, self.order, self.start = dtype, count, order, start
        self.data = memoryview(b"")

    @property
    def nbytes(self) -> int:
        return self.count * ITEMSIZE[self.dtype]


class View:
    """A tensor as PyTorch sees it: an offset, a shape and strides into a storage, in elements."""

    def __init__(self, storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> None:
        if not isinstance(storage, Storage) or not isinstance(shape, tuple) or not isinstance(strides, tuple):
            raise TypeError("a tensor without storage, shape or strides")
        if len(shape) != len(strides):
            raise TypeError(f"a tensor with {len(shape)} sizes and {len(strides)} strides")
        if not plain_sizes((offset, *shape, *strides)):
            raise ValueError(f"a negative offset, size or stride: {offset}, {list(shape)}, {list(strides)}")
        last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
        if prod(shape) and (last >= storage.count or prod(shape) > storage.count):
            raise ValueError(f"a tensor {list(shape)} with strides {list(strides)} in {storage.count} elements")
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides

    def read(self) -> Array:
        size = ITEMSIZE[self.storage.dtype]
        begin = (self.storage.start + self.offset) * size
        if self.strides == _contiguous(self.shape):
            data = self.storage.data[begin : begin + prod(self.shape) * size]
            return decode(data, self.storage.dtype, self.storage.order).reshape(self.shape)
        reach = sum((n - 1) * stride for n, stride in zip(self.shape, self.strides, strict=True)) + 1
        end = begin + max(reach, 0) * size
        flat = decode(self.storage.data[begin:end], self.storage.dtype, self.storage.order)
        return np.lib.stride_tricks.as_strided(
            flat, self.shape, tuple(s * flat.itemsize for s in self.strides), writeable=False
        )


def _tensor(*arguments: Any) -> Tensor:
    view = View(*arguments)
    location = (id(view.storage), view.offset, *view.shape, *view.strides)
    return Tensor(view.shape, view.storage.dtype, view.read, location)


def _contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(prod(shape[i + 1 :]) for i in range(len(shape)))


FUNCTIONS: dict[str, Any] = {
    **{f"torch.{name}Storage": StorageType(dtype) for name, dtype in STORAGES.items()},
    **{f"torch.{dtype}": None for dtype in (*ITEMSIZE, "strided", "contiguous_format")},
    "torch._utils._rebuild_tensor": Function(_tensor),
    "torch._utils._rebuild_tensor_v2": Function(_tensor),
    "torch._utils._rebuild_parameter": Function(lambda data, *_: data),
    "torch._utils._rebuild_parameter_with_state": Function(lambda data, *_: data),
    "torch.nn.parameter.Parameter": Function(lambda data, *_: data),
    "torch.Size": Function(as_tuple),
}


def read(file: Mapped) -> Contents:
    """The archive's tensors. Raises WeightsError when a storage is missing, overlaps another one or is compressed."""
    members = archive.members(file)
    pickled = next((name for name in members if name.rpartition("/")[2] == "data.pkl"), None)
    if pickled is None:
        raise WeightsError("not a readable PyTorch archive: no member data.pkl")
    prefix = pickled.removesuffix("data.pkl")
    order = ">" if bytes(members.get(f"{prefix}byteorder", b"little")) == b"big" else "<"
    storages: dict[str, Storage] = {}

    def storage(identity: Any) -> Storage:
        kind, type_, key, _, count = identity
        if kind != "storage" or not isinstance(type_, StorageType) or not isinstance(key, str):
            raise ValueError("a persistent id that is not a storage")
        if key not in storages:
            found = storages[key] = Storage(type_.dtype, count, order)
            found.data = members[f"{prefix}data/{key}"]
            if found.nbytes != len(found.data):
                raise ValueError(f"storage {key} has {len(found.data)} bytes, and should have {found.nbytes}")
        if storages[key].dtype != type_.dtype:
            raise ValueError(f"storage {key} has two types")
        return storages[key]

    tree, _ = pickles.load(members[pickled], 0, FUNCTIONS, storage)
    return Contents("torch", tree)


def read_legacy(file: Mapped) -> Contents:
    """The stream's tensors. Raises WeightsError when a storage is missing or cut short."""
    at = 0
    for expected in LEGACY[:2]:
        value, at = pickles.load(file.bytes, at, {})
        if value != expected:
            raise WeightsError(f"not a PyTorch file: a {type(value).__name__} where {expected} was expected")
    system, at = pickles.load(file.bytes, at, {})
    order = "<" if not isinstance(system, dict) or system.get("little_endian", True) else ">"
    storages: dict[Any, Storage] = {}
    views: list[tuple[Storage, Storage]] = []

    def storage(identity: Any) -> Storage:
        kind, type_, key, _, count, *view = identity
        if kind != "storage" or not isinstance(type_, StorageType) or not isinstance(key, str | int):
            raise ValueError("a persistent id that is not a storage")
        root = storages.setdefault(key, Storage(type_.dtype, count, order))
        if root.dtype != type_.dtype:
            raise ValueError(f"storage {key} has two types")
        if not view or view[0] is None:
            return root
        _, start, length = view[0]
        part = Storage(type_.dtype, length, order, start)
        views.append((part, root))
        return part

    tree, at = pickles.load(file.bytes, at, FUNCTIONS, storage)
    keys, at = pickles.load(file.bytes, at, {})
    plain = isinstance(keys, list) and all(isinstance(key, str | int) for key in keys)
    if not plain or set(keys) != storages.keys() or len(keys) != len(storages):
        raise WeightsError("the storages that follow are not those that the tensors name")
    for key in keys:
        found = storages[key]
        header = file.bytes[at : at + 8]
        at += 8 + found.nbytes
        if len(header) < 8 or at > len(file) or struct.unpack(f"{order}q", header)[0] != found.count:
            raise WeightsError(f"storage {key} of {found.count} elements is cut short, or has another length")
        found.data = file.bytes[at - found.nbytes : at]
    for part, root in views:
        if part.start + part.count > root.count:
            raise WeightsError(f"a view of {part.count} elements from {part.start} in a storage of {root.count}")
        part.data = root.data
    return Contents("torch-legacy", tree)


def write(path: Path, arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """An archive of a state_dict that torch.load(weights_only=True) reads; storages are aligned and uncompressed."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as out, path.open("rb") as written:

        def add(name: str, data: bytes | memoryview) -> None:
            member = zipfile.ZipInfo(f"archive/{name}")
            member.file_size = len(data)
            start = written.seek(0, 2) + 30 + len(member.filename) + 4
            member.extra = struct.pack("<2sH", b"FB", -start % ALIGNMENT) + b"Z" * (-start % ALIGNMENT)
            with out.open(member, "w") as file:
                file.write(data)
            out.fp.flush()  # type: ignore[union-attr]  # the file's end is where the next member starts

        add("data.pkl", _pickle(arrays))
        add("byteorder", b"little")
        for i, array in enumerate(arrays.values()):
            add(f"data/{i}", encode(array))
        add("version", b"3\n")


def write_legacy(path: Path, arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """The stream of pickles that every PyTorch reads."""
    with path.open("wb") as file:
        for value in LEGACY[:2]:
            file.write(b"\x80\x02" + emit(value) + b".")
        pairs = b"".join(emit(key) + emit(value) for key, value in LEGACY[2].items())
        file.write(b"\x80\x02}(" + pairs + b"u.")
        file.write(_pickle(arrays, trailer=(None,)))
        file.write(b"\x80\x02](" + b"".join(emit(str(i)) for i in range(len(arrays))) + b"e.")
        for array in arrays.values():
            file.write(struct.pack("<q", array.size))
            file.write(encode(array))


def _pickle(arrays: Mapping[str, Array], trailer: tuple[None, ...] = ()) -> bytes:
    names = {dtype: name for name, dtype in STORAGES.items()}
    ordered = emit_global("collections", "OrderedDict") + b")R"
    parts = [b"\x80\x02", ordered, b"("]
    for i, (name, array) in enumerate(arrays.items()):
        storage = emit("storage") + emit_global("torch", f"{names[array.dtype.name]}Storage")
        storage = b"(" + storage + emit(str(i)) + emit("cpu") + emit(array.size) + b"".join(map(emit, trailer)) + b"tQ"
        shape = emit(array.shape) + emit(_contiguous(array.shape))
        rebuild = emit_global("torch._utils", "_rebuild_tensor_v2")
        parts += [emit(name), rebuild, b"(", storage, emit(0), shape, emit(False), ordered, b"tR"]
    return b"".join([*parts, b"u."])
