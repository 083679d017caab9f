"""Several processes that train or validate one network: a framework's launcher starts them."""

from __future__ import annotations

import os
from collections.abc import Mapping

from backends import load
from zoo.errors import TrainingError
from zoo.frameworks import FRAMEWORKS
from zoo.training.processes import Processes


def rank(environment: Mapping[str, str] = os.environ) -> int:
    """The number, from 0, that a launcher gave this process; 0 without a launcher."""
    return max(int(environment.get(row.launcher.rank, 0)) for row in FRAMEWORKS.values())


def local_rank(backend: str) -> int:
    """The number, from 0, of this process on its machine."""
    return int(os.environ.get(FRAMEWORKS[backend].launcher.local_rank, 0)) if backend in FRAMEWORKS else 0


def launch(backend: str, count: int, gpu: bool) -> str:
    """The command that starts `count` processes on one machine; the script and its flags follow it."""
    launcher = FRAMEWORKS[backend].launcher
    words = launcher.command.format(count)
    return f"{words} {launcher.cpu_options}".rstrip() if not gpu else words


def join(backend: str, distribute: bool, gpu: bool = False, script: str = "train.py") -> Processes:
    """The processes that the framework's launcher has started; without `distribute`, this one alone.

    Raises TrainingError when `distribute` is given without the launcher, or the launcher is used without it.
    """
    if backend not in FRAMEWORKS:
        if distribute:
            raise TrainingError(f"--distribute: {backend} runs in one process: use {' or '.join(FRAMEWORKS)}")
        return Processes()
    started = FRAMEWORKS[backend].launcher.started()
    if not distribute:
        if started > 1:
            raise TrainingError(f"started as one of {started} processes: give --distribute too")
        return Processes()
    if not started:
        other = next((row for row in FRAMEWORKS.values() if row.launcher.started()), None)
        what = (
            f"the processes were started by {other.launcher.command.split(' --')[0]}"
            if other
            else "no processes were started"
        )
        command = f"{launch(backend, 2, gpu)} {script} --distribute ..."
        raise TrainingError(f"--distribute: {what}; start {backend}'s with `{command}`")
    try:
        processes: Processes = load(backend, "processes").Processes(gpu)
        return processes
    except (OSError, RuntimeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise TrainingError(
            f"--distribute: the {started} processes cannot connect, or have lost the connection: {reason[:300]}"
        ) from None
