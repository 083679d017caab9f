"""What a Paddle inference model, a program (.json) and its weights (.pdiparams), computes, operation by operation."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import paddle
from numpy.typing import NDArray

from backends.observed import Array, Observation, Step, running
from backends.paddle.network import version
from zoo.errors import BackendError

KINDS: dict[str, Literal["conv", "linear", "norm"]] = {
    "pd_op.conv2d": "conv",
    "pd_op.depthwise_conv2d": "conv",
    "pd_op.matmul": "linear",
    "pd_op.batch_norm": "norm",
    "pd_op.batch_norm_": "norm",
}
"""Operations that are recorded. A bias is an addition after them, and is recorded together with them."""

NORM_OPERANDS = {"mean": 1, "var": 2, "weight": 3, "bias": 4}


@dataclass(frozen=True)
class Program:
    """A program, its one input and its outputs, with a scope of its own that holds its weights."""

    program: Any
    feed: str
    fetches: list[Any]
    scope: Any
    executor: Any


@contextmanager
def _static() -> Any:
    """Put Paddle into static mode; on exit, put it back into the mode that it was in."""
    dynamic = paddle.in_dynamic_mode()
    paddle.enable_static()
    try:
        yield
    finally:
        if dynamic:
            paddle.disable_static()


def load(path: Path) -> Program:
    """Open the program FILE.json at `path` and FILE.pdiparams beside it.

    Raises BackendError when either cannot be read, or unless the program has exactly one input.
    """
    if not path.with_suffix(".pdiparams").is_file():
        raise BackendError(f"{path}: expected its weights beside it, in {path.with_suffix('.pdiparams').name}")
    scope = paddle.base.core.Scope()
    with _static(), paddle.static.scope_guard(scope):
        executor = paddle.static.Executor(paddle.CPUPlace())
        try:
            program, feeds, fetches = paddle.static.load_inference_model(str(path.with_suffix("")), executor)
        except Exception as error:  # Paddle's own classes, ValueError, RuntimeError
            reason = str(error).strip().splitlines()[-1]
            raise BackendError(f"{path}: not an inference model that Paddle {version()} opens: {reason}") from None
    block = program.global_block()
    for op in [op for op in block.ops if op.name() == "pd_op.fetch"]:  # a run adds its own, and these would clash
        block.remove_op(op)
    if len(feeds) != 1:
        raise BackendError(f"{path}: expected a program with one input, the images, not {feeds}")
    return Program(program, feeds[0], fetches, scope, executor)


def assign(net: Program, tensors: Mapping[str, Array]) -> None:
    """Set parameters by name; linear weights are [outputs, inputs] here."""
    for name, array in tensors.items():
        value = array.T if array.ndim == 2 else array
        net.scope.find_var(name).get_tensor().set(np.ascontiguousarray(value), paddle.CPUPlace())


def observe(net: Program, x: Array) -> Observation:
    """Run the program once: see `backends.observed.Observes.observe`."""
    steps = [step for op in net.program.global_block().ops if (step := _step(op)) is not None]
    wanted = [value for step in steps for value in (step.x, step.y)]
    with _static(), paddle.static.scope_guard(net.scope), running():
        values = net.executor.run(net.program, feed={net.feed: x}, fetch_list=[*wanted, *net.fetches])
    found = Observation()
    for step, before, after in zip(steps, values[: len(wanted) : 2], values[1 : len(wanted) : 2], strict=True):
        found.add_step(step, before, after, partial(_numpy, net))
    found.finish(values[len(wanted)], len(x), np.asarray)
    return found


def _numpy(net: Program, name: str) -> NDArray[Any]:
    return np.array(net.scope.find_var(name).get_tensor())


def _step(op: Any) -> Step | None:
    """What to record of an operation; None for one without weights."""
    kind = KINDS.get(op.name())
    if kind is None:
        return None
    operands, attributes, y = op.operands_source(), op.attrs(), op.results()[0]
    if kind == "norm":
        names = {role: name for role, place in NORM_OPERANDS.items() if (name := _parameter(operands[place]))}
        return Step(kind, operands[0], y, names, {"eps": float(attributes["epsilon"])}) if "mean" in names else None
    weight = _parameter(operands[1])
    if weight is None:  # a product of two values
        return None
    names, (y, bias) = {"weight": weight}, _with_bias(y)
    if bias is not None:
        names["bias"] = bias
    if kind == "linear":
        return Step(kind, operands[0], y, names, {}, bool(attributes["transpose_y"]))
    settings = {key: attributes[name] for key, name in SETTINGS.items()}
    if attributes["padding_algorithm"] != "EXPLICIT":
        settings["padding"] = attributes["padding_algorithm"]
    return Step(kind, operands[0], y, names, settings)


SETTINGS = {"stride": "strides", "padding": "paddings", "dilation": "dilations", "groups": "groups"}
"""Our names of a convolution's settings, and Paddle's."""


def _with_bias(y: Any) -> tuple[Any, str | None]:
    """A product's output and None or, if its only use is to add a parameter, the sum and the parameter's name."""
    uses = y.all_used_ops()
    if len(uses) == 1 and uses[0].name() == "pd_op.add":
        for value in uses[0].operands_source():
            if name := _parameter(value):
                return uses[0].results()[0], name
    return y, None


def _parameter(value: Any) -> str | None:
    """The name of the parameter that a value is, perhaps reshaped; None if it is not a parameter."""
    source = value.get_defining_op()
    while source is not None and source.name() == "pd_op.reshape":
        source = source.operands_source()[0].get_defining_op()
    if source is None or source.name() != "builtin.parameter":
        return None
    name = source.attrs()["parameter_name"]
    return str(name)
