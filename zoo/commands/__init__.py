"""The command line, one module for each command: `zoo list`, `info`, `diff`, `parity`, `inspect`, `convert`, ...

`python -m zoo` is the same. The modules that train.py and validate.py share are here too: `entry_point`, `runtime`.
"""

from __future__ import annotations

import importlib
import io
import os
import signal
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from zoo import __version__
from zoo.commands import (
    bench,
    completion,
    convert,
    diff,
    doctor,
    entry_point,
    export,
    fetch,
    fid,
    info,
    inspect,
    list,
    package,
    parity,
    predict,
    source,
)
from zoo.commands.common import Parser
from zoo.commands.entry_point import skip_teardown
from zoo.errors import ZooError

COMMANDS = (
    list,
    info,
    predict,
    diff,
    parity,
    inspect,
    convert,
    fetch,
    fid,
    export,
    source,
    package,
    bench,
    doctor,
    completion,
)


SCRIPTS = {
    "train": "train a network, with mindcv's flags: zoo train --help",
    "validate": "measure how well networks classify: zoo validate --help",
}
"""What train.py and validate.py do, as commands."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status: 0 done, 1 out of tolerance, 2 bad usage or input."""
    words = sys.argv[1:] if arguments is None else arguments
    if words[:1] and words[0] in SCRIPTS:
        return _script(words[0], words[1:])
    try:
        options = parser().parse_args(arguments)
        _check_target(options.json)
        status: int = options.run(options)
        sys.stdout.flush()
        return status
    except ZooError as error:
        return _fail(str(error))
    except MemoryError:
        return _fail("out of memory: a smaller --batch or --size needs less")
    except KeyboardInterrupt:
        print("zoo: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _fail(f"{error.filename or 'standard output'}: {error.strerror}")


def _script(name: str, words: Sequence[str]) -> int:
    """`zoo train` and `zoo validate`, which have their own flags, messages and exit statuses."""
    script = importlib.import_module(f"zoo.scripts.{name}")
    sys.argv = [f"zoo {name}", *words]
    return entry_point.run(partial(script.main, words))


def run() -> None:
    """The installed command: runs `main`, and ends it cleanly, workers included, at SIGTERM and SIGHUP."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names need not be text
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    skip_teardown(status)
    sys.exit(status)


def _fail(message: str) -> int:
    print(f"zoo: error: {' '.join(message.splitlines())}", file=sys.stderr)
    return 2


def _check_target(file: str | None) -> None:
    """Check, before the work and not after it, that the JSON can be written. Raises ZooError if not."""
    if file in (None, "-"):
        return
    path = Path(str(file))
    if path.is_dir():
        raise ZooError(f"{file}: cannot write the JSON there: it is a folder")
    if not path.parent.is_dir():
        raise ZooError(f"{file}: cannot write the JSON there: no such folder")


def parser() -> Parser:
    """The commands and their options; every command gets this parser as the option `root`."""
    root = Parser(prog="zoo", description="The Inception family: one specification, four frameworks, proved equal.")
    root.add_argument("--version", action="version", version=f"zoo {__version__}")
    commands = root.add_subparsers(title="commands", required=True, metavar="COMMAND", parser_class=Parser)
    for command in COMMANDS:
        command.add(commands)
    for name, text in SCRIPTS.items():  # for --help only: `main` runs them
        commands.add_parser(name, help=text, add_help=False)
    root.set_defaults(root=root)
    return root
