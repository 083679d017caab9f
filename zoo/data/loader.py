"""Batches for any framework: what is in one depends on the seed, the epoch and the step, and on nothing else.

Order, crops and mixing are drawn from generators seeded by position, so any number of workers gives the same bits, and
a position is two integers. Workers are threads: Pillow and NumPy let go of the interpreter while they decode, resize
and compute; there is no process that could die.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from zoo.data.datasets import Dataset
from zoo.data.mixing import Images, Mixing

if TYPE_CHECKING:
    from PIL.Image import Image

AHEAD = 2
"""Batches that are prepared while the network works."""


class Batch(NamedTuple):
    """images float32 [N, C, H, W]; labels and indices in the dataset int64 [N]; targets float32 [N, classes]."""

    images: Images
    labels: NDArray[np.int64]
    indices: NDArray[np.int64]
    targets: NDArray[np.float32]


class Transform(Protocol):
    """An image and a generator to float32 [C, H, W]; `plain` leaves out what a clean view has not."""

    def __call__(self, image: Image, random: np.random.Generator, plain: bool = False) -> Images: ...


class Loader:
    """Epochs of batches.

    workers   threads that prepare images; 0: the caller's own
    repeats   repeated augmentation (Hoffer et al. 2019, https://arxiv.org/abs/1901.09335): each image comes so many
              times in an epoch of the same length; 0 and 1: once
    splits    views of each image in a batch, first all plain ones, then the augmented ones; 0: one, augmented
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
    ) -> None:
        self.dataset, self.transform, self.batch_size = dataset, transform, batch_size
        self.seed, self.shuffle, self.drop_remainder = seed, shuffle, drop_remainder
        self.workers, self.repeats, self.splits = workers, repeats, splits
        self.mixing = mixing or Mixing(len(dataset.classes))

    def __len__(self) -> int:
        """Batches in an epoch."""
        full, rest = divmod(len(self.dataset), self.batch_size)
        return full + bool(rest and not self.drop_remainder)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Batches `start`, start + 1, ... of an epoch, counted from 0. Raises InputError for unreadable images."""
        order = self._order(epoch)
        steps = range(start, len(self))
        if self.workers == 0:
            for step in steps:
                indices = self._indices(order, step)
                yield self._batch(epoch, step, indices, [self._view(epoch, *at) for at in indices])
            return
        waiting: deque[tuple[int, list[tuple[int, int, int]], list[Future[Images]]]] = deque()
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="loader")
        try:
            todo = iter(steps)
            while True:
                for step in islice(todo, 1 + AHEAD - len(waiting)):
                    at = self._indices(order, step)
                    waiting.append((step, at, [pool.submit(self._view, epoch, *one) for one in at]))
                if not waiting:
                    return
                step, at, views = waiting.popleft()
                yield self._batch(epoch, step, at, [view.result() for view in views])
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _order(self, epoch: int) -> NDArray[np.int64]:
        count = len(self.dataset)
        order = generator(self.seed, epoch).permutation(count) if self.shuffle else np.arange(count)
        return np.repeat(order, self.repeats)[:count] if self.repeats > 1 else order

    def _indices(self, order: NDArray[np.int64], step: int) -> list[tuple[int, int, int]]:
        """Of each view in the batch: its place in the epoch, its image, which of the image's views it is."""
        places = range(step * self.batch_size, min((step + 1) * self.batch_size, len(order)))
        return [(place, int(order[place]), view) for view in range(max(1, self.splits)) for place in places]

    def _view(self, epoch: int, place: int, index: int, view: int) -> Images:
        random = generator(self.seed, epoch, place, view)
        return self.transform(self.dataset.image(index), random, plain=self.splits > 0 and view == 0)

    def _batch(self, epoch: int, step: int, at: list[tuple[int, int, int]], views: list[Images]) -> Batch:
        indices = np.array([index for _, index, _ in at], np.int64)
        labels = self.dataset.labels[indices]
        images, targets = self.mixing(np.stack(views), labels, generator(self.seed, epoch, step, -1))
        return Batch(np.ascontiguousarray(images), labels, indices, targets)


def generator(seed: int, *position: int) -> np.random.Generator:
    """Random numbers of a position alone."""
    return np.random.Generator(np.random.PCG64(_sequence(seed, position)))


def at_position(seed: int, *position: int) -> int:
    """A seed below 2^31 of a position alone, for frameworks' own random numbers."""
    return int(_sequence(seed, position).generate_state(1)[0] >> 1)


def _sequence(seed: int, position: tuple[int, ...]) -> np.random.SeedSequence:
    return np.random.SeedSequence([seed, *(place + 1 for place in position)])
