"""`zoo predict`: classes and scores of images; and Grad-CAM, which shows where an image supports a class."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

import weights
from backends import BACKENDS, get, load
from zoo.arguments import integer
from zoo.builder import build
from zoo.catalogue import models
from zoo.data.imagenet import class_names
from zoo.data.images import framed, image_files, preprocess, read_image
from zoo.download import read
from zoo.errors import SpecError
from zoo.frameworks import Dtype
from zoo.language.interpreter import Interpreter
from zoo.language.model import Model, at_size

if TYPE_CHECKING:
    from PIL.Image import Image

    from weights import Checkpoint

logger = logging.getLogger("zoo")

SAME_SHARE = 0.01
"""Two crops count as the same if their shares of the resized image's side differ by no more, relatively."""

STDIN = "-"
"""An image on standard input."""


@dataclass(frozen=True)
class Classes:
    """The names of a network's classes, and where they are from: "the file", "ImageNet", or "" without names."""

    names: Sequence[str]
    said_by: str


@dataclass(frozen=True)
class Predictor:
    """A network that is ready to classify images.

    net              as `zoo.build` returns it
    model            its spec, with the preprocessing that is applied
    run              float32 [N, C, H, W] to logits [N, classes]
    classes          their names
    preprocess_from  where the preprocessing is from: "the file", "config.json", the name of published weights or of the
                     .json beside a file; or the model's name, if only the network's own definition says it
    """

    net: Any
    model: Model
    run: Callable[[NDArray[np.float32]], NDArray[Any]]
    classes: Classes
    preprocess_from: str

    def __call__(
        self, images: Sequence[tuple[str, Any]], topk: int = 5, size: int | None = None
    ) -> list[dict[str, Any]]:
        """Classify images, given as (name, image) pairs; see `predict`."""
        inputs = np.stack([preprocess(self.model, image, size) for _, image in images])
        logits = np.asarray(self.run(inputs), np.float64)
        scores = np.exp(logits - logits.max(1, keepdims=True))
        scores /= scores.sum(1, keepdims=True)
        fed = at_size(self.model, size or self.model.size)
        how = {"size": fed.size, **asdict(fed.preprocess)}
        results = []
        for (name, _), row in zip(images, scores, strict=True):
            order = np.argsort(-row, kind="stable")[:topk]
            top = [{"label": int(k), "class": self.name(int(k)), "score": float(row[k])} for k in order]
            results.append(
                {
                    "image": name,
                    "pred_label": top[0]["label"],
                    "pred_class": top[0]["class"],
                    "pred_score": top[0]["score"],
                    "pred_scores": row,
                    "top": top,
                    "preprocess": how,
                    "preprocess_from": self.preprocess_from,
                    "classes_from": self.classes.said_by,
                }
            )
        return results

    def name(self, label: int) -> str:
        """The name of a class, or its number as text."""
        return self.classes.names[label] if self.classes.names else str(label)


def predict(
    model: Any,
    images: Any,
    *,
    topk: int = 5,
    batch: int = 16,
    size: int | None = None,
    **options: Any,
) -> Any:
    """Classify images: for one image a dictionary, for several a list of them, in order.

    model    what `zoo.build` takes, e.g. "inception_v4" or a checkpoint; or a network or engine that it has returned
    images   a file, a folder (all images in it, at any depth), a URL, an image of Pillow's, or pixels uint8 [H, W, 3];
             or a list of those
    topk     number of classes in `top`
    batch    number of images that are run at a time
    size     side of the network's input in pixels, by default its own
    options  as for `predictor`: backend, checkpoint, pretrained, mode, dtype, device, num_classes, ema, seed

    Each dictionary has mmpretrain's keys `pred_label`, `pred_class`, `pred_score` and `pred_scores` (NumPy float64
    [classes], the softmax of the logits), and `image` (its name), `top` (a list of label, class and score),
    `preprocess` (what was applied), and `preprocess_from` and `classes_from` (where these are from). Raises InputError
    for an image that cannot be read, and whatever `zoo.build` raises.
    """
    single = isinstance(images, str | Path) and not Path(str(images)).is_dir()
    single |= not isinstance(images, str | Path | list | tuple) and not isinstance(images, Iterator)
    given = [images] if single or isinstance(images, str | Path) else list(images)
    ready = predictor(model, **options)
    opened = list(opened_images(given))
    results: list[dict[str, Any]] = []
    for start in range(0, len(opened), integer(batch, "batch")):
        results += ready(opened[start : start + batch], integer(topk, "topk"), size)
    return results[0] if single else results


def opened_images(images: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    """Each image's name, and the image as `preprocess` takes it; folders are replaced by the images in them."""
    for number, image in enumerate(images):
        if not isinstance(image, str | Path):
            yield f"image {number}", image
        elif str(image) == STDIN:
            yield STDIN, read_image("standard input", sys.stdin.buffer.read())
        elif str(image).startswith(("http://", "https://")):
            yield str(image), read_image(image, read(str(image)))
        else:
            yield from ((str(path), path) for path in image_files([image]))


def predictor(
    model: Any,
    *,
    backend: str = "torch",
    checkpoint: str | Path | None = None,
    pretrained: bool | str = True,
    mode: Literal["module", "deploy"] = "deploy",
    dtype: Dtype = "fp32",
    device: str | None = None,
    num_classes: int | None = None,
    ema: bool = False,
    seed: int | None = None,
) -> Predictor:
    """A network that is ready to classify images.

    model        what `zoo.build` takes; or a network or engine that it has returned, with which options are ignored
    checkpoint   its weights; by default published ones, which are downloaded unless they are in the cache
    pretrained   which of several published weights, as for `zoo.build`
    num_classes  for a file without a classifier: a new one is initialised, so the predictions mean nothing
    seed         random weights from this seed, for tests: the predictions mean nothing

    Other options are those of `zoo.build`.
    """
    if (spec := getattr(model, "spec", None)) is not None and isinstance(spec, Model):
        return Predictor(model, spec, _runner(model), named(spec, None), spec.name)
    options: dict[str, Any] = {"num_classes": num_classes, "device": device, "mode": mode}
    options |= {"dtype": dtype} if mode == "deploy" else {}
    opened = None
    if seed is not None:
        options["seed"] = seed
    else:
        source = checkpoint
        if source is None and isinstance(model, str | Path) and weights.is_checkpoint(model):
            source = model
        if source is None:
            text = model if isinstance(model, str) else ""
            source = weights.published.choose(weights.resolve(model), pretrained, text).name
        opened = weights.open_checkpoint(source, model=model, ema=ema, num_classes=num_classes)
        options |= {"checkpoint": source, "ema": ema}
    net = build(model, backend, **options)
    if opened is not None:
        _warn_of_another_preprocessing(opened)
    said_by = opened.preprocess_from if opened is not None else ""
    return Predictor(net, net.spec, _runner(net), named(net.spec, opened), said_by or net.spec.name)


def named(spec: Model, opened: Checkpoint | None) -> Classes:
    """The names of a network's classes: the file's; if it has none, ImageNet's for 1,000 or 1,001 classes."""
    if opened is not None and (names := opened.class_names):
        if len(names) == spec.num_classes + 1:
            names = names[1:]  # without the background
        if len(names) == spec.num_classes:
            return Classes(names, "the file")
    names = list(class_names(spec.num_classes))
    return Classes(names, "ImageNet" if names else "")


def _warn_of_another_preprocessing(opened: Checkpoint) -> None:
    """Warn if a file's preprocessing differs, apart from the size, from its network's usual preprocessing."""
    usual = models().get(opened.model.name)
    if not opened.preprocess_from or weights.published.find(opened.preprocess_from) or usual is None:
        return
    model = opened.model
    scaled = replace(usual.preprocess, resize=model.preprocess.resize)
    share, usual_share = model.size / model.preprocess.resize, usual.size / usual.preprocess.resize
    if model.preprocess != scaled or abs(share / usual_share - 1) > SAME_SHARE:
        logger.warning(
            "%s: preprocessed as %s says: %s; the usual preprocessing of %s is different: %s",
            opened.path,
            opened.preprocess_from,
            model.preprocess.describe(model.size),
            usual.name,
            usual.preprocess.describe(usual.size),
        )


def backend_of(net: Any) -> str:
    """The backend that has built a network. Raises SpecError for anything but a network of `zoo.build`."""
    if isinstance(net, Interpreter):
        return "reference"
    package, _, rest = type(net).__module__.partition(".")
    name = rest.partition(".")[0]
    if package != "backends" or name not in BACKENDS:
        raise SpecError(f"expected a network of zoo.build, not {type(net).__module__}.{type(net).__name__}")
    return name


def _runner(net: Any) -> Callable[[NDArray[np.float32]], NDArray[Any]]:
    """A function from images to logits."""
    spec: Model = net.spec
    if spec.head is None:
        raise SpecError(f"{spec.name}: it returns feature maps: predicting classes needs its classifier")
    if type(net).__module__ == "backends.engine":
        return lambda x: net(x)
    module = get(backend_of(net))
    return lambda x: module.predict(net, x)["logits"]


def grad_cam(
    net: Any, image: str | Path | Image, label: int | None = None, stage: str | None = None
) -> NDArray[np.float32]:
    """Grad-CAM, Selvaraju et al. 2017, arXiv:1610.02391: how much each place of an image supports a class.

    net    a network of `zoo.build`, in any of the four frameworks
    label  the class, by default the one with the highest score
    stage  the stage whose output A is weighted, by default the last

    Returns a float32 map [height, width] of the stage's output, from 0 to 1: ReLU(sum over k of w_k A_k), divided by
    its maximum, where w_k is the mean of the gradient of the class's logit with respect to A_k. Raises SpecError for an
    unknown stage or class.
    """
    spec: Model = net.spec
    names = [each.name for each in spec.stages]
    stage = stage or names[-1]
    if stage not in names:
        raise SpecError(f"{spec.name}: no stage {stage!r}; it has {', '.join(names)}")
    x = preprocess(spec, image)[None]
    if label is None:
        label = int(_runner(net)(x)[0].argmax())
    if not 0 <= label < spec.num_classes:
        raise SpecError(f"{spec.name}: no class {label}: expected 0 to {spec.num_classes - 1}")
    activation, gradient = load(backend_of(net), "explain").class_gradient(net, x, stage, label)
    weighted = (gradient[0].mean((1, 2), np.float64)[:, None, None] * activation[0]).sum(0).clip(0)
    return np.asarray(weighted / (weighted.max() or 1), np.float32)


COLOURS = ((0, 34, 78), (66, 78, 108), (124, 123, 120), (188, 174, 108), (254, 232, 56))
"""RGB at 0, 0.25, ..., 1 of the colour map cividis, which colour-blind readers see alike (Nunez et al. 2018)."""


def overlay(net: Any, image: str | Path | Image, heat: NDArray[np.float32]) -> Image:
    """A map of `grad_cam` over what the network sees of the image, as an image of the input's size."""
    from PIL import Image

    seen = framed(net.spec, image, net.spec.size)
    size = (net.spec.size, net.spec.size)
    smooth = np.asarray(Image.fromarray(heat).resize(size, Image.Resampling.BILINEAR)).clip(0, 1)
    steps = np.linspace(0, 1, len(COLOURS))
    colours = np.stack([np.interp(smooth, steps, channel) for channel in np.transpose(COLOURS)], -1)
    return Image.fromarray((0.5 * seen + 0.5 * colours).astype(np.uint8))
