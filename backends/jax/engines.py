"""JAX: fast inference."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax._src import xla_bridge
from numpy.typing import NDArray

from backends.device import Device
from backends.engine import Engine, EngineOptions, available_threads
from backends.jax.network import Network, build, load, place, place_of, version
from zoo.errors import BackendError
from zoo.language.model import Model
from zoo.language.rewrites import deployable

DTYPES = {"fp32": None, "tf32": None, "bf16": jnp.bfloat16, "fp16": jnp.float16}
PRECISIONS = {"fp32": "highest", "tf32": "tensorfloat32", "bf16": "default", "fp16": "default"}
"""XLA's precision of convolutions and matrix products, by dtype. Its default on a GPU is TensorFloat-32 for float32."""


def half_precision(net: nnx.Module, where: Any) -> None:
    """Let convolutions and linear layers compute in float16 on a GPU, in bfloat16 on a CPU, as PyTorch does."""
    net.set_attributes(nnx.Conv, nnx.Linear, dtype=jnp.float16 if _platform(where) == "gpu" else jnp.bfloat16)


def quick_compilation(where: Any) -> dict[str, Any] | None:
    """Options of `jax.jit` for programs that run only a few times; None on other devices than CPUs.

    Compilation takes a fifth of the time, and each run five times as long.
    """
    return {"xla_backend_optimization_level": 0} if _platform(where) == "cpu" else None


def _platform(where: Any) -> str:
    device = next(iter(where.device_set)) if where is not None else jax.local_devices()[0]
    return str(device.platform)


def classifier(
    net: Network, graph: bool = False, half: bool = False
) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """A function from a batch [N, C, H, W] to its logits [N, classes]: see `backends.Deploys.classifier`."""

    def run(graphdef: Any, state: Any, x: Array) -> Array:
        copy: Any = nnx.merge(graphdef, state, copy=True)
        copy.eval()
        if half:
            half_precision(copy, where)
        logits: Array = copy(x).astype(jnp.float32)
        return logits

    where = place_of(net)
    options = None if graph else quick_compilation(where)
    forward: Callable[..., Array] = jax.jit(run, static_argnums=0, compiler_options=options)

    def classify(x: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.array(forward(*nnx.split(net), jax.device_put(x, where)))

    return classify


def _use_threads(count: int) -> None:
    """Run this process's kernels on `count` threads. Raises BackendError when they already run on another number."""
    if not xla_bridge.backends_are_initialized():
        os.environ["NPROC"] = str(count)  # XLA reads it when it starts its threads
    running = int(os.environ.get("NPROC") or available_threads())
    if running != count:
        raise BackendError(f"jax: this process already runs on {running} threads: start another process for {count}")


def deploy(model: Model, arrays: Mapping[str, NDArray[np.generic]], options: EngineOptions) -> Engine:
    """The rewritten network compiled by `jax.jit`, once for each shape of images: see `backends.Deploys.deploy`."""
    options.require("jax", ("fp32", "tf32", "bf16", "fp16") if options.on_gpu else ("fp32", "bf16"))
    if not options.on_gpu:
        _use_threads(options.thread_count)
    device = place(options.device or Device("cpu"))
    clock = [time.perf_counter()]
    rewritten, folded = deployable(model, arrays)
    clock.append(time.perf_counter())
    net = build(rewritten, options.device or Device("cpu"))
    load(net, folded)
    dtype = DTYPES[options.dtype]
    if dtype is not None:
        net.set_attributes(nnx.Conv, dtype=dtype, raise_if_not_found=False)
    graph, state = nnx.split(net)

    @jax.jit
    def forward(state: Any, x: Array) -> list[Array]:
        copied: Any = nnx.merge(graph, state)
        outputs = copied(x)
        return [value.astype(jnp.float32) for value in (outputs if model.taps else [outputs])]

    def run(x: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        with jax.default_matmul_precision(PRECISIONS[options.dtype]):
            return [np.asarray(value) for value in forward(state, jax.device_put(x, device))]

    clock.append(time.perf_counter())
    run(np.zeros((1, model.in_channels, model.size, model.size), np.float32))
    clock.append(time.perf_counter())
    where = str(options.device) if options.on_gpu else f"{options.thread_count} threads"
    seconds = dict(zip(("rewrite", "build", "compile"), np.diff(clock).tolist(), strict=True))
    return Engine(model, run, f"JAX {version()}, jit, {options.dtype}, {where}", options, seconds)
