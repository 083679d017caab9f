"""The start and the end of train.py and validate.py: logging, signals, errors as one line, exit status."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
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
    """A context manager that records SIGTERM and SIGINT, so that the current step is finished first.

    alone   whether this process was started without a launcher. If so, a second SIGINT interrupts it at once. (A
            launcher sends each signal to its processes several times.)
    number  of the first signal received, 0 for none
    """

    def __init__(self, alone: bool = True) -> None:
        self.number, self.alone = 0, alone
        self._handlers_before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._handlers_before[number] = signal.signal(number, self._record)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers_before.items():
            signal.signal(number, handler)

    def _record(self, number: int, frame: FrameType | None) -> None:
        if self.number:
            if self.alone and number == signal.SIGINT:
                raise KeyboardInterrupt
            return
        self.number = number
        logging.getLogger("zoo").warning("%s: the run stops after this step", signal.Signals(number).name)


def say(message: str) -> None:
    """Print a line on standard error, after the name of the script."""
    print(f"{Path(sys.argv[0]).name}: {message}", file=sys.stderr, flush=True)


def command(processes: Processes, backend: str, *words: str | Path) -> str:
    """A command line that runs this script with the arguments `words`, under the launcher of these processes if any."""
    program = [sys.argv[0] or "train.py"]
    if program[0].startswith("zoo "):
        program = [shutil.which("zoo") or "zoo", program[0].removeprefix("zoo ")]
    if processes.size > 1:
        return f"{launch(backend, processes.size, processes.gpu)} {shlex.join([*program, *map(str, words)])}"
    started = ["python", *program] if len(program) == 1 else ["zoo", program[1]]
    return shlex.join([*started, *map(str, words)])


def run(main: Callable[[], int]) -> int:
    """Run a script's `main`; returns its exit status.

    0 done, 2 bad usage or input, 130 interrupted, 143 stopped by SIGTERM.
    """
    name = Path(sys.argv[0]).name
    if rank():
        name += f" (process {rank()})"
        logging.getLogger("zoo").setLevel(logging.ERROR)  # process 0 prints the warnings
    warnings.filterwarnings("ignore", module="PIL")  # it warns of flaws of images that it can read
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(f"{name}: warning: %(message)s"))
    logging.getLogger("zoo").addHandler(handler)
    logging.getLogger("zoo").propagate = False  # Paddle and others install a handler on the root logger
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
    skip_teardown(status)
    return status


def skip_teardown(status: int) -> None:
    """End the process at once, or without printing, if it has imported a framework whose teardown fails or prints."""
    for row in FRAMEWORKS.values():
        if row.package not in sys.modules:
            continue
        launched = row.launcher.started() > 0
        if row.skip_teardown == "launched" and launched:
            os._exit(status)
        if row.skip_teardown == "alone":
            if status or not launched:
                os._exit(status)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # launched processes end in order only with the teardown
