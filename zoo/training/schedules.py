"""Learning-rate schedules, with the names of mindcv's `--scheduler`. Steps count from 0; a warm-up comes first.

The shapes are those of PyTorch's schedulers of the same names (`torch.optim.lr_scheduler`), which mindcv follows. By
default the rate changes at every step, with `epoch_stair` only from epoch to epoch.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass

from zoo.errors import TrainingError

ONE_CYCLE_START, ONE_CYCLE_RISE = 1 / 25, 0.3
"""One cycle starts at this fraction of its peak and rises for this fraction of its steps (PyTorch's defaults)."""


@dataclass(frozen=True)
class Schedule:
    """The learning rate at each step of a run: `schedule(step)`.

    lr              the peak, reached at the end of the warm-up
    steps, epochs   steps in an epoch, epochs in the run, warm-up included
    min_lr          the rate at the end of each cosine of cosine_decay, each triangle of cyclic, and one_cycle
    warmup_epochs   epochs in which the rate rises linearly from `warmup_factor` * lr
    decay_epochs    epochs of a cycle of cosine_decay, or between the steps of step_decay
    decay_rate      factor on the rate: with exponential_decay in each epoch, otherwise at each step
    milestones      epochs, counted from the end of the warm-up, at which multi_step_decay steps
    num_cycles      number of cosines (each with a peak `cycle_decay` times the one before) or triangles

    Raises TrainingError for an unknown name, and for a warm-up or stairs that the schedule does not have.
    """

    name: str
    lr: float
    steps: int
    epochs: int
    min_lr: float = 1e-6
    warmup_epochs: int = 0
    warmup_factor: float = 0.0
    decay_epochs: int = 100
    decay_rate: float = 0.9
    milestones: tuple[int, ...] = (30, 60, 90)
    num_cycles: int = 1
    cycle_decay: float = 1.0
    epoch_stair: bool = False

    def __post_init__(self) -> None:
        if self.name not in SCHEDULES:
            raise TrainingError(f"unknown scheduler {self.name!r}: expected one of {', '.join(SCHEDULES)}")
        if self.name in ("one_cycle", "cyclic") and (self.warmup_epochs or self.epoch_stair):
            what = "a warm-up of its own" if self.warmup_epochs else "no stairs"
            flag = "--warmup_epochs 0" if self.warmup_epochs else "--lr_epoch_stair no"
            raise TrainingError(f"--scheduler {self.name} has {what}: give {flag}")

    def __call__(self, step: int) -> float:
        epoch = step // self.steps if self.epoch_stair else step / self.steps
        if epoch < self.warmup_epochs:
            return self.lr * (self.warmup_factor + (1 - self.warmup_factor) * epoch / self.warmup_epochs)
        return SCHEDULES[self.name](self, epoch - self.warmup_epochs)

    @property
    def main_epochs(self) -> int:
        """Epochs after the warm-up."""
        return self.epochs - self.warmup_epochs


def _constant(s: Schedule, epoch: float) -> float:
    return s.lr


def _cosine(s: Schedule, epoch: float) -> float:
    cycle, place = divmod(epoch, s.decay_epochs)
    if cycle >= s.num_cycles:
        return s.min_lr
    peak = s.lr * math.pow(s.cycle_decay, cycle)
    return s.min_lr + (peak - s.min_lr) * _half_cosine(place / s.decay_epochs)


def _exponential(s: Schedule, epoch: float) -> float:
    return s.lr * math.pow(s.decay_rate, epoch)


def _step(s: Schedule, epoch: float) -> float:
    return s.lr * math.pow(s.decay_rate, epoch // s.decay_epochs)


def _multi_step(s: Schedule, epoch: float) -> float:
    return s.lr * math.pow(s.decay_rate, bisect_right(sorted(s.milestones), math.floor(epoch)))


def _one_cycle(s: Schedule, epoch: float) -> float:
    """Smith and Topin 2017, https://arxiv.org/abs/1708.07120, with half cosines as in PyTorch."""
    last = s.main_epochs * s.steps - 1
    top = ONE_CYCLE_RISE * (last + 1) - 1
    step = min(round(epoch * s.steps), last)
    if top > 0 and step <= top:
        return s.lr + s.lr * (ONE_CYCLE_START - 1) * _half_cosine(step / top)
    return s.min_lr + (s.lr - s.min_lr) * _half_cosine((step - top) / (last - top))


def _cyclic(s: Schedule, epoch: float) -> float:
    """Smith 2015, https://arxiv.org/abs/1506.01186: triangles between min_lr and lr."""
    rise = max(1, int(s.steps * s.main_epochs / s.num_cycles / 2))
    place = round(epoch * s.steps) % (2 * rise)
    return s.min_lr + (s.lr - s.min_lr) * (1 - abs(place - rise) / rise)


def _half_cosine(fraction: float) -> float:
    """From 1 at 0 to 0 at 1."""
    return (1 + math.cos(math.pi * fraction)) / 2


SCHEDULES: dict[str, Callable[[Schedule, float], float]] = {
    "constant": _constant,
    "cosine_decay": _cosine,
    "warmup_cosine_decay": _cosine,
    "exponential_decay": _exponential,
    "step_decay": _step,
    "multi_step_decay": _multi_step,
    "one_cycle": _one_cycle,
    "cyclic": _cyclic,
}
