"""MindSpore: fast inference."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor
from mindspore.device_context.cpu import op_tuning
from mindspore.device_context.gpu import op_precision
from numpy.typing import NDArray

from backends.device import Device
from backends.engine import Engine, EngineOptions
from backends.mindspore.network import Network, build, load, modes_kept, set_device, version
from zoo.errors import BackendError
from zoo.language.model import Model
from zoo.language.rewrites import deployable


def mixed(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function under MindSpore's automatic mixed precision: convolutions and matrix products run in float16."""
    return ms.amp.auto_mixed_precision(function, "auto", ms.float16)


def classifier(
    net: Network, graph: bool = False, half: bool = False
) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """A function from a batch [N, C, H, W] to its logits [N, classes]: see `backends.Deploys.classifier`."""

    def run(x: Tensor) -> Tensor:
        return net(x)

    forward = mixed(run) if half else run
    forward = ms.jit(forward) if graph else forward

    def classify(x: NDArray[np.float32]) -> NDArray[np.float32]:
        with modes_kept(net):
            net.set_train(False)
            return forward(Tensor(x)).astype(ms.float32).asnumpy()

    return classify


_threads: list[int] = []
"""The number of kernel threads set for this process; empty for MindSpore's own choice."""


def _use_threads(count: int) -> None:
    """Set the number of kernel threads, once. Raises BackendError if another number was set before."""
    if not _threads:
        op_tuning.threads_num(count + 1)  # the scheduler's included
        _threads.append(count)
    elif _threads != [count]:
        raise BackendError(
            f"mindspore: this process already runs kernels on {_threads[0]} threads: start another process for {count}"
        )


def deploy(model: Model, arrays: Mapping[str, NDArray[np.generic]], options: EngineOptions) -> Engine:
    """The rewritten network as a graph: see `backends.Deploys.deploy`. It is compiled for each shape of a batch.

    MindSpore sets the device and the number of threads for the whole process, and keeps one of the processor's cores
    for its scheduler.
    """
    options.require("mindspore", ("fp32", "tf32", "fp16") if options.on_gpu else ("fp32",))
    set_device(options.device or Device("cpu"))
    if options.on_gpu:
        op_precision.conv_allow_tf32(options.dtype == "tf32")
        op_precision.matmul_allow_tf32(options.dtype == "tf32")
    elif options.threads is not None:
        _use_threads(options.threads)
    clock = [time.perf_counter()]
    rewritten, folded = deployable(model, arrays)
    clock.append(time.perf_counter())
    net = build(rewritten)
    load(net, folded)

    def forward(x: Tensor) -> Any:
        return net(x)

    compiled = ms.jit(mixed(forward) if options.dtype == "fp16" else forward)
    size = (1, model.in_channels, model.size, model.size)
    clock.append(time.perf_counter())
    compiled(Tensor(np.zeros(size, np.float32)))
    clock.append(time.perf_counter())

    def run(x: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        outputs = compiled(Tensor(x))
        return [value.astype(ms.float32).asnumpy() for value in (outputs if model.taps else [outputs])]

    where = str(options.device) if options.on_gpu else "cpu"
    seconds = dict(zip(("rewrite", "build", "compile"), np.diff(clock).tolist(), strict=True))
    return Engine(model, run, f"MindSpore {version()}, graph, {options.dtype}, {where}", options, seconds)
