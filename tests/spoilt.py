"""A realistic folder of images: most are whole, some are odd but readable, some cannot be read."""

import io
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

CLASSES = "abcdef"


class Folder(NamedTuple):
    """Names below the split's folder; `vanishing` exists and is to be removed during a run."""

    root: Path
    unreadable: set[str]
    odd: set[str]
    vanishing: set[str]


def jpeg(image: Image.Image, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def bomb() -> bytes:
    """A PNG of a few bytes that declares 60,000 x 60,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


def exif(orientation: int) -> bytes:
    data = Image.Exif()
    data[0x0112] = orientation
    return data.tobytes()


UNREADABLE = {
    "cut.jpg": lambda image: jpeg(image)[:-400],
    "header.jpg": lambda image: jpeg(image)[:2] + bytes(300) + jpeg(image)[302:],
    "empty.jpg": lambda image: b"",
    "text.jpg": lambda image: b"<html>404 Not Found</html>",
    "cut.png": lambda image: png(image)[:200],
    "zlib.png": lambda image: png(image)[:80] + bytes(40) + png(image)[120:],
    "bomb.png": lambda image: bomb(),
}
ODD = {
    "grey.jpg": lambda image: jpeg(image.convert("L")),
    "cmyk.jpg": lambda image: jpeg(image.convert("CMYK")),
    "deep.png": lambda image: png(Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)),
    "palette.png": lambda image: png(image.quantize(256)),
    "alpha.png": lambda image: png(image.convert("RGBA")),
    "turned.jpg": lambda image: jpeg(image, exif=exif(6)),
    "dot.png": lambda image: png(image.resize((1, 1))),
    "line.png": lambda image: png(image.resize((900, 1))),
    "spoilt_exif.jpg": lambda image: jpeg(image, exif=b"Exif\0\0MM\0\x2a" + bytes([255] * 40)),
}


def folder(root: Path, images: int = 300, spoilt: int = 40) -> Folder:
    """Make ROOT/train, with `images` images of which `spoilt` are unusual, and ROOT/val, a copy of the first few."""
    random = np.random.default_rng(0)
    makers = {**UNREADABLE, **ODD}
    found = Folder(root, set(), set(), set())
    kinds = [*makers, "vanishing.jpg"]
    for k in range(images):
        image = Image.fromarray(random.integers(0, 256, (40, 50, 3), np.uint8))
        name, data = f"{k:03}.jpg", jpeg(image)
        if k % (images // spoilt) == 0 and k // (images // spoilt) < spoilt:
            kind = kinds[k // (images // spoilt) % len(kinds)]
            name = f"{k:03}_{kind}"
            which = found.unreadable if kind in UNREADABLE else found.odd if kind in ODD else found.vanishing
            which.add(f"{CLASSES[k % len(CLASSES)]}/{name}")
            data = makers.get(kind, jpeg)(image)
        path = root / "train" / CLASSES[k % len(CLASSES)] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    assert sum(map(len, found[1:])) == spoilt
    return found
