"""Evaluate a network on a dataset, and measure how long it takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.data import Loader
from zoo.training.metrics import Tally
from zoo.training.processes import Processes

Predict = Callable[[NDArray[np.float32]], NDArray[Any]]
"""Images [N, C, H, W] to logits [N, classes]."""


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation.

    tally            the predictions of all images
    seconds          the time of the whole loop
    network_seconds  the time of the network alone, without the first batch, which compiles and allocates (unless it is
                     the only one); `network_images`: the number of images in that time
    """

    tally: Tally
    seconds: float
    network_seconds: float
    network_images: int

    @property
    def images_per_second(self) -> float:
        """Throughput of the whole loop: reading, preprocessing and the network."""
        return len(self.tally) / self.seconds

    @property
    def network_milliseconds(self) -> float:
        """Milliseconds for each image, of the network alone."""
        return 1000 * self.network_seconds / max(self.network_images, 1)


def evaluate(
    predict: Predict,
    loader: Loader,
    classes: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
    processes: Processes | None = None,
) -> Evaluation:
    """Classify all images of `loader`; `progress` is called with the number of batches done and their total.

    Each of several processes classifies its share, and gets the tally of all.
    """
    tally, timed = Tally(classes), []
    start = time.perf_counter()
    for done, batch in enumerate(loader.epoch(0), 1):
        before = time.perf_counter()
        logits = predict(batch.images)
        timed.append((time.perf_counter() - before, len(batch.images)))
        tally.add(logits, batch.labels, batch.indices)
        progress(done, len(loader))
    if processes is not None:
        tally = Tally.joined(classes, processes.gather(tally.records.tobytes()))
    alone = timed[1:] or timed
    return Evaluation(
        tally, time.perf_counter() - start, sum(seconds for seconds, _ in alone), sum(images for _, images in alone)
    )
