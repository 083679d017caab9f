"""Communication between the processes that train or validate one network together.

`Processes` itself is for a process that runs alone; each backend's folder has a subclass for its framework.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zoo.errors import TrainingError

Result = TypeVar("Result")
HEADER = 8
"""Bytes in which `gather` encodes the length of a process's data."""


class Processes:
    """The processes of a run, as one of them sees them."""

    rank = 0
    size = 1
    gpu = False

    def total(self, numbers: ArrayLike) -> NDArray[np.float32]:
        """The sum of the arrays of all processes, in float32, which is exact for integers up to 2^24.

        Raises TrainingError if another process has ended.
        """
        try:
            return self._total(np.asarray(numbers, np.float32))
        except RuntimeError as error:
            raise lost(error) from None

    def average(self, tensors: Sequence[Any]) -> None:
        """Replace each tensor of the framework by its mean over all processes, in place."""

    def mean(self, tree: Any) -> Any:
        """The means over all processes of arrays that cannot be changed in place: JAX's, in any structure."""
        return tree

    def gather(self, data: bytes) -> list[bytes]:
        """The bytes of every process, by rank."""
        if self.size == 1:
            return [data]
        lengths = self._rows(len(data).to_bytes(HEADER, "little"), HEADER)
        counts = [int.from_bytes(row.tobytes(), "little") for row in lengths]
        rows = self._rows(data, max(counts))
        return [row[:count].tobytes() for row, count in zip(rows, counts, strict=True)]

    def first(self, do: Callable[[], Result]) -> Result:
        """Call `do` in process 0 first and then in the others, which find what it has downloaded."""
        if self.rank:
            self.wait()
        result = do()
        if not self.rank:
            self.wait()
        return result

    def wait(self) -> None:
        """Wait until all processes have called this."""
        self.total(0)

    def leave(self) -> None:
        """Tell the other processes that this one ends without an error."""

    def _total(self, numbers: NDArray[np.float32]) -> NDArray[np.float32]:
        return numbers

    def _rows(self, data: bytes, width: int) -> NDArray[np.uint8]:
        """[size, width]: the bytes of each process in its row."""
        rows = np.zeros((self.size, width), np.float32)
        rows[self.rank, : len(data)] = np.frombuffer(data, np.uint8)
        return self.total(rows).astype(np.uint8)


def lost(error: RuntimeError) -> TrainingError:
    """The error to raise after a collective operation has failed."""
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return TrainingError(f"the processes have lost their connection: {reason[:200]}")


def speaks_of_others(error: RuntimeError) -> bool:
    """Whether an error of a framework comes from collective operations: such errors have no class of their own."""
    return any(word in str(error).lower() for word in ("gloo", "nccl", "mccl", "hccl", "connection", "socket"))
