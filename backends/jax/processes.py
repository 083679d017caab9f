"""JAX: several processes, started by `backends.jax.launch`, that communicate by jax.distributed over NCCL or gloo."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from numpy.typing import NDArray

from backends.processes import local_rank
from zoo.frameworks import FRAMEWORKS
from zoo.training import processes


class Processes(processes.Processes):
    """See `zoo.training.processes.Processes`. Each process has one device."""

    def __init__(self, gpu: bool) -> None:
        self.gpu = gpu
        names = FRAMEWORKS["jax"].launcher
        self.rank, self.size = int(os.environ[names.rank]), int(os.environ[names.size])
        if not gpu:
            jax.config.update("jax_platforms", "cpu")
            jax.config.update("jax_cpu_collectives_implementation", "gloo")
        local = [local_rank("jax")] if gpu else None
        jax.distributed.initialize(None, self.size, self.rank, local, cluster_detection_method="deactivate")
        devices = sorted(jax.devices(), key=lambda device: device.process_index)
        mesh = Mesh(np.array(devices), ("process",))
        self.rows, everywhere = NamedSharding(mesh, PartitionSpec("process")), NamedSharding(mesh, PartitionSpec())
        self.sum = jax.jit(lambda rows: rows.sum(0), out_shardings=everywhere)

    def _added(self, row: Array) -> Any:
        """The sum of a vector over all processes."""
        local = jax.device_put(row[None], jax.local_devices()[0])
        rows = jax.make_array_from_single_device_arrays((self.size, len(row)), self.rows, [local])
        return self.sum(rows).addressable_data(0)

    def _total(self, numbers: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.array(self._added(jnp.asarray(numbers.reshape(-1)))).reshape(numbers.shape)

    def mean(self, tree: Any) -> Any:
        """The mean over all processes of each array of a tree."""
        flat, restore = ravel_pytree(tree)
        return restore(self._added(flat) / self.size)

    def average(self, tensors: Sequence[nnx.Variable[Any]]) -> None:
        for tensor, value in zip(tensors, self.mean([tensor.value for tensor in tensors]), strict=True):
            tensor.value = value

    def leave(self) -> None:
        jax.distributed.shutdown()
