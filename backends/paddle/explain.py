"""Paddle: gradients of a class's logit, for Grad-CAM."""

from __future__ import annotations

import numpy as np
import paddle
from numpy.typing import NDArray

from backends.paddle.network import Network, modes_kept, place
from backends.predict import float32


def class_gradient(
    net: Network, x: NDArray[np.float32], stage: str, label: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A stage's output in eval mode, and the gradient with respect to it of the logit of class `label` of each image.

    `x` is float32 [N, C, H, W]; both results are float32 [N, channels, height, width]. Raises InputError for another
    dtype.
    """
    names = [each.name for each in net.spec.stages]
    after = names.index(stage) + 1
    with modes_kept(net), paddle.enable_grad():
        net.eval()
        a = paddle.to_tensor(float32(x), place=place(net))
        for name in names[:after]:
            a = getattr(net, name)(a)
        a = a.detach()
        a.stop_gradient = False
        y = a
        for name in names[after:]:
            y = getattr(net, name)(y)
        (gradient,) = paddle.grad([net.head(y)[:, label].sum()], [a])
    return a.numpy(), gradient.numpy()
