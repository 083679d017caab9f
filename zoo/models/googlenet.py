"""GoogLeNet (Inception-v1): Szegedy et al. 2014, "Going Deeper with Convolutions",
https://arxiv.org/abs/1409.4842, figures 2 and 3, table 1.

Stages have TF-slim's names, one letter and level later than the paper's: inception (3a) is `mixed_3b`, (4e) is
`mixed_4f`, (5b) is `mixed_5c`. The networks share their widths and little else:

                      googlenet     googlenet.slim  googlenet.mindcv   googlenet.paddleclas
                      (torchvision) (TF-slim)       (the paper's own)
    batch norm        yes           yes             none               none
    ReLU              after each convolution                           after the concat only; none in the stem
    "5x5" kernels     3x3: TF-slim's old mistake    5x5                5x5
    first border      half          same            same               half
    shrinking pools   ceil          same            same               valid
    last max pool     2x2           2x2             2x2                3x3, as in the paper
    auxiliary pools   adaptive, 4x4 (no heads)      5x5, stride 3      5x5, stride 3; the second head has no ReLU
"""

from zoo.language.blocks import block
from zoo.language.model import IMAGENET_MEAN, IMAGENET_STD, Aux, Model, Norm, Preprocess, stages
from zoo.language.nodes import AdaptiveAvgPool, AvgPool, Conv, Head, MaxPool, Node, PoolPadding, Relu, concat


@block
def inception(c1: int, c3_reduce: int, c3: int, c5_reduce: int, c5: int, pool: int, *, big: int, act: bool) -> Node:
    """Figure 2b; the six widths are in the order of table 1, and `big` is the kernel of its "5x5" column.

    With `act` every convolution has its ReLU, otherwise only the concatenation has one.
    """
    block = concat(
        Conv(c1, act=act),
        Conv(c3_reduce, act=act) >> Conv(c3, 3, act=act),
        Conv(c5_reduce, act=act) >> Conv(c5, big, act=act),
        MaxPool() >> Conv(pool, act=act),
    )
    return block if act else block >> Relu()


def aux_head(name: str, after: str, pool: Node, act: bool = True, hidden_act: bool = True) -> Aux:
    """Section 5: average pool to 4x4, 1x1 convolution, 1024 hidden units, 70% dropout."""
    return Aux(name, after, pool >> Conv(128, act=act) >> Head(dropout=0.7, hidden=1024, pool=False, act=hidden_act))


def googlenet(
    name: str,
    publishers: tuple[str, ...],
    preprocess: Preprocess,
    norm: Norm | None,
    *,
    stem: Conv,
    shrink: PoolPadding,
    last_pool: int,
    big: int,
    aux: tuple[Aux, ...],
    act: bool = True,
    dropout: float = 0.2,
) -> Model:
    return Model(
        name=name,
        paper="arXiv:1409.4842",
        publishers=publishers,
        preprocess=preprocess,
        norm=norm,
        size=224,
        stages=stages(
            conv2d_1a_7x7=stem,
            maxpool_2a_3x3=MaxPool(3, 2, shrink),
            conv2d_2b_1x1=Conv(64, act=act),
            conv2d_2c_3x3=Conv(192, 3, act=act),
            maxpool_3a_3x3=MaxPool(3, 2, shrink),
            mixed_3b=inception(64, 96, 128, 16, 32, 32, big=big, act=act),
            mixed_3c=inception(128, 128, 192, 32, 96, 64, big=big, act=act),
            maxpool_4a_3x3=MaxPool(3, 2, shrink),
            mixed_4b=inception(192, 96, 208, 16, 48, 64, big=big, act=act),
            mixed_4c=inception(160, 112, 224, 24, 64, 64, big=big, act=act),
            mixed_4d=inception(128, 128, 256, 24, 64, 64, big=big, act=act),
            mixed_4e=inception(112, 144, 288, 32, 64, 64, big=big, act=act),
            mixed_4f=inception(256, 160, 320, 32, 128, 128, big=big, act=act),
            maxpool_5a=MaxPool(last_pool, 2, shrink),
            mixed_5b=inception(256, 160, 320, 32, 128, 128, big=big, act=act),
            mixed_5c=inception(384, 192, 384, 48, 128, 128, big=big, act=act),
        ),
        head=Head(dropout=dropout),
        aux=aux,
    )


GOOGLENET = googlenet(
    name="googlenet",
    publishers=("torchvision",),
    preprocess=Preprocess(resize=256),
    norm=Norm(),
    stem=Conv(64, 7, 2),
    shrink="ceil",
    last_pool=2,
    big=3,
    aux=(aux_head("aux1", "mixed_4b", AdaptiveAvgPool(4)), aux_head("aux2", "mixed_4e", AdaptiveAvgPool(4))),
)

GOOGLENET_SLIM = googlenet(
    name="googlenet.slim",
    publishers=("slim",),
    preprocess=Preprocess(resize=256),
    norm=Norm(decay=0.9997),
    stem=Conv(64, 7, 2, "same"),
    shrink="same",
    last_pool=2,
    big=3,
    aux=(),
)

GOOGLENET_MINDCV = googlenet(
    name="googlenet.mindcv",
    publishers=("mindcv",),
    preprocess=Preprocess(resize=256, mean=IMAGENET_MEAN, std=IMAGENET_STD),
    norm=None,
    stem=Conv(64, 7, 2, "same"),
    shrink="same",
    last_pool=2,
    big=5,
    aux=(aux_head("aux1", "mixed_4b", AvgPool(5, 3, "valid")), aux_head("aux2", "mixed_4e", AvgPool(5, 3, "valid"))),
)

GOOGLENET_PADDLECLAS = googlenet(
    name="googlenet.paddleclas",
    publishers=("paddleclas",),
    preprocess=Preprocess(resize=256, mean=IMAGENET_MEAN, std=IMAGENET_STD),
    norm=None,
    stem=Conv(64, 7, 2, act=False),
    shrink="valid",
    last_pool=3,
    big=5,
    aux=(
        aux_head("aux1", "mixed_4b", AvgPool(5, 3, "valid"), act=False),
        aux_head("aux2", "mixed_4e", AvgPool(5, 3, "valid"), act=False, hidden_act=False),
    ),
    act=False,
    dropout=0.4,
)
