"""From photographs to a network's input, as the model's publisher evaluates."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from zoo.errors import InputError
from zoo.model import Model

if TYPE_CHECKING:
    from PIL.Image import Image


def read_image(path: str | Path) -> Image:
    """The image in RGB; raises InputError when it cannot be read."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except UnidentifiedImageError:
        raise InputError(f"{path}: not an image that Pillow can read") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: cannot read the image: {getattr(error, 'strerror', None) or error}") from None


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


def preprocess(image: Image, model: Model, size: int | None = None) -> NDArray[np.float32]:
    """Resize the shorter side, crop the middle square, normalise: [3, size, size] by `model.preprocess`.

    At another `size` than the model's own, the shorter side is resized in proportion.
    """
    from PIL.Image import Resampling

    how = model.preprocess
    size = model.size if size is None else size
    shorter = round(how.resize * size / model.size)
    width, height = (shorter * side // min(image.size) for side in image.size)
    left, top = round((width - size) / 2), round((height - size) / 2)
    scaled = image.resize((width, height), Resampling[how.interpolation.upper()])
    pixels = np.asarray(scaled.crop((left, top, left + size, top + size)), np.float64) / 255
    if how.channels == "BGR":
        pixels = pixels[..., ::-1]
    return ((pixels - how.mean) / how.std).transpose(2, 0, 1).astype(np.float32)
