"""PyTorch: gradients of a class's logit, for Grad-CAM."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from backends.predict import float32
from backends.torch.network import Network, modes_kept


def class_gradient(
    net: Network, x: NDArray[np.float32], stage: str, label: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A stage's output in eval mode, and the gradient with respect to it of the logit of class `label` of each image.

    `x` is float32 [N, C, H, W]; both results are float32 [N, channels, height, width]. Raises InputError for another
    dtype.
    """
    names = [each.name for each in net.spec.stages]
    after = names.index(stage) + 1
    with modes_kept(net), torch.enable_grad():
        net.eval()
        a = torch.from_numpy(float32(x)).to(next(net.parameters()).device)
        for name in names[:after]:
            a = getattr(net, name)(a)
        a = a.detach().requires_grad_()
        y = a
        for name in names[after:]:
            y = getattr(net, name)(y)
        (gradient,) = torch.autograd.grad(net.head(y)[:, label].sum(), a)
    return a.detach().cpu().numpy(), gradient.cpu().numpy()
