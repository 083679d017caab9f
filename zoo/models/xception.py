"""Xception: Chollet 2016, "Xception: Deep Learning with Depthwise Separable Convolutions",
https://arxiv.org/abs/1610.02357, figure 5.

The publishers have three networks of the same shapes. timm's `legacy_xception` (and Cadene's) pads the shrinking pools
on both sides, mindcv's and Keras's as TensorFlow does; Keras's epsilon is 1e-3, that of the others 1e-5. The depthwise
convolution of a separable pair has no norm of its own.
"""

from zoo.language.blocks import block
from zoo.language.model import IMAGENET_MEAN, IMAGENET_STD, Model, Norm, Preprocess, stages
from zoo.language.nodes import Conv, Depthwise, Head, MaxPool, Node, PoolPadding, Relu, Residual


def separable(channels: int, act: bool = False) -> Node:
    """Depthwise 3x3, then pointwise with norm."""
    return Depthwise(3, norm=False, act=False) >> Conv(channels, act=act)


@block
def shrink(first: int, channels: int, padding: PoolPadding, relu: bool = True) -> Residual:
    """A block of the entry or exit flow: two separable convolutions and a max pool, strided shortcut."""
    body = separable(first) >> Relu() >> separable(channels) >> MaxPool(3, 2, padding)
    return Residual(Relu() >> body if relu else body, Conv(channels, 1, 2, act=False))


@block
def middle() -> Residual:
    """A block of the middle flow: three separable convolutions."""
    return Residual(Relu() >> separable(728) >> Relu() >> separable(728) >> Relu() >> separable(728))


def xception(
    name: str,
    publishers: tuple[str, ...],
    preprocess: Preprocess,
    norm: Norm,
    padding: PoolPadding,
    dropout: float = 0.0,
) -> Model:
    return Model(
        name=name,
        paper="arXiv:1610.02357",
        publishers=publishers,
        preprocess=preprocess,
        norm=norm,
        stages=stages(
            conv1=Conv(32, 3, 2, "valid"),
            conv2=Conv(64, 3, padding="valid"),
            block1=shrink(128, 128, padding, relu=False),
            block2=shrink(256, 256, padding),
            block3=shrink(728, 728, padding),
            block4=middle(),
            block5=middle(),
            block6=middle(),
            block7=middle(),
            block8=middle(),
            block9=middle(),
            block10=middle(),
            block11=middle(),
            block12=shrink(728, 1024, padding),
            conv3=separable(1536, act=True),
            conv4=separable(2048, act=True),
        ),
        head=Head(dropout=dropout),
    )


XCEPTION = xception(
    name="xception",
    publishers=("timm", "cadene"),
    preprocess=Preprocess(resize=333, interpolation="bicubic"),
    norm=Norm(eps=1e-5),
    padding="half",
)

XCEPTION_MINDCV = xception(
    name="xception.mindcv",
    publishers=("mindcv",),
    preprocess=Preprocess(resize=341, mean=IMAGENET_MEAN, std=IMAGENET_STD),
    norm=Norm(eps=1e-5),
    padding="same",
    dropout=0.5,
)

XCEPTION_KERAS = xception(
    name="xception.keras",
    publishers=("keras",),
    preprocess=Preprocess(resize=341),
    norm=Norm(eps=1e-3, decay=0.99),
    padding="same",
)
