"""How train.py and validate.py begin and end: warnings and errors as one line each, exit status 2 for bad input."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

from zoo.errors import ZooError


def run(main: Callable[[], int]) -> int:
    """Run a script's `main`; returns its exit status: 0 done, 2 bad usage or input, 130 interrupted."""
    name = Path(sys.argv[0]).name
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(f"{name}: warning: %(message)s"))
    logging.getLogger("zoo").addHandler(handler)
    try:
        status = main()
    except ZooError as error:
        print(f"{name}: error: {' '.join(str(error).splitlines())}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        status = 130
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # MindSpore 2.8 prints an ignored exception a cell when the interpreter takes it apart
