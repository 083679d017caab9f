"""What a user's own network computes, operation by operation, in a form that is the same for all frameworks.

`observe(net, x)` of a framework's observe.py runs a network once and records every convolution, linear layer and batch
norm: its parameters, its settings, its input and its output. `zoo.parity.foreign` compares these with a spec.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from zoo.errors import BackendError

Array = NDArray[np.float32]

FILES = {
    ".pt": "torch",
    ".pth": "torch",
    ".pt2": "torch",
    ".onnx": "onnx",
    ".json": "paddle",
    ".mindir": "mindspore",
    ".jax": "jax",
}
"""Suffixes of files that hold a network with its graph, and the backend that runs them."""


@dataclass(frozen=True)
class Operation:
    """One convolution, linear layer or batch norm, as it ran.

    name        the framework's name of its module or weight; "" where there is none
    x, y        keys of its input and output in `Observation.arrays`; equal arrays have equal keys
    parameters  keys by role: "weight" and "bias"; of a norm also "mean" and "var" and, in training, "new_mean" and
                "new_var", the running statistics afterwards. Convolutions are [outputs, inputs (of a group), height,
                width], linear layers [outputs, inputs]
    names       the network's own names of the parameters, by role
    settings    of a convolution: stride, padding, dilation, groups; of a norm: eps, and act, which is "relu" if the
                output is that of a ReLU after the norm
    spec_name   its name in the spec, e.g. "stem.conv", if a table of names gives it
    """

    kind: Literal["conv", "linear", "norm"]
    name: str
    x: str
    y: str
    parameters: dict[str, str]
    names: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    spec_name: str = ""


@dataclass(frozen=True)
class Step:
    """An operation of a saved graph that will be recorded when the graph runs.

    x, y        its input and output, as the framework refers to values of the graph
    names       the graph's names of its parameters, by role
    settings    as in `Operation`
    transposed  whether a linear layer's weight is [outputs, inputs]
    """

    kind: Literal["conv", "linear", "norm"]
    x: Any
    y: Any
    names: dict[str, str]
    settings: dict[str, Any] = field(default_factory=dict)
    transposed: bool = True


def digest(array: Array) -> str:
    """A hash of the shape and the bytes: equal for equal arrays."""
    shape = ",".join(map(str, array.shape)).encode()
    return hashlib.blake2b(np.ascontiguousarray(array).tobytes() + shape, digest_size=12).hexdigest()


@dataclass
class Observation:
    """What a network has computed.

    operations  in order of execution
    arrays      the arrays that they refer to, by key
    output      the logits [N, classes]
    returned    keys of all logits that the network has returned, including those of auxiliary heads, in their order;
                the fields of a named tuple after the first are sorted by name
    """

    operations: list[Operation] = field(default_factory=list)
    arrays: dict[str, Array] = field(default_factory=dict)
    output: Array = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    returned: list[str] = field(default_factory=list)

    def keep(self, array: NDArray[Any]) -> str:
        """Store a float32 copy; returns its key."""
        array = np.array(array, np.float32, order="C")
        name = digest(array)
        self.arrays.setdefault(name, array)
        return name

    def add(
        self,
        kind: Literal["conv", "linear", "norm"],
        name: str,
        x: NDArray[Any],
        y: NDArray[Any],
        parameters: Mapping[str, NDArray[Any] | None],
        names: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> None:
        """Record an operation."""
        kept = {role: self.keep(array) for role, array in parameters.items() if array is not None}
        self.operations.append(Operation(kind, name, self.keep(x), self.keep(y), kept, dict(names or {}), settings))

    def add_step(
        self,
        step: Step,
        x: NDArray[Any],
        y: NDArray[Any],
        array: Callable[[str], NDArray[Any]],
        short: Callable[[str], str] = str,
    ) -> None:
        """Record an operation of a saved graph, which has run.

        array  maps a parameter's name to its value
        short  maps a parameter's name to the name that the user knows
        """
        arrays = {role: array(name) for role, name in step.names.items()}
        if not step.transposed:
            arrays["weight"] = arrays["weight"].T
        names = {role: short(name) for role, name in step.names.items()}
        self.add(step.kind, names["weight"].rpartition(".")[0], x, y, arrays, names, **step.settings)

    def finish(self, output: Any, images: int, array: Callable[[Any], NDArray[Any]]) -> None:
        """Take the logits from what the network has returned: the first of several outputs, or the attribute `logits`.

        `array` converts the framework's tensors to NumPy. Raises BackendError unless the logits are [images, classes].
        """
        first = output[0] if isinstance(output, tuple | list) and output else output
        first = getattr(first, "logits", first)
        shape = list(getattr(first, "shape", ()))
        if len(shape) != 2 or shape[0] != images:
            raise BackendError(
                f"expected the network to return logits [{images}, classes], not {shape or type(first).__name__}"
            )
        self.output = np.ascontiguousarray(array(first), np.float32)
        each = list(output) if isinstance(output, tuple | list) else [output]
        if fields := getattr(output, "_fields", ()):
            each = [each[0], *(getattr(output, name) for name in sorted(fields[1:]))]
        logits = [value for value in each if list(getattr(value, "shape", ())) == shape]
        self.returned = [self.keep(array(value)) for value in logits]

    def save(self, folder: Path) -> None:
        """Write the observation into two files, observed.json and observed.safetensors."""
        save_file({**self.arrays, "output": np.ascontiguousarray(self.output)}, folder / "observed.safetensors")
        rows = [asdict(operation) for operation in self.operations]
        (folder / "observed.json").write_text(json.dumps({"operations": rows, "returned": self.returned}))

    @classmethod
    def load(cls, folder: Path) -> Observation:
        arrays = load_file(folder / "observed.safetensors")
        document = json.loads((folder / "observed.json").read_text())
        operations = [Operation(**row) for row in document["operations"]]
        return cls(operations, arrays, arrays.pop("output"), document["returned"])


@contextmanager
def running(training: bool = False) -> Iterator[None]:
    """Turn any error that a user's own network raises into BackendError."""
    try:
        yield
    except Exception as error:
        mode = " in training mode" if training else ""
        raise BackendError(f"the network failed{mode}: {type(error).__name__}: {error}") from error


class Observes(Protocol):
    """A framework's observe.py."""

    def load(self, path: Path) -> Any:
        """The network in a file. Raises BackendError for a file that the framework cannot run."""

    def assign(self, net: Any, tensors: Mapping[str, Array]) -> None:
        """Set parameters and buffers by the network's own names."""

    def observe(self, net: Any, x: Array, training: bool = False) -> Observation:
        """Run the network once on a batch, float32 [N, C, H, W], in eval or training mode; then restore its state.

        Raises BackendError when the network fails, or when its output is not [N, classes].
        """
