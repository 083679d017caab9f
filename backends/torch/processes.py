"""PyTorch: several processes, started by torchrun, that communicate by torch.distributed over NCCL or gloo."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from backends.processes import local_rank
from zoo.training import processes


class Processes(processes.Processes):
    """See `zoo.training.processes.Processes`."""

    def __init__(self, gpu: bool) -> None:
        self.gpu = gpu
        local = local_rank("torch")
        self.device = torch.device("cuda", local) if gpu else torch.device("cpu")
        if gpu:
            torch.cuda.set_device(self.device)
        dist.init_process_group("nccl" if gpu else "gloo")
        self.rank, self.size = dist.get_rank(), dist.get_world_size()

    def _total(self, numbers: NDArray[np.float32]) -> NDArray[np.float32]:
        tensor = torch.tensor(numbers, device=self.device)
        dist.all_reduce(tensor)
        return tensor.cpu().numpy()

    @torch.no_grad()
    def average(self, tensors: Sequence[Tensor]) -> None:
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.size
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def leave(self) -> None:
        # Not destroy_process_group: it sometimes aborts because of threads that DistributedDataParallel leaves running.
        dist.barrier()
