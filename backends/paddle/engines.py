"""Paddle's fast inference."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import paddle
from numpy.typing import NDArray

from backends.paddle.network import Network
from zoo.errors import UnavailableError


def autocast(net: Network) -> AbstractContextManager[None]:
    """Paddle's mixed precision, float16. Raises UnavailableError on a CPU, where it would change nothing."""
    if not next(iter(net.parameters())).place.is_gpu_place():
        raise UnavailableError("paddle: mixed precision needs a GPU: Paddle's auto_cast leaves a CPU's float32 alone")
    return paddle.amp.auto_cast(level="O1", dtype="float16")


def classifier(
    net: Network, graph: bool = False, half: bool = False
) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """A function from a batch [N, C, H, W] to its logits [N, classes]: see `backends.Deploys.classifier`."""
    if half:
        autocast(net)
    forward = paddle.jit.to_static(net.forward, full_graph=True) if graph else net

    @paddle.no_grad()
    def classify(x: NDArray[np.float32]) -> NDArray[np.float32]:
        net.eval()
        with autocast(net) if half else nullcontext():
            logits = forward(paddle.to_tensor(x, place=next(iter(net.parameters())).place))
        return logits.astype("float32").numpy()

    return classify
