"""MindSpore's processes: started by msrun; collectives over NCCL on GPUs, and MindSpore's own on CPUs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mindspore import Parameter, Tensor, communication
from mindspore import ops as F
from numpy.typing import NDArray

from backends.device import Device
from backends.mindspore.network import set_device
from backends.processes import local_rank
from zoo.training import processes


class Processes(processes.Processes):
    """See `zoo.training.processes.Processes`."""

    def __init__(self, gpu: bool) -> None:
        self.gpu = gpu
        set_device(Device("gpu", local_rank("mindspore")) if gpu else Device("cpu"))
        communication.init()
        self.rank, self.size = communication.get_rank(), communication.get_group_size()
        self.sum = F.AllReduce()

    def _total(self, numbers: NDArray[np.float32]) -> NDArray[np.float32]:
        return self.sum(Tensor(numbers.reshape(-1))).asnumpy().reshape(numbers.shape)

    def average(self, tensors: Sequence[Parameter]) -> None:
        flat = self.sum(F.concat([tensor.reshape(-1) for tensor in tensors])) / self.size
        for tensor, part in zip(tensors, F.split(flat, [tensor.size for tensor in tensors]), strict=True):
            F.assign(tensor, part.reshape(tensor.shape))

    def leave(self) -> None:
        communication.release()
