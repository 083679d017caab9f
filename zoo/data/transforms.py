"""Transforms from an image to a network's input, for training and evaluation, in Pillow and NumPy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from zoo.data.images import preprocess
from zoo.data.policies import Policy, parse
from zoo.errors import InputError
from zoo.language.model import Model

if TYPE_CHECKING:
    from PIL.Image import Image

Images = NDArray[np.float32]
RESAMPLING = {"nearest": "NEAREST", "bilinear": "BILINEAR", "bicubic": "BICUBIC", "lanczos": "LANCZOS", "area": "BOX"}
"""Pillow's filters, by mindcv's names."""

ATTEMPTS = 10
"""Attempts at a random crop of the wanted area and ratio, before the centre is taken (Szegedy et al. 2014)."""


@dataclass(frozen=True)
class Augment:
    """mindcv's training pipeline: crop, flips, a policy or colour jitter, normalisation, erasing.

    size           side of the output, pixels
    in_channels    3, or 1: grey, with the first of `mean` and `std`
    scale, ratio   bounds of a random crop's area, as a share of the image's, and of its width over its height
    hflip, vflip   probabilities
    color_jitter   brightness, contrast and saturation are multiplied by 1 - x to 1 + x; one x or three. Not used with a
                   policy, as in mindcv
    auto_augment   a policy of `zoo.data.policies`
    re_prob, ...   with probability `re_prob`, a rectangle of a share `re_scale` of the area and a ratio `re_ratio` is
                   set to `re_value` (after normalisation) or to noise; `re_max_attempts` attempts are made to place it
    mean, std      on a scale of 0 to 255, in the order of `channels`

    Raises InputError for an invalid policy, and for other numbers of channels.
    """

    size: int
    in_channels: int = 3
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (0.75, 4 / 3)
    hflip: float = 0.5
    vflip: float = 0.0
    color_jitter: float | tuple[float, ...] = 0.4
    interpolation: str = "bilinear"
    auto_augment: str | None = None
    re_prob: float = 0.0
    re_scale: tuple[float, float] = (0.02, 0.33)
    re_ratio: tuple[float, float] = (0.3, 3.3)
    re_value: float | tuple[float, ...] | Literal["random"] = 0.0
    re_max_attempts: int = 10
    mean: tuple[float, ...] = (123.675, 116.28, 103.53)
    std: tuple[float, ...] = (58.395, 57.12, 57.375)
    channels: Literal["RGB", "BGR"] = "RGB"

    def __post_init__(self) -> None:
        _check_channels(self.in_channels)
        _ = self.policy

    @cached_property
    def policy(self) -> Policy | None:
        """The parsed policy."""
        mean = self.mean[::-1] if self.channels == "BGR" else self.mean  # policies work on RGB images
        return None if self.auto_augment is None else parse(self.auto_augment, mean)

    def __call__(self, image: Image, random: np.random.Generator, plain: bool = False) -> Images:
        """Map an RGB image to float32 [in_channels, size, size]; a `plain` view has no policy, jitter or erasing."""
        from PIL.Image import Resampling, Transpose

        box = random_box(image.size, self.scale, self.ratio, random)
        image = image.resize((self.size, self.size), Resampling[RESAMPLING[self.interpolation]], box)
        if random.random() < self.hflip:
            image = image.transpose(Transpose.FLIP_LEFT_RIGHT)
        if random.random() < self.vflip:
            image = image.transpose(Transpose.FLIP_TOP_BOTTOM)
        if not plain:
            image = self._jitter(image, random) if self.policy is None else self.policy(image, random)
        pixels = _pixels(image, self.in_channels, self.channels)
        channels = slice(0, self.in_channels)
        pixels -= np.asarray(self.mean[channels], np.float32)
        pixels /= np.asarray(self.std[channels], np.float32)
        result = np.ascontiguousarray(pixels.transpose(2, 0, 1))
        return result if plain else self._erase(result, random)

    def _jitter(self, image: Image, random: np.random.Generator) -> Image:
        from PIL import ImageEnhance

        given = self.color_jitter
        strengths = given if isinstance(given, tuple) else (given, given, given)
        enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
        for k in random.permutation(3):
            if k < len(strengths) and strengths[k]:
                factor = random.uniform(max(0.0, 1 - strengths[k]), 1 + strengths[k])
                image = enhancers[k](image).enhance(factor)
        return image

    def _erase(self, pixels: Images, random: np.random.Generator) -> Images:
        """Zhong et al. 2017, https://arxiv.org/abs/1708.04896."""
        if random.random() >= self.re_prob:
            return pixels
        for _ in range(self.re_max_attempts):
            area = random.uniform(*self.re_scale) * self.size**2
            ratio = math.exp(random.uniform(math.log(self.re_ratio[0]), math.log(self.re_ratio[1])))
            width, height = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
            if width < self.size and height < self.size:
                top, left = random.integers(self.size - height + 1), random.integers(self.size - width + 1)
                hole = pixels[:, top : top + height, left : left + width]
                if self.re_value == "random":
                    hole[:] = random.standard_normal(hole.shape, np.float32)
                else:
                    hole[:] = np.reshape(np.asarray(self.re_value, np.float32), (-1, 1, 1))[: self.in_channels]
                break
        return pixels


@dataclass(frozen=True)
class Evaluate:
    """The publisher's preprocessing in evaluation, `zoo.data.images.preprocess`; it is not random."""

    model: Model
    size: int

    def __post_init__(self) -> None:
        _check_channels(self.model.in_channels)

    def __call__(self, image: Image, random: np.random.Generator, plain: bool = False) -> Images:
        return self.pixels(image)

    def pixels(self, image: Image) -> Images:
        """Map an RGB image to float32 [in_channels, size, size]; grey with the first mean and std."""
        return np.ascontiguousarray(preprocess(self.model, image, self.size))


def random_box(
    size: tuple[int, int], scale: tuple[float, float], ratio: tuple[float, float], random: np.random.Generator
) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of a random crop of an image of `size` (width, height), as for the Inceptions.

    The area is drawn uniformly, the ratio uniformly in its logarithm. If no crop fits, it is the centre of the image,
    cropped to the nearest allowed ratio.
    """
    width, height = size
    low, high = map(math.log, ratio)
    for _ in range(ATTEMPTS):
        area = width * height * random.uniform(*scale)
        aspect = math.exp(random.uniform(low, high))
        w, h = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
        if 0 < w <= width and 0 < h <= height:
            left, top = int(random.integers(width - w + 1)), int(random.integers(height - h + 1))
            return left, top, left + w, top + h
    w = min(width, max(1, round(height * ratio[1])))
    h = min(height, max(1, round(width / ratio[0])))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def _pixels(image: Image, in_channels: int, order: str) -> Images:
    """[H, W, in_channels] from 0 to 255."""
    if in_channels == 1:
        return np.asarray(image.convert("L"), np.float32)[..., None].copy()
    pixels = np.asarray(image, np.float32)
    return pixels[..., ::-1].copy() if order == "BGR" else pixels.copy()


def _check_channels(count: int) -> None:
    if count not in (1, 3):
        raise InputError(f"a network of {count} input channels: images have 3 channels, or 1 (grey)")
