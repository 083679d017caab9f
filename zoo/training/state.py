"""Checkpoints of a run: its weights as .ckpt files that any framework reads, and its state, from which it goes on.

Names are mindcv's: MODEL-EPOCH_STEP.ckpt and MODEL_best.ckpt hold weights (with a moving average, the average), and
optim_MODEL.ckpt is the newest state: weights, optimizer, average, loss scale, and how far the run has come. Earlier
states are optim_MODEL-EPOCH_STEP.ckpt. Each file appears whole, and ends with a checksum that is verified on reading.
All randomness is drawn by position (`zoo.data.loader`), so the position is the state of loader and generators too.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import weights
from weights import formats, store
from weights.formats import mindspore
from weights.manifest import check
from zoo.errors import TrainingError, WeightsError
from zoo.files import atomic_write
from zoo.language.model import Model
from zoo.language.trace import parameters

Array = NDArray[Any]
LOSSES = "losses"
"""What the losses of the epoch that is not yet reported are called among the arrays."""

LOCK = ".lock"
"""The file of a run's folder that says that the run is going on."""

logger = logging.getLogger("zoo")


class Position(NamedTuple):
    """Batches `step` of `epoch` (both from 1) are done; 0: before the first."""

    epoch: int
    step: int

    def __str__(self) -> str:
        return f"epoch {self.epoch}, batch {self.step}"


@dataclass(frozen=True)
class State:
    """What a run goes on from.

    losses  of the position's epoch, one a batch; `seconds` that its training has taken
    flags   the run's, as YAML
    images  in the training set; `batch` in a step, of all processes together; `steps` in an epoch
    path    the file that it was read from
    """

    position: Position
    arrays: Mapping[str, Array]
    losses: Sequence[float]
    flags: str
    images: int
    batch: int
    steps: int
    seconds: float
    path: Path = field(default=Path(), compare=False)


class Keeper:
    """Writes a run's files into its folder, and removes those that its policy does not keep.

    keep, policy  so many weights: the latest ("latest_k"), or those of the highest top-1 and the newest ("top_k"); all
                  (None)
    states        so many states: the newest, and those before it
    since         the state that the run goes on from; what the folder has from before is counted
    """

    def __init__(
        self,
        folder: str | Path,
        model: Model,
        keep: int = 10,
        policy: str | None = "latest_k",
        states: int = 2,
        since: State | None = None,
        classes: Sequence[str] = (),
    ) -> None:
        self.folder, self.model, self.most, self.policy, self.states = Path(folder), model, keep, policy, states
        self.classes = classes
        self.kept: list[tuple[float, Path]] = []
        self.best = -1.0
        self.newest = self.folder / f"optim_{model.name}.ckpt"
        self.last = None if since is None else since.position
        self.source = self.newest if since is None else since.path
        for path in _weights(self.folder, model.name) if since else ():
            epoch, top1 = _notes(path)
            if epoch:
                self.kept.append((self._rank(epoch, top1), path))
        best = self.folder / f"{model.name}_best.ckpt"
        if since and best.exists():
            self.best = _notes(best)[1]

    def save(self, arrays: Mapping[str, Array], epoch: int, step: int, top1: float) -> Path:
        """Write the weights after `epoch` (from 1); top1 in percent, NaN where it was not measured. Raises ZooError."""
        path = self.folder / f"{self.model.name}-{epoch}_{step}.ckpt"
        notes = {"epoch": str(epoch), "step": str(step), "class_names": json.dumps(list(self.classes))}
        notes |= {} if top1 != top1 else {"top1": repr(float(top1))}
        if top1 > self.best:  # first: an epoch whose own file is there is done with
            weights.write(self.folder / f"{self.model.name}_best.ckpt", arrays, self.model, notes=notes)
            self.best = top1
        weights.write(path, arrays, self.model, notes=notes)
        self.kept = [(rank, other) for rank, other in self.kept if other != path]
        self.kept.append((self._rank(epoch, -1.0 if top1 != top1 else top1), path))
        if self.policy is not None:  # the newest one too
            self.kept.sort(key=lambda item: item[0])
            for old in [item for item in self.kept[: -self.most] if item[1] != path]:
                self.kept.remove(old)
                old[1].unlink(missing_ok=True)
        return path

    def save_state(self, state: State) -> None:
        """Write a state as the newest. Raises ZooError, and leaves the one before, where that cannot be."""
        check({n.removeprefix("weights/"): a for n, a in state.arrays.items() if n.startswith("weights/")}, self.model)
        notes = {
            **store.describe(self.model),
            "epoch": str(state.position.epoch),
            "step": str(state.position.step),
            "holds": "state",
            "flags": state.flags,
            "images": str(state.images),
            "batch": str(state.batch),
            "steps": str(state.steps),
            "seconds": f"{state.seconds:.2f}",
            "class_names": json.dumps(list(self.classes)),
        }
        try:
            with atomic_write(self.newest) as part:
                mindspore.write(part, {**state.arrays, LOSSES: np.array(state.losses, np.float64)}, notes)
                if self.last is not None and self.newest.exists():
                    _also_as(self.newest, self._earlier(self.last))
        except OSError as error:
            raise TrainingError(f"{self.newest}: cannot write the state there: {error.strerror}") from None
        self.last, self.source = state.position, self.newest
        for old in _states(self.folder, self.model.name)[self.states :]:
            old.unlink(missing_ok=True)

    def _rank(self, epoch: int, top1: float) -> float:
        return top1 if self.policy == "top_k" else float(epoch)

    def _earlier(self, position: Position) -> Path:
        return self.folder / f"optim_{self.model.name}-{position.epoch}_{position.step}.ckpt"


def room(folder: Path, model: Model, copies: int, states: int, keep: int | None) -> None:
    """Whether the disk has room for a run's files: `states` of so many `copies` of the weights, `keep` weights alone.

    Warns where it will fill up (never, where `keep` is None: all are kept). Raises TrainingError where there is none
    for the first ones.
    """
    size = 4 * sum(int(np.prod(parameter.shape)) for parameter in parameters(model).values())
    first, free = size * (copies + 2), shutil.disk_usage(folder).free
    there = sum(path.stat().st_size for path in (*_weights(folder, model.name), *_states(folder, model.name)))
    if free < first:
        raise TrainingError(
            f"{folder}: {_size(free)} free, and a checkpoint takes {_size(first)}: make room there, or take another "
            "--ckpt_save_dir"
        )
    most = 0 if keep is None else size * (copies * (states + 1) + keep + 2) - there
    if free < most:
        logger.warning("%s: %s free, and its checkpoints will take %s more", folder, _size(free), _size(most))


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """The folder for one run alone: made where it is missing. Raises TrainingError where another run has it.

    The lock ends with the process, however that ends.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK).open("a+", encoding="utf-8")
    except OSError as error:
        raise TrainingError(f"--ckpt_save_dir {folder}: cannot write there: {error.strerror}") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise TrainingError(
                f"--ckpt_save_dir {folder}: {file.read(200) or 'another run'} is writing there: wait for it, or take "
                "another folder"
            ) from None
        except OSError as error:  # file systems without locks
            logger.warning("%s: no lock can be had there (%s): start no other run in it", folder, error.strerror)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {os.uname().nodename}")
        file.flush()
        for part in folder.glob(".*.part"):  # of a run that was killed
            part.unlink(missing_ok=True)
        yield


def set_aside(folder: Path, model: str, since: Position | None = None) -> None:
    """Move what an earlier run has left into a folder below, before a run overwrites it; with `since`, what is later.

    Where the best is among it, the best of those that stay takes its place. Says so on the logger.
    """
    found = [p for p in (*_weights(folder, model), *_states(folder, model)) if since is None or _later(p, since)]
    best = folder / f"{model}_best.ckpt"
    if best.exists() and (since is None or _notes(best)[0] > since.epoch):
        found.append(best)
    if found:
        _move(found, folder, model)
        tops = {path: _notes(path)[1] for path in _weights(folder, model)}
        if not best.exists() and max(tops.values(), default=-1) >= 0:
            with atomic_write(best) as part:
                shutil.copyfile(max(tops, key=lambda path: tops[path]), part)
    if since is None:
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
    logger.warning("%s: %s of an earlier run are in %s now", folder, _count(found), target)


def newest(folder: str | Path, model: str) -> State:
    """The newest state in a run's folder that can be read; those passed over, with the reason, go to the logger.

    Raises TrainingError when there is none.
    """
    found = _states(Path(folder), model)
    for path in found:
        try:
            return read_state(path)
        except TrainingError as error:
            logger.warning("passed over: %s", error)
    damaged = f" that can be read, of {len(found)}" if found else ""
    there = _weights(Path(folder), model)
    instead = f"; to begin anew with its weights, --ckpt_path {there[-1]}" if there else ""
    if aside := sorted(Path(folder).glob("earlier-*"), key=lambda path: path.stat().st_mtime):
        instead += f"; an earlier run's are in {aside[-1]}"
    raise TrainingError(f"--resume: no state optim_{model}.ckpt{damaged} in {folder}{instead}")


def state_of(path: Path, model: str, folder: str | Path) -> State:
    """The state that belongs to a file: itself, or one beside it or in the run's folder of its epoch and step.

    Raises TrainingError when there is none.
    """
    try:
        notes = weights.open_checkpoint(path).metadata
    except WeightsError as error:
        raise TrainingError(str(error)) from None
    if notes.get("holds") == "state":
        return read_state(path)
    if not notes.get("epoch", "").isdigit() or not notes.get("step", "").isdigit():
        raise TrainingError(f"{path}: it does not say after which epoch it was written: it is not of train.py")
    wanted = Position(int(notes["epoch"]), int(notes["step"]))
    others = []
    for other in dict.fromkeys((*_states(path.parent, model), *_states(Path(folder), model))):
        try:
            state = read_state(other)
        except TrainingError as error:
            logger.warning("passed over: %s", error)
            continue
        if state.position == wanted:
            return state
        others.append(f"{other.name} ({state.position})")
    raise TrainingError(
        f"{path}: of {wanted}, and no state of that: {', '.join(others) or 'there are none'}: go on from the run's "
        "newest with --resume, or begin anew with --ckpt_path alone"
    )


def has_weights(folder: Path, model: str, epoch: int) -> bool:
    """Whether the weights after an epoch are there."""
    return any(_position(path)[0] == epoch for path in _weights(folder, model))


def read_state(path: str | Path) -> State:
    """What a `Keeper` wrote. Raises TrainingError when it is damaged, or is no state."""
    try:
        contents = formats.read(Path(path))
        notes = contents.metadata
        if notes.get("holds") != "state":
            raise TrainingError(f"{path}: not a state of train.py, or cut short")
        arrays = {name: np.array(tensor.read()) for name, tensor in contents.tree.items() if hasattr(tensor, "read")}
        return State(
            Position(int(notes["epoch"]), int(notes["step"])),
            arrays,
            arrays.pop(LOSSES).tolist(),
            notes["flags"],
            int(notes["images"]),
            int(notes["batch"]),
            int(notes["steps"]),
            float(notes["seconds"]),
            Path(path),
        )
    except WeightsError as error:
        raise TrainingError(str(error)) from None
    except (KeyError, ValueError) as error:
        raise TrainingError(f"{path}: damaged: {type(error).__name__}: {error}") from None


def _also_as(path: Path, other: Path) -> None:
    """Give a file a second name, so that its first may be taken; where the file system has only one, that one."""
    other.unlink(missing_ok=True)
    try:
        os.link(path, other)
    except OSError:
        os.replace(path, other)


def _states(folder: Path, model: str) -> list[Path]:
    """Newest first."""
    newest = folder / f"optim_{model}.ckpt"
    earlier = [p for p in folder.glob(f"optim_{model}-*_*.ckpt") if _position(p)]
    return [newest] * newest.exists() + sorted(earlier, key=_position, reverse=True)


def _weights(folder: Path, model: str) -> list[Path]:
    """Oldest first."""
    return sorted((p for p in folder.glob(f"{model}-*_*.ckpt") if _position(p)), key=_position)


def _position(path: Path) -> tuple[int, ...]:
    """The epoch and the step in a file's name; () without."""
    found = re.search(r"-(\d+)_(\d+)\.ckpt$", path.name)
    return tuple(map(int, found.groups())) if found else ()


def _later(path: Path, since: Position) -> bool:
    """Whether a run that goes on from `since` has not come as far as a file."""
    if path.name.startswith("optim_") and not _position(path):
        try:
            return read_state(path).position > since
        except TrainingError:
            return True
    return _position(path) > since


def _notes(path: Path) -> tuple[int, float]:
    """The epoch (0: unknown) and the top-1 (-1: not measured) that a file was written with."""
    try:
        notes = weights.open_checkpoint(path).metadata
        return int(notes.get("epoch", 0)), float(notes.get("top1", -1.0))
    except (WeightsError, ValueError) as error:
        logger.warning("passed over: %s", error)
        return 0, -1.0


def _count(paths: Iterable[Path]) -> str:
    names = [path.name for path in paths]
    return f"{len(names)} checkpoints" if len(names) > 1 else names[0]


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
