"""Files that the pages of the documentation assume to exist: images, datasets, publishers' checkpoints, a mirror.

Checkpoints have initial weights, under the names and in the format of their publisher.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits, load_sample_image

import weights
from weights.published import HUB, PUBLISHED, Published
from zoo.language.model import configure
from zoo.models import MODELS

Maker = Callable[[Path], None]


def checkpoint(model: str, source: str, path: Path, aux: bool = False, num_classes: int | None = None) -> None:
    spec = configure(MODELS[model], aux=aux, num_classes=num_classes)
    weights.write(path, weights.initial(spec, 5), spec, to=source)


def digits_network(path: Path) -> None:
    """A canonical file, which says which network it holds and names its classes."""
    spec = configure(MODELS["inception_v4"], width=0.25, num_classes=10)
    weights.write(path, weights.initial(spec, 5), spec, notes={"class_names": json.dumps([*"0123456789"])})


def photograph(path: Path) -> None:
    Image.fromarray(load_sample_image("flower.jpg")).save(path)


def photographs(path: Path) -> None:
    path.mkdir()
    for name in ("china.jpg", "flower.jpg"):
        Image.fromarray(load_sample_image(name)).save(path / name)


def digits(path: Path, noise: float = 0) -> None:
    path.mkdir()
    draws = np.random.default_rng(0)
    for number, digit in enumerate(load_digits().images[:24]):
        pixels = np.clip(digit * 15.9 + draws.normal(0, 40, digit.shape) * noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).resize((64, 64)).convert("RGB").save(path / f"{number}.png")


def flowers(path: Path) -> None:
    picture = Image.fromarray(load_sample_image("flower.jpg"))
    for split, images in (("train", 8), ("val", 2)):
        for turn, name in enumerate(("daisy", "rose")):
            folder = path / split / name
            folder.mkdir(parents=True)
            for number in range(images):
                picture.rotate(10 * number + 180 * turn).resize((160, 160)).save(folder / f"{number}.jpg")


def publish(row: Published, mirror: Path) -> None:
    """Put published weights into a folder for $ZOO_MIRROR: a row of the hub's, whose files have no digest."""
    folder = mirror / row.file
    folder.mkdir(parents=True)
    checkpoint(row.model, row.source, folder / "model.safetensors", num_classes=row.classes)


FILES: dict[str, Maker] = {
    "bird.jpg": photograph,
    "photos": photographs,
    "real": digits,
    "generated": partial(digits, noise=1),
    "flowers": flowers,
    "net.safetensors": digits_network,
    "net.pth": partial(checkpoint, "inception_v3", "torch"),
    "net.ckpt": partial(checkpoint, "googlenet.mindcv", "mindspore"),
    "inception_v4.pth": partial(checkpoint, "inception_v4", "timm"),
    "inception_v4.safetensors": partial(checkpoint, "inception_v4", "timm"),
    "inception_v3.safetensors": partial(checkpoint, "inception_v3", "timm"),
    "inception_v3.pth": partial(checkpoint, "inception_v3", "torchvision", aux=True),
    "googlenet.pth": partial(checkpoint, "googlenet", "torchvision"),
    "mindcv_inception_v3.ckpt": partial(checkpoint, "inception_v3.mindcv", "mindcv", aux=True),
    "mindcv_xception.ckpt": partial(checkpoint, "xception.mindcv", "mindcv"),
    "InceptionV3.pdparams": partial(checkpoint, "inception_v3.paddleclas", "paddleclas"),
    "Xception65.pdparams": partial(checkpoint, "xception65.paddleclas", "paddleclas"),
    "keras_xception.h5": partial(checkpoint, "xception.keras", "keras"),
    "pt_inception.pth": partial(checkpoint, "inception_v3.fid", "pytorch_fid"),
    "cadene_inceptionv4.pth": partial(checkpoint, "inception_v4", "cadene", num_classes=1001),
    "zhulf_inception_v4.pth": partial(checkpoint, "inception_v4", "zhulf", num_classes=1001),
}


def prepare(text: str, folder: Path, store: Path) -> dict[str, str]:
    """Put the files that a page's text mentions into `folder`; returns the environment for its commands.

    `store` keeps them for other pages.
    """
    for name, make in FILES.items():
        if re.search(rf"(?<![\w./-]){re.escape(name)}(?![\w.-])", text):
            if not (store / name).exists():
                make(store / name)
            (shutil.copytree if (store / name).is_dir() else shutil.copy)(store / name, folder / name)
    for name, row in PUBLISHED.items():
        wanted = name in text and row.address.startswith(HUB)
        if wanted and not (store / "mirror" / row.file).exists():
            publish(row, store / "mirror")
    return {"ZOO_MIRROR": str(store / "mirror"), "ZOO_CACHE": str(store / "cache"), "HF_HOME": str(store / "hub")}
