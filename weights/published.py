"""Addresses of the publishers' trained weights, their published accuracies, and downloading them.

Addresses and digests are those in the publishers' own sources: torchvision, timm (its files on the Hugging Face hub),
pretrained-models.pytorch, mindcv, PaddleClas, Keras. By PyTorch's convention, a name such as googlenet-1378be20.pth has
the first digits of the file's SHA-256; Keras gives MD5 sums. Other files are only checked by `weights.open_checkpoint`,
against the network's names and shapes.
"""

from __future__ import annotations

import re
from pathlib import Path

from zoo.catalogue import models
from zoo.errors import WeightsError
from zoo.files import cache_folder
from zoo.language.diff import same_network
from zoo.language.model import Model

TORCHVISION = "https://download.pytorch.org/models/"
TIMM = "https://huggingface.co/timm/{}/resolve/main/model.safetensors"
CADENE = "http://data.lip6.fr/cadene/pretrainedmodels/"
MINDCV = "https://download.mindspore.cn/toolkits/mindcv/"
PADDLECLAS = "https://paddle-imagenet-models-name.bj.bcebos.com/dygraph/"
KERAS = "https://storage.googleapis.com/tensorflow/keras-applications/"

URLS: dict[str, dict[str, str]] = {
    "googlenet": {"torchvision": TORCHVISION + "googlenet-1378be20.pth"},
    "googlenet.mindcv": {"mindcv": MINDCV + "googlenet/googlenet-5552fcd3.ckpt"},
    "googlenet.paddleclas": {"paddleclas": PADDLECLAS + "GoogLeNet_pretrained.pdparams"},
    "bninception": {"cadene": CADENE + "bn_inception-52deb4733.pth"},
    "inception_v3": {
        "torchvision": TORCHVISION + "inception_v3_google-0cc3c7bd.pth",
        "timm": TIMM.format("inception_v3.tv_in1k"),
    },
    "inception_v3.mindcv": {"mindcv": MINDCV + "inception_v3/inception_v3-38f67890.ckpt"},
    "inception_v3.paddleclas": {"paddleclas": PADDLECLAS + "legendary_models/InceptionV3_pretrained.pdparams"},
    "inception_v3.keras": {"keras": KERAS + "inception_v3/inception_v3_weights_tf_dim_ordering_tf_kernels.h5"},
    "inception_v4": {
        "timm": TIMM.format("inception_v4.tf_in1k"),
        "cadene": CADENE + "inceptionv4-8e4777a0.pth",
        "mindcv": MINDCV + "inception_v4/inception_v4-db9c45b3.ckpt",
    },
    "inception_v4.paddleclas": {"paddleclas": PADDLECLAS + "InceptionV4_pretrained.pdparams"},
    "inception_resnet_v2": {
        "timm": TIMM.format("inception_resnet_v2.tf_in1k"),
        "cadene": CADENE + "inceptionresnetv2-520b38e4.pth",
        "keras": KERAS + "inception_resnet_v2/inception_resnet_v2_weights_tf_dim_ordering_tf_kernels.h5",
    },
    "xception": {
        "timm": TIMM.format("legacy_xception.tf_in1k"),
        "cadene": CADENE + "xception-43020ad28.pth",
    },
    "xception.mindcv": {"mindcv": MINDCV + "xception/xception-2c1e711df.ckpt"},
    "xception.keras": {"keras": KERAS + "xception/xception_weights_tf_dim_ordering_tf_kernels.h5"},
    **{
        f"xception{depth}": {"timm": TIMM.format(f"xception{depth}.{recipe}_in1k")}
        for depth, recipe in (("41", "tf"), ("65", "tf"), ("71", "tf"), ("41p", "ra3"), ("65p", "ra3"))
    },
    **{
        f"xception{depth}.paddleclas{tail}": {
            "paddleclas": f"{PADDLECLAS}Xception{depth}{tail}_pretrained.pdparams",
        }
        for depth, tail in (("41", ""), ("65", ""), ("71", ""), ("41", "_deeplab"), ("65", "_deeplab"))
    },
}
"""For each network, the address of each publisher's weights, the default first."""

TOP1: dict[str, dict[str, float]] = {
    "googlenet": {"torchvision": 69.78},
    "googlenet.mindcv": {"mindcv": 72.89},
    "googlenet.paddleclas": {"paddleclas": 70.7},
    "inception_v3": {"torchvision": 77.29, "timm": 77.47, "mmpretrain": 77.57},
    "inception_v3.mindcv": {"mindcv": 79.25},
    "inception_v3.paddleclas": {"paddleclas": 79.1},
    "inception_v4": {"timm": 80.14, "mindcv": 80.98},
    "inception_v4.paddleclas": {"paddleclas": 80.8},
    "inception_resnet_v2": {"timm": 80.43},
    "xception": {"timm": 79.06},
    "xception.mindcv": {"mindcv": 76.31},
    "xception41": {"timm": 78.55},
    "xception65": {"timm": 79.56},
    "xception71": {"timm": 79.92},
    "xception41p": {"timm": 81.98},
    "xception65p": {"timm": 83.16},
    "xception41.paddleclas": {"paddleclas": 79.3},
    "xception65.paddleclas": {"paddleclas": 81.0},
    "xception71.paddleclas": {"paddleclas": 81.1},
    "xception41.paddleclas_deeplab": {"paddleclas": 79.6},
    "xception65.paddleclas_deeplab": {"paddleclas": 80.3},
}
"""Top-1 accuracy on ImageNet's validation images, in percent, of the weights of `URLS`, as the publishers state it: in
timm's results-imagenet.csv, torchvision's and mmpretrain's lists of models, mindcv's and PaddleClas's tables. They have
not been measured here."""

MD5 = {
    "inception_v3_weights_tf_dim_ordering_tf_kernels.h5": "9a0d58056eeedaa3f26cb7ebd46da564",
    "inception_resnet_v2_weights_tf_dim_ordering_tf_kernels.h5": "e693bd0210a403b3192acc6073ad2e96",
    "xception_weights_tf_dim_ordering_tf_kernels.h5": "0a58e3b7378bc2990ea3b43d5981f1f6",
}


def top1(model: Model) -> float | None:
    """The published top-1 accuracy, in percent, of the first publisher's weights for exactly this network.

    None where none is known, and for a variant: another width, input size or number of classes.
    """
    figures = TOP1.get(model.name)
    published = models().get(model.name)
    if figures is None or published is None or not same_network(model, published) or model.size != published.size:
        return None
    return next(iter(figures.values()))


def fetch(model: str, source: str | bool = True, folder: str | Path | None = None) -> Path:
    """The path of a network's published weights, downloaded unless they are in the cache.

    source   a publisher; True: the first in `URLS`
    folder   the cache, by default $ZOO_CACHE or the user's cache folder

    An interrupted download is continued the next time. Raises WeightsError when the network has no such publisher, or
    when the file cannot be downloaded or is damaged; the message says how to use a file of your own instead.
    """
    import pooch

    from zoo.download import retrieve
    from zoo.errors import InputError

    urls = URLS.get(model, {})
    if not urls:
        raise WeightsError(f"{model}: nobody has published weights of it; there are some of {', '.join(URLS)}")
    name = next(iter(urls)) if source is True else source
    if name not in urls:
        raise WeightsError(f"{model}: no published weights of {name!r}: expected {', '.join(urls)}")
    url = urls[str(name)]
    folder = Path(folder or cache_folder())
    file = url.rpartition("/")[2]
    file = f"{url.split('/')[4]}.safetensors" if file == "model.safetensors" else file
    instead = "give a checkpoint of any publisher, with --ckpt_path FILE or zoo.build(checkpoint=FILE)"
    known = f"md5:{MD5[file]}" if file in MD5 else None
    digits = re.search(r"-([0-9a-f]{8,})\.pth$", file)
    try:
        path = retrieve(url, folder, file, known, instead)
    except InputError as error:
        raise WeightsError(f"{model}: {error}") from None
    if digits and not pooch.file_hash(str(path)).startswith(digits[1]):
        path.unlink()
        raise WeightsError(
            f"{model}: {url}: the SHA-256 of the downloaded file does not begin with {digits[1]}; {instead}"
        )
    return path
