"""Paddle's .pdparams: a pickled dictionary of NumPy arrays, and Paddle's own names for them.

Source: paddle/framework/io.py of version 3.3. bfloat16 is stored as uint16.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from weights.formats import pickles
from weights.formats.pickles import Function, NumpyType, emit, emit_global
from weights.formats.tensors import Array, Contents, Mapped, encode

NAMES = "StructuredToParameterName@@"


class ElementType(NumpyType):
    """A numpy.dtype, or Paddle's bfloat16."""

    def __init__(self, code: Any, *_: Any) -> None:
        super().__init__(code)
        self.name = "bfloat16" if self.name == "uint16" else self.name


def read(file: Mapped) -> Contents:
    """The dictionary's arrays."""
    tree, _ = pickles.load(file.bytes, 0, {"numpy.dtype": Function(ElementType)})
    return Contents("paddle", tree)


def write(path: Path, arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """A dictionary that paddle.load reads; NumPy's functions under the names that its versions 1 and 2 both know."""
    with path.open("wb") as file:
        file.write(b"\x80\x04}(")
        for name, array in arrays.items():
            data = encode(array)
            dtype = emit_global("numpy", "dtype") + emit((f"{array.dtype.kind}{array.itemsize}", False, True)) + b"R"
            dtype += emit((3, "<", None, None, None, -1, -1, 0)) + b"b"
            file.write(emit(name) + emit_global("numpy.core.multiarray", "_reconstruct"))
            file.write(b"(" + emit_global("numpy", "ndarray") + emit((0,)) + b"C\1b" + b"tR")
            file.write(b"(" + emit(1) + emit(array.shape) + dtype + emit(False))
            file.write(b"\x8e" + len(data).to_bytes(8, "little"))
            file.write(data)
            file.write(b"tb")
        names = b"".join(emit(name) + emit(name) for name in arrays)
        file.write(emit(NAMES) + b"}(" + names + b"uu.")
