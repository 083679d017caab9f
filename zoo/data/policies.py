"""Augmentation policies, with the names of mindcv and timm: randaug, autoaug, autoaugr, 3a, augmix, trivialaugwide.

    randaug-m9-mstd0.5-inc1    two operations of magnitude 9 +- 0.5, each with probability 0.5 (n: how many operations)
    autoaug-mstd0.5            AutoAugment's ImageNet policy; autoaugr: posterize is stronger at larger magnitudes
    3a                         one of greyscale, solarisation and blur (DeiT III)
    augmix-m3-w3-d-1           chains of operations, mixed (w: chains, d: their depth, -1: 1 to 3)
    trivialaugwide             one operation of any magnitude

Policies and ranges are those of the papers, as implemented in timm: Cubuk et al. 2018
https://arxiv.org/abs/1805.09501, 2019 https://arxiv.org/abs/1909.13719; Hendrycks et al. 2019
https://arxiv.org/abs/1912.02781; Mueller and Hutter 2021 https://arxiv.org/abs/2103.10158; Touvron et al. 2022
https://arxiv.org/abs/2204.07118.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from zoo.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

Random = np.random.Generator
Colour = tuple[int, int, int]
Policy = Callable[["Image", Random], "Image"]
MOST = 10
"""The largest magnitude."""


@dataclass(frozen=True)
class Operation:
    """An operation at a magnitude from 0 to 10: `apply(image, amount(magnitude, random), fill)`."""

    amount: Callable[[float, Random], float]
    apply: Callable[[Image, float, Colour], Image]

    def __call__(self, image: Image, magnitude: float, random: Random, fill: Colour) -> Image:
        return self.apply(image, self.amount(magnitude, random), fill)


def _signed(most: float) -> Callable[[float, Random], float]:
    return lambda m, random: most * m / MOST * random.choice((-1.0, 1.0))


def _rising(base: float, most: float) -> Callable[[float, Random], float]:
    return lambda m, random: base + most * m / MOST


def _affine(image: Image, matrix: tuple[float, ...], fill: Colour) -> Image:
    from PIL.Image import Resampling, Transform

    return image.transform(image.size, Transform.AFFINE, matrix, Resampling.BICUBIC, fillcolor=fill)


def _shear_x(image: Image, amount: float, fill: Colour) -> Image:
    return _affine(image, (1, amount, 0, 0, 1, 0), fill)


def _shear_y(image: Image, amount: float, fill: Colour) -> Image:
    return _affine(image, (1, 0, 0, amount, 1, 0), fill)


def _move_x(image: Image, amount: float, fill: Colour) -> Image:
    return _affine(image, (1, 0, amount * image.width, 0, 1, 0), fill)


def _move_y(image: Image, amount: float, fill: Colour) -> Image:
    return _affine(image, (1, 0, 0, 0, 1, amount * image.height), fill)


def _rotate(image: Image, amount: float, fill: Colour) -> Image:
    from PIL.Image import Resampling

    return image.rotate(amount, Resampling.BICUBIC, fillcolor=fill)


def _enhance(kind: str, image: Image, amount: float, fill: Colour) -> Image:
    from PIL import ImageEnhance

    result: Image = getattr(ImageEnhance, kind)(image).enhance(max(0.0, amount))
    return result


def _point(name: str, image: Image, amount: float, fill: Colour) -> Image:
    from PIL import ImageOps

    result: Image = getattr(ImageOps, name)(image)
    return result


def _posterize(image: Image, amount: float, fill: Colour) -> Image:
    from PIL import ImageOps

    return ImageOps.posterize(image, min(8, max(1, int(amount)))) if amount < 8 else image


def _solarize(image: Image, amount: float, fill: Colour) -> Image:
    from PIL import ImageOps

    return ImageOps.solarize(image, int(amount))


def _solarize_add(image: Image, amount: float, fill: Colour) -> Image:
    table = [min(255, value + int(amount)) if value < 128 else value for value in range(256)]
    return image.point(table * 3)


def _grey(image: Image, amount: float, fill: Colour) -> Image:
    return image.convert("L").convert("RGB")


def _blur(image: Image, amount: float, fill: Colour) -> Image:
    from PIL import ImageFilter

    return image.filter(ImageFilter.GaussianBlur(amount))


SHAPES = {
    "Rotate": Operation(_signed(30), _rotate),
    "ShearX": Operation(_signed(0.3), _shear_x),
    "ShearY": Operation(_signed(0.3), _shear_y),
    "TranslateX": Operation(_signed(0.45), _move_x),
    "TranslateY": Operation(_signed(0.45), _move_y),
}
COLOURS = {
    "AutoContrast": Operation(_rising(0, 0), partial(_point, "autocontrast")),
    "Equalize": Operation(_rising(0, 0), partial(_point, "equalize")),
    "Invert": Operation(_rising(0, 0), partial(_point, "invert")),
    "SolarizeAdd": Operation(_rising(0, 110), _solarize_add),
}
FALLING = {
    "Posterize": Operation(_rising(0, 4), _posterize),
    "PosterizeOriginal": Operation(_rising(4, 4), _posterize),
    "Solarize": Operation(_rising(0, 256), _solarize),
    **{kind: Operation(_rising(0.1, 1.8), partial(_enhance, kind))
       for kind in ("Color", "Contrast", "Brightness", "Sharpness")},
}  # fmt: skip
"""Operations whose effect is smallest at the largest magnitude, or in the middle."""

GROWING = {
    "Posterize": Operation(lambda m, random: 4 - int(4 * m / MOST), _posterize),
    "Solarize": Operation(lambda m, random: 256 - int(256 * m / MOST), _solarize),
    **{kind: Operation(lambda m, random: 1 + _signed(0.9)(m, random), partial(_enhance, kind))
       for kind in ("Color", "Contrast", "Brightness", "Sharpness")},
}  # fmt: skip
"""The same operations with an effect that grows with the magnitude."""

WIDE = {
    **{name: operation for name, operation in COLOURS.items() if name in ("AutoContrast", "Equalize")},
    "Posterize": Operation(_rising(8, -6), _posterize),
    "Solarize": GROWING["Solarize"],
    "Rotate": Operation(_signed(135), _rotate),
    "ShearX": Operation(_signed(0.99), _shear_x),
    "ShearY": Operation(_signed(0.99), _shear_y),
    "TranslateX": Operation(lambda m, random: _signed(32)(m, random) / 224, _move_x),
    "TranslateY": Operation(lambda m, random: _signed(32)(m, random) / 224, _move_y),
    **{kind: Operation(lambda m, random: 1 + _signed(0.99)(m, random), partial(_enhance, kind))
       for kind in ("Color", "Contrast", "Brightness", "Sharpness")},
    "Identity": Operation(_rising(0, 0), lambda image, amount, fill: image),
}  # fmt: skip
"""TrivialAugment's wide space; its 32 pixels are for images of 224 pixels."""

IMAGENET = """
PosterizeOriginal 0.4 8 Rotate 0.6 9 | Solarize 0.6 5 AutoContrast 0.6 5 | Equalize 0.8 8 Equalize 0.6 3
PosterizeOriginal 0.6 7 PosterizeOriginal 0.6 6 | Equalize 0.4 7 Solarize 0.2 4 | Equalize 0.4 4 Rotate 0.8 8
Solarize 0.6 3 Equalize 0.6 7 | PosterizeOriginal 0.8 5 Equalize 1.0 2 | Rotate 0.2 3 Solarize 0.6 8
Equalize 0.6 8 PosterizeOriginal 0.4 6 | Rotate 0.8 8 Color 0.4 0 | Rotate 0.4 9 Equalize 0.6 2
Equalize 0.0 7 Equalize 0.8 8 | Invert 0.6 4 Equalize 1.0 8 | Color 0.6 4 Contrast 1.0 8
Rotate 0.8 8 Color 1.0 2 | Color 0.8 8 Solarize 0.8 7 | Sharpness 0.4 7 Invert 0.6 8
ShearX 0.6 5 Equalize 1.0 9 | Color 0.4 0 Equalize 0.6 3 | Equalize 0.4 7 Solarize 0.2 4
Solarize 0.6 5 AutoContrast 0.6 5 | Invert 0.6 4 Equalize 1.0 8 | Color 0.6 4 Contrast 1.0 8
Equalize 0.8 8 Equalize 0.6 3
"""
"""AutoAugment's 25 pairs for ImageNet (table 9): operation, probability, magnitude."""


def parse(text: str, mean: tuple[float, ...]) -> Policy:
    """Parse a policy. Uncovered borders are filled with `mean` (0 to 255). Raises InputError."""
    name, *parts = text.split("-") if "-d-1" not in text else [*text.replace("-d-1", "").split("-"), "d-1"]
    red, green, blue = (round(value) for value in (mean * 3)[:3])
    fill = red, green, blue
    if name not in POLICIES:
        raise InputError(f"--auto_augment {text}: no such policy; there are {', '.join(POLICIES)}")
    make, known = POLICIES[name]
    options: dict[str, float] = {}
    for part in parts:
        match = re.fullmatch(r"([a-z]+)(-?\d+(?:\.\d+)?)", part)
        if not match or match[1] not in known:
            takes = ", ".join(f"-{key}NUMBER" for key in known) or "no options"
            raise InputError(f"--auto_augment {text}: {part!r} is none of its options: {name} takes {takes}")
        options[match[1]] = float(match[2])
    if options.get("w", 1) < 1 or options.get("a", 1) <= 0:
        raise InputError(f"--auto_augment {text}: w and a must be above 0")
    return make(options, fill)


def _magnitude(base: float, deviation: float, random: Random) -> float:
    """Draw a magnitude: normal around `base`; with a deviation above 100, uniform up to it, as in timm."""
    if deviation > 100:
        return float(min(random.uniform(0, base), MOST))
    return float(np.clip(random.normal(base, deviation) if deviation else base, 0, MOST))


def _randaug(options: dict[str, float], fill: Colour) -> Policy:
    operations = [*SHAPES.values(), *COLOURS.values()]
    changing = GROWING if options.get("inc") else FALLING
    operations += [operation for name, operation in changing.items() if name != "PosterizeOriginal"]
    base, deviation = options.get("m", 10.0), options.get("mstd", 0.0)
    count, probability = int(options.get("n", 2)), options.get("p", 0.5)

    def policy(image: Image, random: Random) -> Image:
        for k in random.integers(len(operations), size=count):
            if random.random() < probability:
                image = operations[k](image, _magnitude(base, deviation, random), random, fill)
        return image

    return policy


def _autoaug(growing: bool, options: dict[str, float], fill: Colour) -> Policy:
    operations = SHAPES | COLOURS | FALLING | ({"PosterizeOriginal": GROWING["Posterize"]} if growing else {})
    pairs = [pair.split() for line in IMAGENET.strip().splitlines() for pair in line.split("|")]
    deviation = options.get("mstd", 0.0)

    def policy(image: Image, random: Random) -> Image:
        pair = pairs[random.integers(len(pairs))]
        for name, probability, magnitude in (pair[:3], pair[3:]):
            if random.random() < float(probability):
                image = operations[name](image, _magnitude(float(magnitude), deviation, random), random, fill)
        return image

    return policy


def _three(options: dict[str, float], fill: Colour) -> Policy:
    def policy(image: Image, random: Random) -> Image:
        kind = random.integers(3)
        if kind == 0:
            return _grey(image, 0, fill)
        if kind == 1:
            return _solarize(image, 128, fill)
        return _blur(image, float(random.uniform(0.1, 2)), fill)

    return policy


def _augmix(options: dict[str, float], fill: Colour) -> Policy:
    operations = [*SHAPES.values(), *(COLOURS[name] for name in ("AutoContrast", "Equalize"))]
    operations += GROWING.values()
    width, depth = int(options.get("w", 3)), int(options.get("d", -1))
    base, deviation, alpha = options.get("m", 3.0), options.get("mstd", float("inf")), options.get("a", 1.0)

    def policy(image: Image, random: Random) -> Image:
        from PIL import Image as images

        mixed = np.zeros((image.height, image.width, 3))
        for weight in random.dirichlet([alpha] * width):
            one = image
            for k in random.integers(len(operations), size=depth if depth > 0 else random.integers(1, 4)):
                one = operations[k](one, _magnitude(base, deviation, random), random, fill)
            mixed += weight * np.asarray(one, np.float64)
        share = random.beta(alpha, alpha)
        mixed = share * mixed + (1 - share) * np.asarray(image, np.float64)
        return images.fromarray(mixed.round().clip(0, 255).astype(np.uint8))

    return policy


def _trivial(options: dict[str, float], fill: Colour) -> Policy:
    operations = list(WIDE.values())

    def policy(image: Image, random: Random) -> Image:
        operation = operations[random.integers(len(operations))]
        return operation(image, MOST * random.integers(31) / 30, random, fill)

    return policy


POLICIES: dict[str, tuple[Callable[[dict[str, float], Colour], Policy], tuple[str, ...]]] = {
    "randaug": (_randaug, ("m", "n", "p", "mstd", "inc")),
    "autoaug": (partial(_autoaug, False), ("mstd",)),
    "autoaugr": (partial(_autoaug, True), ("mstd",)),
    "3a": (_three, ()),
    "augmix": (_augmix, ("m", "w", "d", "a", "mstd")),
    "trivialaugwide": (_trivial, ()),
}
"""Policies by name: a function that makes the policy, and the names of its options."""
