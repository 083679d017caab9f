"""FID, KID and the Inception score from features, in float64."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from zoo.errors import InputError
from zoo.files import atomic_write

Array = NDArray[Any]

MADE = ("pipeline", "weights")
"""Names of texts in files of statistics, beside pytorch-fid's `mu` and `sigma`."""

SEED = 2020
"""Seed of KID's subsets and of the order of images in the Inception score's splits: torch-fidelity's."""


@dataclass(frozen=True)
class Statistics:
    """Mean [D] and covariance [D, D] of features, float64: what FID compares.

    made  the "pipeline" and the "weights" that they were made with; empty where that is not known
    """

    mean: Array
    covariance: Array
    made: Mapping[str, str] = field(default_factory=dict)


class Moments:
    """Collects features batch by batch, by the update of Chan, Golub and LeVeque 1979, which avoids cancellation."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: Array = np.zeros(())
        self.scatter: Array = np.zeros(())

    def add(self, features: Array) -> None:
        """Add a batch [N, D]."""
        batch = features.astype(np.float64)
        mean = batch.mean(0)
        shift, total = mean - self.mean, self.count + len(batch)
        centred = batch - mean
        self.scatter = self.scatter + centred.T @ centred + np.outer(shift, shift) * (self.count * len(batch) / total)
        self.mean = self.mean + shift * (len(batch) / total)
        self.count = total

    def statistics(self) -> Statistics:
        """The mean and the unbiased covariance, as of numpy.cov. Raises InputError for fewer than two images."""
        if self.count < 2:
            raise InputError(f"{self.count} images: a covariance needs two or more")
        return Statistics(self.mean, self.scatter / (self.count - 1))


def frechet_distance(first: Statistics, second: Statistics) -> float:
    """FID: |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), Heusel et al. 2017, arXiv:1706.08500.

    (C1 C2)^(1/2) has the trace of (R C2 R)^(1/2) with R = C1^(1/2), which is symmetric. Raises InputError when the
    numbers of features differ.
    """
    if first.mean.shape != second.mean.shape:
        raise InputError(f"statistics of {len(first.mean)} and of {len(second.mean)} features: expected the same")
    values, vectors = np.linalg.eigh(first.covariance)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    product = np.linalg.eigvalsh(root @ second.covariance @ root)
    shift = first.mean - second.mean
    trace = np.trace(first.covariance) + np.trace(second.covariance) - 2 * np.sqrt(product.clip(0)).sum()
    return float(shift @ shift + trace)


def kernel_distance(first: Array, second: Array, subsets: int, size: int) -> tuple[float, float]:
    """KID: mean and standard deviation over random subsets, Binkowski et al. 2018, arXiv:1801.01401.

    An unbiased estimate of the squared maximum mean discrepancy of features [N, D] under the kernel (x y / D + 1)^3.
    `size` is the number of images in a subset. Raises InputError when there are fewer images.
    """
    check_subsets(len(first), len(second), size)
    random = np.random.RandomState(SEED)
    estimates = []
    for _ in range(subsets):
        x, y = (
            features[random.choice(len(features), size, replace=False)].astype(np.float64)
            for features in (first, second)
        )
        xx, yy, xy = (_kernel(a, b) for a, b in ((x, x), (y, y), (x, y)))
        within = sum(float(k.sum() - np.trace(k)) for k in (xx, yy))
        estimates.append(within / (size * (size - 1)) - 2 * float(xy.mean()))
    return float(np.mean(estimates)), float(np.std(estimates))


def check_subsets(first: int, second: int, size: int) -> None:
    """Raise InputError for a subset of KID that is larger than one of the sets."""
    if size > min(first, second):
        raise InputError(
            f"KID: subsets of {size} images of {first} and {second}: give --kid-subset-size, and the figure is "
            "comparable only with figures of the same size"
        )


def _kernel(x: Array, y: Array) -> Array:
    product: Array = (x @ y.T / x.shape[1] + 1) ** 3
    return product


def inception_score(logits: Array, splits: int) -> tuple[float, float]:
    """The Inception score, mean and standard deviation over splits: Salimans et al. 2016, arXiv:1606.03498.

    The score of a split is exp of the mean Kullback-Leibler divergence of each image's class probabilities from their
    mean over the split. `logits` are [N, classes]. Raises InputError for more splits than images.
    """
    z = logits[np.random.RandomState(SEED).permutation(len(logits))].astype(np.float64)
    log_p = z - z.max(1, keepdims=True)
    log_p -= np.log(np.exp(log_p).sum(1, keepdims=True))
    p, count, scores = np.exp(log_p), len(z), []
    check_splits(count, splits)
    for i in range(splits):
        part = slice(i * count // splits, (i + 1) * count // splits)
        scores.append(np.exp((p[part] * (log_p[part] - np.log(p[part].mean(0)))).sum(1).mean()))
    return float(np.mean(scores)), float(np.std(scores))


def check_splits(count: int, splits: int) -> None:
    """Raise InputError for more splits of the Inception score than images."""
    if splits > count:
        raise InputError(f"Inception score: {splits} splits of {count} images: expected at most {count}")


def read_statistics(path: Path) -> Statistics:
    """The statistics in an .npz file with `mu` and `sigma`, as pytorch-fid writes it. Raises InputError."""
    try:
        with np.load(path, allow_pickle=False) as file:
            mean, covariance = (np.asarray(file[name], np.float64) for name in ("mu", "sigma"))
            made = {name: str(file[name]) for name in MADE if name in file}
    except (OSError, KeyError, ValueError, EOFError, BadZipFile) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0][:100]
        raise InputError(f"{path}: expected an .npz file with mu and sigma: {reason}") from None
    if mean.ndim != 1 or covariance.shape != 2 * mean.shape:
        raise InputError(f"{path}: expected mu [D] and sigma [D, D], not {list(mean.shape)}, {list(covariance.shape)}")
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise InputError(f"{path}: expected finite numbers in mu and sigma")
    return Statistics(mean, covariance, made)


def write_statistics(path: str | Path, statistics: Statistics) -> None:
    """Write statistics so that pytorch-fid reads them, and what they were made with. Raises InputError."""
    try:
        with atomic_write(path) as part, part.open("wb") as file:
            np.savez_compressed(file, mu=statistics.mean, sigma=statistics.covariance, **statistics.made)
    except OSError as error:
        raise InputError(f"{path}: cannot write statistics there: {error.strerror}") from None
