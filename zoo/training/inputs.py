"""From flags to datasets and loaders: which images, which class numbers, how they are augmented."""

from __future__ import annotations

import csv
import json
import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from weights.checkpoints import Checkpoint
from zoo.data import Augment, Dataset, Evaluate, ImageFolder, Loader, Mixing, open_dataset
from zoo.data.datasets import has_split
from zoo.data.images import image_files, read_image
from zoo.errors import TrainingError
from zoo.language.model import PILLOW, Model
from zoo.language.trace import trace
from zoo.training.flags import Arguments
from zoo.training.processes import Processes

logger = logging.getLogger("zoo")


def dataset(a: Arguments, split: str, least_classes: int = 2) -> Dataset:
    """The dataset of the flags, in validation without the images of --blacklist. Raises ZooError."""
    opened = open_dataset(a.dataset, a.data_dir, split, download=a.dataset_download, least_classes=least_classes)
    if split == a.val_split and a.blacklist:
        lines = _lines(a.blacklist, "--blacklist")
        opened = opened.without(line.strip() for line in lines if line.strip() and not line.startswith("#"))
        if not len(opened):
            raise TrainingError(f"--blacklist {a.blacklist}: it leaves no image of {opened.name}, {split}")
    return opened if a.num_samples is None else opened.take(a.num_samples)


def held_out(a: Arguments, data: Dataset) -> Dataset:
    """The split to validate on while training on `data`, with the class numbers of `data`. Raises ZooError."""
    opened = dataset(a, a.val_split, least_classes=1)
    if isinstance(opened, ImageFolder) and isinstance(data, ImageFolder) and opened.root == data.root:
        raise TrainingError(
            f"{data.root}: {a.train_split} and {a.val_split} are the same images: put them into folders of these "
            "names, or leave out --val_while_train"
        )
    return opened.numbered_by(data.classes, f"the split {a.train_split}")


def could_validate(a: Arguments) -> bool:
    """Whether there is a split to validate on, although --val_while_train is off."""
    return not a.val_while_train and a.val_split != a.train_split and has_split(a.dataset, a.data_dir, a.val_split)


def for_network(a: Arguments, data: Dataset, model: Model, opened: Checkpoint | None) -> Dataset:
    """A dataset to evaluate `model` on, numbered so that each class has the number of its output of the network.

    The numbers come from --class_map, or from the class names in the checkpoint. Without either, the class folders in
    alphabetical order are taken for the network's classes. Raises ZooError if the numbers of classes then differ.
    """
    if a.class_map:
        return data.numbered_by(_mapped(a.class_map, data, model.num_classes), f"--class_map {a.class_map}")
    if opened is None:
        return data
    if names := class_names(opened):
        return data.numbered_by(names, f"the checkpoint {opened.path}")
    if len(data.classes) != model.num_classes:
        raise TrainingError(
            f"{opened.path}: a network of {model.num_classes} classes without their names, and {data.name}, "
            f"{data.split} has {len(data.classes)}: nothing says which of them these are: give --class_map FILE (JSON "
            '{"FOLDER": NUMBER, ...} or CSV lines FOLDER,NUMBER), or a checkpoint with class names'
        )
    return data


def class_names(opened: Checkpoint) -> list[str]:
    """The names of the classes that a checkpoint holds; [] if it holds none."""
    try:
        known = json.loads(opened.metadata.get("class_names") or "[]")
    except ValueError:
        return []
    return known if isinstance(known, list) and all(isinstance(name, str) for name in known) else []


def _mapped(path: str, data: Dataset, classes: int) -> list[str]:
    """The network's classes by number, as --class_map names them. Raises TrainingError."""
    text = "\n".join(_lines(path, "--class_map"))
    where = f"--class_map {path}"
    try:
        found = (
            json.loads(text)
            if text.lstrip().startswith("{")
            else dict(row[:2] for row in csv.reader(text.splitlines()))
        )
        numbers = {str(name): int(number) for name, number in found.items() if name in data.classes}
    except (ValueError, TypeError, csv.Error) as error:
        raise TrainingError(
            f'{where}: expected JSON {{"FOLDER": NUMBER, ...}} or CSV lines FOLDER,NUMBER, but {error}'
        ) from None
    if missing := [name for name in data.classes if name not in numbers]:
        raise TrainingError(f"{where}: no number for the class {missing[0]} of {data.name}, {data.split}")
    names = [f"class {number}" for number in range(classes)]
    for name, number in numbers.items():
        if not 0 <= number < classes:
            raise TrainingError(f"{where}: {name}: expected a number from 0 to {classes - 1}, not {number}")
        if names[number] in numbers:
            raise TrainingError(f"{where}: {names[number]} and {name} have the same number, {number}")
        names[number] = name
    return names


def _lines(path: str, flag: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise TrainingError(f"{flag} {path}: cannot read it: {reason}") from None


def training_loader(a: Arguments, data: Dataset, model: Model, processes: Processes) -> Loader:
    """Shuffled, augmented, mixed batches of the training set."""
    how = model.preprocess
    own = how.interpolation if how.interpolation in PILLOW else "bilinear"
    augment = Augment(
        size=model.size,
        in_channels=model.in_channels,
        scale=a.scale,
        ratio=a.ratio,
        hflip=a.hflip,
        vflip=a.vflip,
        color_jitter=a.color_jitter,
        interpolation=a.interpolation or own,
        auto_augment=a.auto_augment,
        re_prob=a.re_prob,
        re_scale=a.re_scale,
        re_ratio=a.re_ratio,
        re_value=a.re_value,
        re_max_attempts=a.re_max_attempts,
        mean=tuple(255 * value for value in how.mean),
        std=tuple(255 * value for value in how.std),
        channels=how.channels,
    )
    return Loader(
        data,
        augment,
        a.batch_size,
        seed=a.seed,
        shuffle=a.shuffle,
        drop_remainder=a.drop_remainder,
        workers=a.num_parallel_workers,
        repeats=a.aug_repeats,
        splits=a.aug_splits,
        mixing=Mixing(model.num_classes, a.mixup, a.cutmix, a.cutmix_prob, a.label_smoothing),
        share=(processes.rank, processes.size),
        unreadable="raise" if a.strict else "replace",
    )


def require_batches(a: Arguments, loader: Loader, model: Model, processes: Processes) -> None:
    """Raise TrainingError if an epoch has no batch, or one that cannot be trained on.

    It is the last of the checks, so that it does not hide what is wrong with other flags.
    """
    name, images, size = loader.dataset.name, len(loader.dataset), processes.size
    if not len(loader):
        together = f" on each of {size} processes" if size > 1 else ""
        raise TrainingError(
            f"--batch_size {a.batch_size}{together}: {name} has {images} images, too few for a batch: choose a smaller "
            "one, or --drop_remainder no"
        )
    last = 0 if a.drop_remainder else images % (a.batch_size * size)
    if 0 < last < size:
        raise TrainingError(
            f"{name}: the last batch of an epoch has {last} images for {size} processes: leave it out with "
            "--drop_remainder, or choose another --batch_size"
        )
    if 1 in (a.batch_size, last // size):
        for op in trace(model, model.size, model.size).ops:
            if getattr(op.node, "norm", False) and op.outputs.height * op.outputs.width == 1:
                raise TrainingError(
                    f"a batch of 1 image at {model.size} pixels: batch norm of {op.path} has one value a channel to "
                    "normalise: choose another --batch_size, or a larger --image_resize"
                )


def validation_loader(a: Arguments, data: Dataset, model: Model, processes: Processes) -> Loader:
    """All images once, in batches; the last batch may be smaller."""
    return Loader(
        data,
        Evaluate(model, model.size),
        a.batch_size,
        seed=a.seed,
        shuffle=a.eval_shuffle,
        drop_remainder=False,
        workers=a.num_parallel_workers,
        share=(processes.rank, processes.size),
        unreadable="raise" if a.strict else "skip",
    )


MOST_CALIBRATION = 256
"""The largest number of images on which ranges of activations are measured: more images change little."""


def calibration(a: Arguments, model: Model) -> NDArray[np.float32] | None:
    """The images of --calibration, preprocessed, float32 [N, C, H, W]; None without the flag.

    At most `MOST_CALIBRATION` images are taken, evenly spaced. Raises TrainingError for an invalid flag, and InputError
    for an image that cannot be read.
    """
    if a.calibration is None:
        return None
    evaluate = Evaluate(model, model.size)
    if a.calibration.isdecimal():
        if not int(a.calibration):
            raise TrainingError("--calibration 0: expected a folder, or a number of images from 1")
        data = open_dataset(a.dataset, a.data_dir, a.train_split)
        chosen = _spread(len(data), min(int(a.calibration), MOST_CALIBRATION))
        return np.stack([evaluate.pixels(data.image(index)) for index in chosen])
    if not Path(a.calibration).is_dir():
        raise TrainingError(f"--calibration {a.calibration}: no such folder")
    paths = image_files([a.calibration])
    return np.stack([evaluate.pixels(read_image(paths[i])) for i in _spread(len(paths), MOST_CALIBRATION)])


def _spread(count: int, wanted: int) -> list[int]:
    """Up to `wanted` indices below `count`, evenly spaced."""
    even = np.linspace(0, count - 1, min(count, max(wanted, 1))).round()
    return [int(index) for index in np.unique(even)]
