"""Image files of any kind as RGB, and the preprocessing with which the publisher of a model evaluates it."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

import weights
from zoo.arguments import integer
from zoo.errors import InputError
from zoo.language.model import UNFILTERED, Model

if TYPE_CHECKING:
    from PIL.Image import Image


Indices = NDArray[np.intp]

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
"""Suffixes of image files, in lower case."""

SLENDER = 20
"""If the ratio of an image's sides is at least this, only the cropped part is resized: resizing all of an image of 1 x
10,000 pixels would take gigabytes."""


def read_image(path: str | Path, data: bytes | None = None) -> Image:
    """Read an image as RGB, rotated as its EXIF orientation says. If it has several frames, the first is read.

    With `data`, the file's bytes, `path` is only its name in errors.

    Transparency is dropped, as in torchvision and timm; 16 bits are scaled to 8. Raises InputError for an image that
    cannot be read, is truncated, or has more pixels than Pillow's limit against decompression bombs.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path if data is None else io.BytesIO(data)) as image:
            return _rgb(_upright(image))
    except UnidentifiedImageError:
        raise InputError(f"{path}: not an image that Pillow can read") from None
    except MemoryError:
        raise
    except Exception as error:  # decoders raise any kind of error for damaged files
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise InputError(f"{path}: cannot read the image: {reason}") from None


def image_files(paths: Iterable[str | Path]) -> list[Path]:
    """The files among `paths`, and all image files in the folders among them, at any depth, in order of their names.

    Raises InputError for a folder without images.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
            if not inside:
                raise InputError(f"{path}: no images in this folder: expected files that end in {', '.join(SUFFIXES)}")
            found += inside
        else:
            found.append(path)
    return found


def _upright(image: Image) -> Image:
    from PIL import ImageOps

    image.load()
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # the pixels are intact although the metadata are damaged
        return image


def _rgb(image: Image) -> Image:
    from PIL import Image

    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers of unknown range")
    if not image.mode.startswith("I"):
        return image.convert("RGB")
    pixels = np.asarray(image).astype(np.int64)  # 16 bits, which convert would clip at 255
    if pixels.min() < 0 or pixels.max() > 65535:
        raise ValueError(f"its pixels range from {pixels.min()} to {pixels.max()}, expected 16 bits")
    return Image.fromarray(((pixels * 255 + 32767) // 65535).astype(np.uint8)).convert("RGB")


def sample_photographs() -> list[Image]:
    """The two photographs that scikit-learn ships: a temple, a flower. Raises InputError without scikit-learn."""
    from PIL import Image

    try:
        from sklearn.datasets import load_sample_images
    except ImportError:
        raise InputError(
            "the two sample photographs come with scikit-learn, which is not installed: "
            "pip install scikit-learn, or name images with --image"
        ) from None
    return [Image.fromarray(array) for array in load_sample_images().images]


def preprocess(
    model: str | Path | Model, image: str | Path | Image | NDArray[np.uint8], size: int | None = None
) -> NDArray[np.float32]:
    """An image as a network takes it: float32 [channels, size, size].

    The image is resized, cropped and normalised, (x / 255 - mean) / std, as `Preprocess` says. A network of one channel
    gets a grey image, with the first mean and standard deviation.

    model   anything that `weights.resolve` takes
    image   the path of a file, an RGB image of Pillow's, or pixels uint8 [H, W, 3]
    size    side of the result in pixels, by default the model's own; the side to which images are resized before the
            crop changes in proportion

    Raises InputError for an image that cannot be read, and for pixels of another dtype or shape.
    """
    model = weights.resolve(model)
    how = model.preprocess
    size = model.size if size is None else integer(size, "size")
    pixels = framed(model, image, size) / 255
    if how.channels == "BGR":
        pixels = pixels[..., ::-1]
    return ((pixels - how.mean) / how.std).transpose(2, 0, 1)[: model.in_channels].astype(np.float32)


def framed(model: Model, image: str | Path | Image | NDArray[np.uint8], size: int) -> NDArray[np.float64]:
    """What a network sees of an image, resized and cropped, RGB from 0 to 255: [size, size, 3]."""
    from PIL import Image

    if isinstance(image, str | Path):
        image = read_image(image)
    elif isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise InputError(f"an image: expected uint8 [H, W, 3], not {image.dtype} {list(image.shape)}")
        image = Image.fromarray(image)
    if model.in_channels == 1:
        image = image.convert("L").convert("RGB")
    if model.preprocess.fit == "crop":
        return _cropped(image, model, size)
    return resized(image, (size, size), model.preprocess.interpolation)


def _cropped(image: Image, model: Model, size: int) -> NDArray[np.float64]:
    """The central square of an image, from 0 to 255: [size, size, 3]."""
    from PIL.Image import Resampling

    how = model.preprocess
    shorter = round(how.resize * size / model.size)
    width, height = (shorter * side // min(image.size) for side in image.size)
    left, top = round((width - size) / 2), round((height - size) / 2)
    filter_ = Resampling[how.interpolation.upper()]
    if max(image.size) < SLENDER * min(image.size):
        square = image.resize((width, height), filter_).crop((left, top, left + size, top + size))
    else:
        across, down = image.size[0] / width, image.size[1] / height
        right, bottom = min((left + size) * across, image.size[0]), min((top + size) * down, image.size[1])
        square = image.resize((size, size), filter_, (max(0, left * across), max(0, top * down), right, bottom))
    return np.asarray(square, np.float64)


def resized(image: Image, size: tuple[int, int], interpolation: str) -> NDArray[np.float64]:
    """An RGB image at another size (width, height), from 0 to 255: [height, width, 3].

    `interpolation` is one of `Preprocess`, or another name of a filter of Pillow's.
    """
    from PIL.Image import Resampling

    if interpolation not in UNFILTERED:
        return np.asarray(image.resize(size, Resampling[interpolation.upper()]), np.float64)
    pixels = np.asarray(image, np.float64)
    for axis, length in ((1, size[0]), (0, size[1])):
        lower, upper, share = _neighbours(pixels.shape[axis], length, interpolation)
        share = share.reshape(-1, *(1,) * (2 - axis))
        pixels = pixels.take(lower, axis) * (1 - share) + pixels.take(upper, axis) * share
    return pixels


def _neighbours(length: int, target: int, interpolation: str) -> tuple[Indices, Indices, NDArray[np.float64]]:
    """For each of `target` pixels, the two of `length` pixels between which it lies, and the share of the second."""
    positions = np.arange(target) * (length / target)
    if interpolation == "torch_bilinear":
        positions = np.maximum(positions + (length / target - 1) / 2, 0)
    lower = np.minimum(positions.astype(np.intp), length - 1)
    return lower, np.minimum(lower + 1, length - 1), positions - lower
