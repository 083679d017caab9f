"""Inception-v4: Szegedy et al. 2016, "Inception-v4, Inception-ResNet and the Impact of Residual Connections on
Learning", https://arxiv.org/abs/1602.07261, figures 3 to 9.

The bare name is the network of TF-slim and all its ports (timm, mindcv, Cadene, zhulf0804). PaddleClas's is another
network, whose weights fit no other: it has some 1x7 and 7x1 convolutions the other way round (apparently as in the
paper's figures), starts its concatenations with the pool branch, and has an epsilon of 1e-5. `inception_v4.slim` is the
bare network with TF-slim's auxiliary head, which no port has. Average pools count only pixels inside the image.
"""

from zoo.language.blocks import block
from zoo.language.model import IMAGENET_MEAN, IMAGENET_STD, Aux, Model, Norm, Preprocess, stages
from zoo.language.nodes import COL3, COL7, ROW3, ROW7, AvgPool, Concat, Conv, Head, MaxPool, Node, concat


def join(pool: Node, *branches: Node, figures: bool) -> Concat:
    """A block's concatenation: TF-slim puts the pool branch last, PaddleClas first."""
    return concat(pool, *branches) if figures else concat(*branches, pool)


@block
def stem_3a() -> Concat:
    """Figure 3, the first filter concatenation."""
    return concat(
        MaxPool(3, 2, "valid"),
        Conv(96, 3, 2, "valid"),
    )


@block
def stem_4a(figures: bool) -> Concat:
    """Figure 3, the second filter concatenation."""
    first, second = (COL7, ROW7) if figures else (ROW7, COL7)
    return concat(
        Conv(64) >> Conv(96, 3, padding="valid"),
        Conv(64) >> Conv(64, first) >> Conv(64, second) >> Conv(96, 3, padding="valid"),
    )


@block
def stem_5a() -> Concat:
    """Figure 3, the third filter concatenation."""
    return concat(
        Conv(192, 3, 2, "valid"),
        MaxPool(3, 2, "valid"),
    )


@block
def inception_a(figures: bool) -> Concat:
    """Figure 4, the 35 x 35 grid."""
    return join(
        AvgPool() >> Conv(96),
        Conv(96),
        Conv(64) >> Conv(96, 3),
        Conv(64) >> Conv(96, 3) >> Conv(96, 3),
        figures=figures,
    )


@block
def reduction_a(figures: bool) -> Concat:
    """Figure 7 with k, l, m, n = 192, 224, 256, 384: 35 x 35 to 17 x 17."""
    return join(
        MaxPool(3, 2, "valid"),
        Conv(384, 3, 2, "valid"),
        Conv(192) >> Conv(224, 3) >> Conv(256, 3, 2, "valid"),
        figures=figures,
    )


@block
def inception_b(figures: bool) -> Concat:
    """Figure 5, the 17 x 17 grid."""
    first, second = (ROW7, COL7) if figures else (COL7, ROW7)
    return join(
        AvgPool() >> Conv(128),
        Conv(384),
        Conv(192) >> Conv(224, ROW7) >> Conv(256, COL7),
        Conv(192) >> Conv(192, first) >> Conv(224, second) >> Conv(224, first) >> Conv(256, second),
        figures=figures,
    )


@block
def reduction_b(figures: bool) -> Concat:
    """Figure 8: 17 x 17 to 8 x 8."""
    return join(
        MaxPool(3, 2, "valid"),
        Conv(192) >> Conv(192, 3, 2, "valid"),
        Conv(256) >> Conv(256, ROW7) >> Conv(320, COL7) >> Conv(320, 3, 2, "valid"),
        figures=figures,
    )


@block
def inception_c(figures: bool) -> Concat:
    """Figure 6, the 8 x 8 grid."""
    first, second = (ROW3, COL3) if figures else (COL3, ROW3)
    split = concat(Conv(256, ROW3), Conv(256, COL3))
    return join(
        AvgPool() >> Conv(256),
        Conv(256),
        Conv(384) >> split,
        Conv(384) >> Conv(448, first) >> Conv(512, second) >> split,
        figures=figures,
    )


def inception_v4(
    name: str,
    publishers: tuple[str, ...],
    preprocess: Preprocess,
    norm: Norm,
    *,
    figures: bool = False,
    aux: tuple[Aux, ...] = (),
    dropout: float = 0.2,
) -> Model:
    """With `figures`, kernels and branches are in the order of the paper's figures rather than that of TF-slim."""
    return Model(
        name=name,
        paper="arXiv:1602.07261",
        publishers=publishers,
        preprocess=preprocess,
        norm=norm,
        stages=stages(
            conv2d_1a_3x3=Conv(32, 3, 2, "valid"),
            conv2d_2a_3x3=Conv(32, 3, padding="valid"),
            conv2d_2b_3x3=Conv(64, 3),
            mixed_3a=stem_3a(),
            mixed_4a=stem_4a(figures),
            mixed_5a=stem_5a(),
            mixed_5b=inception_a(figures),
            mixed_5c=inception_a(figures),
            mixed_5d=inception_a(figures),
            mixed_5e=inception_a(figures),
            mixed_6a=reduction_a(figures),
            mixed_6b=inception_b(figures),
            mixed_6c=inception_b(figures),
            mixed_6d=inception_b(figures),
            mixed_6e=inception_b(figures),
            mixed_6f=inception_b(figures),
            mixed_6g=inception_b(figures),
            mixed_6h=inception_b(figures),
            mixed_7a=reduction_b(figures),
            mixed_7b=inception_c(figures),
            mixed_7c=inception_c(figures),
            mixed_7d=inception_c(figures),
        ),
        head=Head(dropout=dropout),
        aux=aux,
    )


INCEPTION_V4 = inception_v4(
    name="inception_v4",
    publishers=("timm", "cadene", "zhulf", "mindcv", "slim"),
    preprocess=Preprocess(resize=341, interpolation="bicubic"),
    norm=Norm(),
    dropout=0.0,
)

INCEPTION_V4_MINDCV = inception_v4(
    name="inception_v4.mindcv",
    publishers=("mindcv",),
    preprocess=Preprocess(resize=341, mean=IMAGENET_MEAN, std=IMAGENET_STD),
    norm=Norm(decay=0.9997),
    dropout=0.2,
)

INCEPTION_V4_SLIM = inception_v4(
    name="inception_v4.slim",
    publishers=("slim",),
    preprocess=Preprocess(resize=341),
    norm=Norm(decay=0.9997),
    aux=(Aux("aux", "mixed_6h", AvgPool(5, 3, "valid") >> Conv(128) >> Conv(768, 5, padding="valid") >> Head()),),
)

INCEPTION_V4_PADDLECLAS = inception_v4(
    name="inception_v4.paddleclas",
    publishers=("paddleclas",),
    preprocess=Preprocess(resize=320, mean=IMAGENET_MEAN, std=IMAGENET_STD),
    norm=Norm(eps=1e-5),
    figures=True,
)
