"""MindSpore: gradients of a class's logit, for Grad-CAM."""

from __future__ import annotations

from typing import Any

import mindspore as ms
import numpy as np
from numpy.typing import NDArray

from backends.mindspore.network import Network, modes_kept
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

    def logit(a: Any) -> Any:
        for name in names[after:]:
            a = getattr(net, name)(a)
        return net.head(a)[:, label].sum()

    with modes_kept(net):
        net.set_train(False)
        a = ms.Tensor(float32(x))
        for name in names[:after]:
            a = getattr(net, name)(a)
        gradient = ms.grad(logit)(a)
    return a.asnumpy(), gradient.asnumpy()
