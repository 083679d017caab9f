"""What train.py and validate.py get from a framework: device, processes, the network."""

from __future__ import annotations

from typing import Any

from backends import get
from backends.device import Device, parse
from backends.processes import join, local_rank
from zoo.training.flags import Arguments
from zoo.training.processes import Processes
from zoo.training.recipe import Network


def device(a: Arguments) -> Device | None:
    """The device of the flags, by default a GPU if there is one. Each of several processes has its own GPU."""
    own = Device("gpu", local_rank(a.backend) if a.distribute else 0)
    if a.device is None:
        return own if get(a.backend).gpus() else None
    return own if a.device == "gpu" and a.distribute else parse(a.device)


def processes(a: Arguments) -> Processes:
    """The processes of the run. Raises TrainingError if --distribute and the launcher do not go together."""
    where = device(a)
    return join(a.backend, a.distribute, where is not None and where.kind == "gpu", f"{a.script}.py")


def build(a: Arguments, network: Network) -> Any:
    """The network with its weights, in the framework of the flags."""
    arrays = network.arrays(a.seed)
    backend = get(a.backend)
    net = backend.build(network.model, device(a))
    backend.load(net, arrays)
    return net
