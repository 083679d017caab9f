"""Start the processes of a run on this machine, as torchrun does: JAX has no launcher of its own.

    python -m backends.jax.launch --processes 2 train.py --distribute ...

Each process finds its number in JAX_PROCESS_ID and the number of processes in JAX_NUM_PROCESSES. They connect at
JAX_COORDINATOR_ADDRESS, by default a free port of this machine. When one process fails, the others are ended. The exit
status is that of the first to fail.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from types import FrameType

from zoo.frameworks import FRAMEWORKS

NAMES = FRAMEWORKS["jax"].launcher
"""The names of the environment variables with the number of a process and of all processes."""

COORDINATOR = "JAX_COORDINATOR_ADDRESS"

PATIENCE = 10.0
"""Seconds that processes get to end after SIGTERM, before SIGKILL."""


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        "python -m backends.jax.launch", description="Start several processes of a script."
    )
    parser.add_argument("--processes", type=int, required=True, metavar="N", help="the number of processes")
    parser.add_argument("script", help="a Python file")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="the script's arguments")
    options = parser.parse_args(words)
    if options.processes < 1:
        parser.error(f"--processes {options.processes}: expected at least 1")
    address = os.environ.get(COORDINATOR) or f"127.0.0.1:{_free_port()}"
    started = [
        subprocess.Popen(
            [sys.executable, options.script, *options.arguments],
            env={
                **os.environ,
                COORDINATOR: address,
                NAMES.size: str(options.processes),
                NAMES.rank: str(i),
                NAMES.local_rank: str(i),
            },
        )
        for i in range(options.processes)
    ]

    def pass_on(number: int, frame: FrameType | None) -> None:
        for process in started:
            if process.poll() is None:
                process.send_signal(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, pass_on)
    return _wait(started)


def _wait(started: Sequence[subprocess.Popen[bytes]]) -> int:
    """Wait for all processes, and end them when one has failed; returns its exit status as a shell reports it, or 0."""
    first, deadline = 0, float("inf")
    while None in (statuses := [process.poll() for process in started]):
        if not first and (failed := [status for status in statuses if status]):
            first, deadline = failed[0], time.monotonic() + PATIENCE
            for process in started:
                process.terminate()
        if time.monotonic() > deadline:
            for process in started:
                process.kill()
        time.sleep(0.05)
    status = first or next((status for status in statuses if status), 0)
    return 128 - status if status < 0 else status


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


if __name__ == "__main__":
    sys.exit(main())
