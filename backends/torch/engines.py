"""PyTorch: fast inference."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from backends.device import require
from backends.engine import Engine, EngineOptions
from backends.torch.compiled import Compiled, Graphs, Packages
from backends.torch.network import CONVENTION, Network, gpus, modes_kept, version
from backends.torch.packed import pack
from zoo.errors import UnavailableError
from zoo.language.model import Model
from zoo.language.rewrites import deployable

Array = NDArray[np.generic]
DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device) -> torch.autocast:
    """PyTorch's automatic mixed precision, in float16 on a GPU and bfloat16 on a CPU."""
    return torch.autocast(device.type, torch.float16 if device.type == "cuda" else torch.bfloat16)


def classifier(
    net: Network, graph: bool = False, half: bool = False
) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """A function from a batch [N, C, H, W] to its logits [N, classes]: see `backends.Deploys.classifier`."""
    forward = torch.compile(net) if graph else net
    device = next(net.parameters()).device

    @torch.inference_mode()
    def classify(x: NDArray[np.float32]) -> NDArray[np.float32]:
        with modes_kept(net), autocast(device) if half else contextlib.nullcontext():
            net.eval()
            logits = forward(torch.from_numpy(x).to(device))
        return logits.float().cpu().numpy()

    return classify


def deploy(model: Model, arrays: Mapping[str, Array], options: EngineOptions) -> Engine:
    """An engine: see `backends.Deploys.deploy`. `options.compiler` is one of

    ""         on a CPU, channels-last with weights packed by oneDNN and fused ReLUs and sums, as in `torch.compile`
               with freezing; on a GPU, channels-last and CUDA graphs. Neither compiles anything
    "compile"  `torch.compile` with freezing, on the first images of each size
    "aot"      AOTInductor, once for each image size; compiled code is kept in `zoo.files.cache_folder()`

    "compile" and "aot" need a C++ compiler on a CPU. TensorFloat-32 is off unless dtype is "tf32".
    """
    options.require(
        "torch", ("fp32", "tf32", "bf16", "fp16") if options.on_gpu else ("fp32", "bf16"), ("", "compile", "aot")
    )
    device = torch.device("cpu")
    if options.on_gpu and options.device is not None:
        require(options.device, "torch", version(), gpus)
        device = torch.device("cuda", options.device.index)
    elif options.dtype == "bf16" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        raise UnavailableError("torch: this processor has no bfloat16")
    clock = [time.perf_counter()]
    rewritten, folded = deployable(model, arrays)
    clock.append(time.perf_counter())
    dtype = DTYPES[options.dtype]
    net = with_weights(rewritten, folded).to(device, dtype)
    nn.utils.convert_conv2d_weight_memory_format(net, torch.channels_last)
    if dtype != torch.float32 and hasattr(net, "head"):
        net.head = InFloat32(net.head)
    forward: Callable[[Tensor], Any] = net
    how = options.compiler or "eager"
    if options.compiler == "compile":
        forward = Compiled(net)
    elif options.compiler == "aot":
        forward = Packages(net, rewritten, folded, options)
    elif options.on_gpu:
        forward, how = Graphs(net), "CUDA graphs"
    elif torch.backends.mkldnn.is_available():
        pack(net)
        how = "packed by oneDNN"
    clock.append(time.perf_counter())

    @torch.no_grad()
    def run(x: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        images = torch.from_numpy(x).to(device, dtype, memory_format=torch.channels_last)
        with _settings(options):
            outputs = forward(images)
        return [value.float().cpu().numpy() for value in (outputs if model.taps else [outputs])]

    where = str(options.device) if options.on_gpu else f"{options.thread_count} threads"
    description = f"PyTorch {version()}, channels-last, {how}, {options.dtype}, {where}"
    seconds = {"rewrite": clock[1] - clock[0], "build": clock[2] - clock[1]}
    return Engine(model, run, description, options, seconds)


class InFloat32(nn.Module):
    """The classifier of a half-precision network, in float32: logits in bfloat16 would have only three digits."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner.float()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.inner(x.float())
        return y


def with_weights(model: Model, arrays: Mapping[str, Array]) -> Network:
    """The network in eval mode with its weights, without drawing random ones first."""
    with torch.device("meta"):
        net = Network(model).eval()
    state = {CONVENTION.rename(name): torch.tensor(array) for name, array in arrays.items()}
    counters = {name: torch.tensor(0) for name in net.state_dict() if name.endswith(CONVENTION.counter)}
    net.load_state_dict(state | counters, assign=True)
    return net


_process = threading.Lock()
"""Held by the engine that is running, because `_settings` changes settings of the whole process."""


@contextlib.contextmanager
def _settings(options: EngineOptions) -> Iterator[None]:
    """Set the number of threads, or on a GPU the use of TensorFloat-32, and put it back at the end."""
    with _process:
        count, matmul, cudnn = torch.get_num_threads(), torch.backends.cuda.matmul, torch.backends.cudnn
        before = matmul.allow_tf32, cudnn.allow_tf32
        if options.on_gpu:
            matmul.allow_tf32 = cudnn.allow_tf32 = options.dtype == "tf32"
        elif count != options.thread_count:
            torch.set_num_threads(options.thread_count)
        try:
            yield
        finally:
            if options.on_gpu:
                matmul.allow_tf32, cudnn.allow_tf32 = before
            elif count != options.thread_count:
                torch.set_num_threads(count)
