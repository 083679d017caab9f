"""Lazy tensors, whose elements are read from a file on demand, and the file itself, mapped into memory."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.errors import WeightsError

Array = NDArray[Any]
Buffer = memoryview | bytes
ITEMSIZE = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "bool": 1,
    "int64": 8, "int32": 4, "int16": 2, "int8": 1, "uint64": 8, "uint32": 4, "uint16": 2, "uint8": 1,
}  # fmt: skip
"""Bytes of an element, for each type that can be read."""

MOST_SIZES = 64
"""Most entries of a tensor's shape and strides together; NumPy allows 32 axes."""


@dataclass(frozen=True)
class Tensor:
    """A tensor whose elements are read when NumPy asks for them: `np.asarray(tensor)`.

    `dtype` is the file's; bfloat16, which NumPy does not have, is read as float32. The array may be a read-only view
    of the mapped file. Tensors of equal `location`, unless it is None, are one tensor under several names.
    """

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], Array]
    location: tuple[int, ...] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return prod(self.shape) * ITEMSIZE[self.dtype]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        array = self.read()
        return array if dtype is None else array.astype(dtype)


@dataclass(frozen=True)
class Contents:
    """The contents of a file: nested dictionaries with tensors and plain values as leaves, and metadata."""

    format: str
    tree: dict[Any, Any]
    metadata: dict[str, str] = field(default_factory=dict)


class Mapped:
    """A file mapped into memory, read-only. Raises WeightsError unless it is a regular file and not empty."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            if not self.path.exists():
                raise WeightsError(f"{path}: no such file")
            if not self.path.is_file():
                raise WeightsError(f"{path}: {'a folder' if self.path.is_dir() else 'not a regular file'}")
            with self.path.open("rb") as file:
                if not file.seek(0, 2):
                    raise WeightsError(f"{path}: an empty file")
                self.map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise WeightsError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
        self.bytes = memoryview(self.map)

    def __len__(self) -> int:
        return len(self.bytes)


def plain_sizes(numbers: tuple[Any, ...]) -> bool:
    """Whether a tensor may have these sizes: few integers, none negative, none larger than any memory."""
    return len(numbers) <= MOST_SIZES and all(isinstance(n, int) and 0 <= n < 2**48 for n in numbers)


def from_buffer(buffer: Buffer, dtype: str, shape: tuple[int, ...], order: str = "<", fortran: bool = False) -> Tensor:
    """The tensor whose bytes are `buffer`. Raises ValueError when its length does not fit the type and the shape."""
    if dtype not in ITEMSIZE:
        raise ValueError(f"elements of type {dtype}, expected one of {', '.join(ITEMSIZE)}")
    if not plain_sizes(shape) or prod(shape) * ITEMSIZE[dtype] != len(buffer):
        raise ValueError(f"{len(buffer)} bytes for {dtype} {list(shape)[:8]}")
    return Tensor(shape, dtype, lambda: decode(buffer, dtype, order).reshape(shape, order="F" if fortran else "C"))


def decode(buffer: Buffer, dtype: str, order: str = "<") -> Array:
    """The elements of a buffer: bfloat16 converted to float32, little-endian types as a view."""
    if dtype == "bfloat16":
        return (np.frombuffer(buffer, f"{order}u2").astype(np.uint32) << 16).view(np.float32)
    array = np.frombuffer(buffer, np.dtype(dtype).newbyteorder("<" if order == "<" else ">"))
    return array.astype(dtype) if order == ">" else array


def release(array: Array) -> None:
    """Free the memory pages that reading this part of a mapped file has taken, where the system can: not on Windows."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    advice = getattr(mmap, "MADV_DONTNEED", None)
    if (
        advice is not None
        and isinstance(base, memoryview)
        and isinstance(base.obj, mmap.mmap)
        and base.nbytes > mmap.PAGESIZE
    ):
        base.obj.madvise(advice)


def encode(array: Array) -> memoryview:
    """The bytes of an array in C order and little-endian; a copy only where the array is stored otherwise."""
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return little.reshape(-1).view(np.uint8).data
