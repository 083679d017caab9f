"""The processes that train or validate one network together, as one of them sees them.

`Processes` itself stands for a process that runs alone; each framework's is in its backend's folder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zoo.errors import TrainingError

Result = TypeVar("Result")
HEADER = 8
"""Bytes that give the number of bytes that follow."""


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
