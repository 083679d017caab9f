"""ONNX files: what a graph computes, operation by operation, in ONNX Runtime without optimisations."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from backends.observed import Array, Observation
from zoo.errors import BackendError

KINDS = {"Conv": "conv", "Gemm": "linear", "MatMul": "linear", "BatchNormalization": "norm"}


def load(path: Path) -> Any:
    """The model. Raises BackendError for a file that is not one."""
    try:
        model = onnx.load(str(path))
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf's and the checker's own classes, and OSError
        raise BackendError(f"{path}: not a valid ONNX model: {str(error).strip().splitlines()[0]}") from None
    return model


def assign(net: Any, tensors: Mapping[str, Array]) -> None:
    """Set initializers by name."""
    for initializer in net.graph.initializer:
        if initializer.name in tensors:
            array = tensors[initializer.name].reshape(tuple(initializer.dims))
            initializer.CopyFrom(onnx.numpy_helper.from_array(array, initializer.name))


def observe(net: Any, x: Array, training: bool = False) -> Observation:
    """Run the graph once: see `backends.observed.Observes.observe`."""
    if training:
        raise BackendError("an ONNX file cannot be run in training: give package.module:function")
    constants: dict[str, Any] = {i.name: onnx.numpy_helper.to_array(i) for i in net.graph.initializer}
    for node in net.graph.node:
        if node.op_type == "Constant":
            constants[node.output[0]] = onnx.numpy_helper.to_array(onnx.helper.get_node_attr_value(node, "value"))
    nodes = [node for node in net.graph.node if node.op_type in KINDS and node.input[1] in constants]
    opened = onnx.ModelProto()
    opened.CopyFrom(net)
    outputs = [value.name for value in net.graph.output]
    inputs = {value.name for value in net.graph.input} - constants.keys()
    if len(inputs) != 1:
        raise BackendError(f"expected a graph with one input, the images, not {sorted(inputs)}")
    seen = dict.fromkeys(name for node in nodes for name in (node.input[0], node.output[0]))
    for name in seen:
        if name not in outputs and name not in inputs:
            opened.graph.output.append(onnx.ValueInfoProto(name=name))
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    try:
        session = ort.InferenceSession(opened.SerializeToString(), options, providers=["CPUExecutionProvider"])
        names = [value.name for value in session.get_outputs()]
        values = dict(zip(names, session.run(names, {next(iter(inputs)): x}), strict=True))
    except Exception as error:  # ONNX Runtime's own classes
        raise BackendError(f"the graph failed: {str(error).strip().splitlines()[0]}") from None
    values[next(iter(inputs))] = x
    found = Observation()
    for node in nodes:
        _add(found, node, values, constants)
    found.finish(values[outputs[0]], len(x), np.asarray)
    return found


def _add(found: Observation, node: Any, values: Mapping[str, NDArray[Any]], constants: Mapping[str, Any]) -> None:
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    x, y = values[node.input[0]], values[node.output[0]]
    kind: Any = KINDS[node.op_type]
    roles = ("weight", "bias", "mean", "var") if kind == "norm" else ("weight", "bias")
    names = {role: name for role, name in zip(roles, node.input[1:], strict=False) if name in constants}
    arrays = {role: constants[name] for role, name in names.items()}
    settings: dict[str, Any] = {}
    if kind == "linear" and not (node.op_type == "Gemm" and attributes.get("transB")):
        arrays["weight"] = arrays["weight"].T
    if kind == "conv":
        settings = {
            "stride": attributes.get("strides", [1, 1]),
            "padding": attributes.get("pads") or attributes.get("auto_pad", b"NOTSET").decode(),
            "dilation": attributes.get("dilations", [1, 1]),
            "groups": attributes.get("group", 1),
        }
    elif kind == "norm":
        settings = {"eps": float(attributes.get("epsilon", 1e-5))}
    found.add(kind, node.name, x, y, arrays, names, **settings)
