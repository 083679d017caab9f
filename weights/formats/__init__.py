"""File formats: each module finds the tensors in a file, and writes such a file, without the framework.

Reading returns lazy tensors and runs nothing that a file contains. The names of tensors are translated elsewhere, by
the naming tables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from weights.formats import exported, jax, keras, mindspore, paddle, safetensors, torch
from weights.formats.tensors import Array, Contents, Mapped, Tensor
from zoo.errors import WeightsError

__all__ = ["FORMATS", "Contents", "Format", "Tensor", "format_for", "read"]

ZIP, HDF5, PICKLE = b"PK\3\4", b"\x89HDF\r\n\x1a\n", b"\x80"
LEGACY = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
"""PyTorch's magic number as a pickle, after the protocol."""


class Format(NamedTuple):
    """A file format: how to recognise, read and write it; the first of its suffixes is the usual one."""

    suffixes: tuple[str, ...]
    claims: Callable[[Mapped], bool]
    read: Callable[[Mapped], Contents]
    write: Callable[[Path, Mapping[str, Array], Mapping[str, str]], None] | None


FORMATS = {
    "safetensors": Format((".safetensors",), safetensors.claims, safetensors.read, safetensors.write),
    "torch": Format(
        (".pth", ".pt", ".bin", ".tar"),
        lambda f: f.bytes[:4] == ZIP and b"data.pkl" in bytes(f.bytes[30:500]),
        torch.read,
        torch.write,
    ),
    "torch-export": Format((".pt2",), exported.claims, exported.read, None),
    "keras-zip": Format((".keras",), lambda f: f.bytes[:4] == ZIP, keras.read_archive, None),
    "keras": Format((".weights.h5",), lambda f: f.bytes[:8] == HDF5, keras.read, keras.write),
    "keras-legacy": Format((".h5", ".hdf5"), lambda f: False, keras.read, keras.write_legacy),
    "torch-legacy": Format((), lambda f: f.bytes[2 : 2 + len(LEGACY)] == LEGACY, torch.read_legacy, torch.write_legacy),
    "paddle": Format((".pdparams",), lambda f: f.bytes[:1] == PICKLE, paddle.read, paddle.write),
    "mindspore": Format((".ckpt",), mindspore.claims, mindspore.read, mindspore.write),
    "jax": Format((".msgpack",), jax.claims, jax.read, jax.write),
}
"""In the order in which they are tried: the length that begins a safetensors file may look like a pickle."""


def read(path: str | Path) -> Contents:
    """What a file holds. The format is recognised from the first bytes, not from the name.

    Raises WeightsError, with the path, for a file that is in none of the formats, is damaged, or would have to be run.
    """
    file = Mapped(path)
    for format_ in FORMATS.values():
        if format_.claims(file):
            try:
                contents = format_.read(file)
                if not isinstance(contents.tree, dict):
                    raise WeightsError(f"holds a {type(contents.tree).__name__}, expected a dictionary of tensors")
            except WeightsError as error:
                raise WeightsError(f"{path}: {error}") from None
            except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
                raise WeightsError(f"{path}: damaged: {type(error).__name__}: {str(error)[:200]}") from None
            return contents
    raise WeightsError(
        f"{path}: not a checkpoint in a known format: it begins with {bytes(file.bytes[:8])!r}. Expected PyTorch's "
        ".pth, .pt, .bin or .pt2, safetensors, MindSpore's .ckpt, Paddle's .pdparams, Flax's .msgpack, or Keras's .h5, "
        ".weights.h5 or .keras"
    )


def format_for(path: str | Path) -> str:
    """The format that a file's name asks for. Raises WeightsError for a name without a known suffix."""
    name = Path(path).name.lower()
    for format_, (suffixes, *_) in FORMATS.items():
        if name.endswith(suffixes):
            return format_
    known = ", ".join(suffix for format_ in FORMATS.values() if format_.write for suffix in format_.suffixes)
    raise WeightsError(f"{path}: its suffix is not that of a format that can be written: expected one of {known}")
