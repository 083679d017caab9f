"""The state of a training run: a checkpoint file from which the run resumes, in any framework.

A state holds weights, optimizer, moving average, loss scale and the position in the run. It is a MindSpore checkpoint
whose tensors are called weights/NAME, SLOT/NAME and ema/NAME; it ends with a checksum that is verified on reading. All
randomness is drawn by position (`zoo.data.loader`), so the position is also the state of all random generators.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from weights import formats, store
from weights.formats import mindspore
from weights.manifest import check
from zoo.errors import TrainingError, WeightsError
from zoo.files import atomic_write
from zoo.language.diff import differences
from zoo.language.model import Model

Array = NDArray[Any]

LOSSES, RATES = "losses", "rates"
"""Names of the two arrays of a state that are for the reports."""


class Position(NamedTuple):
    """A point in a run: the first `step` batches of `epoch` are done. Epochs count from 1."""

    epoch: int
    step: int

    def __str__(self) -> str:
        return f"epoch {self.epoch}, batch {self.step}"


@dataclass(frozen=True)
class State:
    """What a run resumes from.

    arrays   weights, optimizer and average, as `Trainer.saved` gives them
    losses   the loss of each batch of the position's epoch that is done
    flags    the run's flags as YAML
    images   number of images in the training set
    batch    number of images in a step, of all processes together
    steps    number of steps in an epoch
    seconds  time spent on training the position's epoch
    model    the network
    classes  names of the classes
    rates    learning rates for the figure: pairs of the number of epochs done, a fraction included, and the rate
    path     the file that the state was read from
    """

    position: Position
    arrays: Mapping[str, Array]
    losses: Sequence[float]
    flags: str
    images: int
    batch: int
    steps: int
    seconds: float
    model: Model
    classes: Sequence[str] = ()
    rates: Sequence[tuple[float, float]] = ()
    path: Path = field(default=Path(), compare=False)


def write_state(path: Path, state: State, before_replacing: Callable[[], None] = lambda: None) -> None:
    """Write a state to a file, atomically; `before_replacing` is called when the new file is complete.

    Raises WeightsError for weights that are not finite or not the network's, and TrainingError if the file cannot be
    written; the file that was there before is then unchanged.
    """
    prefix = "weights/"
    check({n.removeprefix(prefix): a for n, a in state.arrays.items() if n.startswith(prefix)}, state.model)
    notes = {
        **store.describe(state.model),
        "epoch": str(state.position.epoch),
        "step": str(state.position.step),
        "holds": "state",
        "flags": state.flags,
        "images": str(state.images),
        "batch": str(state.batch),
        "steps": str(state.steps),
        "seconds": f"{state.seconds:.2f}",
        "class_names": json.dumps(list(state.classes)),
    }
    reports = {LOSSES: np.array(state.losses, np.float64), RATES: np.array(state.rates, np.float64).reshape(-1, 2)}
    try:
        with atomic_write(path) as part:
            mindspore.write(part, {**state.arrays, **reports}, notes)
            before_replacing()
    except OSError as error:
        raise TrainingError(f"{path}: cannot write the state there: {error.strerror}") from None


def read_state(path: str | Path) -> State:
    """Read what `write_state` wrote. Raises TrainingError for a file that is damaged or is not a state."""
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
            store.described(notes),
            tuple(json.loads(notes.get("class_names", "[]"))),
            [(float(at), float(rate)) for at, rate in arrays.pop(RATES, ())],  # which older states do not have
            Path(path),
        )
    except WeightsError as error:
        message = str(error)
        raise TrainingError(message if message.startswith(str(path)) else f"{path}: {message}") from None
    except (KeyError, ValueError) as error:
        raise TrainingError(f"{path}: damaged: {type(error).__name__}: {error}") from None


def require_same_network(state: State, model: Model) -> None:
    """Raise TrainingError if a state is of another network than `model`; input size and dropout may differ."""
    found = [
        difference
        for difference in differences(state.model, model)
        if difference.where not in ("preprocess", "input") and difference.what != "dropout"
    ]
    if found:
        where, what, before, now = found[0]
        more = f", and {len(found) - 1} more differences" if len(found) > 1 else ""
        raise TrainingError(
            f"{state.path}: the state of another network ({state.model.name}), not of this {model.name}: {where}: "
            f"{what} {before} in the file, {now} here{more}; to start with its weights, give --ckpt_path {state.path}"
        )
