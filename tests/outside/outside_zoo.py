"""A small network for small images, and the names that its author's PyTorch files have."""

from weights import Source, Table
from zoo.language import AvgPool, Conv, Depthwise, Head, MaxPool, Model, Norm, Preprocess, Residual, concat, stages

SMALL = Model(
    name="outside",
    stages=stages(
        stem=Conv(16, 3, 2),
        mixed=concat(Conv(8), Conv(8) >> Conv(16, 3), AvgPool() >> Conv(8)),
        block=Residual(Depthwise() >> Conv(32, act=False), scale=0.5, act=True) >> MaxPool(3, 2),
    ),
    head=Head(dropout=0.2),
    preprocess=Preprocess(resize=36),
    norm=Norm(eps=3e-4, decay=0.95),
    size=32,
    num_classes=10,
)

SOURCE = Source(
    "torch",
    {
        "outside": Table(
            (
                ("net.0", "stem"),
                ("net.1.a", "mixed.branch0"),
                ("net.1.b.{0,1}", "mixed.branch1.{0,1}"),
                ("net.1.c", "mixed.branch2.1"),
                ("net.2.depthwise", "block.0.body.0"),
                ("net.2.pointwise", "block.0.body.1"),
                ("classifier", "head.fc"),
            )
        )
    },
)
