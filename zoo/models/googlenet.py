"""GoogLeNet (Inception-v1): Szegedy et al. 2014, "Going Deeper with Convolutions",
https://arxiv.org/abs/1409.4842, figures 2 and 3, table 1.

Stages carry TF-slim's names, one letter and level later than the paper's: inception (3a) is `mixed_3b`, (4e) is
`mixed_4f`, (5b) is `mixed_5c`. The two networks differ in almost everything but their widths:

                        googlenet (torchvision)              googlenet.mindcv (the paper's own)
    batch norm          yes                                  none
    "5x5" kernels       3x3, an old mistake kept by all      5x5
                        ports of TF-slim's weights
    borders             half, pools in ceil mode             TensorFlow's SAME throughout
    last max pool       2x2                                  2x2 (the paper: 3x3)
    auxiliary pools     adaptive, to 4x4                     5x5, stride 3, valid
"""

from zoo.model import Aux, Model, Norm, Preprocess, stages
from zoo.nodes import AdaptiveAvgPool, AvgPool, Concat, Conv, Head, MaxPool, Node, concat


def inception(c1: int, c3_reduce: int, c3: int, c5_reduce: int, c5: int, pool: int, *, big: int) -> Concat:
    """Figure 2b; the six widths stand in the order of table 1, `big` is the kernel of its "5x5" column."""
    return concat(
        Conv(c1),
        Conv(c3_reduce) >> Conv(c3, 3),
        Conv(c5_reduce) >> Conv(c5, big),
        MaxPool() >> Conv(pool),
    )


def aux_head(name: str, after: str, pool: Node) -> Aux:
    """Section 5: average pool to 4x4, 1x1 convolution, 1024 hidden units, 70% dropout."""
    return Aux(name, after, pool >> Conv(128) >> Head(dropout=0.7, hidden=1024, pool=False))


def googlenet(
    name: str,
    publishers: tuple[str, ...],
    preprocess: Preprocess,
    norm: Norm | None,
    stem: Conv,
    shrink3: MaxPool,
    shrink2: MaxPool,
    big: int,
    aux_pool: Node,
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
            maxpool_2a_3x3=shrink3,
            conv2d_2b_1x1=Conv(64),
            conv2d_2c_3x3=Conv(192, 3),
            maxpool_3a_3x3=shrink3,
            mixed_3b=inception(64, 96, 128, 16, 32, 32, big=big),
            mixed_3c=inception(128, 128, 192, 32, 96, 64, big=big),
            maxpool_4a_3x3=shrink3,
            mixed_4b=inception(192, 96, 208, 16, 48, 64, big=big),
            mixed_4c=inception(160, 112, 224, 24, 64, 64, big=big),
            mixed_4d=inception(128, 128, 256, 24, 64, 64, big=big),
            mixed_4e=inception(112, 144, 288, 32, 64, 64, big=big),
            mixed_4f=inception(256, 160, 320, 32, 128, 128, big=big),
            maxpool_5a_2x2=shrink2,
            mixed_5b=inception(256, 160, 320, 32, 128, 128, big=big),
            mixed_5c=inception(384, 192, 384, 48, 128, 128, big=big),
        ),
        head=Head(dropout=0.2),
        aux=(aux_head("aux1", "mixed_4b", aux_pool), aux_head("aux2", "mixed_4e", aux_pool)),
    )


GOOGLENET = googlenet(
    name="googlenet",
    publishers=("torchvision",),
    preprocess=Preprocess(resize=256),
    norm=Norm(),
    stem=Conv(64, 7, 2),
    shrink3=MaxPool(3, 2, "ceil"),
    shrink2=MaxPool(2, 2, "ceil"),
    big=3,
    aux_pool=AdaptiveAvgPool(4),
)

GOOGLENET_MINDCV = googlenet(
    name="googlenet.mindcv",
    publishers=("mindcv",),
    preprocess=Preprocess(resize=256, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    norm=None,
    stem=Conv(64, 7, 2, "same"),
    shrink3=MaxPool(3, 2, "same"),
    shrink2=MaxPool(2, 2, "same"),
    big=5,
    aux_pool=AvgPool(5, 3, "valid"),
)
