"""BN-Inception (Inception-v2): Ioffe and Szegedy 2015, "Batch Normalization", https://arxiv.org/abs/1502.03167,
figure 5, as converted from Caffe by Cadene.

Convolutions have a bias beside their batch norm; the pool projections of (4c) and (4d) are 128 wide where the paper
has 96; shrinking pools are in ceil mode. Stages have TF-slim's names, a letter later than the paper's: inception (3a)
is `mixed_3b`, (3c) is `mixed_4a`, (4e) is `mixed_5a`. The input is BGR from 0 to 255, minus a mean. Ceil-mode pools and
strided convolutions give the same size only for some input sizes: 224 fits, 299 does not.
"""

from zoo.language.blocks import block
from zoo.language.model import Model, Norm, Preprocess, stages
from zoo.language.nodes import AvgPool, Concat, Conv, Head, MaxPool, concat


def conv(channels: int, kernel: int = 1, stride: int = 1) -> Conv:
    return Conv(channels, kernel, stride, bias=True)


@block
def inception(
    c1: int, c3_reduce: int, c3: int, double_reduce: int, double: int, pool: int, max_pool: bool = False
) -> Concat:
    """A row of the table in figure 5, in its order; the pool is an average unless `max_pool`."""
    return concat(
        conv(c1),
        conv(c3_reduce) >> conv(c3, 3),
        conv(double_reduce) >> conv(double, 3) >> conv(double, 3),
        (MaxPool() if max_pool else AvgPool(count_include_pad=True)) >> conv(pool),
    )


@block
def reduction(c3_reduce: int, c3: int, double_reduce: int, double: int) -> Concat:
    """Stride 2, without a 1x1 branch and pool projection."""
    return concat(
        conv(c3_reduce) >> conv(c3, 3, 2),
        conv(double_reduce) >> conv(double, 3) >> conv(double, 3, 2),
        MaxPool(3, 2, "ceil"),
    )


BNINCEPTION = Model(
    name="bninception",
    paper="arXiv:1502.03167",
    publishers=("cadene",),
    preprocess=Preprocess(
        resize=256, mean=(104 / 255, 117 / 255, 128 / 255), std=(1 / 255, 1 / 255, 1 / 255), channels="BGR"
    ),
    norm=Norm(eps=1e-5),
    size=224,
    stages=stages(
        conv2d_1a_7x7=conv(64, 7, 2),
        maxpool_2a_3x3=MaxPool(3, 2, "ceil"),
        conv2d_2b_1x1=conv(64),
        conv2d_2c_3x3=conv(192, 3),
        maxpool_3a_3x3=MaxPool(3, 2, "ceil"),
        mixed_3b=inception(64, 64, 64, 64, 96, 32),
        mixed_3c=inception(64, 64, 96, 64, 96, 64),
        mixed_4a=reduction(128, 160, 64, 96),
        mixed_4b=inception(224, 64, 96, 96, 128, 128),
        mixed_4c=inception(192, 96, 128, 96, 128, 128),
        mixed_4d=inception(160, 128, 160, 128, 160, 128),
        mixed_4e=inception(96, 128, 192, 160, 192, 128),
        mixed_5a=reduction(128, 192, 192, 256),
        mixed_5b=inception(352, 192, 320, 160, 224, 128),
        mixed_5c=inception(352, 192, 320, 192, 224, 128, max_pool=True),
    ),
    head=Head(),
)
