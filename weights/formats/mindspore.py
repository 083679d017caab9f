"""MindSpore's .ckpt: a protobuf message with a value for each tensor (mindspore/train/checkpoint.proto, 2.8).

A checkpoint is parsed value by value, so that one tensor is in memory at a time. After the last one may come "crc_num"
and a checksum.
"""

from __future__ import annotations

import importlib.util
import os
import zlib
from collections.abc import Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any, BinaryIO

from weights.formats.tensors import MOST_SIZES, Array, Contents, Mapped, Tensor, decode, encode, from_buffer, release
from zoo.errors import WeightsError

TYPES = {
    "Float64": "float64", "Float32": "float32", "Float16": "float16", "BFloat16": "bfloat16", "Bool": "bool",
    "Int64": "int64", "Int32": "int32", "Int16": "int16", "Int8": "int8",
    "UInt64": "uint64", "UInt32": "uint32", "UInt16": "uint16", "UInt8": "uint8",
}  # fmt: skip
VALUE = b"\x0a"
"""What stands before each value: field 1, with a length."""

TEXT, MOST_TEXT = "utf-32-le", 1 << 20
"""How save_checkpoint's `append_dict` keeps a text (NumPy's type U), and how many bytes of it are read."""

OURS = "zoo."
"""Before the names of texts that are metadata of this project."""

CHECKED = b"crc_num"
"""Before the checksum: CRC-32 of everything before, in ten bytes, big-endian."""


def claims(file: Mapped) -> bool:
    """Whether the file begins with a value that begins with its name."""
    try:
        start, _ = next(_values(file.bytes))
    except (WeightsError, StopIteration):
        return False
    return bytes(file.bytes[start : start + 1]) == b"\x0a"


def read(file: Mapped) -> Contents:
    """The tensors by name; a text is a plain value, or metadata."""
    data = file.bytes
    tail = len(CHECKED) + 10
    if len(data) > tail and bytes(data[-tail:-10]) == CHECKED:
        data, checksum = data[:-tail], int.from_bytes(data[-10:], "big")
        if zlib.crc32(data) != checksum:
            raise WeightsError("its checksum is not that of its contents: the file is damaged")
    tree: dict[str, Any] = {}
    for start, end in _values(data):
        value = _parse(data[start:end])
        if value.tag in tree:
            raise WeightsError(f"{value.tag!r} is there twice")
        tree[value.tag] = _tensor(data[start:end], value)
    metadata = {tag: text for tag, text in tree.items() if isinstance(text, str) and tag.startswith(OURS)}
    for tag in metadata:
        del tree[tag]
    if metadata.get(f"{OURS}holds") == "state" and len(data) == len(file.bytes):
        raise WeightsError("cut short: its checksum is not there")
    return Contents("mindspore", tree, {tag.removeprefix(OURS): text for tag, text in metadata.items()})


def write(path: Path, arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """A checkpoint that mindspore.load_checkpoint reads; metadata of this project as texts, as `append_dict` does.

    It ends with a checksum, as with `crc_check`.
    """
    names = {dtype: name for name, dtype in TYPES.items()}
    texts = metadata if "model" in metadata else {}
    checksum = 0
    with path.open("wb") as file:
        for name, array in arrays.items():
            value = value_type()(tag=name)
            value.tensor.dims.extend(array.shape or (0,))
            value.tensor.tensor_type = names[array.dtype.name]
            value.tensor.tensor_content = bytes(encode(array))
            checksum = _write(file, value, checksum)
        for name, text in texts.items():
            if not text:  # NumPy has none of no length
                continue
            value = value_type()(tag=OURS + name)
            value.tensor.dims.append(0)
            value.tensor.tensor_type = "str"
            value.tensor.tensor_content = text.encode(TEXT)
            checksum = _write(file, value, checksum)
        file.write(CHECKED + checksum.to_bytes(10, "big"))


def _write(file: BinaryIO, value: Any, checksum: int) -> int:
    """Write a value; returns the checksum of everything up to its end."""
    data = value.SerializeToString()
    for part in (VALUE + varint(len(data)), data):
        file.write(part)
        checksum = zlib.crc32(part, checksum)
    return checksum


def _tensor(data: memoryview, value: Any) -> Any:
    """A text; or a tensor, which is parsed again when it is read."""
    kind, dims = value.tensor.tensor_type, tuple(value.tensor.dims)
    if kind == "str":
        return bytes(value.tensor.tensor_content[:MOST_TEXT]).decode(TEXT, errors="replace")
    if kind not in TYPES:
        raise WeightsError(f"{value.tag!r} is of type {kind!r}, expected one of {', '.join(TYPES)}")
    shape = () if dims == (0,) else dims[: MOST_SIZES + 1]
    try:
        from_buffer(value.tensor.tensor_content, TYPES[kind], shape)
    except ValueError as error:
        raise WeightsError(f"{value.tag!r} is damaged, or in slices: {error}") from None
    return Tensor(shape, TYPES[kind], partial(_elements, data, TYPES[kind], shape))


def _elements(data: memoryview, dtype: str, shape: tuple[int, ...]) -> Array:
    return decode(_parse(data).tensor.tensor_content, dtype).reshape(shape)


def _parse(data: memoryview) -> Any:
    message = value_type()
    from google.protobuf.message import DecodeError

    try:
        value = message.FromString(bytes(data))
    except (DecodeError, ValueError) as error:  # ValueError: a name that is no text
        raise WeightsError(f"not a readable MindSpore checkpoint: {error}") from None
    release(data)
    return value


def _values(data: memoryview) -> Iterator[tuple[int, int]]:
    """Where each value begins and ends."""
    at = 0
    while at < len(data):
        if data[at : at + 1] != VALUE:
            raise WeightsError(f"not a MindSpore checkpoint: no value begins at byte {at}")
        length, at = _length(data, at + 1)
        if length > len(data) - at:
            raise WeightsError(f"cut short: a value of {length} bytes at byte {at} of {len(data)}")
        yield at, at + length
        at += length


def _length(data: memoryview, at: int) -> tuple[int, int]:
    """A varint of at most ten bytes, and where it ends."""
    value = 0
    for i, byte in enumerate(data[at : at + 10]):
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return value, at + i + 1
    raise WeightsError(f"not a MindSpore checkpoint: no length at byte {at}")


def varint(value: int) -> bytes:
    data = bytearray()
    while value >= 0x80:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*data, value])


@cache
def value_type() -> Any:
    """Checkpoint.Value, of checkpoint.proto, in a pool of its own: MindSpore registers its file in protobuf's.

    MindSpore's messages are for protobuf's Python implementation; it asks for that before it imports protobuf, and
    crashes if another one is there. So where MindSpore may yet be imported, that one is asked for here.
    """
    if importlib.util.find_spec("mindspore"):
        os.environ.setdefault("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python")
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="checkpoint.proto", syntax="proto2")
    tensor = file.message_type.add(name="TensorProto")
    value = file.message_type.add(name="Value")
    kinds = descriptor_pb2.FieldDescriptorProto
    for message, name, number, label, kind in (
        (tensor, "dims", 1, kinds.LABEL_REPEATED, kinds.TYPE_INT64),
        (tensor, "tensor_type", 2, kinds.LABEL_REQUIRED, kinds.TYPE_STRING),
        (tensor, "tensor_content", 3, kinds.LABEL_REQUIRED, kinds.TYPE_BYTES),
        (value, "tag", 1, kinds.LABEL_REQUIRED, kinds.TYPE_STRING),
    ):
        message.field.add(name=name, number=number, label=label, type=kind)
    value.field.add(
        name="tensor", number=2, label=kinds.LABEL_REQUIRED, type=kinds.TYPE_MESSAGE, type_name=".TensorProto"
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("Value"))
