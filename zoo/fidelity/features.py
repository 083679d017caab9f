"""Features of images: outputs of the network of FID, in any backend."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.data.images import preprocess
from zoo.language.model import Model

Float32 = NDArray[np.float32]

STAGES = {"64": "maxpool_3a_3x3", "192": "maxpool_5a_3x3", "768": "mixed_6e", "2048": "mixed_7c"}
"""Stages by the number of their channels, as pytorch-fid names features: the spatial mean of the stage's output."""

CLASSIFIED = ("logits", "logits_unbiased")
"""Features that the classifier computes from "2048": with and without its bias."""

FEATURES = (*STAGES, *CLASSIFIED)


@dataclass(frozen=True)
class Extractor:
    """Maps images to features.

    model    the network of FID, with its preprocessing
    run      float32 images [N, 3, H, W] to the outputs of the stages, in order of depth
    stages   names of those stages
    arrays   canonical weights of the classifier: "head.fc.weight", "head.fc.bias"
    """

    model: Model
    run: Callable[[Float32], Any]
    stages: Sequence[str]
    arrays: Mapping[str, NDArray[Any]]

    def __call__(self, images: Float32) -> dict[str, Float32]:
        """Features [N, D] by name, for images [N, 3, H, W]."""
        maps = dict(zip(self.stages, self.run(images), strict=True))
        found = {
            name: maps[stage].mean((2, 3), np.float64).astype(np.float32)
            for name, stage in STAGES.items()
            if stage in maps
        }
        if "2048" in found and "head.fc.weight" in self.arrays:
            found["logits_unbiased"] = found["2048"] @ self.arrays["head.fc.weight"].T
            found["logits"] = found["logits_unbiased"] + self.arrays["head.fc.bias"]
        return found


def batches(files: Sequence[Path], model: Model, size: int) -> Iterator[Float32]:
    """Batches of preprocessed images [N, 3, H, W]; the next one is prepared in advance. Raises InputError."""

    def image(file: Path) -> Float32:
        return preprocess(model, file)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        waiting: deque[list[Future[Float32]]] = deque()
        for start in range(0, len(files), size):
            waiting.append([pool.submit(image, file) for file in files[start : start + size]])
            if len(waiting) > 1:
                yield np.stack([each.result() for each in waiting.popleft()])
        while waiting:
            yield np.stack([each.result() for each in waiting.popleft()])
