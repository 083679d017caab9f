"""Several processes that train or judge one network, each with its part of every batch: started by the framework's own
launcher, joined by its own collectives. One module a framework; importing this imports none.

A process knows its number (`rank`), its number on its machine (`local`) and how many there are (`size`); `Processes`
itself stands for a process alone.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zoo.errors import TrainingError

Result = TypeVar("Result")
HEADER = 8
"""Bytes that say how many follow."""


class Launcher(NamedTuple):
    """What starts a framework's processes, and the variables in which it tells each its number and how many there are.

    local   its number on its machine
    """

    command: str
    rank: str
    size: str
    local: str

    def started(self) -> int:
        """How many processes it has started this one among; 0: it has not started this one."""
        return int(os.environ[self.size]) if {self.rank, self.size} <= os.environ.keys() else 0


LAUNCHERS = {
    "torch": Launcher("torchrun --nproc_per_node {}", "RANK", "WORLD_SIZE", "LOCAL_RANK"),
    "mindspore": Launcher(
        "msrun --worker_num {0} --local_worker_num {0} --join True", "RANK_ID", "MS_WORKER_NUM", "DEVICE_ID"
    ),
    "paddle": Launcher(
        "python -m paddle.distributed.launch --nproc_per_node {}",
        "PADDLE_TRAINER_ID",
        "PADDLE_TRAINERS_NUM",
        "PADDLE_RANK_IN_NODE",
    ),
}


class Processes:
    """The processes of a run, as one of them sees them."""

    rank = 0
    size = 1
    gpu = False

    def total(self, numbers: ArrayLike) -> NDArray[np.float32]:
        """The sums over all processes of an array that each has, float32; whole numbers up to 2^24 are exact.

        Raises TrainingError where another process is gone.
        """
        try:
            return self._total(np.asarray(numbers, np.float32))
        except RuntimeError as error:
            raise lost(error) from None

    def average(self, tensors: Sequence[Any]) -> None:
        """Put the mean over all processes into each of the framework's tensors, in place."""

    def gather(self, data: bytes) -> list[bytes]:
        """Every process's bytes, by rank."""
        if self.size == 1:
            return [data]
        lengths = self._rows(len(data).to_bytes(HEADER, "little"), HEADER)
        counts = [int.from_bytes(row.tobytes(), "little") for row in lengths]
        rows = self._rows(data, max(counts))
        return [row[:count].tobytes() for row, count in zip(rows, counts, strict=True)]

    def first(self, do: Callable[[], Result]) -> Result:
        """What `do` gives, which the first process does before the others: fetch what all then find."""
        if self.rank:
            self.wait()
        result = do()
        if not self.rank:
            self.wait()
        return result

    def wait(self) -> None:
        """Until all processes have come here."""
        self.total(0)

    def leave(self) -> None:
        """Say to the others that this one ends well."""

    def _total(self, numbers: NDArray[np.float32]) -> NDArray[np.float32]:
        return numbers

    def _rows(self, data: bytes, width: int) -> NDArray[np.uint8]:
        """[size, width]: the bytes of all, each process's in its row."""
        rows = np.zeros((self.size, width), np.float32)
        rows[self.rank, : len(data)] = np.frombuffer(data, np.uint8)
        return self.total(rows).astype(np.uint8)


def lost(error: RuntimeError) -> TrainingError:
    """What to say where a collective has failed."""
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return TrainingError(f"the processes have lost one another: {reason[:200]}")


def speaks_of_others(error: RuntimeError) -> bool:
    """Whether an error of a framework is of its collectives: they have no class of their own."""
    return any(word in str(error).lower() for word in ("gloo", "nccl", "mccl", "hccl", "connection", "socket"))


def rank(environment: Mapping[str, str] = os.environ) -> int:
    """The number that a launcher has given this process; 0 without one."""
    return max(int(environment.get(launcher.rank, 0)) for launcher in LAUNCHERS.values())


def local_rank(backend: str) -> int:
    """Its number on its machine."""
    return int(os.environ.get(LAUNCHERS[backend].local, 0))


def launch(backend: str, count: int, gpu: bool) -> str:
    """The command that starts so many processes on one machine; a script and its flags follow."""
    words = LAUNCHERS[backend].command.format(count)
    return f"{words} --backend gloo" if backend == "paddle" and not gpu else words


def join(backend: str, distribute: bool, gpu: bool = False, script: str = "train.py") -> Processes:
    """The processes that the launcher of a framework has started; without `distribute`, this one alone.

    Raises TrainingError where the launcher is missing, or is there and was not expected.
    """
    started = LAUNCHERS[backend].started()
    if not distribute:
        if started > 1:
            raise TrainingError(f"started as one of {started} processes: give --distribute too")
        return Processes()
    if not started:
        other = next((name for name, one in LAUNCHERS.items() if one.started()), None)
        what = f"these were started by {LAUNCHERS[other].command.split(' --')[0]}" if other else "none were started"
        command = f"{launch(backend, 2, gpu)} {script} --distribute ..."
        raise TrainingError(f"--distribute: {what}; {backend}'s own are started by `{command}`")
    try:
        return cast(Processes, importlib.import_module(f"backends.processes.{backend}").Processes(gpu))
    except (OSError, RuntimeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise TrainingError(
            f"--distribute: the {started} processes do not find, or have lost, one another: {reason[:300]}"
        ) from None
