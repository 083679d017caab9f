"""Safetensors: a JSON header, then the tensors' bytes. The safetensors library checks the header; the bytes are mapped.

The library's NumPy functions are not used: they do not know bfloat16, copy every tensor, and replace the file that they
write, with other permissions.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open

from weights.formats.tensors import Array, Contents, Mapped, encode, from_buffer
from zoo.errors import WeightsError

TYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "BOOL": "bool",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U64": "uint64", "U32": "uint32", "U16": "uint16",
    "U8": "uint8",
}  # fmt: skip
ALIGNMENT = 8
"""Alignment of the first tensor in the file, in bytes."""


def claims(file: Mapped) -> bool:
    """Whether the file begins with the length of a header, which fits in the file and begins as JSON does."""
    length = int.from_bytes(file.bytes[:8], "little")
    return bytes(file.bytes[8:9]) == b"{" and length <= len(file) - 8


def read(file: Mapped) -> Contents:
    """The tensors by name, and the header's metadata."""
    try:
        with safe_open(file.path, framework="np") as checked:
            metadata = dict(checked.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"not a readable safetensors file: {error}") from None
    length = int.from_bytes(file.bytes[:8], "little")
    header = json.loads(bytes(file.bytes[8 : 8 + length]), object_pairs_hook=_distinct)
    tree = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        try:
            dtype = TYPES.get(entry["dtype"], entry["dtype"])
            tree[name] = from_buffer(file.bytes[begin:end], dtype, tuple(entry["shape"]))
        except ValueError as error:
            raise WeightsError(f"{name!r}: {error}") from None
    return Contents("safetensors", tree, metadata)


def write(path: Path, arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """A file that every framework's safetensors loader reads; the widest elements come first, so all are aligned."""
    names = {dtype: name for name, dtype in TYPES.items()}
    ordered = sorted(arrays.items(), key=lambda item: -item[1].itemsize)
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for name, array in ordered:
        end = offset + array.nbytes
        entry = {"dtype": names[array.dtype.name], "shape": list(array.shape), "data_offsets": [offset, end]}
        header[name], offset = entry, end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, array in ordered:
            file.write(encode(array))


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise WeightsError(f"{twice[:80]!r} is there twice")
    return result
