"""Inception-ResNet-v1 and -v2: Szegedy et al. 2016, https://arxiv.org/abs/1602.07261, figures 7 and 10 to 19.

v2 is the network of TF-slim and its ports (timm, Cadene, zhulf0804, Keras), which differs from the paper's: its stem is
Inception-v3's followed by a concatenation, its residual blocks are 320, 1088 and 2080 wide (the paper: 384, 1154,
2048), residuals are scaled by 0.17, 0.10 and 0.20, and the last block has scale 1 and no ReLU. The convolution that
ends a residual has a bias, no norm and no ReLU. `inception_resnet_v2.slim` adds TF-slim's auxiliary head.

v1 is the paper's; none of the publishers has it. The paper gives scales "between 0.1 and 0.3"; those of v2 are used.
"""

from zoo.language.blocks import block
from zoo.language.model import Aux, Model, Norm, Preprocess, stages
from zoo.language.nodes import (
    COL3,
    COL7,
    ROW3,
    ROW7,
    AvgPool,
    Concat,
    Conv,
    Head,
    MaxPool,
    Node,
    Residual,
    concat,
    repeat,
)


def residual(channels: int, scale: float, *branches: Node, act: bool = True) -> Residual:
    """Branches, a linear 1x1 convolution back to `channels`, and the sum with the input."""
    return Residual(concat(*branches) >> Conv(channels, bias=True, norm=False, act=False), scale=scale, act=act)


@block
def mixed_5b() -> Concat:
    """The end of v2's stem, 35 x 35."""
    return concat(
        Conv(96),
        Conv(48) >> Conv(64, 5),
        Conv(64) >> Conv(96, 3) >> Conv(96, 3),
        AvgPool() >> Conv(64),
    )


@block
def reduction_a(k: int, l: int, m: int, n: int) -> Concat:  # noqa: E741 (the paper's names)
    """Figure 7: 35 x 35 to 17 x 17."""
    return concat(
        Conv(n, 3, 2, "valid"),
        Conv(k) >> Conv(l, 3) >> Conv(m, 3, 2, "valid"),
        MaxPool(3, 2, "valid"),
    )


@block
def reduction_b(first: int, second: int, middle: int, third: int) -> Concat:
    """Figures 12 and 18: 17 x 17 to 8 x 8."""
    return concat(
        Conv(256) >> Conv(first, 3, 2, "valid"),
        Conv(256) >> Conv(second, 3, 2, "valid"),
        Conv(256) >> Conv(middle, 3) >> Conv(third, 3, 2, "valid"),
        MaxPool(3, 2, "valid"),
    )


@block
def block35_v1() -> Residual:
    """Figure 10."""
    return residual(256, 0.17, Conv(32), Conv(32) >> Conv(32, 3), Conv(32) >> Conv(32, 3) >> Conv(32, 3))


@block
def block17_v1() -> Residual:
    """Figure 11."""
    return residual(896, 0.10, Conv(128), Conv(128) >> Conv(128, ROW7) >> Conv(128, COL7))


@block
def block8_v1() -> Residual:
    """Figure 13."""
    return residual(1792, 0.20, Conv(192), Conv(192) >> Conv(192, ROW3) >> Conv(192, COL3))


@block
def block35_v2() -> Residual:
    """Figure 16, 320 wide."""
    return residual(320, 0.17, Conv(32), Conv(32) >> Conv(32, 3), Conv(32) >> Conv(48, 3) >> Conv(64, 3))


@block
def block17_v2() -> Residual:
    """Figure 17, 1088 wide."""
    return residual(1088, 0.10, Conv(192), Conv(128) >> Conv(160, ROW7) >> Conv(192, COL7))


@block
def block8_v2(scale: float = 0.20, act: bool = True) -> Residual:
    """Figure 19, 2080 wide."""
    return residual(2080, scale, Conv(192), Conv(192) >> Conv(224, ROW3) >> Conv(256, COL3), act=act)


def inception_resnet_v2(
    name: str,
    publishers: tuple[str, ...],
    preprocess: Preprocess,
    norm: Norm,
    aux: tuple[Aux, ...] = (),
    dropout: float = 0.0,
) -> Model:
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
            maxpool_3a_3x3=MaxPool(3, 2, "valid"),
            conv2d_3b_1x1=Conv(80),
            conv2d_4a_3x3=Conv(192, 3, padding="valid"),
            maxpool_5a_3x3=MaxPool(3, 2, "valid"),
            mixed_5b=mixed_5b(),
            block35=repeat(block35_v2(), 10),
            mixed_6a=reduction_a(256, 256, 384, 384),
            block17=repeat(block17_v2(), 20),
            mixed_7a=reduction_b(384, 288, 288, 320),
            block8=repeat(block8_v2(), 9) >> block8_v2(scale=1.0, act=False),
            conv2d_7b_1x1=Conv(1536),
        ),
        head=Head(dropout=dropout),
        aux=aux,
    )


INCEPTION_RESNET_V2 = inception_resnet_v2(
    name="inception_resnet_v2",
    publishers=("timm", "cadene", "zhulf", "keras", "slim"),
    preprocess=Preprocess(resize=333, interpolation="bicubic"),
    norm=Norm(),
)

INCEPTION_RESNET_V2_SLIM = inception_resnet_v2(
    name="inception_resnet_v2.slim",
    publishers=("slim",),
    preprocess=Preprocess(resize=341),
    norm=Norm(decay=0.9997),
    aux=(Aux("aux", "block17", AvgPool(5, 3, "valid") >> Conv(128) >> Conv(768, 5, padding="valid") >> Head()),),
    dropout=0.2,
)

INCEPTION_RESNET_V1 = Model(
    name="inception_resnet_v1",
    paper="arXiv:1602.07261",
    preprocess=Preprocess(resize=341),
    stages=stages(
        conv2d_1a_3x3=Conv(32, 3, 2, "valid"),
        conv2d_2a_3x3=Conv(32, 3, padding="valid"),
        conv2d_2b_3x3=Conv(64, 3),
        maxpool_3a_3x3=MaxPool(3, 2, "valid"),
        conv2d_3b_1x1=Conv(80),
        conv2d_4a_3x3=Conv(192, 3, padding="valid"),
        conv2d_4b_3x3=Conv(256, 3, 2, "valid"),
        block35=repeat(block35_v1(), 5),
        mixed_6a=reduction_a(192, 192, 256, 384),
        block17=repeat(block17_v1(), 10),
        mixed_7a=reduction_b(384, 256, 256, 256),
        block8=repeat(block8_v1(), 5),
    ),
    head=Head(dropout=0.2),
)
