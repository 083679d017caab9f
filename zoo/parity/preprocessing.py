"""`zoo parity MODEL --preprocess X`: whether a user's own preprocessing of images is the publisher's, and if not, why.

The user's function runs on some images, in a process of its own. What it returns is compared with the publisher's
preprocessing (`zoo.data.images.preprocess`). If it differs, other sizes, resizings, interpolations, channel orders and
normalisations are tried. A combination is reported as the cause only if it reproduces the function's arrays.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import weights
from backends import worker
from zoo.data.images import image_files, read_image, resized, sample_photographs
from zoo.errors import SpecError
from zoo.language.model import IMAGENET_MEAN, IMAGENET_STD, UNFILTERED, Model

if TYPE_CHECKING:
    from PIL.Image import Image

Array = NDArray[Any]

INTERPOLATIONS = ("bilinear", "bicubic", "lanczos", "nearest", "box", "hamming")
"""Pillow's interpolations."""

CROPS = (0.875, 0.9, 0.95, 0.96, 0.897, 0.934)
"""Usual shares of the resized image's shorter side that are cropped: timm's crop_pct."""

SIDES = (232, 235, 236, 248, 256, 299, 320, 331, 333, 342, 350)
"""Usual sizes to which the shorter side is resized."""

STEPS = 1.5
"""The largest error, in steps of an 8-bit pixel: libraries round resized pixels differently, or not at all."""

SCALES = (
    (IMAGENET_MEAN, IMAGENET_STD),
    ((0.5,) * 3, (0.5,) * 3),
    ((0.0,) * 3, (1.0,) * 3),
    ((0.0,) * 3, (1 / 255,) * 3),
)
"""Usual normalisations; the last one leaves pixels from 0 to 255."""


@dataclass(frozen=True)
class Pipeline:
    """How an image is preprocessed.

    size            side of the square, in pixels
    resize          the shorter side before the central crop; None: the whole image is resized to the square, whatever
                    its shape
    interpolation   as `zoo.data.images.resized` takes it
    reverse         whether the channels are BGR
    mean, std       y = (x / 255 - mean) / std for each channel, after they have been reversed
    """

    size: int
    resize: int | None
    interpolation: str
    reverse: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def geometry(self, image: Image) -> Array:
        """The square, RGB, float64 between 0 and 1: [size, size, 3]."""
        if self.resize is None:
            return resized(image, (self.size, self.size), self.interpolation) / 255
        width, height = (self.resize * side // min(image.size) for side in image.size)
        left, top = round((width - self.size) / 2), round((height - self.size) / 2)
        whole = resized(image, (width, height), self.interpolation)
        return whole[top : top + self.size, left : left + self.size] / 255


def published(model: Model) -> Pipeline:
    """The publisher's preprocessing."""
    how = model.preprocess
    resize = how.resize if how.fit == "crop" else None
    return Pipeline(model.size, resize, how.interpolation, how.channels == "BGR", how.mean, how.std)


def compare(
    model: str | Path | Model,
    target: str,
    *,
    images: Sequence[str | Path] = (),
    timeout: float = 600,
    progress: Callable[[str, str], None] = lambda model, step: None,
) -> dict[str, Any]:
    """Compare a function with a model's preprocessing; returns the JSON document of `zoo parity --preprocess`.

    model   anything that `weights.resolve` takes, for images of three channels
    target  "package.module:function"; the function gets the path of an image and returns an array [3, H, W],
            [1, 3, H, W] or [H, W, 3]
    images  files and folders; by default scikit-learn's two photographs

    Raises ZooError for bad input, and BackendError when the function fails or returns something else.
    """
    spec = weights.resolve(model)
    if spec.in_channels != 3:
        raise SpecError(f"{spec.name}: images of {spec.in_channels} channels cannot be compared, only of three")
    with tempfile.TemporaryDirectory(prefix="zoo-preprocess-") as name:
        folder, files = Path(name), image_files(images)
        if not files:
            for number, photograph in enumerate(sample_photographs()):
                files.append(folder / f"sample{number}.png")
                photograph.save(files[-1])
        photographs = [read_image(file) for file in files]
        progress(spec.name, "running and comparing")
        job = {"target": target, "folder": os.getcwd(), "images": [str(file.resolve()) for file in files]}
        worker.call("preprocess", "reference", spec, folder, job, timeout)
        arrays = [np.load(folder / f"image{number}.npy") for number in range(len(files))]
    ours = published(spec)
    error = _error(ours, photographs, arrays)
    causes: list[tuple[str, str]] = []
    if not error <= STEPS:
        theirs = _explained(ours, photographs, arrays)
        causes = [] if theirs is None else list(_causes(ours, theirs))
    return {
        "ok": error <= STEPS,
        "model": spec.name,
        "preprocess": target,
        "images": [str(path) for path in images] or "scikit-learn's samples",
        "shape": list(arrays[0].shape),
        "error": error if np.isfinite(error) else None,
        "causes": [{"cause": cause, "change": change} for cause, change in causes],
        "proved": bool(causes),
    }


def _error(pipeline: Pipeline, photographs: Sequence[Image], arrays: Sequence[Array]) -> float:
    """The largest difference of the function's arrays from a pipeline's, in steps of an 8-bit pixel.

    It is infinite where the shapes differ.
    """
    errors = []
    for photograph, array in zip(photographs, arrays, strict=True):
        pixels = pipeline.geometry(photograph)[..., :: -1 if pipeline.reverse else 1]
        if array.shape != (3, *pixels.shape[:2]):
            return np.inf
        steps = (array.transpose(1, 2, 0) * pipeline.std + pipeline.mean - pixels) * 255
        errors.append(float(np.abs(steps).max()))
    return max(errors)


def _explained(ours: Pipeline, photographs: Sequence[Image], arrays: Sequence[Array]) -> Pipeline | None:
    """The pipeline, of those tried, that is nearest to the function's arrays; None when it is not near enough."""
    found = [(_error(each, photographs, arrays), each) for each in _candidates(ours, photographs, arrays)]
    error, nearest = min(found, key=lambda pair: pair[0], default=(np.inf, ours))
    return nearest if error <= STEPS else None


def _candidates(ours: Pipeline, photographs: Sequence[Image], arrays: Sequence[Array]) -> Iterator[Pipeline]:
    """For each way to resize to the arrays' size, the channel order and the normalisation that fit best."""
    size = arrays[0].shape[-1]
    sparse = 4 if size >= 64 else 1  # a sixteenth of the pixels is enough to fit mean and std
    sides = [size, *(int(size / crop) for crop in CROPS), *(round(size / crop) for crop in CROPS)]
    if ours.resize is not None:
        sides += [ours.resize, round(ours.resize * size / ours.size)]
    resizes = [None, *sorted({side for side in (*sides, *SIDES) if side >= size})]
    for resize, interpolation in itertools.product(resizes, (*INTERPOLATIONS, *UNFILTERED)):
        trial = Pipeline(size, resize, interpolation, ours.reverse, ours.mean, ours.std)
        pixels = trial.geometry(photographs[0])
        fits = [_fit(pixels[::sparse, ::sparse, ::step], arrays[0][:, ::sparse, ::sparse]) for step in (1, -1)]
        (_, mean, std), reverse = min((fit, step) for fit, step in zip(fits, (False, True), strict=True))
        yield Pipeline(size, resize, interpolation, reverse, mean, std)


def _fit(pixels: Array, array: Array) -> tuple[float, tuple[float, ...], tuple[float, ...]]:
    """The root mean squared error, the mean and the std of the best normalisation: a usual one if that is as good."""
    flat, theirs = pixels.reshape(-1, 3), array.reshape(3, -1).T
    lines = [np.polyfit(flat[:, c], theirs[:, c], 1) for c in range(3)]
    if any(slope == 0 for slope, _ in lines):  # an array without any image in it
        return np.inf, (0.0,) * 3, (1.0,) * 3
    fitted = (tuple(-shift / slope for slope, shift in lines), tuple(1 / slope for slope, _ in lines))
    choices = [((theirs * std + mean - flat) ** 2).mean() ** 0.5 for mean, std in (*SCALES, fitted)]
    best = next(i for i, error in enumerate(choices) if error <= 1.05 * choices[-1] + 0.01 / 255)
    mean, std = (*SCALES, fitted)[best]
    return float(choices[best]), tuple(map(float, mean)), tuple(map(float, std))


def _causes(ours: Pipeline, theirs: Pipeline) -> Iterator[tuple[str, str]]:
    """What differs, in words."""
    if theirs.size != ours.size:
        yield "size", f"{theirs.size} x {theirs.size} pixels where the publisher has {ours.size} x {ours.size}"
    if theirs.resize != ours.resize:
        yield "resize", f"{_framing(theirs)} where the publisher has {_framing(ours)}"
    if theirs.interpolation != ours.interpolation:
        yield "resize", f"{theirs.interpolation} interpolation where the publisher has {ours.interpolation}"
    if theirs.reverse != ours.reverse:
        names = ("RGB", "BGR")
        yield "channel_order", f"{names[theirs.reverse]} where the publisher has {names[ours.reverse]}"
    if not np.allclose((theirs.mean, theirs.std), (ours.mean, ours.std), rtol=1e-3, atol=1e-3):
        yield "normalisation", f"{_scale(theirs)} where the publisher has {_scale(ours)}"


def _framing(pipeline: Pipeline) -> str:
    if pipeline.resize is None:
        return "the whole image resized to the square"
    return f"shorter side {pipeline.resize}, and the central square"


def _scale(pipeline: Pipeline) -> str:
    mean, std = (", ".join(f"{value:.3g}" for value in values) for values in (pipeline.mean, pipeline.std))
    return f"mean ({mean}) and std ({std}) of pixels from 0 to 1"
