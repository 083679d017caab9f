"""Checkpoints of a run: weights as .ckpt files that any framework reads, and the optimizer's state beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import weights
from weights import formats
from weights.formats import mindspore
from zoo.errors import TrainingError, WeightsError
from zoo.files import whole
from zoo.model import Model

Array = NDArray[Any]
EPOCH = "epoch"
"""What the state is called that says after which epoch it was written."""


class Keeper:
    """Writes a run's checkpoints into a folder, and removes those that its policy does not keep.

    Names are mindcv's: MODEL-EPOCH_STEP.ckpt, MODEL_best.ckpt, optim_MODEL.ckpt. The files say which network they hold
    and how it is fed; MindSpore's own load_checkpoint reads them too. With a moving average, they hold the average, and
    the optimizer's file the weights themselves. A run that goes on after epoch `done` counts its earlier files.
    """

    def __init__(
        self,
        folder: str | Path,
        model: Model,
        keep: int = 10,
        policy: str | None = "latest_k",
        done: int = 0,
        classes: Sequence[str] = (),
    ) -> None:
        self.classes = classes
        self.folder, self.model, self.most, self.policy = Path(folder), model, keep, policy
        self.kept: list[tuple[float, Path]] = []
        self.best = -1.0
        for path in _files(self.folder, model.name) if done else ():
            epoch, top1 = _notes(path)
            if 0 < epoch <= done:
                self.kept.append((self._rank(epoch, top1), path))
                self.best = max(self.best, top1)
        best = self.folder / f"{model.name}_best.ckpt"
        if done and best.exists():
            self.best = max(self.best, _notes(best)[1])

    def _rank(self, epoch: int, top1: float) -> float:
        return top1 if self.policy == "top_k" else float(epoch)

    def save(self, arrays: Mapping[str, Array], state: Mapping[str, Array], epoch: int, step: int, top1: float) -> Path:
        """Write the weights after `epoch` (from 1) and the state; top1 in percent, NaN where it was not measured."""
        path = self.folder / f"{self.model.name}-{epoch}_{step}.ckpt"
        notes = {"epoch": str(epoch), "step": str(step), "class_names": json.dumps(list(self.classes))}
        notes |= {} if top1 != top1 else {"top1": f"{top1:.4f}"}
        weights.write(path, arrays, self.model, notes=notes)
        write_state(self.folder / f"optim_{self.model.name}.ckpt", {**state, EPOCH: np.array([epoch], np.float64)})
        if top1 > self.best:
            self.best = top1
            weights.write(self.folder / f"{self.model.name}_best.ckpt", arrays, self.model, notes=notes)
        self.kept = [(rank, other) for rank, other in self.kept if other != path]
        self.kept.append((self._rank(epoch, -1.0 if top1 != top1 else top1), path))
        if self.policy is not None:  # the newest one too, from which the run can go on
            self.kept.sort(key=lambda item: item[0])
            for old in [item for item in self.kept[: -self.most] if item[1] != path]:
                self.kept.remove(old)
                old[1].unlink(missing_ok=True)
        return path


def write_state(path: Path, state: Mapping[str, Array]) -> None:
    """A trainer's state, as a MindSpore checkpoint. Raises TrainingError when it cannot be written."""
    try:
        with whole(path) as part:
            mindspore.write(part, state, {})
    except OSError as error:
        raise TrainingError(f"{path}: cannot write the state there: {error.strerror}") from None


def read_state(path: str | Path, epoch: int) -> dict[str, Array]:
    """What a `Keeper` wrote after `epoch`. Raises TrainingError when it cannot be read, or is of another epoch."""
    try:
        contents = formats.read(Path(path))
    except WeightsError as error:
        raise TrainingError(str(error)) from None
    arrays = {name: np.array(tensor.read()) for name, tensor in contents.tree.items() if not isinstance(tensor, str)}
    written = int(arrays.pop(EPOCH, np.zeros(1))[0])
    if written != epoch:
        raise TrainingError(
            f"{path}: the optimizer's state is of epoch {written or 'unknown'}, and the checkpoint of epoch {epoch}: "
            "go on from the run's newest, or begin anew with --ckpt_path alone"
        )
    return arrays


def epoch_of(path: str | Path) -> int:
    """The epoch that a checkpoint of `Keeper` was written after, from the file itself."""
    note = weights.open_checkpoint(path).metadata.get("epoch", "")
    if not note.isdigit():
        raise TrainingError(f"{path}: it does not say after which epoch it was written: it is not of train.py")
    return int(note)


def newest(folder: str | Path, model: str) -> Path:
    """The newest checkpoint of a run's folder. Raises TrainingError when there is none."""
    found = _files(Path(folder), model)
    if not found:
        raise TrainingError(f"--resume: no checkpoint {model}-EPOCH_STEP.ckpt in {folder}")
    return max(found, key=lambda path: (path.stat().st_mtime_ns, path.name))


def _files(folder: Path, model: str) -> list[Path]:
    return sorted(folder.glob(f"{model}-*_*.ckpt"))


def _notes(path: Path) -> tuple[int, float]:
    """The epoch (0: unknown) and the top-1 (-1: not measured) that a file was written with."""
    try:
        notes = weights.open_checkpoint(path).metadata
        return int(notes.get("epoch", 0)), float(notes.get("top1", -1.0))
    except (WeightsError, ValueError):
        return 0, -1.0
