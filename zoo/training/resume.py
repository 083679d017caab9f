"""Where a run starts: from which state, at which position, with which weights."""

from __future__ import annotations

import logging
from pathlib import Path

import weights
from zoo.data import Loader
from zoo.errors import TrainingError
from zoo.training import recipe
from zoo.training.flags import Arguments, changes
from zoo.training.report import reported
from zoo.training.run_folder import has_weights, newest, state_of
from zoo.training.state import Position, State

logger = logging.getLogger("zoo")


def resumed_state(a: Arguments) -> State | None:
    """The state that the flags resume from; None for a new run.

    A bare --resume starts a new run, with a warning, if the folder has no checkpoints of the model: launchers repeat
    the same command after a preemption, which may come before the first state is written. Raises TrainingError.
    """
    name = weights.resolve(a.model).name
    if a.resume == "auto":
        state = newest(a.ckpt_save_dir, name)
        if state is None:
            logger.warning(
                "--resume: no state of %s in %s yet: the run starts from the beginning", name, a.ckpt_save_dir
            )
        return state
    if a.resume:
        state = (
            newest(a.resume, name)
            if Path(a.resume).is_dir()
            else state_of(_file(a.resume, "--resume"), name, a.ckpt_save_dir)
        )
        if state is None:
            raise TrainingError(f"--resume {a.resume}: no state optim_{name}.ckpt in it")
        return state
    if not a.resume_opt:
        return None
    if not a.ckpt_path:
        raise TrainingError("--resume_opt: give the checkpoint to resume from with --ckpt_path FILE, or use --resume")
    return state_of(_file(a.ckpt_path[0], "--ckpt_path"), name, a.ckpt_save_dir)


def initial_weights(a: Arguments) -> Path | None:
    """The checkpoint whose weights a new run starts with: of --pretrained, --ckpt_path or --model, in this order."""
    if a.pretrained:
        return pretrained(a)
    if a.ckpt_path:
        return _file(a.ckpt_path[0], "--ckpt_path")
    return Path(a.model) if weights.is_checkpoint(a.model) else None


def pretrained(a: Arguments) -> Path:
    """The name of the published weights that --pretrained stands for; they are downloaded now."""
    if weights.is_checkpoint(a.model):
        return Path(a.model)
    row = weights.published.choose(weights.resolve(a.model), name=a.model)
    weights.remote.fetch(row)
    return Path(row.name)


def start_position(a: Arguments, state: State, loader: Loader) -> Position:
    """The position at which a run resumes. Warns of flags that have changed since the state was saved.

    Raises TrainingError if the position is within an epoch whose batches have changed, or if the run is complete.
    """
    images, batch = len(loader.dataset), loader.batch_size * loader.share[1]
    if state.position.step != state.steps and (state.images, state.batch) != (images, batch):
        raise TrainingError(
            f"{state.path}: from the middle of an epoch of {state.images} images in batches of {state.batch}, but now "
            f"there are {images} in batches of {batch}: resume with the same flags, or from the end of an epoch"
        )
    changed = changes(a, state.flags)
    if (state.images, state.batch) != (images, batch):
        changed.append(f"{images} images, {batch} a step (was {state.images}, {state.batch})")
    if changed:
        logger.warning("the run is resumed with other flags: %s", ", ".join(changed))
    epoch, step = state.position
    start = Position(epoch, min(step, len(loader)))
    folder = state.path.parent
    if step == state.steps:  # what is left of this epoch: validation, unless it is reported and its weights are written
        due = epoch % a.ckpt_save_interval == 0 or epoch >= a.epoch_size
        is_reported = any(row.number == epoch for row in reported(folder / "result.log"))
        done = is_reported and (not due or has_weights(folder, state.model.name, epoch))
        start = Position(epoch + 1, 0) if done else Position(epoch, len(loader))
    if start.epoch > a.epoch_size:
        raise TrainingError(
            f"{folder}: this run is complete, with {a.epoch_size} epochs: give a larger --epoch_size to continue it"
        )
    return start


def _file(path: str, flag: str) -> Path:
    found = list(recipe.checkpoints([path], flag))
    if len(found) > 1:
        raise TrainingError(f"{flag} {path}: {len(found)} checkpoints in it: give one of them, e.g. {found[-1]}")
    return found[0]
