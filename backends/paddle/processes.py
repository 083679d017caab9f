"""Paddle's processes, started by `python -m paddle.distributed.launch`: NCCL on GPUs, gloo on CPUs (--backend gloo)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import paddle
import paddle.distributed as dist
from numpy.typing import NDArray
from paddle import Tensor

from backends.processes import local_rank
from zoo.training import processes


class Processes(processes.Processes):
    """See `zoo.training.processes.Processes`."""

    def __init__(self, gpu: bool) -> None:
        self.gpu = gpu
        self.place = paddle.device.set_device(f"gpu:{local_rank('paddle')}" if gpu else "cpu")
        dist.init_parallel_env()
        self.rank, self.size = dist.get_rank(), dist.get_world_size()

    def _total(self, numbers: NDArray[np.float32]) -> NDArray[np.float32]:
        tensor = paddle.to_tensor(numbers.reshape(-1), place=self.place)
        dist.all_reduce(tensor)
        return tensor.numpy().reshape(numbers.shape)

    @paddle.no_grad()
    def average(self, tensors: Sequence[Tensor]) -> None:
        flat = paddle.concat([tensor.reshape([-1]) for tensor in tensors])
        dist.all_reduce(flat)
        means = (flat / self.size).split([tensor.size for tensor in tensors])
        for tensor, mean in zip(tensors, means, strict=True):
            paddle.assign(mean.reshape(tensor.shape), tensor)
