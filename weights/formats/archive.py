"""Zip archives whose members lie in them as they are: PyTorch's and Keras's."""

from __future__ import annotations

import struct
import zipfile

from weights.formats.tensors import Mapped
from zoo.errors import WeightsError

HEADER = 30
"""Bytes of a member's header before its name (APPNOTE.TXT 4.3.7)."""


def members(file: Mapped) -> dict[str, memoryview]:
    """Each member's bytes, in place. Raises WeightsError for names twice, compression, and members that overlap."""
    try:
        with zipfile.ZipFile(file.path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, struct.error, OSError, ValueError, NotImplementedError) as error:
        raise WeightsError(f"not a readable zip archive: {error}; it may be cut short") from None
    result: dict[str, memoryview] = {}
    end = 0
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        name = entry.filename
        if name in result:
            raise WeightsError(f"member {name!r} is there twice")
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
            raise WeightsError(f"member {name!r} is compressed or encrypted, which no framework does")
        header = file.bytes[entry.header_offset : entry.header_offset + HEADER]
        if len(header) < HEADER or bytes(header[:4]) != b"PK\3\4":
            raise WeightsError(f"member {name!r} is not where the archive's directory says")
        start = entry.header_offset + HEADER + sum(struct.unpack("<2H", header[26:30]))
        if entry.header_offset < end or start + entry.file_size > len(file):
            raise WeightsError(f"member {name!r} overlaps another one, or the end of the file")
        end = start + entry.file_size
        result[name] = file.bytes[start:end]
    return result
