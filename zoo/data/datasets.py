"""Datasets: trees of images in ImageNet's layout, CIFAR-10 and 100, MNIST, and scikit-learn's digits.

CIFAR is read in its binary version only: unpickling the other one could execute code.
"""

from __future__ import annotations

import gzip
import os
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from zoo.data.download import FILES, fetch
from zoo.data.images import SUFFIXES, read_image
from zoo.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]
Reader = Callable[[Path, str], tuple[Pixels, Labels, tuple[str, ...]]]


@dataclass(frozen=True)
class Dataset(ABC):
    """Images and their classes: `labels` is int64 [N], each from 0 to len(classes) - 1."""

    name: str
    split: str
    classes: tuple[str, ...]
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def image(self, index: int) -> Image:
        """The image in RGB. Raises InputError, with its path, when it cannot be read."""

    @abstractmethod
    def path(self, index: int) -> str:
        """The image's name: its path below the split's folder, or the split and a number ("test/00017")."""

    @abstractmethod
    def select(self, indices: Sequence[int] | NDArray[np.int64]) -> Dataset:
        """A dataset of these images only, in this order."""

    def without(self, names: Iterable[str]) -> Dataset:
        """A dataset without the images of these names: their paths, or the file names alone.

        Raises InputError for a name that no image has.
        """
        unwanted = set(names)
        paths = [self.path(index) for index in range(len(self))]
        known = {name for path in paths for name in (path, path.rpartition("/")[2])}
        if unknown := sorted(unwanted - known):
            more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
            raise InputError(f"{self.name}, {self.split}: no image {', '.join(unknown[:3])}{more}, e.g. {paths[0]}")
        return self.select(
            [i for i, p in enumerate(paths) if p not in unwanted and p.rpartition("/")[2] not in unwanted]
        )

    def numbered_by(self, classes: Sequence[str], whose: str) -> Dataset:
        """The same images with labels that index `classes`. Raises InputError for a class that is not in `classes`."""
        if tuple(classes) == self.classes:
            return self
        if unknown := [name for name in self.classes if name not in set(classes)]:
            more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
            raise InputError(
                f"{self.name}, {self.split}: {', '.join(unknown[:3])}{more}: not among the classes of {whose}"
            )
        indices = {name: index for index, name in enumerate(classes)}
        numbers = np.array([indices[name] for name in self.classes], np.int64)
        return replace(self, classes=tuple(classes), labels=numbers[self.labels])

    def take(self, count: int) -> Dataset:
        """A dataset of `count` images, spread evenly over the classes: the first of each, then the second, ..."""
        rank = np.empty(len(self), np.int64)
        for label in range(len(self.classes)):
            members = np.flatnonzero(self.labels == label)
            rank[members] = np.arange(len(members))
        return self.select(np.sort(np.lexsort((self.labels, rank))[:count]))


@dataclass(frozen=True)
class ImageFolder(Dataset):
    """A tree ROOT/CLASS/.../IMAGE: classes sorted by name, images by path."""

    root: Path
    paths: tuple[str, ...]

    def image(self, index: int) -> Image:
        return read_image(self.root / self.paths[index])

    def path(self, index: int) -> str:
        return self.paths[index]

    def select(self, indices: Sequence[int] | NDArray[np.int64]) -> Dataset:
        indices = np.asarray(indices, np.int64)
        return replace(self, labels=self.labels[indices], paths=tuple(self.paths[index] for index in indices))


@dataclass(frozen=True)
class Arrays(Dataset):
    """Images in memory: uint8 [N, H, W] grey, or [N, H, W, 3] RGB; `numbers` are their numbers in the split."""

    pixels: Pixels
    numbers: Labels

    def image(self, index: int) -> Image:
        from PIL import Image

        return Image.fromarray(self.pixels[index]).convert("RGB")

    def path(self, index: int) -> str:
        return f"{self.split}/{self.numbers[index]:05}"

    def select(self, indices: Sequence[int] | NDArray[np.int64]) -> Dataset:
        at = np.asarray(indices, np.int64)
        return replace(self, labels=self.labels[at], pixels=self.pixels[at], numbers=self.numbers[at])


def open_dataset(name: str, root: str | Path, split: str, *, download: bool = False, least_classes: int = 2) -> Dataset:
    """Open a split of a dataset.

    name           a dataset of `KNOWN`; any other name, such as `imagenet`, stands for a tree ROOT/SPLIT/CLASS/IMAGE
    root           the dataset's folder
    split          "train" or "val"; datasets of `KNOWN` have train and test, and val means test
    download       fetch a dataset of `KNOWN` into `root` if it is not there
    least_classes  number of classes that a tree must have

    Raises InputError for a dataset that is missing, empty or damaged, or has too few classes.
    """
    if name not in KNOWN:
        if download:
            raise InputError(
                f"{name} cannot be downloaded: put it into {root}/{split}/CLASS/IMAGE (ImageNet can be had from "
                f"image-net.org after registration); {', '.join(KNOWN)} can be"
            )
        return _folder(name, Path(root), split, least_classes)
    part = "test" if split in ("val", "validation", "test") else split
    if part not in ("train", "test"):
        raise InputError(f"{name} has no split {split!r}: expected train or test (val means test)")
    try:
        pixels, labels, classes = KNOWN[name](Path(root), part)
    except InputError:
        if not (download and name in FILES):
            raise
        fetch(name, root)
        pixels, labels, classes = KNOWN[name](Path(root), part)
    if len(labels) == 0 or labels.max() >= len(classes):
        what = f"label {labels.max()} with {len(classes)} classes" if len(labels) else "no images"
        raise InputError(f"{name}, {part}: damaged: {what}")
    return Arrays(name, part, classes, labels.astype(np.int64), pixels, np.arange(len(labels)))


def has_split(name: str, root: str | Path, split: str) -> bool:
    """Whether a dataset has a split, as far as its name and its folders tell."""
    return name in KNOWN or any((home / split).is_dir() for home in (Path(root), Path(root) / name))


DEFAULT = "imagenet"
"""The name of a dataset if none is given: it may be any tree of images."""

SPLITS = ("train", "val", "test", "validation")


def _folder(name: str, root: Path, split: str, least_classes: int) -> ImageFolder:
    """The tree ROOT/SPLIT, ROOT/NAME/SPLIT or, without splits, ROOT. A tree of the default name is named by folder."""
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; the images are expected in {root}/{split}/CLASS/IMAGE")
    homes = [home for home in (root, root / name) if any((home / one).is_dir() for one in (split, *SPLITS))]
    home = next((home for home in homes if (home / split).is_dir()), root)
    folder = home / split if home in homes and (home / split).is_dir() else root
    if homes and folder == root:
        there = ", ".join(_folders(homes[0])[:5])
        raise InputError(f"{homes[0]}: it has no split {split!r}, only {there}")
    classes = _folders(folder)
    if not classes:
        raise InputError(f"{folder}: it has no class folders: expected {split}/CLASS/IMAGE ({_known()})")
    if folder == root and any((root / one / other).is_dir() for one in classes for other in SPLITS):
        raise InputError(f"{root}: it holds other datasets than {name}: {', '.join(classes[:5])}")
    paths: list[str] = []
    labels: list[int] = []
    for label, one in enumerate(classes):
        images = sorted(_images(folder, one))
        if not images:
            raise InputError(f"{folder / one}: no images in this class: expected files {' '.join(SUFFIXES)}")
        paths += images
        labels += [label] * len(images)
    if len(classes) < least_classes:
        raise InputError(f"{folder}: expected at least {least_classes} class folders to tell apart, not {len(classes)}")
    title = name if name != DEFAULT else home.resolve().name or name
    return ImageFolder(title, split, tuple(classes), np.array(labels, np.int64), folder, tuple(paths))


def _folders(folder: Path) -> list[str]:
    return sorted(child.name for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))


def _images(folder: Path, one: str) -> Iterator[str]:
    for place, folders, files in os.walk(folder / one):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if not name.startswith(".") and name.lower().endswith(SUFFIXES):
                yield Path(place, name).relative_to(folder).as_posix()


def _known() -> str:
    return f"datasets known by name: {', '.join(KNOWN)}"


def _digits(root: Path, part: str) -> tuple[Pixels, Labels, tuple[str, ...]]:
    """scikit-learn's 1,797 digits of 8 x 8 pixels and 17 greys; every third image of each class is held out."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise InputError("digits come with scikit-learn, which is not installed: pip install scikit-learn") from None
    bunch = load_digits()
    labels = np.asarray(bunch.target, np.int64)
    place = np.empty(len(labels), np.int64)
    for label in range(10):
        members = np.flatnonzero(labels == label)
        place[members] = np.arange(len(members))
    chosen = (place % 3 == 2) == (part == "test")
    pixels = (bunch.images[chosen] * (255 / 16)).round().astype(np.uint8)
    return pixels, labels[chosen], tuple(map(str, range(10)))


def _cifar(label_bytes: int, folder: str, files: dict[str, list[str]], names: str) -> Reader:
    def read(root: Path, part: str) -> tuple[Pixels, Labels, tuple[str, ...]]:
        home = next((path for path in (root / folder, root) if (path / files[part][0]).exists()), None)
        if home is None:
            pickled = [path for path in root.glob("cifar-10*-py*") if path.exists()] if root.is_dir() else []
            hint = f"{pickled[0].name} is the pickled version, which is not read; " if pickled else ""
            raise InputError(
                f"{root}: {folder}/{files[part][0]} is not there: {hint}give --dataset_download, or unpack the binary "
                f"version, {next(iter(FILES['cifar10' if label_bytes == 1 else 'cifar100']))}, there"
            )
        record = label_bytes + 3072
        parts = []
        for name in files[part]:
            data = np.frombuffer(_bytes(home / name), np.uint8)
            if len(data) == 0 or len(data) % record:
                raise InputError(f"{home / name}: damaged: {len(data)} bytes are no records of {record}")
            parts.append(data.reshape(-1, record))
        records = np.concatenate(parts)
        pixels = records[:, label_bytes:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        try:
            classes = tuple((home / names).read_text(encoding="utf-8").split())
        except (OSError, ValueError):
            raise InputError(f"{home / names}: the names of the classes are not there") from None
        return np.ascontiguousarray(pixels), records[:, label_bytes - 1].astype(np.int64), classes

    return read


def _mnist(root: Path, part: str) -> tuple[Pixels, Labels, tuple[str, ...]]:
    """The idx format (LeCun): a magic number, sizes as big-endian 32-bit integers, bytes."""
    prefix = {"train": "train", "test": "t10k"}[part]
    homes = (root, root / "mnist", root / "MNIST" / "raw", root / part)
    arrays = []
    for name, axes in ((f"{prefix}-images-idx3-ubyte", 3), (f"{prefix}-labels-idx1-ubyte", 1)):
        path = next((p for home in homes for p in (home / f"{name}.gz", home / name) if p.exists()), None)
        if path is None:
            raise InputError(
                f"{root}: {name}.gz is not there: give --dataset_download, or put MNIST's four files there"
            )
        data = _bytes(path)
        sizes = np.frombuffer(data[4 : 4 + 4 * axes].ljust(4 * axes, b"\0"), ">u4")
        if data[:4] != bytes([0, 0, 8, axes]) or len(data) != 4 + 4 * axes + int(np.prod(sizes.astype(np.int64))):
            raise InputError(f"{path}: damaged: not an idx file of {axes} axes")
        arrays.append(np.frombuffer(data[4 + 4 * axes :], np.uint8).reshape(sizes.astype(np.int64)))
    if len(arrays[0]) != len(arrays[1]):
        raise InputError(f"{root}: {len(arrays[0])} images with {len(arrays[1])} labels")
    return arrays[0], arrays[1].astype(np.int64), tuple(map(str, range(10)))


def _bytes(path: Path) -> bytes:
    try:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


KNOWN: dict[str, Reader] = {
    "cifar10": _cifar(
        1,
        "cifar-10-batches-bin",
        {"train": [f"data_batch_{k}.bin" for k in range(1, 6)], "test": ["test_batch.bin"]},
        "batches.meta.txt",
    ),
    "cifar100": _cifar(2, "cifar-100-binary", {"train": ["train.bin"], "test": ["test.bin"]}, "fine_label_names.txt"),
    "mnist": _mnist,
    "digits": _digits,
}
"""Datasets by name: functions of a folder and a split, train or test."""
