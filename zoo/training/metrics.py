"""How well a network classifies: top-1 and top-5, the confusion matrix, cross-entropy, class by class.

A tally keeps a record for each image instead of sums. So the tallies of several processes add up exactly, in any order,
and an image that is repeated to fill a batch or a shard counts once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zoo.errors import InputError
from zoo.files import write_csv

Integers = NDArray[np.int64]
Which = Literal["top1", "top5"]
PLACES: dict[Which, int] = {"top1": 1, "top5": 5}

RECORD = np.dtype([("index", "i8"), ("label", "i8"), ("guess", "i8"), ("place", "i8"), ("loss", "f8")])
"""An image: its index in the dataset, its class, the predicted class (-1: none), the rank of its own class from 0 (the
number of classes if there is none), and its cross-entropy."""


class Tally:
    """The predictions of a network for the images of a dataset with `classes` classes; `+` joins two tallies.

    Classes are ranked by falling logits, and by number if logits are equal. If a logit is NaN, no class is predicted
    and the image counts as wrong.
    """

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self._added: list[NDArray[np.void]] = []

    def add(self, logits: ArrayLike, labels: ArrayLike, indices: ArrayLike) -> None:
        """Count a batch: logits [N, classes], labels [N] from 0, indices [N] of the images in the dataset.

        Images with a negative index are padding, and an image is counted once. Raises InputError for other shapes, and
        for labels out of range.
        """
        logits, labels, indices = np.asarray(logits, np.float64), np.asarray(labels), np.asarray(indices)
        if labels.ndim != 1 or logits.shape != (*labels.shape, self.classes) or labels.shape != indices.shape:
            raise InputError(
                f"expected logits [N, {self.classes}], labels [N], indices [N], "
                f"not {list(logits.shape)}, {list(labels.shape)}, {list(indices.shape)}"
            )
        real = indices >= 0
        logits, labels, indices = logits[real], labels[real], indices[real]
        if labels.size and (labels.min() < 0 or labels.max() >= self.classes):
            raise InputError(
                f"labels are {labels.min()} to {labels.max()}, expected 0 to {self.classes - 1}: "
                "does num_classes fit the dataset?"
            )
        self._added.append(_records(logits, labels, indices))

    def __add__(self, other: Tally) -> Tally:
        if other.classes != self.classes:
            raise InputError(f"cannot add tallies of {self.classes} and of {other.classes} classes")
        both = Tally(self.classes)
        both._added = self._added + other._added
        return both

    @classmethod
    def joined(cls, classes: int, records: Iterable[bytes]) -> Tally:
        """The sum of several tallies, of which the bytes of their `records` are given."""
        tally = cls(classes)
        tally._added = [np.frombuffer(data, RECORD) for data in records]
        return tally

    @property
    def records(self) -> NDArray[np.void]:
        """A row of type `RECORD` for each image, by rising index."""
        rows = np.concatenate([np.empty(0, RECORD), *self._added])
        first = np.unique(rows["index"], return_index=True)[1]
        self._added = [rows[first]]
        return self._added[0]

    def __len__(self) -> int:
        return len(self.records)

    def correct(self, which: Which = "top1") -> int:
        """The number of images whose class is ranked first (among the first five)."""
        return int(np.count_nonzero(self._hits(which)))

    def percent(self, which: Which = "top1") -> float:
        """The same in percent of all images; NaN if there are none."""
        return 100 * self.correct(which) / len(self) if len(self) else float("nan")

    @property
    def loss(self) -> float:
        """Mean cross-entropy in nats; NaN if there are no images."""
        return float(self.records["loss"].mean()) if len(self) else float("nan")

    def summary(self) -> dict[str, float]:
        """The last line of validate.py, as in mindcv: percent to four decimals; Top_5_Accuracy from 5 classes on."""
        figures = {"Top_1_Accuracy": round(self.percent("top1"), 4)}
        if self.classes >= 5:
            figures["Top_5_Accuracy"] = round(self.percent("top5"), 4)
        return figures | {"loss": self.loss}

    def per_class(self, which: Which | None = None) -> Integers:
        """[classes]: number of images of each class; with `which`, of those ranked first (among the first five)."""
        labels = self.records["label"] if which is None else self.records["label"][self._hits(which)]
        return np.bincount(labels, minlength=self.classes)

    def confusion(self) -> Integers:
        """[classes, classes]: number of images of the row's class that were predicted as the column's."""
        records = self.records[self.records["guess"] >= 0]
        pairs = records["label"] * self.classes + records["guess"]
        return np.bincount(pairs, minlength=self.classes**2).reshape(self.classes, self.classes)

    def worst(self, count: int, by: Which = "top1") -> list[int]:
        """The classes recognised least often, worst first, ties by number; classes without images are left out."""
        images, hits = self.per_class(), self.per_class(by)
        present = np.flatnonzero(images)
        order = np.argsort(hits[present] / images[present], kind="stable")
        return [int(number) for number in present[order][:count]]

    def rows(self, classes: Sequence[str]) -> list[dict[str, Any]]:
        """A table's row for each class, by number.

        class, index         its name and number
        images, top1, top5   counts
        recall               top1 in percent of images; None without images
        precision            images of this class in percent of those predicted as it; None if there are none
        mistaken_for         the class that most of its wrong images were predicted as, or None
        """
        confusion = self.confusion()
        images, top1, top5 = self.per_class(), self.per_class("top1"), self.per_class("top5")
        taken = confusion.sum(axis=0)
        wrong = confusion * (1 - np.eye(self.classes, dtype=np.int64))
        return [
            {
                "class": name,
                "index": k,
                "images": int(images[k]),
                "top1": int(top1[k]),
                "top5": int(top5[k]),
                "recall": _percent(top1[k], images[k]),
                "precision": _percent(top1[k], taken[k]),
                "mistaken_for": classes[int(wrong[k].argmax())] if wrong[k].any() else None,
            }
            for k, name in zip(range(self.classes), classes, strict=True)
        ]

    def write_confusion(self, path: str | Path, classes: Sequence[str]) -> None:
        """The confusion matrix as CSV, the classes' names in its first row and column. Raises InputError."""
        rows = zip(classes, self.confusion(), strict=True)
        write_csv(path, ["label \\ predicted", *classes], ([name, *map(int, row)] for name, row in rows))

    def write_classes(self, path: str | Path, classes: Sequence[str]) -> None:
        """`rows` as CSV. Raises InputError."""
        rows = self.rows(classes)
        write_csv(path, list(rows[0]), (list(row.values()) for row in rows))

    def write_predictions(self, path: str | Path, classes: Sequence[str], name: Callable[[int], str]) -> None:
        """Write a CSV row for each image: name (`name` of its index), class, predicted class, rank of its class, loss.

        Ranks count from 1. Raises InputError.
        """
        rows = (
            (name(int(index)), classes[label], classes[guess] if guess >= 0 else "", place + 1, f"{loss:.6g}")
            for index, label, guess, place, loss in self.records
        )
        write_csv(path, ["image", "class", "predicted", "rank", "loss"], rows)

    def _hits(self, which: Which) -> NDArray[np.bool_]:
        """[images]: whether the class is ranked first (among the first five); never for an image with a NaN."""
        return self.records["place"] < min(PLACES[which], self.classes)


def _records(logits: NDArray[np.float64], labels: Integers, indices: Integers) -> NDArray[np.void]:
    own = np.take_along_axis(logits, labels[:, None].astype(np.int64), axis=1)
    largest = logits.max(axis=1, keepdims=True)
    sooner = np.arange(logits.shape[1]) < labels[:, None]
    nan = np.isnan(largest[:, 0])
    records = np.empty(len(labels), RECORD)
    records["index"], records["label"] = indices, labels
    records["guess"] = np.where(nan, -1, logits.argmax(axis=1))
    records["place"] = np.where(
        nan, logits.shape[1], np.count_nonzero((logits > own) | (logits == own) & sooner, axis=1)
    )
    with np.errstate(invalid="ignore"):  # infinite logits: their loss is NaN
        records["loss"] = np.log(np.exp(logits - largest).sum(axis=1)) + (largest - own)[:, 0]
    return records


def _percent(part: Any, total: Any) -> float | None:
    return float(100 * part / total) if total else None
