"""What the commands share: their parser, their --json, names with wildcards."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from zoo.catalogue import list_models
from zoo.errors import SpecError, ZooError
from zoo.files import atomic_write

Commands = Any
"""What argparse's add_subparsers returns."""

MODEL = "a name, package.module:NAME, a .json document, or a checkpoint that says which network it holds"

CHECKPOINT = "a file, a folder of the Hugging Face hub, or a name of published weights (`zoo list --pretrained`)"


class Parser(argparse.ArgumentParser):
    """Reports bad usage like every other error: one line, exit status 2."""

    def error(self, message: str) -> NoReturn:
        raise ZooError(f"{message} (see {self.prog} --help)")


def add_command(
    commands: Commands, name: str, run: Callable[[argparse.Namespace], int], text: str
) -> argparse.ArgumentParser:
    """A command with its --json; `run` takes the options and returns the exit status."""
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=text[0].upper() + text[1:] + "."
    )
    command.add_argument("--json", metavar="FILE", help="write the result as JSON ('-': print only the JSON)")
    command.set_defaults(run=run, default_of=command.get_default)
    return command


def refuse(options: argparse.Namespace, flags: Sequence[str], reason: str) -> None:
    """Raise SpecError if one of these flags has another value than its default.

    Flags are written as "--stored-reference". `reason` ends the message: "... does not go with `reason`".
    """
    for flag in flags:
        name = flag.removeprefix("--").replace("-", "_")
        if getattr(options, name) != options.default_of(name):
            raise SpecError(f"{flag} does not go with {reason}")


def add_checkpoint_options(command: argparse.ArgumentParser) -> None:
    """Add the options that say how a checkpoint is read."""
    command.add_argument("--model", metavar="M", help="the network that it holds, if its names do not tell")
    command.add_argument("--from", dest="source", metavar="SOURCE", help="whose file it is (default: recognised)")
    command.add_argument("--ema", action="store_true", help="the moving average of the weights")


def names(text: str) -> tuple[str, ...]:
    """A comma-separated list."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def matching(pattern: str) -> list[str]:
    """The models that a shell pattern matches. Raises SpecError when there are none."""
    found = list_models(pattern)
    if not found:
        raise SpecError(f"no model matches {pattern!r}; there are {', '.join(list_models())}")
    return found


def expanded(patterns: Sequence[str]) -> list[str]:
    """Models as given, patterns replaced by the names that match; a file's path may contain brackets."""
    return [
        name
        for model in patterns
        for name in (matching(model) if set(model) & set("*?[") and not Path(model).exists() else [model])
    ]


def report(file: str | None, document: Any, show: Callable[[], None]) -> None:
    """Show a result, and write it as JSON if a file is given; with "-", print the JSON instead."""
    if file is None:
        show()
        return
    text = json.dumps(document, indent=2)
    if file == "-":
        print(text)
        return
    show()
    write_text(file, text + "\n", "the JSON")


def write_reports(options: argparse.Namespace, document: dict[str, Any]) -> None:
    """Write the page and the JUnit file that were asked for. Raises ZooError when they cannot be written."""
    from zoo.parity.junit import junit
    from zoo.parity.page import page

    for file, make in ((options.html, page), (options.junit, junit)):
        if file is not None:
            write_text(file, make(document), "the report")


def write_text(file: str, text: str, what: str) -> None:
    """Write a file, whole or not at all. Raises ZooError, which says `what` cannot be written, if that fails."""
    try:
        with atomic_write(file) as part:
            part.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ZooError(f"{file}: cannot write {what} there: {error.strerror}") from None
