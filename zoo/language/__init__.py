"""The spec language: a network as a value, and everything that can be known about it without a tensor.

    from zoo.language import Conv, Head, MaxPool, Model, Preprocess, Residual, concat, stages

Leaves and combinators are in `nodes`, the Model in `model`. `trace` infers shapes and names, `document` reads and
writes JSON, and `diff` compares specs. `rewrites` changes a model and its weights but not the function that they
compute, and `interpreter` is the float64 reference. Only these two need NumPy; nothing needs a framework.
"""

from zoo.language.document import from_json, to_json
from zoo.language.model import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Aux,
    Model,
    Norm,
    Preprocess,
    Stage,
    configure,
    stages,
)
from zoo.language.nodes import (
    AdaptiveAvgPool,
    AvgPool,
    Chain,
    Concat,
    Conv,
    Depthwise,
    Head,
    MaxPool,
    Node,
    NormRelu,
    Relu,
    Residual,
    concat,
    repeat,
)

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "AdaptiveAvgPool",
    "Aux",
    "AvgPool",
    "Chain",
    "Concat",
    "Conv",
    "Depthwise",
    "Head",
    "MaxPool",
    "Model",
    "Node",
    "Norm",
    "NormRelu",
    "Preprocess",
    "Relu",
    "Residual",
    "Stage",
    "concat",
    "configure",
    "from_json",
    "repeat",
    "stages",
    "to_json",
]
