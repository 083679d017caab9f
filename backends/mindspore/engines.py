"""MindSpore: fast inference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor
from numpy.typing import NDArray

from backends.mindspore.network import Network, modes_kept


def mixed(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function in MindSpore's automatic mixed precision: convolutions and matrix products in float16."""
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
