"""The folder of a training run: which checkpoints it keeps, its lock, its disk space, and files of earlier runs.

File names are mindcv's. MODEL-EPOCH_STEP.ckpt and MODEL_best.ckpt hold weights (with --ema, their moving average), and
optim_MODEL.ckpt is the newest state (`zoo.training.state`). Earlier states are optim_MODEL-EPOCH_STEP.ckpt. Every file
is written atomically.
"""

from __future__ import annotations

import json
import logging
import math
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

import weights
from zoo.errors import TrainingError, WeightsError
from zoo.files import atomic_write
from zoo.language.model import Model
from zoo.language.trace import parameters
from zoo.training.state import Position, State, read_state, write_state

_flock: Callable[[IO[str], int], None] | None = None
if sys.platform != "win32":
    import fcntl

    _flock, _EXCLUSIVE = fcntl.flock, fcntl.LOCK_EX | fcntl.LOCK_NB

Array = NDArray[Any]

LOCK = ".lock"
"""The file in a run's folder that is locked while the run lasts."""

logger = logging.getLogger("zoo")


class Keeper:
    """Writes a run's files into its folder, and removes those that its policy does not keep.

    keep        number of weight files to keep
    policy      which to keep. "latest_k": the newest; "top_k": those of the highest top-1, and the newest; None: all
    states      number of states to keep
    resumed     the state that the run has resumed from; the weight files in the folder are then the run's own
    classes     names of the classes, for the files

    `source` is the file to resume from, and `position` its position, None before the first state.
    """

    def __init__(
        self,
        folder: str | Path,
        model: Model,
        keep: int = 10,
        policy: str | None = "latest_k",
        states: int = 2,
        resumed: State | None = None,
        classes: Sequence[str] = (),
    ) -> None:
        self.folder, self.model, self.keep, self.policy, self.states = Path(folder), model, keep, policy, states
        self.classes = classes
        self.kept: list[tuple[float, Path]] = []
        self.best = -1.0
        self.newest = self.folder / f"optim_{model.name}.ckpt"
        self.position = None if resumed is None else resumed.position
        self.source = self.newest if resumed is None else resumed.path
        for path in _weight_files(self.folder, model.name) if resumed else ():
            epoch, top1 = _notes(path)
            if epoch:
                self.kept.append((self._rank(epoch, top1), path))
        best = self.folder / f"{model.name}_best.ckpt"
        if resumed and best.exists():
            self.best = _notes(best)[1]

    def save(self, arrays: Mapping[str, Array], epoch: int, step: int, top1: float) -> Path:
        """Write the weights after `epoch`; top1 in percent, NaN if it was not measured. Raises ZooError."""
        path = self.folder / f"{self.model.name}-{epoch}_{step}.ckpt"
        notes = {"epoch": str(epoch), "step": str(step), "class_names": json.dumps(list(self.classes))}
        notes |= {} if math.isnan(top1) else {"top1": repr(float(top1))}
        if top1 > self.best:  # first, as an epoch with its own file is not validated again
            weights.write(self.folder / f"{self.model.name}_best.ckpt", arrays, self.model, notes=notes)
            self.best = top1
        weights.write(path, arrays, self.model, notes=notes)
        self.kept = [(rank, other) for rank, other in self.kept if other != path]
        self.kept.append((self._rank(epoch, -1.0 if math.isnan(top1) else top1), path))
        if self.policy is not None:
            self.kept.sort(key=lambda item: item[0])
            for old in [item for item in self.kept[: -self.keep] if item[1] != path]:
                self.kept.remove(old)
                old[1].unlink(missing_ok=True)
        return path

    def save_state(self, state: State) -> None:
        """Write a state as the newest. If that fails, raises ZooError and leaves the state before it."""
        write_state(self.newest, state, self._keep_newest_as_earlier)
        self.position, self.source = state.position, self.newest
        for old in _state_files(self.folder, self.model.name)[self.states :]:
            old.unlink(missing_ok=True)

    def _keep_newest_as_earlier(self) -> None:
        if self.position is not None and self.newest.exists():
            epoch, step = self.position
            _link_or_move(self.newest, self.folder / f"optim_{self.model.name}-{epoch}_{step}.ckpt")

    def _rank(self, epoch: int, top1: float) -> float:
        return top1 if self.policy == "top_k" else float(epoch)


def require_disk_space(folder: Path, model: Model, copies: int, states: int, keep: int | None) -> None:
    """Check that a run's files fit on the disk: `states` of `copies` times the weights, and `keep` weight files.

    Warns if the disk will fill up, unless `keep` is None: then all files are kept, and the space that they need is not
    known. Raises TrainingError if not even the first files fit.
    """
    size = 4 * sum(int(np.prod(parameter.shape)) for parameter in parameters(model).values())
    first, free = size * (copies + 2), shutil.disk_usage(folder).free
    files = (*_weight_files(folder, model.name), *_state_files(folder, model.name))
    used = sum(path.stat().st_size for path in files)
    if free < first:
        raise TrainingError(
            f"{folder}: {_size(free)} free, and a checkpoint takes {_size(first)}: free some space, or choose another "
            "--ckpt_save_dir"
        )
    needed = 0 if keep is None else size * (copies * (states + 1) + keep + 2) - used
    if free < needed:
        logger.warning("%s: %s free, and its checkpoints will take %s more", folder, _size(free), _size(needed))


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Make the folder if it is missing, and lock it, so that only one run writes there.

    The lock ends with the process, however it ends. Warns where there are no such locks: on Windows, and on some
    network file systems. Raises TrainingError if another run holds the lock or the folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK).open("a+", encoding="utf-8")
    except OSError as error:
        raise TrainingError(f"--ckpt_save_dir {folder}: cannot write there: {error.strerror}") from None
    with file:
        _lock_file(file, folder)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}")
        file.flush()
        for part in folder.glob(".*.part"):  # of a run that was killed
            part.unlink(missing_ok=True)
        yield


def _lock_file(file: IO[str], folder: Path) -> None:
    if _flock is None:
        logger.warning("%s: folders are locked on Linux and macOS only: start no other run in it", folder)
        return
    try:
        _flock(file, _EXCLUSIVE)
    except BlockingIOError:
        file.seek(0)
        raise TrainingError(
            f"--ckpt_save_dir {folder}: {file.read(200) or 'another run'} is writing there: wait until it has ended, "
            "or choose another folder"
        ) from None
    except OSError as error:
        logger.warning("%s: cannot be locked (%s): start no other run in it", folder, error.strerror)


def set_aside(folder: Path, model: str, resume_from: Position | None = None) -> None:
    """Move an earlier run's checkpoints into a new subfolder, so that the run does not overwrite them.

    With `resume_from`, only files of later positions are moved; if the best weights are among them, the best of those
    that stay are copied in their place. Warns on the logger of what has been moved.
    """
    found = [
        path
        for path in (*_weight_files(folder, model), *_state_files(folder, model))
        if resume_from is None or _is_later(path, resume_from)
    ]
    best = folder / f"{model}_best.ckpt"
    if best.exists() and (resume_from is None or _notes(best)[0] > resume_from.epoch):
        found.append(best)
    if found:
        _move(found, folder, model)
        tops = {path: _notes(path)[1] for path in _weight_files(folder, model)}
        if not best.exists() and max(tops.values(), default=-1) >= 0:
            with atomic_write(best) as part:
                shutil.copyfile(max(tops, key=lambda path: tops[path]), part)
    if resume_from is None:
        for name in ("bad_images.csv", "failed_batch.csv"):  # which this run may have no reason to write
            (folder / name).unlink(missing_ok=True)


def _move(found: list[Path], folder: Path, model: str) -> None:
    target = next(t for n in range(1, 10**6) if not (t := folder / f"earlier-{n}").exists())
    target.mkdir()
    reports = [folder / name for name in ("result.log", "curves.png", "bad_images.csv", f"{model}.yaml")]
    for path in filter(Path.exists, reports):
        shutil.copy2(path, target)
    for path in found:
        os.replace(path, target / path.name)
    what = f"{len(found)} checkpoints" if len(found) > 1 else found[0].name
    logger.warning("%s: moved %s of an earlier run to %s", folder, what, target)


def newest(folder: str | Path, model: str) -> State | None:
    """The newest state in a run's folder that can be read, None if the folder has no checkpoints of the model.

    States that cannot be read are named on the logger, with the reason. Raises TrainingError if no state can be read
    although there are some, or only weights.
    """
    found = _state_files(Path(folder), model)
    for path in found:
        try:
            return read_state(path)
        except TrainingError as error:
            logger.warning("skipped: %s", error)
    others = _weight_files(Path(folder), model)
    if not found and not others:
        return None
    damaged = f" that can be read, of {len(found)}" if found else ""
    instead = f"; to start a new run with its weights, give --ckpt_path {others[-1]}" if others else ""
    if earlier := sorted(Path(folder).glob("earlier-*"), key=lambda path: path.stat().st_mtime):
        instead += f"; an earlier run's files are in {earlier[-1]}"
    raise TrainingError(f"--resume: no state optim_{model}.ckpt{damaged} in {folder}{instead}")


def state_of(path: Path, model: str, folder: str | Path) -> State:
    """The state that belongs to a file: the file itself, or the state of its position in its or the run's folder.

    Raises TrainingError if there is none.
    """
    try:
        notes = weights.open_checkpoint(path).metadata
    except WeightsError as error:
        raise TrainingError(str(error)) from None
    if notes.get("holds") == "state":
        return read_state(path)
    if not notes.get("epoch", "").isdigit() or not notes.get("step", "").isdigit():
        raise TrainingError(f"{path}: not a checkpoint of train.py: it does not say after which epoch it was written")
    wanted = Position(int(notes["epoch"]), int(notes["step"]))
    others = []
    for other in dict.fromkeys((*_state_files(path.parent, model), *_state_files(Path(folder), model))):
        try:
            state = read_state(other)
        except TrainingError as error:
            logger.warning("skipped: %s", error)
            continue
        if state.position == wanted:
            return state
        others.append(f"{other.name} ({state.position})")
    raise TrainingError(
        f"{path}: written after {wanted}, and there is no state of that position, only "
        f"{', '.join(others) or 'none at all'}: resume from the newest with --resume, or start a new run with "
        "--ckpt_path alone"
    )


def has_weights(folder: Path, model: str, epoch: int) -> bool:
    """Whether the folder has the weights after an epoch."""
    return any(_position(path)[0] == epoch for path in _weight_files(folder, model))


def _link_or_move(path: Path, other: Path) -> None:
    """Give a file a second name, or, on a file system without hard links, another name."""
    other.unlink(missing_ok=True)
    try:
        os.link(path, other)
    except OSError:
        os.replace(path, other)


def _state_files(folder: Path, model: str) -> list[Path]:
    """Newest first."""
    newest = folder / f"optim_{model}.ckpt"
    earlier = [p for p in folder.glob(f"optim_{model}-*_*.ckpt") if _position(p)]
    return [newest] * newest.exists() + sorted(earlier, key=_position, reverse=True)


def _weight_files(folder: Path, model: str) -> list[Path]:
    """Oldest first."""
    return sorted((p for p in folder.glob(f"{model}-*_*.ckpt") if _position(p)), key=_position)


def _position(path: Path) -> tuple[int, ...]:
    """The epoch and the step in a file's name; () if it has none."""
    found = re.search(r"-(\d+)_(\d+)\.ckpt$", path.name)
    return tuple(map(int, found.groups())) if found else ()


def _is_later(path: Path, resume_from: Position) -> bool:
    """Whether a file was written after a position."""
    if path.name.startswith("optim_") and not _position(path):
        try:
            return read_state(path).position > resume_from
        except TrainingError:
            return True
    return _position(path) > resume_from


def _notes(path: Path) -> tuple[int, float]:
    """The epoch (0: unknown) and the top-1 (-1: not measured) that a weight file was written with."""
    try:
        notes = weights.open_checkpoint(path).metadata
        return int(notes.get("epoch", 0)), float(notes.get("top1", -1.0))
    except (WeightsError, ValueError) as error:
        logger.warning("skipped: %s", error)
        return 0, -1.0


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
