"""MindSpore's pools for every padding of the spec language, each run by the fastest operation that computes it.

MindSpore has two families of pooling operations. The two-dimensional ones support only "valid" and "same" padding. They
are the faster ones in PyNative mode, and the only ones that MindSpore's ONNX exporter supports. The three-dimensional
ones pad by any number of pixels and, compiled for a CPU, are two to five times as fast. (`nn.MaxPool2d(pad_mode="pad")`
is slower than both, because it also computes the position of every maximum.) So the cells below run the two-dimensional
operation in PyNative mode, in an export and on devices other than CPUs, and the three-dimensional one in a graph on a
CPU.

The choice also depends on the input size, because a padding of the spec equals "valid" or "same" only for some sizes.
For other sizes the three-dimensional operation runs everywhere, with one exception: an export of a max pool with an odd
kernel and padding "half" runs a "same" pool of stride 1 and then takes every `stride`-th pixel.
"""

from __future__ import annotations

from functools import lru_cache

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn
from mindspore import ops as F
from numpy.typing import NDArray

from zoo.language.geometry import border
from zoo.language.nodes import AvgPool, MaxPool, PoolPadding


class Pool2d(nn.Cell):
    """Base class of both pools, which decides which operation runs."""

    def __init__(self, node: MaxPool | AvgPool) -> None:
        super().__init__()
        self.kernel_size, self.stride, self.padding = node.kernel, node.stride, node.padding
        half = node.kernel // 2 if node.padding == "half" else 0
        self.pads = (0, 0, half, half, half, half)
        self.on_cpu = ms.get_context("device_target") == "CPU"
        self.eager = False

    def __call__(self, x: Tensor) -> Tensor:
        """Run in PyNative mode: a graph compiles `construct` and never calls this."""
        self.__dict__["eager"] = True
        try:
            return super().__call__(x)
        finally:
            self.__dict__["eager"] = False

    @property
    def three_dimensional(self) -> bool:
        """Whether `construct` uses the three-dimensional operation; evaluated while a graph is compiled."""
        return self.on_cpu and not self.eager and not self.exporting

    @property
    def exporting(self) -> bool:
        """Whether the graph being compiled is for an export."""
        return (self.compile_phase or "").startswith("export.") and not self.eager

    def extend_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class MaxPool2d(Pool2d):
    """Maximum over each window."""

    def __init__(self, node: MaxPool) -> None:
        super().__init__(node)
        window, strides = (1, node.kernel, node.kernel), (1, node.stride, node.stride)
        if node.padding == "same":
            self.pool3d = F.MaxPool3D(window, strides, "same")
        else:
            self.pool3d = F.MaxPool3D(window, strides, "pad", self.pads, node.padding == "ceil")
        self.valid = F.MaxPool(node.kernel, node.stride, "valid")
        self.same = F.MaxPool(node.kernel, node.stride, "same")
        self.every = F.MaxPool(node.kernel, 1, "same")
        self.centred = node.padding == "half" and node.kernel % 2 == 1

    def construct(self, x: Tensor) -> Tensor:
        if not self.three_dimensional:
            mode = plain_mode(self.padding, self.kernel_size, self.stride, x.shape[2], x.shape[3])
            if mode == "valid":
                return self.valid(x)
            if mode == "same":
                return self.same(x)
            if self.centred and self.exporting:  # in PyNative mode MindSpore 2.8.0 fails in the gradient of this slice
                return self.every(x)[:, :, :: self.stride, :: self.stride]
        return self.pool3d(x.expand_dims(2)).squeeze(2)


class AvgPool2d(Pool2d):
    """Mean over each window: over the pixels inside the image, or over padded zeros too."""

    def __init__(self, node: AvgPool) -> None:
        super().__init__(node)
        self.count_include_pad = node.count_include_pad
        window, strides = (1, node.kernel, node.kernel), (1, node.stride, node.stride)
        self.pool3d = F.AvgPool3D(window, strides, "pad", self.pads, count_include_pad=node.count_include_pad)
        self.valid = F.AvgPool(node.kernel, node.stride, "valid")
        self.same = F.AvgPool(node.kernel, node.stride, "same")

    def construct(self, x: Tensor) -> Tensor:
        if not self.three_dimensional:
            mode = plain_mode(self.padding, self.kernel_size, self.stride, x.shape[2], x.shape[3])
            if mode == "valid":
                return self.valid(x)
            if mode == "same":
                y = self.same(x)
                if self.count_include_pad:
                    y = y * inside(self.kernel_size, self.stride, x.shape[2], x.shape[3])
                return y
        return self.pool3d(x.expand_dims(2)).squeeze(2)


@F.constexpr
def plain_mode(padding: PoolPadding, kernel: int, stride: int, height: int, width: int) -> str:
    """The `pad_mode` of a two-dimensional operation that pads in the same way at this input size; "" if none does."""
    return _plain_mode(padding, kernel, stride, height, width)


@F.constexpr
def inside(kernel: int, stride: int, height: int, width: int) -> Tensor:
    """The fraction of each window of a "same" pool that lies inside the image, [1, 1, output height, output width]."""
    return Tensor(_inside(kernel, stride, height, width))


@lru_cache(maxsize=1024)
def _plain_mode(padding: PoolPadding, kernel: int, stride: int, height: int, width: int) -> str:
    wanted = [border(padding, n, kernel, stride) for n in (height, width)]
    for mode in ("valid", "same"):
        if wanted == [border(mode, n, kernel, stride) for n in (height, width)]:
            return mode
    return ""


@lru_cache(maxsize=64)
def _inside(kernel: int, stride: int, height: int, width: int) -> NDArray[np.float32]:
    counts = []
    for n in (height, width):
        first = np.arange(0, n, stride) - border("same", n, kernel, stride)[0]
        counts.append(np.minimum(first + kernel, n) - np.maximum(first, 0))
    return (np.outer(*counts) / kernel**2).astype(np.float32)[None, None]
