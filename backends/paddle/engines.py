"""Paddle's fast inference."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import paddle
from numpy.typing import NDArray
from paddle import Tensor

from backends.paddle.network import Network, modes_kept, place
from zoo.errors import UnavailableError


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
