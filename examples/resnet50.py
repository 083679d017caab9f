"""ResNet-50 from outside the package: a network and the names of two publishers, in one file.

    python examples/resnet50.py resnet50.pth image.jpg --backend mindspore

This command classifies images with torchvision's or timm's weights, in any framework. The network is that of He et al.
2015, "Deep Residual Learning for Image Recognition", https://arxiv.org/abs/1512.03385, table 1. As in torchvision and
timm, the 3x3 convolution of a block has the stride ("v1.5").
"""

from __future__ import annotations

import argparse
from functools import reduce

import numpy as np

import backends
import weights
import zoo
from weights import Source, Table
from zoo.data.images import preprocess
from zoo.language import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Conv,
    Head,
    MaxPool,
    Model,
    Node,
    Norm,
    Preprocess,
    Residual,
    stages,
)


def bottleneck(channels: int, stride: int = 1, shortcut: bool = False) -> Residual:
    """A block: 1x1, 3x3, 1x1 with four times the channels; a convolution in the shortcut where the shape changes."""
    body = Conv(channels) >> Conv(channels, 3, stride) >> Conv(4 * channels, act=False)
    return Residual(body, Conv(4 * channels, 1, stride, act=False) if shortcut else None, act=True)


def layer(channels: int, blocks: int, stride: int) -> Node:
    """A column of table 1: its first block changes the shape."""
    rest = [bottleneck(channels) for _ in range(blocks - 1)]
    return reduce(lambda before, after: before >> after, rest, bottleneck(channels, stride, shortcut=True))


RESNET50 = zoo.register(
    Model(
        name="resnet50",
        paper="arXiv:1512.03385",
        publishers=("torchvision", "timm"),
        stages=stages(
            conv1=Conv(64, 7, 2),
            maxpool=MaxPool(3, 2),
            layer1=layer(64, 3, stride=1),
            layer2=layer(128, 4, stride=2),
            layer3=layer(256, 6, stride=2),
            layer4=layer(512, 3, stride=2),
        ),
        head=Head(),
        norm=Norm(eps=1e-5),
        preprocess=Preprocess(resize=256, mean=IMAGENET_MEAN, std=IMAGENET_STD),
        size=224,
    )
)

NAMES = Table(
    (
        ("conv1", "conv1.conv"),
        ("bn1", "conv1.bn"),
        *(
            (f"layer{k}.{{0..{last}}}.{kind}{{1..3}}", f"layer{k}.{{0..{last}}}.body.{{0..2}}.{kind}")
            for k, last in enumerate((2, 3, 5, 2), 1)
            for kind in ("conv", "bn")
        ),
        ("layer{1..4}.0.downsample.{0,1}", "layer{1..4}.0.shortcut.{conv,bn}"),
        ("fc", "head.fc"),
    )
)

for publisher in RESNET50.publishers:
    weights.register(publisher, Source("torch", {"resnet50": NAMES}))


def main() -> None:
    parser = argparse.ArgumentParser(description="Classify images with ResNet-50, in any framework.")
    parser.add_argument("checkpoint", help="torchvision's or timm's file")
    parser.add_argument("images", nargs="+")
    parser.add_argument("--backend", default="torch", choices=backends.BACKENDS)
    arguments = parser.parse_args()
    net = zoo.build("resnet50", arguments.backend, checkpoint=arguments.checkpoint)
    batch = np.stack([preprocess(net.spec, path) for path in arguments.images])
    logits = backends.get(arguments.backend).predict(net, batch)["logits"]
    for path, row in zip(arguments.images, logits, strict=True):
        print(path, *np.argsort(-row)[:5])


if __name__ == "__main__":
    main()
