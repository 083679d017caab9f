"""The models, by name: `name` means the most widely used version, `name.publisher` another publisher's."""

from zoo.language.model import Model
from zoo.models.bninception import BNINCEPTION
from zoo.models.googlenet import GOOGLENET, GOOGLENET_MINDCV, GOOGLENET_PADDLECLAS, GOOGLENET_SLIM
from zoo.models.inception_resnet import INCEPTION_RESNET_V1, INCEPTION_RESNET_V2, INCEPTION_RESNET_V2_SLIM
from zoo.models.inception_v3 import (
    INCEPTION_V3,
    INCEPTION_V3_FID,
    INCEPTION_V3_KERAS,
    INCEPTION_V3_MINDCV,
    INCEPTION_V3_PADDLECLAS,
)
from zoo.models.inception_v4 import INCEPTION_V4, INCEPTION_V4_MINDCV, INCEPTION_V4_PADDLECLAS, INCEPTION_V4_SLIM
from zoo.models.xception import XCEPTION, XCEPTION_KERAS, XCEPTION_MINDCV
from zoo.models.xception_aligned import XCEPTION_ALIGNED

MODELS: dict[str, Model] = {
    model.name: model
    for model in (
        GOOGLENET,
        GOOGLENET_SLIM,
        GOOGLENET_MINDCV,
        GOOGLENET_PADDLECLAS,
        BNINCEPTION,
        INCEPTION_V3,
        INCEPTION_V3_MINDCV,
        INCEPTION_V3_KERAS,
        INCEPTION_V3_PADDLECLAS,
        INCEPTION_V3_FID,
        INCEPTION_V4,
        INCEPTION_V4_MINDCV,
        INCEPTION_V4_SLIM,
        INCEPTION_V4_PADDLECLAS,
        INCEPTION_RESNET_V1,
        INCEPTION_RESNET_V2,
        INCEPTION_RESNET_V2_SLIM,
        XCEPTION,
        XCEPTION_MINDCV,
        XCEPTION_KERAS,
        *XCEPTION_ALIGNED,
    )
}

ALIASES: dict[str, str] = {"inception_v2": "bninception", "legacy_xception": "xception"} | {
    alias: model.name
    for model in MODELS.values()
    for publisher in model.publishers[:1]
    if (alias := f"{model.name.partition('.')[0]}.{publisher}") not in MODELS
}
"""Other names of the same models, settings included: `inception_v3.torchvision` is `inception_v3`."""

PUBLISHERS: dict[str, str] = {
    "cadene": "Cadene",
    "keras": "Keras",
    "mindcv": "mindcv",
    "mmpretrain": "mmpretrain",
    "paddleclas": "PaddleClas",
    "pytorch_fid": "pytorch-fid",
    "slim": "TF-slim",
    "timm": "timm",
    "torch_fidelity": "torch-fidelity",
    "torchvision": "torchvision",
    "zhulf": "zhulf0804",
}
"""The publishers' names in text. Cadene's repository is pretrained-models.pytorch; zhulf0804's has Inception-v4 and
Inception-ResNet-v2 in PyTorch."""
