"""JAX: gradients of a class's logit, for Grad-CAM."""

from __future__ import annotations

import flax.nnx as nnx
import jax
import numpy as np
from jax import Array
from numpy.typing import NDArray

from backends.jax.network import Network, channels_first, channels_last
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
    graph, state = nnx.split(net)

    def copy() -> Network:
        made: Network = nnx.merge(graph, state, copy=True)
        made.eval()
        return made

    @jax.jit
    def to_stage(x: Array) -> Array:
        made, a = copy(), channels_last(x)
        for name in names[:after]:
            a = getattr(made, name)(a)
        return a

    @jax.jit
    @jax.grad
    def gradient(a: Array) -> Array:
        made = copy()
        for name in names[after:]:
            a = getattr(made, name)(a)
        return made.head(a)[:, label].sum()

    a = to_stage(float32(x))
    return np.array(channels_first(a)), np.array(channels_first(gradient(a)))
