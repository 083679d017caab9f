"""Batches for any framework. The content of a batch depends on the seed, the epoch and the step, and on nothing else.

Order, crops and mixing are drawn from generators that are seeded by position, so any number of workers gives the same
bits, and two integers, epoch and step, are enough to resume. Workers are threads: Pillow and NumPy release the
interpreter lock while they decode, resize and compute. An exception in a thread is raised where its batch is requested.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from zoo.data.datasets import Dataset
from zoo.data.mixing import Images, Mixing
from zoo.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

AHEAD = 2
"""Batches that are prepared in advance."""

MOST_IN_A_ROW = 50
"""Number of consecutive unreadable images at which the run ends: so many mean that a disk has failed."""


class Batch(NamedTuple):
    """images float32 [N, C, H, W]; labels and indices in the dataset int64 [N]; targets float32 [N, classes]."""

    images: Images
    labels: NDArray[np.int64]
    indices: NDArray[np.int64]
    targets: NDArray[np.float32]


class Share(NamedTuple):
    """The share of one process in the `total` images of a step: `images` of them, starting at index `first`."""

    first: int
    images: int
    total: int


Unreadable = Literal["raise", "skip", "replace"]
View = tuple[int, Images | None]
"""The index of an image, and its pixels, or None if it cannot be read."""


class Transform(Protocol):
    """Maps an image and a random generator to float32 [C, H, W]; a `plain` view is not augmented in colour."""

    def __call__(self, image: Image, random: np.random.Generator, plain: bool = False) -> Images: ...


class Loader:
    """Epochs of batches.

    workers     threads that prepare images; 0: the caller's thread prepares them
    repeats     repeated augmentation (Hoffer et al. 2019, https://arxiv.org/abs/1901.09335): how often each image
                occurs in an epoch, whose length stays the same; 0 and 1: once
    splits      views of each image in a batch, first all plain ones, then the augmented ones; 0: one augmented view
    share       (k, n): this is process k, from 0, of n processes, which take n * `batch_size` images a step together;
                each takes a contiguous n-th of every step
    unreadable  what happens to an image that cannot be read: "skip"; "replace" it by the next readable one of the
                dataset, so that batches keep their size; or "raise" InputError. `skipped` has the reasons by index.
                `MOST_IN_A_ROW` consecutive unreadable images raise InputError in any case
    """

    def __init__(
        self,
        dataset: Dataset,
        transform: Transform,
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = False,
        drop_remainder: bool = False,
        workers: int = 8,
        repeats: int = 0,
        splits: int = 0,
        mixing: Mixing | None = None,
        share: tuple[int, int] = (0, 1),
        unreadable: Unreadable = "raise",
    ) -> None:
        self.dataset, self.transform, self.batch_size = dataset, transform, batch_size
        self.seed, self.shuffle, self.drop_remainder = seed, shuffle, drop_remainder
        self.workers, self.repeats, self.splits = workers, repeats, splits
        self.mixing = mixing or Mixing(len(dataset.classes))
        self.share, self.unreadable = share, unreadable
        self.skipped: dict[int, str] = {}
        self._in_a_row = 0

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        full, rest = divmod(len(self.dataset), self.batch_size * self.share[1])
        return full + bool(rest and not self.drop_remainder)

    def share_of(self, step: int) -> Share:
        """The share of this process in the images of a step."""
        rank, processes = self.share
        total = min(self.batch_size * processes, len(self.dataset) - step * self.batch_size * processes)
        first, end = (total * k // processes for k in (rank, rank + 1))
        return Share(first, end - first, total)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, from batch `start` on, counted from 0. Empty batches are left out.

        Raises InputError for images that cannot be read, depending on `unreadable`.
        """
        order = self._order(epoch)
        self._in_a_row = 0
        steps = range(start, len(self))
        if self.workers == 0:
            for step in steps:
                indices = self._indices(order, step)
                yield from self._batch(epoch, step, [self._view(epoch, *at) for at in indices])
            return
        waiting: deque[tuple[int, list[Future[View]]]] = deque()
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="loader")
        try:
            todo = iter(steps)
            while True:
                for step in islice(todo, 1 + AHEAD - len(waiting)):
                    at = self._indices(order, step)
                    waiting.append((step, [pool.submit(self._view, epoch, *one) for one in at]))
                if not waiting:
                    return
                step, views = waiting.popleft()
                yield from self._batch(epoch, step, [view.result() for view in views])
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _order(self, epoch: int) -> NDArray[np.int64]:
        count = len(self.dataset)
        order = generator(self.seed, epoch).permutation(count) if self.shuffle else np.arange(count)
        return np.repeat(order, self.repeats)[:count] if self.repeats > 1 else order

    def _indices(self, order: NDArray[np.int64], step: int) -> list[tuple[int, int, int]]:
        """For each view in the batch: its place in the epoch, the index of its image, its number among the views."""
        first, images, _ = self.share_of(step)
        start = step * self.batch_size * self.share[1] + first
        places = range(start, start + images)
        return [(place, int(order[place]), view) for view in range(max(1, self.splits)) for place in places]

    def _view(self, epoch: int, place: int, index: int, view: int) -> View:
        tries = MOST_IN_A_ROW if self.unreadable == "replace" else 1
        for other in range(index, index + tries):
            at = other % len(self.dataset)
            try:
                image = self.dataset.image(at)
            except InputError as error:
                if self.unreadable == "raise":
                    raise
                self.skipped.setdefault(at, str(error))
                continue
            random = generator(self.seed, epoch, place, view)
            return at, self.transform(image, random, plain=self.splits > 0 and view == 0)
        if tries > 1:
            raise self._too_many(at)
        return at, None

    def _batch(self, epoch: int, step: int, views: list[View]) -> Iterator[Batch]:
        for index, pixels in views:
            self._in_a_row = 0 if pixels is not None else self._in_a_row + 1
            if self._in_a_row == MOST_IN_A_ROW:
                raise self._too_many(index)
        good = [(index, pixels) for index, pixels in views if pixels is not None]
        if good:
            indices = np.array([index for index, _ in good], np.int64)
            labels = self.dataset.labels[indices]
            random = generator(self.seed, epoch, step, -1, *self.share[:1] * (self.share[0] > 0))
            images, targets = self.mixing(np.stack([pixels for _, pixels in good]), labels, random)
            yield Batch(np.ascontiguousarray(images), labels, indices, targets)

    def _too_many(self, index: int) -> InputError:
        return InputError(
            f"{self.dataset.name}, {self.dataset.split}: {MOST_IN_A_ROW} consecutive images cannot be read, the last: "
            f"{self.skipped[index]}: is the disk still there?"
        )


def generator(seed: int, *position: int) -> np.random.Generator:
    """A random generator that depends only on the seed and a position."""
    return np.random.Generator(np.random.PCG64(_sequence(seed, position)))


def at_position(seed: int, *position: int) -> int:
    """A seed below 2^31 that depends only on the seed and a position, for the random numbers of frameworks."""
    return int(_sequence(seed, position).generate_state(1)[0] >> 1)


def _sequence(seed: int, position: tuple[int, ...]) -> np.random.SeedSequence:
    return np.random.SeedSequence([seed, *(place + 1 for place in position)])
