"""Exported programs (.pt2 files of torch.export.save) as modules that run the operations named in their graphs.

`torch.export.load` is not used, because it unpickles data and evaluates expressions from the file. Here a graph may
call the operations of `OPERATIONS` and the arithmetic of `ARITHMETIC`, and nothing else.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from weights.formats.exported import DTYPES, Program, program
from weights.formats.tensors import Mapped
from zoo.errors import WeightsError

OPERATIONS = {
    "_adaptive_avg_pool2d", "_native_batch_norm_legit", "_native_batch_norm_legit_functional",
    "_native_batch_norm_legit_no_training", "_softmax", "_to_copy", "adaptive_avg_pool2d", "add", "addmm", "alias",
    "avg_pool2d", "batch_norm", "cat", "chunk", "clamp", "clamp_min", "clone", "constant_pad_nd", "contiguous",
    "conv2d", "convolution", "detach", "div", "dropout", "expand", "flatten", "full", "full_like", "gelu",
    "hardtanh", "index_select", "leaky_relu", "lift_fresh_copy", "linear", "log_softmax", "max_pool2d",
    "max_pool2d_with_indices", "mean", "mm", "mul", "native_batch_norm", "native_dropout", "neg", "pad", "permute",
    "pow", "reciprocal", "relu", "reshape", "rsqrt", "select", "sigmoid", "silu", "slice", "softmax", "split",
    "split_with_sizes", "sqrt", "squeeze", "stack", "sub", "sum", "sym_size", "t", "tanh", "to", "transpose",
    "unsqueeze", "view",
}  # fmt: skip
"""ATen's operations that a graph may call, also in place (with "_" after the name)."""

ARITHMETIC: dict[str, Callable[..., Any]] = {
    **{f"_operator.{name}": getattr(operator, name) for name in ("add", "sub", "mul", "floordiv", "mod", "neg")},
    **{f"_operator.{name}": getattr(operator, name) for name in ("eq", "ne", "lt", "le", "gt", "ge", "and_", "or_")},
    "torch.sym_max": max,
    "torch.sym_min": min,
    "math.ceil": math.ceil,
    "math.floor": math.floor,
}
"""What a graph may compute from sizes."""

CHECKS = ("torch.ops.aten._assert_scalar.default", "torch.ops.aten._assert_tensor_metadata.default")
"""Checks of sizes and dtypes, which are skipped."""

NAME = re.compile(r"torch\.ops\.aten\.(\w+)\.(\w+)")
MEMORY_FORMATS = {1: torch.contiguous_format, 2: torch.channels_last, 4: torch.preserve_format}
"""Memory formats by their number in the schema (`MemoryFormat`)."""


class ExportedProgram(nn.Module):
    """A program's graph and tensors. Called on images, it returns the program's output, or a tuple of several outputs.

    It runs in the mode in which it was exported: `train()` and `eval()` change nothing.
    """

    def __init__(self, program: Program) -> None:
        super().__init__()
        graph, signature = program.graph_module["graph"], program.graph_module["signature"]
        self.nodes = [(_function(node["target"]), node) for node in graph["nodes"] if node["target"] not in CHECKS]
        self.own: dict[str, str] = {}
        self.inputs: list[str] = []
        for spec in signature["input_specs"]:
            ((kind, value),) = spec.items()
            if kind == "user_input":
                self.inputs.append(_tensor_name(value["arg"]))
                continue
            if kind not in ("parameter", "buffer", "tensor_constant"):
                raise WeightsError(f"an input of kind {kind!r}, expected tensors only")
            name = value[f"{kind}_name"]
            self.own[value["arg"]["name"]] = name
            source = program.state if name in program.state else program.constants
            _register(self, name, torch.from_numpy(np.array(source[name])), kind == "parameter")
        self.outputs = [
            _tensor_name(spec["user_output"]["arg"]) for spec in signature["output_specs"] if "user_output" in spec
        ]
        if len(self.inputs) != 1 or not self.outputs:
            raise WeightsError(f"{len(self.inputs)} inputs and {len(self.outputs)} outputs: expected one input, images")

    def forward(self, x: Tensor) -> Any:
        state = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        values: dict[str, Any] = {self.inputs[0]: x, **{name: state[own] for name, own in self.own.items()}}
        for function, node in self.nodes:
            arguments = {one["name"]: _value(one["arg"], values) for one in node["inputs"]}
            if isinstance(function, torch._ops.OpOverload):
                result = function(**arguments)
            else:
                result = function(*arguments.values())
            several = len(node["outputs"]) > 1
            for output, value in zip(node["outputs"], result if several else (result,), strict=True):
                _keep(output, value, values)
        outputs = tuple(values[name] for name in self.outputs)
        return outputs if len(outputs) > 1 else outputs[0]


def load(path: Path) -> ExportedProgram:
    """The program in a file. Raises WeightsError for a damaged file, and for operations that are not allowed here."""
    try:
        return ExportedProgram(program(Mapped(path)))
    except WeightsError as error:
        raise WeightsError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise WeightsError(f"{path}: damaged: {type(error).__name__}: {str(error)[:200]}") from None


def _function(target: str) -> Callable[..., Any]:
    """The function that a node calls. Raises WeightsError if it is not allowed."""
    if target in ARITHMETIC:
        return ARITHMETIC[target]
    found = NAME.fullmatch(target)
    if found is None or found[1].removesuffix("_") not in OPERATIONS:
        raise WeightsError(
            f"calls {target}, which is not run here: expected operations of convolution networks; if you trust the "
            "file, load it in a function of your own and give package.module:function"
        )
    function: Callable[..., Any] = getattr(getattr(torch.ops.aten, found[1]), found[2])
    return function


def _register(module: nn.Module, name: str, tensor: Tensor, parameter: bool) -> None:
    """Register a tensor as a parameter or a buffer; the names before dots are submodules, added where missing."""
    *path, last = name.split(".")
    for part in path:
        if part not in module._modules:
            module.add_module(part, nn.Module())
        module = module._modules[part]  # type: ignore[assignment]
    if parameter:
        module.register_parameter(last, nn.Parameter(tensor, requires_grad=False))
    else:
        module.register_buffer(last, tensor)


def _tensor_name(argument: Mapping[str, Any]) -> str:
    if "as_tensor" not in argument:
        raise WeightsError(f"an input or output that is not a tensor: {next(iter(argument))}")
    name: str = argument["as_tensor"]["name"]
    return name


def _value(argument: Mapping[str, Any], values: Mapping[str, Any]) -> Any:
    """An argument: a constant of the graph, or what an earlier node has computed."""
    ((kind, value),) = argument.items()
    match kind:
        case "as_none":
            return None
        case "as_tensor":
            return values[value["name"]]
        case "as_tensors":
            return [values[one["name"]] for one in value]
        case "as_optional_tensors":
            return [_value(one, values) for one in value]
        case "as_int" | "as_ints" | "as_bool" | "as_bools" | "as_string":
            return value
        case "as_float":
            return float(value)  # infinity and NaN are strings in the file
        case "as_floats":
            return [float(one) for one in value]
        case "as_sym_int" | "as_sym_float" | "as_sym_bool":
            return _size(value, values)
        case "as_sym_ints":
            return [_size(one, values) for one in value]
        case "as_scalar_type":
            return getattr(torch, DTYPES[value])
        case "as_memory_format":
            return MEMORY_FORMATS[value]
        case "as_layout":
            return torch.strided
        case "as_device":
            return torch.device("cpu")
        case _:
            raise WeightsError(f"an argument of kind {kind}, which is not run here")


def _size(value: Mapping[str, Any], values: Mapping[str, Any]) -> Any:
    ((kind, content),) = value.items()
    return values[content] if kind == "as_name" else content


def _keep(output: Mapping[str, Any], value: Any, values: dict[str, Any]) -> None:
    """Store what a node has computed under the names of its outputs."""
    ((kind, name),) = output.items()
    match kind:
        case "as_tensor":
            values[name["name"]] = value
        case "as_tensors":
            values.update(zip((one["name"] for one in name), value, strict=True))
        case "as_sym_int" | "as_sym_float" | "as_sym_bool":
            values[name["as_name"]] = value
        case "as_none":
            pass
        case _:
            raise WeightsError(f"an output of kind {kind}, which is not run here")
