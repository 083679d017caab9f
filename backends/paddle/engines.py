"""Paddle: fast inference."""

from __future__ import annotations

import ctypes
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from numpy.typing import NDArray
from paddle import Tensor, inference

from backends.device import require
from backends.engine import Engine, EngineOptions
from backends.paddle.network import Network, build, gpus, load, modes_kept, place, version
from zoo import processor
from zoo.errors import UnavailableError
from zoo.language.model import Model
from zoo.language.rewrites import deployable


def autocast(net: Network) -> AbstractContextManager[None]:
    """Paddle's mixed precision, float16. Raises UnavailableError on a CPU, where `auto_cast` has no effect."""
    if not place(net).is_gpu_place():
        raise UnavailableError("paddle: mixed precision needs a GPU: paddle.amp.auto_cast has no effect on a CPU")
    return paddle.amp.auto_cast(level="O1", dtype="float16")


def compiled(net: Network) -> Callable[[Tensor], Any]:
    """The network's `forward` as a static graph.

    On a CPU this sets `FLAGS_new_executor_serial_run` for the whole process, so that operations run one after another.
    By default Paddle runs the branches of a graph at the same time, each on all threads; two threads on two cores then
    take 1.3 times the processor time.
    """
    if place(net).is_cpu_place():
        paddle.set_flags({"FLAGS_new_executor_serial_run": True})
    return paddle.jit.to_static(net.forward, full_graph=True)


def classifier(
    net: Network, graph: bool = False, half: bool = False
) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """A function from a batch [N, C, H, W] to its logits [N, classes]: see `backends.Deploys.classifier`."""
    if half:
        autocast(net)
    forward: Callable[[Tensor], Any] = compiled(net) if graph else net

    @paddle.no_grad()
    def classify(x: NDArray[np.float32]) -> NDArray[np.float32]:
        with modes_kept(net), autocast(net) if half else nullcontext():
            net.eval()
            logits = forward(paddle.to_tensor(x, place=place(net)))
        return logits.astype("float32").numpy()

    return classify


def deploy(model: Model, arrays: Mapping[str, NDArray[np.generic]], options: EngineOptions) -> Engine:
    """Paddle Inference, on a CPU with oneDNN: see `backends.Deploys.deploy`.

    The graph is passed in a temporary folder, because Paddle 3.3 crashes when a program is passed in memory.
    """
    options.require("paddle", ("fp32", "fp16") if options.on_gpu else ("fp32", "bf16"))
    if options.device is not None:
        require(options.device, "paddle", version(), gpus)
    if options.dtype == "bf16" and "avx512_bf16" not in processor.flags():
        raise UnavailableError("paddle: this processor has no bfloat16")
    clock = [time.perf_counter()]
    rewritten, folded = deployable(model, arrays)
    clock.append(time.perf_counter())
    net = build(rewritten)
    load(net, folded)
    with tempfile.TemporaryDirectory(prefix="zoo-paddle-") as folder, silent():
        save(net, Path(folder, "net"))
        clock.append(time.perf_counter())
        predictor = inference.create_predictor(_config(Path(folder), options))
        source = predictor.get_input_handle(predictor.get_input_names()[0])
        results = [predictor.get_output_handle(name) for name in predictor.get_output_names()]

        def run(x: NDArray[np.float32]) -> list[NDArray[np.float32]]:
            source.copy_from_cpu(x)
            predictor.run()
            return [result.copy_to_cpu() for result in results]

        run(np.zeros((1, model.in_channels, model.size, model.size), np.float32))  # this makes oneDNN pack the weights
    clock.append(time.perf_counter())
    where = str(options.device) if options.on_gpu else f"oneDNN, {options.thread_count} threads"
    description = f"Paddle Inference {version()}, {options.dtype}, {where}"
    seconds = dict(zip(("rewrite", "build", "compile"), np.diff(clock).tolist(), strict=True))
    return Engine(model, run, description, options, seconds)


def _config(folder: Path, options: EngineOptions) -> Any:
    config = inference.Config(str(folder / "net.json"), str(folder / "net.pdiparams"))
    config.disable_glog_info()
    if options.on_gpu and options.device is not None:
        precision = inference.PrecisionType.Half if options.dtype == "fp16" else inference.PrecisionType.Float32
        config.enable_use_gpu(256, options.device.index, precision)  # the initial pool in megabytes; it grows
        return config
    config.enable_mkldnn()
    config.set_cpu_math_library_num_threads(options.thread_count)
    if options.dtype == "bf16":
        config.enable_mkldnn_bfloat16()
    return config


def save(net: Network, path: Path, size: int | None = None) -> None:
    """Write the network as an inference model, for images of any size or of `size` x `size` pixels.

    Its files are `path` with the suffixes .json and .pdiparams.
    """
    images = paddle.static.InputSpec([None, net.spec.in_channels, size, size], "float32", "images")
    paddle.jit.save(net, str(path), [images])


@contextmanager
def silent() -> Iterator[None]:
    """Drop what Paddle's C++ code prints, on standard output too, when it saves and optimises a program."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(1), os.dup(2)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        yield
    finally:
        ctypes.CDLL(None).fflush(None)  # what C has printed may still be in its buffers
        for number, copy in enumerate(kept, 1):
            os.dup2(copy, number)
            os.close(copy)
        os.close(nowhere)
