"""What train.py and validate.py need of a framework: its devices, its processes, a network built."""

from __future__ import annotations

from typing import Any

from backends import get
from backends.device import Device, parse
from backends.processes import join, local_rank
from zoo.training.flags import Arguments
from zoo.training.processes import Processes
from zoo.training.recipe import Network


def device(a: Arguments) -> Device | None:
    """Where the network runs: as the flags say, by default on a GPU if there is one; each process on its own."""
    own = Device("gpu", local_rank(a.backend) if a.distribute else 0)
    if a.device is None:
        return own if get(a.backend).gpus() else None
    return own if a.device == "gpu" and a.distribute else parse(a.device)


def processes(a: Arguments) -> Processes:
    """The processes of the run. Raises TrainingError where they were not started, or not asked for."""
    where = device(a)
    return join(a.backend, a.distribute, where is not None and where.kind == "gpu", f"{a.program}.py")


def build(a: Arguments, network: Network) -> Any:
    """The run's network in the framework of the flags, with its weights."""
    arrays = network.arrays(a.seed)
    backend = get(a.backend)
    net = backend.build(network.model, device(a))
    backend.load(net, arrays)
    return net
