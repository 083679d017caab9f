"""What the graph in a MindIR file computes, operation by operation.

The file is a protocol buffer. To record the input and the output of every operation, a copy of the graph that also
returns these values is run.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import mindspore as ms
import numpy as np
from mindspore import Tensor
from mindspore.train.mind_ir_pb2 import ModelProto
from numpy.typing import NDArray

from backends.observed import Array, Observation, Step, running
from zoo.errors import BackendError

KINDS: dict[str, Literal["conv", "linear", "norm"]] = {
    "Conv2D": "conv",
    "MatMul": "linear",
    "Dense": "linear",
    "BatchNorm": "norm",
}
"""Operations that are recorded, by the name of their primitive. A BiasAdd that follows is recorded together with it."""

NORM_INPUTS = {"weight": 1, "bias": 2, "mean": 3, "var": 4}
EPS_INPUT, TRANSPOSE_INPUT = 6, 3
"""Positions among a node's inputs: of a batch norm's epsilon, and of the flag that a product's second operand is
transposed."""

DTYPES: dict[int, Any] = {1: np.float32, 10: np.float16, 11: np.float64}
"""NumPy's dtypes by their numbers in the protocol buffer."""


class Graph:
    """A MindIR file.

    model       the protocol buffer
    producers   its nodes, by the name of each value that they produce
    parameters  its parameters by name
    """

    def __init__(self, path: Path) -> None:
        self.model: Any = ModelProto()
        try:
            self.model.ParseFromString(path.read_bytes())
        except Exception as error:  # protobuf's own class, OSError
            raise BackendError(f"{path}: not a MindIR file: {error}") from None
        graph = self.model.graph
        if len(graph.input) != 1 or len(graph.output) != 1:
            raise BackendError(
                f"{path}: expected a graph of one input, the images, and one output, not of {len(graph.input)} and "
                f"{len(graph.output)}"
            )
        self.producers = {name: node for node in graph.node for name in node.output}
        self.parameters = {parameter.name: parameter for parameter in graph.parameter}

    def kind(self, node: Any) -> str:
        """The name of a node's primitive: "Conv2D" of "REF::Conv2D:4"."""
        return str(node.op_type).removeprefix("REF::").partition(":")[0]

    def uses(self, value: str) -> list[Any]:
        return [node for node in self.model.graph.node if value in node.input]

    def parameter(self, value: str) -> str | None:
        """The name of the parameter that a value is loaded from; None if it is loaded from none."""
        node = self.producers.get(value)
        while node is not None and self.kind(node) in ("Load", "Depend"):
            value = node.input[0]
            node = self.producers.get(value)
        return value if value in self.parameters else None

    def array(self, name: str) -> NDArray[Any]:
        parameter = self.parameters[name]
        if parameter.data_type not in DTYPES:
            raise BackendError(f"{_short(name)}: expected floating-point weights, not type {parameter.data_type}")
        flat = np.frombuffer(parameter.raw_data, DTYPES[parameter.data_type])
        return flat.reshape(tuple(parameter.dims)).astype(np.float32)

    def constant(self, value: str) -> Any:
        """The attribute of a constant value."""
        return self.producers[value].attribute[0]


def load(path: Path) -> Graph:
    """Open a MindIR file. Raises BackendError for any other file."""
    return Graph(path)


def assign(net: Graph, tensors: Mapping[str, Array]) -> None:
    """Set parameters by their names without the graph's prefix."""
    full = {_short(name): parameter for name, parameter in net.parameters.items()}
    for name, array in tensors.items():
        parameter = full[name]
        parameter.raw_data = np.ascontiguousarray(array, DTYPES[parameter.data_type]).tobytes()


def observe(net: Graph, x: Array) -> Observation:
    """Run the graph once: see `backends.observed.Observes.observe`."""
    steps = list(_steps(net))
    opened = ModelProto()
    opened.CopyFrom(net.model)
    graph = opened.graph
    returned = graph.node.add()
    returned.name, returned.op_type, returned.domain = "Observed", "REF::MakeTuple:observed", "Default/Observed"
    returned.input.extend([graph.output[0].name, *(name for step in steps for name in (step.x, step.y))])
    returned.output.append("Observed")
    primitive = opened.primitives.add()
    primitive.name, primitive.op_type, primitive.instance_name = "MakeTuple:observed", "MakeTuple", "MakeTuple"
    graph.output[0].name = "Observed"
    with tempfile.TemporaryDirectory(prefix="zoo-mindir-") as folder, running():
        file = Path(folder, "observed.mindir")
        file.write_bytes(opened.SerializeToString())
        values = ms.nn.GraphCell(ms.load(str(file)))(Tensor(x))
    logits, seen = values[0], [value.astype(ms.float32).asnumpy() for value in values[1:]]
    found = Observation()
    for step, before, after in zip(steps, seen[::2], seen[1::2], strict=True):
        found.add_step(step, before, after, net.array, _short)
    found.finish(logits, len(x), lambda tensor: tensor.astype(ms.float32).asnumpy())
    return found


def _steps(net: Graph) -> Iterator[Step]:
    primitives = {primitive.name: primitive for primitive in net.model.primitives}
    for node in net.model.graph.node:
        kind = KINDS.get(net.kind(node))
        if kind is None:
            continue
        x, y = node.input[0], node.output[0]
        if kind == "norm":
            found = {role: net.parameter(node.input[place]) for role, place in NORM_INPUTS.items()}
            names = {role: name for role, name in found.items() if name is not None}
            first = [use for use in net.uses(y) if net.kind(use) == "TupleGetItem" and not net.constant(use.input[1]).i]
            if names.keys() == NORM_INPUTS.keys() and first:
                yield Step(kind, x, first[0].output[0], names, {"eps": float(net.constant(node.input[EPS_INPUT]).f)})
            continue
        weight = net.parameter(node.input[1])
        if weight is None:  # a product of two values
            continue
        names = {"weight": weight}
        sums = [use for use in net.uses(y) if net.kind(use) == "BiasAdd" and use.input[0] == y]
        if net.kind(node) == "Dense" and (bias := net.parameter(node.input[2])):
            names["bias"] = bias
        elif len(sums) == 1 and (bias := net.parameter(sums[0].input[1])):
            names["bias"], y = bias, sums[0].output[0]
        if kind == "conv":
            yield Step(kind, x, y, names, _settings(primitives[node.op_type.removeprefix("REF::")]))
        else:
            turned = net.kind(node) == "Dense" or bool(net.constant(node.input[TRANSPOSE_INPUT]).i)
            yield Step(kind, x, y, names, {}, turned)


def _settings(primitive: Any) -> dict[str, Any]:
    attributes = {attribute.name: attribute for attribute in primitive.attribute}

    def numbers(name: str) -> list[int]:
        return [int(number) for value in attributes[name].values for number in value.ints]

    return {
        "stride": numbers("stride")[-2:],
        "padding": [attributes["pad_mode"].s.decode(), numbers("pad")],
        "dilation": numbers("dilation")[-2:],
        "groups": int(attributes["group"].i),
    }


def _short(name: str) -> str:
    """A parameter's name without the graph's prefix."""
    return name.rpartition(":")[2]
