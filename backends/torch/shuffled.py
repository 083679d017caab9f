"""PyTorch in float32 with sums in random orders: how much rounding alone changes outputs, gradients and statistics."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class Shuffled(TorchFunctionMode):
    """While it is active, convolutions, linear layers and batch norms in training sum in random orders.

    Images, input channels and output channels are permuted at random before these operations, and the output is
    permuted back. Outputs sum over input channels, gradients of inputs over output channels, gradients of weights and
    statistics over images; so each of these sums gets another order, and nothing else changes.

    sequential  batch norm also adds all values of a channel into one accumulator, forward and backward, as the simplest
                kernels do: for 100,000 values their rounding error is ten times that of kernels that add in blocks
    """

    def __init__(self, seed: int, sequential: bool = False) -> None:
        super().__init__()
        self.random = torch.Generator().manual_seed(seed)
        self.sequential = sequential

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (torch.conv2d, F.linear):
            return self._product(func, *args, **kwargs)
        if func is F.batch_norm and kwargs.get("training", len(args) > 5 and args[5]):
            return self._accumulating(*args, **kwargs) if self.sequential else self._norm(*args, **kwargs)
        return func(*args, **kwargs)

    def _product(self, func: Any, x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
        images, outputs = self._order(len(x)), self._order(len(weight))
        if func is torch.conv2d and rest[3] > 1:  # depthwise: each output channel has one input channel
            inputs = outputs
            weight = weight[outputs]
        else:
            inputs = self._order(x.shape[1])
            weight = weight[outputs][:, inputs]
        y = func(x[images][:, inputs], weight, None if bias is None else bias[outputs], *rest)
        shuffled: Tensor = y[images.argsort()][:, outputs.argsort()]
        return shuffled

    def _norm(self, x: Tensor, *rest: Any, **kwargs: Any) -> Tensor:
        order = self._order(len(x))
        return F.batch_norm(x[order], *rest, **kwargs)[order.argsort()]

    def _accumulating(
        self,
        x: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        order = self._order(len(x))
        x = x[order]
        count = x.numel() // x.shape[1]
        mean = _Sum.apply(x) / count
        centred = x - _Spread.apply(mean, x.shape)
        var = _Sum.apply(centred * centred) / count
        if running_mean is not None and running_var is not None:
            with torch.no_grad():
                running_mean.lerp_(mean.detach(), momentum)
                running_var.lerp_(var.detach() * (count / (count - 1)), momentum)
        y = centred * _Spread.apply((var + eps).rsqrt(), x.shape)
        if weight is not None and bias is not None:
            y = y * _Spread.apply(weight, x.shape) + _Spread.apply(bias, x.shape)
        normalised: Tensor = y[order.argsort()]
        return normalised

    def _order(self, count: int) -> Tensor:
        return torch.randperm(count, generator=self.random)


class _Sum(torch.autograd.Function):
    """The sum over each channel of [N, C, H, W]: [C]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.shape = x.shape
        return _accumulated(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient[:, None, None].expand(ctx.shape)


class _Spread(torch.autograd.Function):
    """A value for each channel, [C], repeated at every position of [N, C, H, W]."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, shape: torch.Size) -> Tensor:
        return values[:, None, None].expand(shape)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _accumulated(gradient), None


def _accumulated(x: Tensor) -> Tensor:
    """The sum over each channel, one value after another: `np.cumsum` adds in order, `np.sum` in blocks."""
    rows = x.detach().transpose(0, 1).flatten(1).numpy()
    return torch.from_numpy(np.cumsum(rows, 1, rows.dtype)[:, -1].copy())
