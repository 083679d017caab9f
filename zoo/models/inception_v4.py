"""Inception-v4: Szegedy et al. 2016, "Inception-v4, Inception-ResNet and the Impact of Residual Connections on
Learning", https://arxiv.org/abs/1602.07261, figures 3 to 9.

Kernel and branch order are those of TF-slim and of all its ports (timm, mindcv, Cadene); the paper's figures draw
some 1x7 and 7x1 the other way round. Average pools count only pixels inside the image.
"""

from zoo.model import Model, Preprocess, stages
from zoo.nodes import COL3, COL7, ROW3, ROW7, AvgPool, Concat, Conv, Head, MaxPool, concat


def stem_3a() -> Concat:
    """Figure 3, the first filter concatenation."""
    return concat(
        MaxPool(3, 2, "valid"),
        Conv(96, 3, 2, "valid"),
    )


def stem_4a() -> Concat:
    """Figure 3, the second filter concatenation."""
    return concat(
        Conv(64) >> Conv(96, 3, padding="valid"),
        Conv(64) >> Conv(64, ROW7) >> Conv(64, COL7) >> Conv(96, 3, padding="valid"),
    )


def stem_5a() -> Concat:
    """Figure 3, the third filter concatenation."""
    return concat(
        Conv(192, 3, 2, "valid"),
        MaxPool(3, 2, "valid"),
    )


def inception_a() -> Concat:
    """Figure 4, the 35 x 35 grid."""
    return concat(
        Conv(96),
        Conv(64) >> Conv(96, 3),
        Conv(64) >> Conv(96, 3) >> Conv(96, 3),
        AvgPool() >> Conv(96),
    )


def reduction_a() -> Concat:
    """Figure 7 with k, l, m, n = 192, 224, 256, 384: 35 x 35 to 17 x 17."""
    return concat(
        Conv(384, 3, 2, "valid"),
        Conv(192) >> Conv(224, 3) >> Conv(256, 3, 2, "valid"),
        MaxPool(3, 2, "valid"),
    )


def inception_b() -> Concat:
    """Figure 5, the 17 x 17 grid."""
    return concat(
        Conv(384),
        Conv(192) >> Conv(224, ROW7) >> Conv(256, COL7),
        Conv(192) >> Conv(192, COL7) >> Conv(224, ROW7) >> Conv(224, COL7) >> Conv(256, ROW7),
        AvgPool() >> Conv(128),
    )


def reduction_b() -> Concat:
    """Figure 8: 17 x 17 to 8 x 8."""
    return concat(
        Conv(192) >> Conv(192, 3, 2, "valid"),
        Conv(256) >> Conv(256, ROW7) >> Conv(320, COL7) >> Conv(320, 3, 2, "valid"),
        MaxPool(3, 2, "valid"),
    )


def inception_c() -> Concat:
    """Figure 6, the 8 x 8 grid."""
    split = concat(Conv(256, ROW3), Conv(256, COL3))
    return concat(
        Conv(256),
        Conv(384) >> split,
        Conv(384) >> Conv(448, COL3) >> Conv(512, ROW3) >> split,
        AvgPool() >> Conv(256),
    )


INCEPTION_V4 = Model(
    name="inception_v4",
    paper="arXiv:1602.07261",
    publishers=("timm", "tf-slim", "cadene", "mindcv"),
    preprocess=Preprocess(resize=341, interpolation="bicubic"),
    stages=stages(
        conv2d_1a_3x3=Conv(32, 3, 2, "valid"),
        conv2d_2a_3x3=Conv(32, 3, padding="valid"),
        conv2d_2b_3x3=Conv(64, 3),
        mixed_3a=stem_3a(),
        mixed_4a=stem_4a(),
        mixed_5a=stem_5a(),
        mixed_5b=inception_a(),
        mixed_5c=inception_a(),
        mixed_5d=inception_a(),
        mixed_5e=inception_a(),
        mixed_6a=reduction_a(),
        mixed_6b=inception_b(),
        mixed_6c=inception_b(),
        mixed_6d=inception_b(),
        mixed_6e=inception_b(),
        mixed_6f=inception_b(),
        mixed_6g=inception_b(),
        mixed_6h=inception_b(),
        mixed_7a=reduction_b(),
        mixed_7b=inception_c(),
        mixed_7c=inception_c(),
        mixed_7d=inception_c(),
    ),
    head=Head(dropout=0.2),
)
