"""The Model: a network's stages, heads, norm and input as one value; and its variants."""

from __future__ import annotations

import keyword
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache
from typing import Any, Literal

from zoo.arguments import integer, within
from zoo.errors import SpecError
from zoo.language.nodes import (
    AdaptiveAvgPool,
    AvgPool,
    Conv,
    Depthwise,
    Head,
    Leaf,
    MaxPool,
    Node,
    NormRelu,
    Relu,
    assert_never,
    is_node,
    transform,
)


@dataclass(frozen=True)
class Norm:
    """Batch normalisation: y = gamma (x - mean) / sqrt(var + eps) + beta.

    In training, running = decay * running + (1 - decay) * batch. PyTorch's `momentum` is 1 - decay.
    """

    eps: float = 1e-3
    decay: float = 0.9

    def __post_init__(self) -> None:
        if not within(self.eps, 0, 1) or not within(self.decay, 0, 1):
            raise SpecError(f"{self}: eps and decay must be numbers from 0 to 1")


PILLOW, UNFILTERED = ("bilinear", "bicubic"), ("torch_bilinear", "tf1_bilinear")
"""Interpolations: Pillow's, which average over all pixels when an image shrinks, and others, which do not."""


@dataclass(frozen=True)
class Preprocess:
    """How the publisher turns an RGB image into the network's input.

    With fit="crop", the shorter side is resized to `resize` pixels, and the central square of `Model.size` pixels is
    cropped. With fit="stretch", the whole image is resized to that square, whatever its aspect ratio, and `resize` is
    the square's side. Then y = (x / 255 - mean) / std for each channel, in the order of `channels`. (TF-slim crops
    87.5% of each side and does not keep the aspect ratio, and Keras leaves resizing to its users: fit="crop" is the
    nearest form for both.)

    Interpolations: "bilinear" and "bicubic" are Pillow's, which average over all pixels when an image shrinks, and
    round to 8 bits. With fit="stretch" also "torch_bilinear", which is PyTorch's F.interpolate(mode="bilinear",
    align_corners=False), and "tf1_bilinear", TensorFlow 1's resize_bilinear(align_corners=False): both interpolate
    between the nearest four pixels only, and do not round. The first aligns the centres of pixels, the second their top
    left corners.
    """

    resize: int
    interpolation: Literal["bilinear", "bicubic", "torch_bilinear", "tf1_bilinear"] = "bilinear"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    channels: Literal["RGB", "BGR"] = "RGB"
    fit: Literal["crop", "stretch"] = "crop"

    def __post_init__(self) -> None:
        object.__setattr__(self, "resize", integer(self.resize, "preprocess: resize"))
        if self.channels not in ("RGB", "BGR") or self.fit not in ("crop", "stretch"):
            raise SpecError(f"{self}: channels must be RGB or BGR, fit crop or stretch")
        allowed = (*PILLOW, *UNFILTERED) if self.fit == "stretch" else PILLOW
        if self.interpolation not in allowed:
            raise SpecError(f"{self}: interpolation must be {' or '.join(allowed)}, with fit={self.fit!r}")
        for name, values, low in (("mean", self.mean, -1e6), ("std", self.std, 1e-6)):
            if not isinstance(values, tuple) or len(values) != 3 or not all(within(v, low, 1e6) for v in values):
                raise SpecError(f"preprocess: {name} must be three numbers{' above 0' * (low > 0)}, not {values!r}")

    def describe(self, size: int) -> str:
        """What is done to an image for an input of `size` x `size` pixels, in words."""
        mean, std = (" ".join(f"{value:g}" for value in values) for values in (self.mean, self.std))
        if self.fit == "stretch":
            resized = f"whole image resized to {size} x {size} ({self.interpolation})"
        else:
            resized = f"shorter side resized to {self.resize} ({self.interpolation}), center crop of {size} x {size}"
        return f"{resized}, {self.channels}, mean {mean}, std {std}"


NAME = r"[A-Za-z0-9][\w.-]*"

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Means and standard deviations of the training images' channels, from 0 to 1; most publishers use them."""


@dataclass(frozen=True)
class Stage:
    """A named step of the trunk, and a feature tap."""

    name: str
    node: Node

    def __post_init__(self) -> None:
        _check_part(self.name, self.node)


@dataclass(frozen=True)
class Aux:
    """An auxiliary classifier that reads the output of stage `after`; it runs in training only."""

    name: str
    after: str
    node: Node

    def __post_init__(self) -> None:
        _check_part(self.name, self.node)


@dataclass(frozen=True)
class Model:
    """A network: everything about it that needs no tensor.

    name         letters, digits, ".", "-" and "_"
    stages       run in order; each one's output can be tapped
    head         the classifier; None for a model with taps
    preprocess   how images become its input
    aux          auxiliary classifiers
    norm         its batch norm, or None
    size         the side of its native, square input in pixels
    width        the factor by which `configure` has multiplied the published channel counts
    taps         stages whose outputs are returned instead of logits
    publishers   who publishes this very network; decay, dropout and preprocessing are those of the first
    paper        e.g. "arXiv:1512.00567"

    Raises SpecError for invalid values.
    """

    name: str
    stages: tuple[Stage, ...]
    head: Head | None
    preprocess: Preprocess
    aux: tuple[Aux, ...] = ()
    norm: Norm | None = Norm()
    size: int = 299
    num_classes: int = 1000
    in_channels: int = 3
    width: float = 1.0
    taps: tuple[str, ...] = ()
    publishers: tuple[str, ...] = ()
    paper: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not re.fullmatch(NAME, self.name):
            raise SpecError(f"a model's name must be letters, digits, '.', '-' or '_', not {self.name!r}")
        for what, kind in (("stages", Stage), ("aux", Aux), ("taps", str), ("publishers", str)):
            items = getattr(self, what)
            if not isinstance(items, tuple) or not all(isinstance(item, kind) for item in items):
                raise SpecError(f"{self.name}: {what} must be a tuple of {kind.__name__}, not {items!r:.80}")
        if not isinstance(self.head, Head | None) or not isinstance(self.norm, Norm | None):
            raise SpecError(f"{self.name}: head must be a Head or None, norm a Norm or None")
        if not isinstance(self.preprocess, Preprocess) or not isinstance(self.paper, str) or not self.stages:
            raise SpecError(f"{self.name}: a model needs stages, a Preprocess, and a text as its paper")
        for what in ("size", "num_classes", "in_channels"):
            object.__setattr__(self, what, integer(getattr(self, what), f"{self.name}: {what}"))
        if not within(self.width, 0, 1e6) or self.width == 0:
            raise SpecError(f"{self.name}: width must be above 0, not {self.width!r}")
        names = [stage.name for stage in self.stages]
        parts = [*names, *(aux.name for aux in self.aux), "head"]
        if len(set(parts)) != len(parts):
            raise SpecError(f"{self.name}: two parts share a name: {', '.join(parts)}")
        for wanted in (*(aux.after for aux in self.aux), *self.taps):
            if wanted not in names:
                raise SpecError(f"{self.name}: no stage {wanted!r}; it has {', '.join(names)}")

    def __hash__(self) -> int:
        """Computed once: caches look models up by their hash, and the tree of nodes is large."""
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash(tuple(getattr(self, each.name) for each in fields(self)))

    def __getstate__(self) -> dict[str, Any]:
        """Without the hash, which differs from process to process."""
        return {name: value for name, value in self.__dict__.items() if name != "_hash"}

    @property
    def parts(self) -> dict[str, Node]:
        """Its nodes by module name: stages, head, auxiliary heads."""
        head: dict[str, Node] = {} if self.head is None else {"head": self.head}
        return {s.name: s.node for s in self.stages} | head | {a.name: a.node for a in self.aux}

    def named(self, output: Any) -> dict[str, Any]:
        """A network's output in eval mode by name: {"logits": output}, or each tap's feature map."""
        return dict(zip(self.taps, output, strict=True)) if self.taps else {"logits": output}


def _check_part(name: str, node: Node) -> None:
    """Raise SpecError unless the name can be an attribute of modules and the first word of tensors' names."""
    if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_"):
        raise SpecError(f"a stage's name must be a Python identifier without a leading '_', not {name!r}")
    if not is_node(node):
        raise SpecError(f"{name}: expected a node, not {node!r}")


def stages(**nodes: Node) -> tuple[Stage, ...]:
    """Stages in the order written, named as in TF-slim."""
    return tuple(Stage(name, node) for name, node in nodes.items())


def configure(
    model: Model,
    *,
    num_classes: int | None = None,
    in_channels: int | None = None,
    drop_rate: float | None = None,
    aux: bool = True,
    width: float = 1.0,
    taps: Sequence[str] = (),
) -> Model:
    """A variant of a network.

    `drop_rate` is the main classifier's dropout; `aux=False` removes the auxiliary heads; `width` multiplies every
    channel count, rounded to a multiple of 8, at least 8. With `taps` the network ends at the last of these stages and
    has no classifier. Raises SpecError for values out of range.
    """
    name = model.name
    if not within(width, 0, 16) or width == 0:
        raise SpecError(f"{name}: width must be above 0 and at most 16 (1.0 is the published one), not {width!r}")
    head = model.head
    if head is not None and drop_rate is not None:
        if not within(drop_rate, 0, 1) or drop_rate == 1:
            raise SpecError(f"{name}: drop_rate must be at least 0 and below 1, not {drop_rate!r}")
        head = replace(head, dropout=drop_rate)
    model = replace(
        model,
        head=head,
        num_classes=model.num_classes if num_classes is None else integer(num_classes, f"{name}: num_classes"),
        in_channels=model.in_channels if in_channels is None else integer(in_channels, f"{name}: in_channels"),
        aux=model.aux if aux else (),
    )
    if width != 1:
        model = _widen(model, width)
    if taps:
        model = _features(replace(model, taps=tuple(taps)))
    return model


def at_size(model: Model, size: int) -> Model:
    """The model for images of another size, in pixels, to which its preprocessing scales images in proportion."""
    resize = round(model.preprocess.resize * size / model.size)
    return replace(model, size=size, preprocess=replace(model.preprocess, resize=resize))


@lru_cache(maxsize=256)
def _widen(model: Model, width: float) -> Model:
    def channels(count: int) -> int:
        return max(8, int(count * width / 8 + 0.5) * 8)

    def widen(leaf: Leaf) -> Leaf:
        match leaf:
            case Conv():
                return replace(leaf, channels=channels(leaf.channels))
            case Head(hidden=int() as hidden):
                return replace(leaf, hidden=channels(hidden))
            case Head() | Depthwise() | NormRelu() | Relu() | MaxPool() | AvgPool() | AdaptiveAvgPool():
                return leaf
        assert_never(leaf)

    return replace(
        model,
        width=model.width * width,
        stages=tuple(replace(stage, node=transform(stage.node, widen)) for stage in model.stages),
        aux=tuple(replace(aux, node=transform(aux.node, widen)) for aux in model.aux),
    )


def _features(model: Model) -> Model:
    depths = {stage.name: i for i, stage in enumerate(model.stages)}
    taps = tuple(sorted(set(model.taps), key=depths.__getitem__))
    return replace(model, taps=taps, stages=model.stages[: depths[taps[-1]] + 1], head=None, aux=())
