"""What train.py and validate.py get from a framework: device, processes, the network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backends import deploys, get
from backends.device import Device, parse
from backends.engine import Engine, EngineOptions, available_threads
from backends.processes import join, local_rank
from zoo.errors import TrainingError
from zoo.language.model import Model
from zoo.training import inputs
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


def uses_engine(a: Arguments) -> bool:
    """Whether validate.py runs an engine rather than the framework's own module.

    By default it runs an engine on a CPU, unless flags ask for the module. Raises TrainingError for flags that
    contradict each other.
    """
    asked = [
        name for name, given in (("mode", a.mode is not None), ("val_amp_level", a.val_amp_level != "O0")) if given
    ]
    if a.engine == "deploy" and asked:
        raise TrainingError(f"--{asked[0]} is for --engine module")
    if a.engine is None and a.dtype == "fp32":
        where = device(a)
        return not asked and (where is None or where.kind == "cpu")
    if a.dtype != "fp32" and (a.engine == "module" or asked):
        raise TrainingError(
            f"--dtype {a.dtype} is for --engine deploy: leave out --engine module, --mode, --val_amp_level"
        )
    return a.engine != "module"


def engine(a: Arguments, model: Model, arrays: Mapping[str, NDArray[Any]], processes: Processes) -> Engine:
    """The engine of the flags; several processes on one machine share its processors."""
    float32 = {name: np.asarray(array, np.float32) for name, array in arrays.items()}
    threads = max(1, available_threads() // processes.size) if processes.size > 1 else None
    options = EngineOptions(a.dtype, device(a), threads, calibration=inputs.calibration(a, model))
    return deploys(a.backend).deploy(model, float32, options)
