"""MindSpore's .ckpt: a protobuf message with a value for each tensor (mindspore/train/checkpoint.proto, 2.8).

    message Checkpoint  { repeated Value value = 1; }
    message Value       { required string tag = 1; required TensorProto tensor = 2; }
    message TensorProto { repeated int64 dims = 1; required string tensor_type = 2; required bytes tensor_content = 3; }

Tensors are views of the mapped file. "crc_num" and a checksum may follow the last value.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from weights.formats.protobuf import bytes_header, fields, integer_field, integers, read_varint
from weights.formats.tensors import MOST_SIZES, Array, Contents, Mapped, Tensor, encode, from_buffer
from zoo.errors import WeightsError

TYPES = {
    "Float64": "float64", "Float32": "float32", "Float16": "float16", "BFloat16": "bfloat16", "Bool": "bool",
    "Int64": "int64", "Int32": "int32", "Int16": "int16", "Int8": "int8",
    "UInt64": "uint64", "UInt32": "uint32", "UInt16": "uint16", "UInt8": "uint8",
}  # fmt: skip
VALUE = b"\x0a"
"""The key of each value in the checkpoint: field 1, bytes."""

STRING, TEXT_ENCODING, LONGEST_TEXT = "str", "utf-32-le", 1 << 26
"""How save_checkpoint's `append_dict` stores a string (NumPy's type U), and the most bytes of one."""

METADATA_PREFIX = "zoo."
"""The prefix of names of strings that are this project's metadata."""

CHECKSUM_MARK, CHECKSUM_BYTES = b"crc_num", 10
"""The mark before the checksum, and its length: CRC-32 of everything before the mark, big-endian."""


class Value(NamedTuple):
    """A named tensor or string of a checkpoint, not yet decoded."""

    tag: str
    dims: tuple[int, ...]
    type: str
    content: memoryview


def claims(file: Mapped) -> bool:
    """Whether the file begins with a value that begins with its name."""
    try:
        start, _ = next(_values(file.bytes))
    except (WeightsError, StopIteration):
        return False
    return bytes(file.bytes[start : start + 1]) == b"\x0a"


def read(file: Mapped) -> Contents:
    """The tensors by name; a string is a plain value, or metadata."""
    data = file.bytes
    tail = len(CHECKSUM_MARK) + CHECKSUM_BYTES
    if len(data) > tail and bytes(data[-tail:-CHECKSUM_BYTES]) == CHECKSUM_MARK:
        data, checksum = data[:-tail], int.from_bytes(data[-CHECKSUM_BYTES:], "big")
        if zlib.crc32(data) != checksum:
            raise WeightsError("its checksum is not that of its contents: the file is damaged")
    tree: dict[str, Any] = {}
    for start, end in _values(data):
        try:
            value = parse(data[start:end])
        except WeightsError as error:
            raise WeightsError(f"not a readable MindSpore checkpoint: in the value at byte {start}: {error}") from None
        if value.tag in tree:
            raise WeightsError(f"{value.tag!r} is there twice")
        tree[value.tag] = _decoded(value)
    metadata = {tag: text for tag, text in tree.items() if isinstance(text, str) and tag.startswith(METADATA_PREFIX)}
    for tag in metadata:
        del tree[tag]
    if metadata.get(f"{METADATA_PREFIX}holds") == "state" and len(data) == len(file.bytes):
        raise WeightsError("cut short: its checksum is missing")
    return Contents("mindspore", tree, {tag.removeprefix(METADATA_PREFIX): text for tag, text in metadata.items()})


def write(path: Path, arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """A checkpoint that mindspore.load_checkpoint reads; metadata are strings, as `append_dict` writes them.

    Metadata that do not describe a network are left out. The file ends with a checksum, as with `crc_check`.
    """
    names = {dtype: name for name, dtype in TYPES.items()}
    texts = metadata if "model" in metadata else {}
    with path.open("wb") as file:
        checksum = 0
        for name, array in arrays.items():
            header = value_header(name, array.shape or (0,), names[array.dtype.name], array.nbytes)
            checksum = _write(file, checksum, header, encode(array))
        for name, text in texts.items():
            content = text.encode(TEXT_ENCODING)
            if len(content) > LONGEST_TEXT:
                raise WeightsError(f"{path}: {name} has {len(text):,} characters, at most {LONGEST_TEXT // 4:,} fit")
            if content:  # NumPy has no string of length 0
                header = value_header(METADATA_PREFIX + name, (0,), STRING, len(content))
                checksum = _write(file, checksum, header, content)
        file.write(CHECKSUM_MARK + checksum.to_bytes(CHECKSUM_BYTES, "big"))


def value_header(tag: str, dims: tuple[int, ...], type_: str, length: int) -> bytes:
    """A value of a checkpoint, up to its `length` bytes of content."""
    name, kind = tag.encode(), type_.encode()
    tensor = b"".join(integer_field(1, size) for size in dims)
    tensor += bytes_header(2, len(kind)) + kind + bytes_header(3, length)
    value = bytes_header(1, len(name)) + name + bytes_header(2, len(tensor) + length) + tensor
    return bytes_header(1, len(value) + length) + value


def _write(file: BinaryIO, checksum: int, *parts: bytes | memoryview) -> int:
    """Write parts of a file; returns the checksum of everything up to their end."""
    for part in parts:
        file.write(part)
        checksum = zlib.crc32(part, checksum)
    return checksum


def parse(data: memoryview) -> Value:
    """The value in a message. Raises WeightsError where a field is unknown, missing, repeated or of the wrong type."""
    value = _bytes_fields(data, "Value", {1: "tag", 2: "tensor"})
    dims: list[int] = []
    tensor = _bytes_fields(value[2], "TensorProto", {2: "tensor_type", 3: "tensor_content"}, dims)
    try:
        return Value(str(value[1], "utf-8"), tuple(dims), str(tensor[2], "utf-8"), tensor[3])
    except UnicodeDecodeError as error:
        raise WeightsError(f"a name that is not UTF-8: {error}") from None


def _bytes_fields(
    data: memoryview, message: str, names: Mapping[int, str], dims: list[int] | None = None
) -> dict[int, memoryview]:
    """The fields of a message, each of `names` once; with `dims`, field 1 is integers, which are added to it."""
    found: dict[int, memoryview] = {}
    for number, field in fields(data):
        if number == 1 and dims is not None:
            if len(dims) <= MOST_SIZES:  # one more than a tensor may have is enough to refuse it
                dims.extend(integers(field))
        elif number not in names or isinstance(field, int):
            raise WeightsError(f"{message} has an unknown field {number}")
        elif number in found:
            raise WeightsError(f"{message}.{names[number]} is there twice")
        else:
            found[number] = field
    if missing := [name for number, name in names.items() if number not in found]:
        raise WeightsError(f"{message}.{missing[0]} is missing")
    return found


def _decoded(value: Value) -> str | Tensor:
    """A string, or a tensor whose elements stay in the file."""
    if value.type == STRING:
        return bytes(value.content[:LONGEST_TEXT]).decode(TEXT_ENCODING, errors="replace")
    if value.type not in TYPES:
        raise WeightsError(f"{value.tag!r} is of type {value.type!r}, expected one of {', '.join(TYPES)}")
    shape = () if value.dims == (0,) else value.dims[: MOST_SIZES + 1]
    try:
        return from_buffer(value.content, TYPES[value.type], shape)
    except ValueError as error:
        raise WeightsError(f"{value.tag!r} is damaged, or in slices: {error}") from None


def _values(data: memoryview) -> Iterator[tuple[int, int]]:
    """Where each value begins and ends."""
    at = 0
    while at < len(data):
        if data[at : at + 1] != VALUE:
            raise WeightsError(f"not a MindSpore checkpoint: no value begins at byte {at}")
        length, at = read_varint(data, at + 1)
        if length > len(data) - at:
            raise WeightsError(f"cut short: a value of {length} bytes at byte {at} of {len(data)}")
        yield at, at + length
        at += length
