"""The part of protobuf's wire format that a MindSpore checkpoint uses, read strictly and written.

A message is a sequence of fields. A field is a key, `number << 3 | wire type`, and a value: an integer (wire type 0),
or a length and then bytes of that length (wire type 2). Source: https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

from collections.abc import Iterator

from zoo.errors import WeightsError

VARINT, BYTES = 0, 2
LONGEST_VARINT = 10
"""Bytes of a 64-bit integer."""


def fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Each field's number and value; bytes are views of `data`. Raises WeightsError where it is not a message."""
    at = 0
    while at < len(data):
        key, at = read_varint(data, at)
        number, wire_type = key >> 3, key & 7
        value, at = read_varint(data, at)
        if wire_type == VARINT:
            yield number, value
        elif wire_type == BYTES:
            if value > len(data) - at:
                raise WeightsError(f"cut short: field {number} has {value} bytes, and {len(data) - at} are left")
            yield number, data[at : at + value]
            at += value
        else:
            raise WeightsError(f"field {number} has wire type {wire_type}: expected {VARINT} or {BYTES}")


def integers(value: int | memoryview) -> Iterator[int]:
    """The signed 64-bit integers of a repeated field: one, or several packed into bytes."""
    if isinstance(value, int):
        yield _signed(value)
        return
    at = 0
    while at < len(value):
        number, at = read_varint(value, at)
        yield _signed(number)


def read_varint(data: memoryview, at: int) -> tuple[int, int]:
    """The unsigned 64-bit integer at byte `at`, and where it ends."""
    value = 0
    for i, byte in enumerate(data[at : at + LONGEST_VARINT]):
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80 and value < 2**64:
            return value, at + i + 1
    raise WeightsError(f"no integer of at most 64 bits at byte {at}")


def varint(value: int) -> bytes:
    """An integer; a negative one as 64 bits in two's complement."""
    data, value = bytearray(), value % 2**64
    while value >= 0x80:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*data, value])


def integer_field(number: int, value: int) -> bytes:
    """A field that is an integer."""
    return varint(number << 3 | VARINT) + varint(value)


def bytes_header(number: int, length: int) -> bytes:
    """What stands before the bytes of a field."""
    return varint(number << 3 | BYTES) + varint(length)


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value
