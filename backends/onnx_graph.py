"""A Model and its weights as an ONNX graph, written node by node from the spec: no framework, no tracing.

Tensors have their canonical names. The name of a node's output begins with the path of its node in the spec.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from zoo.errors import SpecError
from zoo.language.geometry import border, pair, reach
from zoo.language.model import Model
from zoo.language.nodes import (
    AdaptiveAvgPool,
    AvgPool,
    Box,
    Chain,
    Concat,
    Conv,
    Depthwise,
    Head,
    MaxPool,
    Node,
    NormRelu,
    Relu,
    Residual,
    assert_never,
    children,
)
from zoo.language.trace import Op, trace
from zoo.version import __version__

OPSET, IR_VERSION = 20, 9
"""The operator set of ONNX 1.15, which ONNX Runtime supports from 1.17 on and OpenVINO from 2024.0 on."""

INPUT = "images"
Array = NDArray[Any]
Dtype = Literal["fp32", "fp16"]


def graph(
    model: Model,
    arrays: Mapping[str, Array],
    *,
    outputs: Sequence[str] = (),
    dtype: Dtype = "fp32",
    height: int | None = None,
    width: int | None = None,
    dynamic_size: bool = False,
    metadata: Mapping[str, str] | None = None,
) -> onnx.ModelProto:
    """The network in inference: float32 `images` [N, C, H, W] to `logits` [N, classes], or to its taps' feature maps.

    outputs        names of stages, auxiliary heads and "logits" to return instead
    dtype          "fp16" stores the weights and computes in float16; images and outputs stay float32
    height, width  of the images, by default the native size
    dynamic_size   leave height and width open. Raises SpecError for networks with parts that need a fixed size: a
                   classifier without global pooling, an adaptive pool

    The number of images is always open. Raises SpecError for an input that is too small.
    """
    writer = _Writer(model, arrays, dtype, None if dynamic_size else trace(model, height, width).ops)
    sides = ["height", "width"] if dynamic_size else [height or model.size, width or height or model.size]
    wanted = tuple(outputs) or model.taps or ("logits",)
    results = writer.network(wanted)
    proto = helper.make_model(
        helper.make_graph(
            writer.nodes,
            model.name.replace(".", "_"),
            [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["N", model.in_channels, *sides])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in results],
            writer.initializers,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="inception-zoo",
        producer_version=__version__,
    )
    helper.set_model_props(proto, dict(metadata or {}))
    return proto


def checked(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the shapes of all values, checked by ONNX's own checker; for models that are written to files."""
    proto = onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True, data_prop=True)
    onnx.checker.check_model(proto, full_check=True)
    return proto


class _Writer:
    """Collects nodes and initializers. `ops` are the operations at a fixed input size; None leaves the size open."""

    def __init__(self, model: Model, arrays: Mapping[str, Array], dtype: Dtype, ops: Sequence[Op] | None) -> None:
        self.model, self.arrays = model, arrays
        self.numpy = np.dtype(np.float16 if dtype == "fp16" else np.float32)
        self.ops = None if ops is None else {op.path: op for op in ops}
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.names: set[str] = set()

    def network(self, wanted: Sequence[str]) -> list[str]:
        model = self.model
        x = INPUT if self.numpy == np.float32 else self.add("Cast", [INPUT], f"{INPUT}.cast", to=TensorProto.FLOAT16)
        values = {}
        for stage in model.stages:
            x = values[stage.name] = self.node(stage.node, stage.name, x)
        if model.head is not None and "logits" in wanted:
            values["logits"] = self.node(model.head, "head", x)
        for aux in model.aux:
            if aux.name in wanted:
                values[aux.name] = self.node(aux.node, aux.name, values[aux.after])
        for name in wanted:
            if name not in values:
                raise SpecError(f"{model.name}: no output {name!r}: it has {', '.join(values)}")
            if self.numpy == np.float32:
                self.add("Identity", [values[name]], name)
            else:
                self.add("Cast", [values[name]], name, to=TensorProto.FLOAT)
        return list(wanted)

    def node(self, node: Node, path: str, x: str) -> str:
        match node:
            case Chain():
                for name, child in children(node):
                    x = self.node(child, f"{path}.{name}", x)
                return x
            case Concat():
                parts = [self.node(child, f"{path}.{name}", x) for name, child in children(node)]
                return self.add("Concat", parts, f"{path}.concat", axis=1)
            case Residual():
                body = self.node(node.body, f"{path}.body", x)
                if node.scale != 1:
                    body = self.add("Mul", [body, self.constant(f"{path}.scale", node.scale)], f"{path}.scaled")
                straight = x if node.shortcut is None else self.node(node.shortcut, f"{path}.shortcut", x)
                y = self.add("Add", [straight, body], f"{path}.sum")
                return self.relu(y) if node.act else y
            case Conv() | Depthwise():
                y = self.convolution(node, path, x)
                y = self.norm(path, y) if node.norm else y
                return self.relu(y) if node.act else y
            case NormRelu():
                return self.relu(self.norm(path, x))
            case Relu():
                return self.add("Relu", [x], f"{path}.relu")
            case MaxPool():
                ceil = int(node.padding == "ceil")
                return self.add("MaxPool", [x], f"{path}.pool", **self.window(node, path), ceil_mode=ceil)
            case AvgPool():
                counted = int(node.count_include_pad)
                return self.add(
                    "AveragePool", [x], f"{path}.pool", **self.window(node, path), count_include_pad=counted
                )
            case AdaptiveAvgPool():
                return self.adaptive(node, path, f"{path}.pool", x)
            case Head():
                return self.head(node, path, x)
        assert_never(node)

    def convolution(self, node: Box, path: str, x: str) -> str:
        weight = self.arrays[f"{path}.conv.weight"]
        inputs = [x, self.tensor(f"{path}.conv.weight")]
        inputs += [self.tensor(f"{path}.conv.bias")] if node.bias else []
        groups = len(weight) if isinstance(node, Depthwise) else 1
        dilations = [node.dilation, node.dilation]
        return self.add("Conv", inputs, f"{path}.conv", **self.window(node, path), dilations=dilations, group=groups)

    def norm(self, path: str, x: str) -> str:
        if self.model.norm is None:
            return x
        vectors = [self.tensor(f"{path}.bn.{name}") for name in ("weight", "bias", "mean", "var")]
        return self.add("BatchNormalization", [x, *vectors], f"{path}.bn", epsilon=self.model.norm.eps)

    def head(self, node: Head, path: str, x: str) -> str:
        if node.pool:
            x = self.add("GlobalAveragePool", [x], f"{path}.pool")
        elif self.ops is None:
            raise SpecError(f"{path}: a classifier without global pooling needs a fixed input size")
        x = self.add("Flatten", [x], f"{path}.flat", axis=1)
        if node.hidden is not None:
            x = self.linear(f"{path}.hidden", x)
            x = self.relu(x) if node.act else x
        return self.linear(f"{path}.fc", x)

    def linear(self, path: str, x: str) -> str:
        return self.add("Gemm", [x, self.tensor(f"{path}.weight"), self.tensor(f"{path}.bias")], path, transB=1)

    def adaptive(self, node: AdaptiveAvgPool, path: str, output: str, x: str) -> str:
        if node.size == 1:
            return self.add("GlobalAveragePool", [x], output)
        if self.ops is None:
            raise SpecError(f"{path}: an adaptive pool needs a fixed input size")
        _, height, width = self.ops[path].inputs
        if height % node.size == width % node.size == 0:
            kernel = [height // node.size, width // node.size]
            return self.add("AveragePool", [x], output, kernel_shape=kernel, strides=kernel)
        rows = [self.means(x, f"{path}.row{i}", 2, *bounds) for i, bounds in enumerate(_windows(height, node.size))]
        rest = self.add("Concat", rows, f"{path}.rows", axis=2)
        columns = [
            self.means(rest, f"{path}.column{i}", 3, *bounds) for i, bounds in enumerate(_windows(width, node.size))
        ]
        return self.add("Concat", columns, output, axis=3)

    def means(self, x: str, path: str, axis: int, first: int, end: int) -> str:
        """The mean of the rows (axis 2) or columns (axis 3) from `first` up to `end`."""
        bounds = [self.integers(f"{path}.{name}", [value]) for name, value in (("first", first), ("end", end))]
        part = self.add("Slice", [x, *bounds, self.integers(f"{path}.axis", [axis])], f"{path}.part")
        return self.add("ReduceMean", [part, self.integers(f"{path}.axis", [axis])], path, keepdims=1)

    def window(self, node: Box | MaxPool | AvgPool, path: str) -> dict[str, Any]:
        """The attributes of a window: kernel, strides, padding."""
        fixed = {"kernel_shape": list(pair(node.kernel)), "strides": [node.stride, node.stride]}
        if node.padding == "ceil":
            return fixed
        if node.padding == "same" and node.stride > 1 and self.ops is None:
            return {**fixed, "auto_pad": "SAME_UPPER"}  # this padding depends on the input's size
        sides = (1, 1) if self.ops is None else self.ops[path].inputs[1:]
        (top, bottom), (left, right) = (
            border(node.padding, n, kernel, node.stride) for n, kernel in zip(sides, reach(node), strict=True)
        )
        return {**fixed, "pads": [top, left, bottom, right]}

    def relu(self, x: str) -> str:
        return self.add("Relu", [x], f"{x}.relu")

    def tensor(self, name: str) -> str:
        """Add a canonical array as an initializer; returns its name."""
        self._initializer(name, np.ascontiguousarray(self.arrays[name], self.numpy))
        return name

    def constant(self, name: str, value: float) -> str:
        self._initializer(name, np.array(value, self.numpy))
        return name

    def integers(self, name: str, values: Sequence[int]) -> str:
        self._initializer(name, np.array(values, np.int64))
        return name

    def _initializer(self, name: str, array: Array) -> None:
        if name not in self.names:
            self.names.add(name)
            self.initializers.append(numpy_helper.from_array(array, name))

    def add(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output


def _windows(n: int, size: int) -> list[tuple[int, int]]:
    """The `size` windows of an adaptive pool over n pixels, each as (first pixel, end)."""
    return [(i * n // size, -(-(i + 1) * n // size)) for i in range(size)]
