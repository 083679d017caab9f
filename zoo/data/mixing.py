"""Soft targets: label smoothing, mixup and cutmix, computed in NumPy so that all frameworks get the same numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.float32]

SWITCH = 0.5
"""Probability of cutmix if mixup is on too."""


@dataclass(frozen=True)
class Mixing:
    """Makes the targets of a batch, and with probability `prob` mixes the batch x with x', itself in reverse order.

    mixup   alpha of Beta(alpha, alpha), from which a weight l is drawn: x = l x + (1 - l) x' (Zhang et al. 2017,
            https://arxiv.org/abs/1710.09412); 0: off
    cutmix  alpha of Beta(alpha, alpha), from which the share of x's area that stays is drawn; the rest is from x'
            (Yun et al. 2019, https://arxiv.org/abs/1905.04899); 0: off
    """

    num_classes: int
    mixup: float = 0.0
    cutmix: float = 0.0
    prob: float = 1.0
    label_smoothing: float = 0.0

    def __call__(
        self, images: Images, labels: NDArray[np.int64], random: np.random.Generator
    ) -> tuple[Images, NDArray[np.float32]]:
        """Images [N, C, H, W] and labels [N] to images and targets [N, num_classes], whose rows sum to 1."""
        spread = self.label_smoothing / self.num_classes
        targets = np.full((len(labels), self.num_classes), spread, np.float32)
        targets[np.arange(len(labels)), labels] = 1 - self.label_smoothing + spread
        if not (self.mixup or self.cutmix) or random.random() >= self.prob:
            return images, targets
        if self.cutmix and (not self.mixup or random.random() < SWITCH):
            images, share = _cut(images, random.beta(self.cutmix, self.cutmix), random)
        else:
            share = random.beta(self.mixup, self.mixup)
            images = np.float32(share) * images + np.float32(1 - share) * images[::-1]
        return images, np.float32(share) * targets + np.float32(1 - share) * targets[::-1]


def _cut(images: Images, share: float, random: np.random.Generator) -> tuple[Images, float]:
    """Paste a rectangle around a random point; returns the share of the area that was kept."""
    height, width = images.shape[2:]
    side = (1 - share) ** 0.5
    half = int(height * side) // 2, int(width * side) // 2
    y, x = random.integers(height), random.integers(width)
    top, bottom = max(y - half[0], 0), min(y + half[0], height)
    left, right = max(x - half[1], 0), min(x + half[1], width)
    mixed = images.copy()
    mixed[:, :, top:bottom, left:right] = images[::-1, :, top:bottom, left:right]
    return mixed, 1 - (bottom - top) * (right - left) / (height * width)
