"""Zip archives whose members are stored uncompressed: PyTorch's and Keras's."""

from __future__ import annotations

import struct
import zipfile

from weights.formats.tensors import Mapped
from zoo.errors import WeightsError

HEADER = 30
"""Bytes of a member's header before its name (APPNOTE.TXT 4.3.7)."""

TORCHSCRIPT = "/constants.pkl"
"""The end of a member's name that only torch.jit.save writes."""


def members(file: Mapped) -> dict[str, memoryview]:
    """Each member's bytes, as views of the file.

    Raises WeightsError for TorchScript, repeated names, compressed members, and members that overlap.
    """
    try:
        with zipfile.ZipFile(file.path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, struct.error, OSError, ValueError, NotImplementedError) as error:
        raise WeightsError(f"not a readable zip archive: {error}; it may be cut short") from None
    if any(entry.filename.endswith(TORCHSCRIPT) for entry in entries):
        raise WeightsError(
            "a TorchScript archive, which holds a program beside its weights; programs are not run here. If you trust "
            "it, torch.save(torch.jit.load(FILE).state_dict(), 'weights.pth') writes the weights alone"
        )
    result: dict[str, memoryview] = {}
    end = 0
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        name = entry.filename
        if name in result:
            raise WeightsError(f"member {name!r} is there twice")
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
            raise WeightsError(
                f"member {name!r} is compressed or encrypted: PyTorch and Keras store weights uncompressed"
            )
        header = file.bytes[entry.header_offset : entry.header_offset + HEADER]
        if len(header) < HEADER or bytes(header[:4]) != b"PK\3\4":
            raise WeightsError(f"member {name!r} is not where the archive's directory says")
        start = entry.header_offset + HEADER + sum(struct.unpack("<2H", header[26:30]))
        if entry.header_offset < end or start + entry.file_size > len(file):
            raise WeightsError(f"member {name!r} overlaps another one, or the end of the file")
        end = start + entry.file_size
        result[name] = file.bytes[start:end]
    return result
