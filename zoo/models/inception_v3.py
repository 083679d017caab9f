"""Inception-v3: Szegedy et al. 2015, "Rethinking the Inception Architecture for Computer Vision",
https://arxiv.org/abs/1512.00567, figures 5 to 8 and 10, table 1.

The bare name is torchvision's network, which is timm's and mmpretrain's too: its average pools count the padded
zeros. mindcv's, like TF-slim's and Keras's, does not count them: with the same weights, logits differ by about a tenth
of the largest. PaddleClas's counts them, with an epsilon of 1e-5. Keras's and PaddleClas's have no auxiliary head.

The network with which FID is computed is Google's of 2015-12-05, as ported by pytorch-fid and torch-fidelity: 1008
classes, average pools that do not count padding, and a max pool in the last block. Images are resized as in TensorFlow
1, which torch-fidelity follows; pytorch-fid resizes as PyTorch does.

With its ported weights, torchvision normalises images to (x - 0.5) / 0.5. It does so in two steps, ImageNet statistics
followed by `transform_input`; here they are one affine map. Without weights, torchvision omits `transform_input`.
"""

from zoo.language.blocks import block
from zoo.language.model import IMAGENET_MEAN, IMAGENET_STD, Aux, Model, Norm, Preprocess, stages
from zoo.language.nodes import COL3, COL7, ROW3, ROW7, AvgPool, Concat, Conv, Head, MaxPool, concat


@block
def inception_a(pool: AvgPool, pool_channels: int) -> Concat:
    """Figure 5, the 35 x 35 grid, with one 5x5 kept."""
    return concat(
        Conv(64),
        Conv(48) >> Conv(64, 5),
        Conv(64) >> Conv(96, 3) >> Conv(96, 3),
        pool >> Conv(pool_channels),
    )


@block
def reduction_a() -> Concat:
    """Figure 10: 35 x 35 to 17 x 17."""
    return concat(
        Conv(384, 3, 2, "valid"),
        Conv(64) >> Conv(96, 3) >> Conv(96, 3, 2, "valid"),
        MaxPool(3, 2, "valid"),
    )


@block
def inception_b(pool: AvgPool, channels: int) -> Concat:
    """Figure 6 with n = 7, the 17 x 17 grid."""
    return concat(
        Conv(192),
        Conv(channels) >> Conv(channels, ROW7) >> Conv(192, COL7),
        Conv(channels) >> Conv(channels, COL7) >> Conv(channels, ROW7) >> Conv(channels, COL7) >> Conv(192, ROW7),
        pool >> Conv(192),
    )


@block
def reduction_b() -> Concat:
    """17 x 17 to 8 x 8, as TF-slim has it; the paper does not draw it."""
    return concat(
        Conv(192) >> Conv(320, 3, 2, "valid"),
        Conv(192) >> Conv(192, ROW7) >> Conv(192, COL7) >> Conv(192, 3, 2, "valid"),
        MaxPool(3, 2, "valid"),
    )


@block
def inception_c(pool: AvgPool | MaxPool) -> Concat:
    """Figure 7, the 8 x 8 grid."""
    split = concat(Conv(384, ROW3), Conv(384, COL3))
    return concat(
        Conv(320),
        Conv(384) >> split,
        Conv(448) >> Conv(384, 3) >> split,
        pool >> Conv(192),
    )


def inception_v3(
    name: str,
    publishers: tuple[str, ...],
    preprocess: Preprocess,
    norm: Norm,
    pool: AvgPool,
    dropout: float,
    aux: tuple[Aux, ...] = (),
    last_pool: AvgPool | MaxPool | None = None,
    num_classes: int = 1000,
) -> Model:
    """`last_pool` is the pool of the last block, by default `pool`."""
    return Model(
        name=name,
        paper="arXiv:1512.00567",
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
            mixed_5b=inception_a(pool, 32),
            mixed_5c=inception_a(pool, 64),
            mixed_5d=inception_a(pool, 64),
            mixed_6a=reduction_a(),
            mixed_6b=inception_b(pool, 128),
            mixed_6c=inception_b(pool, 160),
            mixed_6d=inception_b(pool, 160),
            mixed_6e=inception_b(pool, 192),
            mixed_7a=reduction_b(),
            mixed_7b=inception_c(pool),
            mixed_7c=inception_c(last_pool or pool),
        ),
        head=Head(dropout=dropout),
        aux=aux,
        num_classes=num_classes,
    )


AUX = Aux("aux", "mixed_6e", AvgPool(5, 3, "valid") >> Conv(128) >> Conv(768, 5, padding="valid") >> Head())

INCEPTION_V3 = inception_v3(
    name="inception_v3",
    publishers=("torchvision", "timm", "mmpretrain"),
    preprocess=Preprocess(resize=342),
    norm=Norm(),
    pool=AvgPool(count_include_pad=True),
    dropout=0.5,
    aux=(AUX,),
)

INCEPTION_V3_MINDCV = inception_v3(
    name="inception_v3.mindcv",
    publishers=("mindcv", "slim"),
    preprocess=Preprocess(resize=341, mean=IMAGENET_MEAN, std=IMAGENET_STD),
    norm=Norm(decay=0.9997),
    pool=AvgPool(count_include_pad=False),
    dropout=0.2,
    aux=(AUX,),
)

INCEPTION_V3_KERAS = inception_v3(
    name="inception_v3.keras",
    publishers=("keras",),
    preprocess=Preprocess(resize=341),
    norm=Norm(decay=0.99),
    pool=AvgPool(count_include_pad=False),
    dropout=0.0,
)

INCEPTION_V3_PADDLECLAS = inception_v3(
    name="inception_v3.paddleclas",
    publishers=("paddleclas",),
    preprocess=Preprocess(resize=320, mean=IMAGENET_MEAN, std=IMAGENET_STD),
    norm=Norm(eps=1e-5),
    pool=AvgPool(count_include_pad=True),
    dropout=0.2,
)

INCEPTION_V3_FID = inception_v3(
    name="inception_v3.fid",
    publishers=("torch_fidelity", "pytorch_fid"),
    preprocess=Preprocess(299, "tf1_bilinear", (128 / 255,) * 3, (128 / 255,) * 3, fit="stretch"),
    norm=Norm(),
    pool=AvgPool(count_include_pad=False),
    last_pool=MaxPool(3, 1, "half"),
    dropout=0.0,
    num_classes=1008,
)
