"""Published weights: one row for each file that a publisher offers, with its address, preprocessing and accuracy.

A row's name is NETWORK.TAG. timm's rows have timm's names ("inception_v3.tf_adv_in1k"); those of the others are the
network, the publisher, and the data that the weights are trained on ("xception.keras_in1k"). zhulf0804's weights have
no address from which a program can download them, and TF-slim's files are in a format that is not read here.

Addresses and digests are those in the publishers' own sources. By PyTorch's and mindcv's conventions, the last part of
a name such as googlenet-1378be20.pth is the first digits of the file's SHA-256; Keras gives MD5 sums. A file
without a digest is only checked against the network's names and shapes, by `weights.open_checkpoint`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from zoo.catalogue import models
from zoo.errors import WeightsError
from zoo.language.diff import same_network
from zoo.language.model import IMAGENET_MEAN, IMAGENET_STD, Model, Preprocess
from zoo.language.trace import trace
from zoo.models import ALIASES, MODELS

HUB = "hf-hub:"
"""The prefix of addresses of folders of the Hugging Face hub: hf-hub:OWNER/NAME[@REVISION]."""


@dataclass(frozen=True)
class Published:
    """A file of weights.

    name         NETWORK.TAG
    model        the network's name here
    source       the publisher, a key of `weights.all_sources()`
    address      a URL, or hf-hub:OWNER/NAME
    preprocess   how the publisher feeds these weights in evaluation
    licence      SPDX identifier of the licence under which the publisher gives them away
    classes      1001 where the first class is the background; 0 for a file without a classifier
    top1, top5   accuracy on ImageNet's validation images, in percent, as the publisher states it; not measured here
    figure       where the publisher states it
    aux          whether the file has the network's auxiliary heads
    digest       "md5:...", or "sha256:" and the first digits; "" where the publisher gives none
    note         what else to know before using it
    """

    name: str
    model: str
    source: str
    address: str
    preprocess: Preprocess
    licence: str
    classes: int = 1000
    top1: float | None = None
    top5: float | None = None
    figure: str = ""
    aux: bool = False
    digest: str = ""
    note: str = ""

    @property
    def file(self) -> str:
        """The name of the file, or OWNER/NAME of a folder of the hub."""
        return self.address.removeprefix(HUB) if self.address.startswith(HUB) else self.address.rpartition("/")[2]

    @property
    def spec(self) -> Model:
        """The network with this row's preprocessing."""
        return replace(MODELS[self.model], preprocess=self.preprocess)

    @property
    def size(self) -> int:
        """Side of the input, in pixels."""
        return MODELS[self.model].size

    @property
    def bytes(self) -> int:
        """About how large the file is: four bytes for each element of its tensors."""
        spec = self.spec if self.aux else replace(self.spec, aux=())
        if self.classes:
            spec = replace(spec, num_classes=self.classes)
        else:
            spec = replace(spec, head=None, taps=(spec.stages[-1].name,))
        traced = trace(spec)
        return 4 * (traced.trainable + traced.buffers)


def _digest(address: str) -> str:
    """The first digits of the SHA-256 that a file's name ends with, by PyTorch's and mindcv's conventions."""
    digits = re.search(r"-([0-9a-f]{8,})(-910v2)?\.(pth|ckpt)$", address)
    return f"sha256:{digits[1]}" if digits else ""


HALF, IMAGENET = ((0.5,) * 3, (0.5,) * 3), (IMAGENET_MEAN, IMAGENET_STD)


LEGACY_XCEPTION = (
    "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-cadene/xception-43020ad28.pth"
)
"""The address in timm's source for the weights of this network; those of its other networks are on the hub."""


def _timm() -> Iterator[Published]:
    figure = "timm's results/results-imagenet.csv, commit aa4b5850"
    for name, resize, top1, top5 in (
        ("inception_v3.tv_in1k", 341, 77.472, 93.468),
        ("inception_v3.tf_in1k", 341, 77.866, 93.644),
        ("inception_v3.tf_adv_in1k", 341, 77.598, 93.726),
        ("inception_v3.gluon_in1k", 341, 78.806, 94.372),
        ("inception_v4.tf_in1k", 341, 80.144, 94.982),
        ("inception_resnet_v2.tf_in1k", 333, 80.434, 95.312),
        ("inception_resnet_v2.tf_ens_adv_in1k", 333, 79.998, 94.940),
        ("legacy_xception.tf_in1k", 333, 79.058, 94.396),
        ("xception41.tf_in1k", 331, 78.550, 94.282),
        ("xception65.ra3_in1k", 318, 83.186, 96.596),
        ("xception65.tf_in1k", 331, 79.558, 94.656),
        ("xception71.tf_in1k", 331, 79.920, 94.908),
        ("xception41p.ra3_in1k", 318, 81.978, 95.784),
        ("xception65p.ra3_in1k", 318, 83.160, 96.506),
    ):
        network, _, tag = name.partition(".")
        mean, std = IMAGENET if tag == "gluon_in1k" else HALF
        yield Published(
            name,
            ALIASES.get(network, network),
            "timm",
            LEGACY_XCEPTION if network == "legacy_xception" else f"{HUB}timm/{name}",
            Preprocess(resize, "bicubic", mean, std),
            "Apache-2.0",
            top1=top1,
            top5=top5,
            figure=figure,
            aux=tag == "tv_in1k",
            note=NOTES.get(name, ""),
        )


NOTES = {
    "inception_v3.tv_in1k": "torchvision's weights",
    "inception_v3.tf_in1k": "ported from TF-slim, whose average pools do not count padding; timm's do",
    "inception_v3.tf_adv_in1k": "as tf_in1k, from adversarial training, arXiv:1611.01236",
    "inception_v3.gluon_in1k": "ported from GluonCV",
    "inception_resnet_v2.tf_ens_adv_in1k": "from ensemble adversarial training, arXiv:1705.07204",
    "legacy_xception.tf_in1k": "Cadene's weights",
}
"""Notes on timm's rows."""


def _others() -> Iterator[Published]:
    """The rows of all publishers but timm, grouped by publisher."""
    torchvision = "https://download.pytorch.org/models/"
    for network, file, resize, top1, top5 in (
        ("googlenet", "googlenet-1378be20.pth", 256, 69.778, 89.530),
        ("inception_v3", "inception_v3_google-0cc3c7bd.pth", 342, 77.294, 93.450),
    ):
        yield Published(
            f"{network}.torchvision_in1k", network, "torchvision", torchvision + file, Preprocess(resize),
            "BSD-3-Clause", 1000, top1, top5, "torchvision's documentation, version 0.28", aux=True,
            note="its auxiliary heads are not trained" if network == "googlenet" else "",
        )  # fmt: skip

    cadene = "http://data.lip6.fr/cadene/pretrainedmodels/"
    readme = "README of pretrained-models.pytorch, commit 8aae3d8f"
    for network, file, classes, top1, top5 in (
        ("bninception", "bn_inception-52deb4733.pth", 1000, 73.524, 91.562),
        ("inception_v4", "inceptionv4-8e4777a0.pth", 1001, 80.062, 94.926),
        ("inception_resnet_v2", "inceptionresnetv2-520b38e4.pth", 1001, 80.170, 95.234),
        ("xception", "xception-43020ad28.pth", 1000, 78.888, 94.292),
    ):
        how = MODELS[network].preprocess
        yield Published(
            f"{network}.cadene_in1k", network, "cadene", cadene + file, replace(how, interpolation="bilinear"),
            "BSD-3-Clause", classes, top1, top5, readme,
        )  # fmt: skip

    mindcv = "https://download.mindspore.cn/toolkits/mindcv/"
    newer = "https://download-mindspore.osinfra.cn/toolkits/mindcv/"
    for network, tag, address, commit, top1, top5 in (
        ("googlenet", "", f"{mindcv}googlenet/googlenet-5552fcd3.ckpt", "04d32930", 72.68, 90.89),
        ("googlenet", "_910v2", f"{newer}googlenet/googlenet-de74c31d-910v2.ckpt", "51b0636d", 72.89, 90.89),
        ("inception_v3", "", f"{mindcv}inception_v3/inception_v3-38f67890.ckpt", "04d32930", 79.11, 94.40),
        ("inception_v3", "_910v2", f"{newer}inception_v3/inception_v3-61a8e9ed-910v2.ckpt", "51b0636d", 79.25, 94.47),
        ("inception_v4", "", f"{mindcv}inception_v4/inception_v4-db9c45b3.ckpt", "04d32930", 80.88, 95.34),
        ("inception_v4", "_910v2", f"{newer}inception_v4/inception_v4-56e798fc-910v2.ckpt", "51b0636d", 80.98, 95.25),
        ("xception", "", f"{mindcv}xception/xception-2c1e711df.ckpt", "009aaebe", 79.01, 94.25),
        ("xception", "_v2", f"{newer}xception/xception-174_5004_v2.ckpt", "51b0636d", 76.31, 92.80),
    ):
        folder = {"inception_v3": "inceptionv3", "inception_v4": "inceptionv4"}.get(network, network)
        yield Published(
            f"{network}.mindcv{tag}_in1k", f"{network}.mindcv", "mindcv", address,
            MODELS[f"{network}.mindcv"].preprocess, "Apache-2.0", 1000, top1, top5,
            f"mindcv's configs/{folder}/README.md, commit {commit}", aux=network in ("googlenet", "inception_v3"),
            note="its README says 224 pixels, its recipe 299" if tag == "_v2" else "",
        )  # fmt: skip

    paddleclas = "https://paddle-imagenet-models-name.bj.bcebos.com/dygraph/"
    table = "PaddleClas's docs/zh_CN/models/ImageNet1k/README.md, commit d178931f"
    for network, tail, file, top1, top5 in (
        ("googlenet", "", "GoogLeNet", 70.70, 89.66),
        ("inception_v3", "", "legendary_models/InceptionV3", 79.14, 94.59),
        ("inception_v4", "", "InceptionV4", 80.77, 95.26),
        ("xception41", "", "Xception41", 79.30, 94.53),
        ("xception41", "_deeplab", "Xception41_deeplab", 79.55, 94.38),
        ("xception65", "", "Xception65", 81.00, 95.49),
        ("xception65", "_deeplab", "Xception65_deeplab", 80.32, 94.49),
        ("xception71", "", "Xception71", 81.11, 95.45),
    ):
        flavour = f"{network}.paddleclas{tail}"
        yield Published(
            f"{flavour}_in1k", flavour, "paddleclas", f"{paddleclas}{file}_pretrained.pdparams",
            MODELS[flavour].preprocess, "Apache-2.0", 1000, top1, top5, table, aux=network == "googlenet",
        )  # fmt: skip

    keras = "https://storage.googleapis.com/tensorflow/keras-applications/"
    for network, model, top1, top5, md5, bare_md5 in (
        ("inception_v3", "inception_v3.keras", 77.9, 93.7,
         "9a0d58056eeedaa3f26cb7ebd46da564", "bcbd6486424b2319ff4ef7d526e38f63"),
        ("inception_resnet_v2", "inception_resnet_v2", 80.3, 95.3,
         "e693bd0210a403b3192acc6073ad2e96", "d19885ff4a710c122648d3b5c3b684e4"),
        ("xception", "xception.keras", 79.0, 94.5,
         "0a58e3b7378bc2990ea3b43d5981f1f6", "b0042744bf5b25fce3cb969f33bebb97"),
    ):  # fmt: skip
        address = f"{keras}{network}/{network}_weights_tf_dim_ordering_tf_kernels"
        row = Published(
            f"{network}.keras_in1k", model, "keras", f"{address}.h5", Preprocess(341), "Apache-2.0", 1000, top1, top5,
            "keras.io/api/applications", digest=f"md5:{md5}",
        )  # fmt: skip
        yield row
        yield replace(
            row, name=f"{network}.keras_notop", address=f"{address}_notop.h5", classes=0, top1=None, top5=None,
            figure="", digest=f"md5:{bare_md5}", note="without a classifier: give num_classes",
        )  # fmt: skip

    releases = "https://github.com/{}-2015-12-05-6726825d.pth"
    for name, source, path in (
        ("torch_fidelity_2015", "torch_fidelity", "toshas/torch-fidelity/releases/download/v0.2.0/weights-inception"),
        ("pytorch_fid_2015", "pytorch_fid", "mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception"),
    ):
        how = MODELS["inception_v3.fid"].preprocess
        if source == "pytorch_fid":
            how = Preprocess(299, "torch_bilinear", fit="stretch")
        yield Published(
            f"inception_v3.{name}", "inception_v3.fid", source, releases.format(path), how, "Apache-2.0", 1008,
            note="Google's graph of 2015-12-05, for FID",
        )  # fmt: skip

    yield Published(
        "inception_v3.mmpretrain_in1k", "inception_v3", "mmpretrain",
        "https://download.openmmlab.com/mmclassification/v0/inception-v3/"
        "inception-v3_3rdparty_8xb32_in1k_20220615-dcd4d910.pth",
        Preprocess(342, mean=IMAGENET_MEAN, std=IMAGENET_STD), "Apache-2.0", 1000, 77.57, 93.58,
        "mmpretrain's configs/inception_v3/metafile.yml, commit 14ced91f", aux=True, note="torchvision's weights",
    )  # fmt: skip


PUBLISHED: dict[str, Published] = {
    row.name: row if row.digest else replace(row, digest=_digest(row.address)) for row in (*_timm(), *_others())
}
"""All rows by name."""

OLD_NAMES = {
    "tf_inception_v3": "inception_v3.tf_in1k",
    "adv_inception_v3": "inception_v3.tf_adv_in1k",
    "gluon_inception_v3": "inception_v3.gluon_in1k",
    "ens_adv_inception_resnet_v2": "inception_resnet_v2.tf_ens_adv_in1k",
}
"""Names in earlier versions of timm, and the names that have replaced them. gluon_xception65, whose tensors differed
from those of xception65, has no successor in timm and is not here either."""


def find(name: str) -> Published | None:
    """The row of that name, old name, or name with an alias of the network ("xception.tf_in1k"); None if there is none.

    timm's names may begin with "timm/".
    """
    name = name.removeprefix("timm/")
    name = OLD_NAMES.get(name, name)
    network, _, tag = name.partition(".")
    for spelling in (name, *(f"{other}.{tag}" for other in _spellings(network))):
        if spelling in PUBLISHED:
            return PUBLISHED[spelling]
    return None


def _spellings(network: str) -> Iterator[str]:
    """Other names of a network that stand before a tag."""
    yield from (alias for alias, target in ALIASES.items() if target == network)
    if network in ALIASES:
        yield ALIASES[network]


def of(model: str) -> list[Published]:
    """The rows of a network, by its name, in the order of its publishers; the first is what `pretrained=True` takes."""
    rows = [row for row in PUBLISHED.values() if row.model == model]
    publishers = MODELS[model].publishers if rows else ()
    return sorted(rows, key=lambda row: publishers.index(row.source))


def choose(model: Model, pretrained: str | bool = True, name: str = "") -> Published:
    """The row that `pretrained` stands for.

    model       the network, or a variant of it
    pretrained  True; a publisher, which means the first of its rows; a tag of the network; or a row's name
    name        what the user called the network, which may be a row's name: True stands for that row

    Rows of other networks that compute the same function count too ("mindcv" for inception_v3.keras). Raises
    WeightsError when there is no such row.
    """
    if pretrained is True and (row := find(name)):
        return row
    network = models().get(model.name)
    rows = of(model.name) + [
        row
        for row in PUBLISHED.values()
        if network is not None and row.model != model.name and same_network(MODELS[row.model], network)
    ]
    if not rows:
        raise WeightsError(f"{model.name}: nobody has published weights of it; `zoo list --pretrained` shows all")
    if pretrained is True:
        return rows[0]
    wanted = str(pretrained)
    for row in rows:
        if wanted in (row.source, row.name, row.name.partition(".")[2]) or find(wanted) == row:
            return row
    tags = ", ".join(dict.fromkeys([*(row.source for row in rows), *(row.name for row in rows)]))
    raise WeightsError(f"{model.name}: no published weights {wanted!r}: expected {tags}")


def top1(model: Model) -> float | None:
    """The published top-1 accuracy, in percent, of the weights that `pretrained=True` takes.

    None where none is known, and for a variant: another width, input size or number of classes.
    """
    rows, published = of(model.name), models().get(model.name)
    if not rows or published is None or not same_network(model, published) or model.size != published.size:
        return None
    return rows[0].top1
