"""How train.py and validate.py begin and end: warnings and errors as one line each, exit status 2 for bad input."""

from __future__ import annotations

import logging
import os
import shlex
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from backends.processes import launch, rank
from zoo.errors import Stopped, ZooError
from zoo.frameworks import FRAMEWORKS
from zoo.training.processes import Processes


class Signals:
    """Notes SIGTERM and SIGINT, as a context manager, so that a step is finished.

    A second SIGINT interrupts a process at once that is `alone`; launchers send their processes each signal many times.
    """

    def __init__(self, alone: bool = True) -> None:
        self.number, self.alone = 0, alone
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.number:
            if self.alone and number == signal.SIGINT:
                raise KeyboardInterrupt
            return
        self.number = number
        logging.getLogger("zoo").warning("%s: the run stops after this step", signal.Signals(number).name)


def say(message: str) -> None:
    """A line on standard error, by this script."""
    print(f"{Path(sys.argv[0]).name}: {message}", file=sys.stderr, flush=True)


def command(processes: Processes, backend: str, *words: str | Path) -> str:
    """The command line of this script with other words, by the launcher that has started these processes."""
    launcher = launch(backend, processes.size, processes.gpu) if processes.size > 1 else "python"
    return f"{launcher} {shlex.join([sys.argv[0] or 'train.py', *map(str, words)])}"


def run(main: Callable[[], int]) -> int:
    """Run a script's `main`; returns its exit status.

    0 done, 2 bad usage or input, 130 interrupted, 143 stopped by SIGTERM.
    """
    name = Path(sys.argv[0]).name
    if rank():
        name += f" (process {rank()})"
        logging.getLogger("zoo").setLevel(logging.ERROR)  # the first one says it
    warnings.filterwarnings("ignore", module="PIL")  # of images that it reads all the same
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(f"{name}: warning: %(message)s"))
    logging.getLogger("zoo").addHandler(handler)
    try:
        status = main()
    except ZooError as error:
        print(f"{name}: error: {' '.join(str(error).splitlines())}", file=sys.stderr)
        status = 2
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"{name}: error: {where}{error.strerror or error}", file=sys.stderr)
        status = 2
    except Stopped as stopped:
        status = 128 + stopped.number
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        status = 130
    sys.stdout.flush()
    sys.stderr.flush()
    for row in FRAMEWORKS.values():
        if row.skip_teardown and row.name in sys.modules:
            if not (status == 0 and row.launcher.started()):
                os._exit(status)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # several processes part in order only in the teardown
    return status
