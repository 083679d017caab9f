"""Xception 41, 65 and 71: the "modified aligned Xception" of Chen et al. 2018 (DeepLabv3+),
https://arxiv.org/abs/1802.02611, figure 4. The number counts the layers.

The bare names are timm's; xception41p and 65p are its pre-activation variants. PaddleClas publishes two other designs:
`.paddleclas_deeplab`, timm's network with the last block dilated by 2 (and, in training, dropout before the pool rather
than after it), and `.paddleclas`, a design of its own that shares only the name: pointwise before depthwise, max pools,
shortcuts without norm.
"""

from collections.abc import Sequence
from functools import reduce

from zoo.language.blocks import block as named
from zoo.language.model import IMAGENET_MEAN, IMAGENET_STD, Model, Norm, Preprocess, Stage, stages
from zoo.language.nodes import Conv, Depthwise, Head, MaxPool, Node, NormRelu, Relu, Residual

Entry = tuple[tuple[int, int], ...]
SHORT: Entry = ((128, 2), (256, 2), (728, 2))
LONG: Entry = ((128, 2), (256, 1), (256, 2), (728, 1), (728, 2))
"""(channels, stride) of the entry flow's blocks."""

TIMM = Preprocess(resize=331, interpolation="bicubic")
TIMM_RA3 = Preprocess(resize=318, interpolation="bicubic")
"""Preprocessing of timm's default weights for xception65, and of the pre-activation networks."""

PADDLECLAS = Preprocess(resize=320, mean=IMAGENET_MEAN, std=IMAGENET_STD)
DEEPLAB = Norm(decay=0.99)


def chain(*nodes: Node) -> Node:
    return reduce(lambda before, after: before >> after, nodes)


def numbered(blocks: Sequence[Node]) -> tuple[Stage, ...]:
    return stages(**{f"block{i}": block for i, block in enumerate(blocks, 1)})


def separable(channels: int, stride: int = 1, dilation: int = 1, act: bool = False) -> Node:
    """Depthwise 3x3, then pointwise, each with norm."""
    return Depthwise(3, stride, dilation=dilation, act=act) >> Conv(channels, act=act)


@named
def block(channels: tuple[int, int, int], stride: int = 1, shortcut: bool = True) -> Residual:
    """Three separable convolutions, the last one strided, each after a ReLU."""
    strides = (1, 1, stride)
    body = chain(*(Relu() >> separable(c, s) for c, s in zip(channels, strides, strict=True)))
    return Residual(body, Conv(channels[2], 1, stride, act=False) if shortcut else None)


def aligned(
    name: str, entry: Entry, middle: int, publishers: tuple[str, ...], preprocess: Preprocess, norm: Norm,
    *, dilation: int = 1, dropout: float = 0.0,
) -> Model:  # fmt: skip
    return Model(
        name=name,
        paper="arXiv:1802.02611",
        publishers=publishers,
        preprocess=preprocess,
        norm=norm,
        stages=stages(conv1=Conv(32, 3, 2), conv2=Conv(64, 3))
        + numbered(
            [block((channels,) * 3, stride) for channels, stride in entry]
            + [block((728, 728, 728), shortcut=False)] * middle
            + [block((728, 1024, 1024), 2)]
            + [chain(*(separable(channels, dilation=dilation, act=True) for channels in (1536, 1536, 2048)))]
        ),
        head=Head(dropout=dropout),
    )


def pre_separable(channels: int, stride: int = 1) -> Node:
    """Depthwise 3x3, then pointwise, without norm."""
    return Depthwise(3, stride, norm=False, act=False) >> Conv(channels, norm=False, act=False)


def pre_body(channels: tuple[int, int, int], stride: int = 1) -> Node:
    first, second, third = channels
    return chain(
        pre_separable(first), NormRelu(), pre_separable(second), NormRelu(), pre_separable(third, stride)
    )  # fmt: skip


@named
def pre_block(channels: tuple[int, int, int], stride: int = 1, shortcut: bool = True) -> Node:
    """Norm and ReLU for body and shortcut alike, then three separable convolutions."""
    straight = Conv(channels[2], 1, stride, norm=False, act=False) if shortcut else None
    return NormRelu() >> Residual(pre_body(channels, stride), straight)


def preactivated(name: str, middle: int, norm: Norm) -> Model:
    return Model(
        name=name,
        paper="arXiv:1802.02611",
        publishers=("timm",),
        preprocess=TIMM_RA3,
        norm=norm,
        stages=stages(conv1=Conv(32, 3, 2), conv2=Conv(64, 3, norm=False, act=False))
        + numbered(
            [pre_block((channels,) * 3, stride) for channels, stride in SHORT]
            + [pre_block((728, 728, 728), shortcut=False)] * middle
            + [pre_block((728, 1024, 1024), 2)]
            + [NormRelu() >> pre_body((1536, 1536, 2048)) >> Relu()]
        ),
        head=Head(),
    )


def paddle_separable(channels: int) -> Node:
    """Pointwise, then depthwise 3x3, each with norm."""
    return Conv(channels, act=False) >> Depthwise(3, act=False)


@named
def paddle_shrink(first: int, channels: int, stride: int, relu: bool = True) -> Residual:
    """Two separable convolutions and a max pool, also where the stride is 1; a shortcut without norm."""
    body = paddle_separable(first) >> Relu() >> paddle_separable(channels) >> MaxPool(3, stride)
    return Residual(Relu() >> body if relu else body, Conv(channels, 1, stride, norm=False, act=False))


@named
def paddle_middle() -> Residual:
    return Residual(chain(*(Relu() >> paddle_separable(728) for _ in range(3))))


def paddle(name: str, entry: Entry, middle: int) -> Model:
    return Model(
        name=name,
        paper="arXiv:1802.02611",
        publishers=("paddleclas",),
        preprocess=PADDLECLAS,
        norm=Norm(eps=1e-5),
        stages=stages(conv1=Conv(32, 3, 2), conv2=Conv(64, 3))
        + numbered(
            [paddle_shrink(channels, channels, stride, relu=i > 0) for i, (channels, stride) in enumerate(entry)]
            + [paddle_middle()] * middle
            + [paddle_shrink(728, 1024, 2)]
        )
        + stages(conv3=paddle_separable(1536) >> Relu(), conv4=paddle_separable(2048) >> Relu()),
        head=Head(),
    )


XCEPTION_ALIGNED = (
    aligned("xception41", SHORT, 8, ("timm",), TIMM, Norm()),
    aligned("xception65", SHORT, 16, ("timm",), TIMM_RA3, Norm()),
    aligned("xception71", LONG, 16, ("timm",), TIMM, Norm()),
    preactivated("xception41p", 8, Norm(eps=1e-5)),
    preactivated("xception65p", 16, Norm()),
    paddle("xception41.paddleclas", SHORT, 8),
    paddle("xception65.paddleclas", SHORT, 16),
    paddle("xception71.paddleclas", LONG, 16),
    aligned("xception41.paddleclas_deeplab", SHORT, 8, ("paddleclas",), PADDLECLAS, DEEPLAB, dilation=2, dropout=0.5),
    aligned("xception65.paddleclas_deeplab", SHORT, 16, ("paddleclas",), PADDLECLAS, DEEPLAB, dilation=2, dropout=0.5),
)
