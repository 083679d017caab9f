"""`zoo completion`."""

from __future__ import annotations

import argparse
from typing import Any, get_args

from zoo.catalogue import list_models
from zoo.commands.common import Commands
from zoo.frameworks import FRAMEWORKS, RUNTIMES
from zoo.training.flags import command_line
from zoo.training.flags.flag import Script

SHELLS = ("bash", "zsh", "tcsh")

INSTALL = {
    "bash": 'eval "$(zoo completion bash)"     in ~/.bashrc',
    "zsh": 'eval "$(zoo completion zsh)"      in ~/.zshrc, after compinit',
    "tcsh": "zoo completion tcsh | source /dev/stdin     in ~/.tcshrc",
}

FOLDERS = ("DIR", "FOLDER")
FILES = ("FILE", "F", "IN", "OUT", "PATH", "IMAGE", "A", "B")
"""Placeholders of arguments that are folders, and of those that are files."""

BASH = """
_zoo_networks() {{ compgen -W "{names}" -- "$1"; compgen -f -- "$1"; }}
"""
ZSH = """
_zoo_networks() {{ _alternative 'networks:network:({names})' 'files:file:_files' }}
"""


def add(commands: Commands) -> None:
    text = "print a script with which a shell completes commands, flags, networks and files"
    command = commands.add_parser(
        "completion",
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog="To use it:\n" + "\n".join(f"  {line}" for line in INSTALL.values()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("shell", choices=SHELLS)
    command.set_defaults(run=run, json=None)


def run(options: argparse.Namespace) -> int:
    import shtab

    root: argparse.ArgumentParser = options.root
    commands = next(action for action in root._actions if isinstance(action, argparse._SubParsersAction))
    for script in get_args(Script):  # their flags are not in the parser of the other commands
        commands.choices[script] = command_line.parser(script, f"zoo {script}")
    for command in commands.choices.values():
        for action in command._actions:
            _complete(action)
    names = " ".join(list_models())
    preamble: Any = {"bash": BASH.format(names=names), "zsh": ZSH.format(names=names)}
    print(shtab.complete(root, options.shell, preamble=preamble))
    return 0


def _complete(action: argparse.Action) -> None:
    """Tell shtab what an argument's placeholder stands for."""
    import shtab

    if action.choices is not None or not action.metavar:
        return
    if action.metavar in ("MODEL", "M") or action.dest == "model":
        complete: Any = {"bash": "_zoo_networks", "zsh": "_zoo_networks", "tcsh": "f"}
    elif action.metavar in FOLDERS:
        complete = shtab.DIRECTORY
    elif action.metavar in FILES:
        complete = shtab.FILE
    elif action.dest in ("backend", "backends"):
        action.choices = [*FRAMEWORKS, *RUNTIMES]
        return
    else:
        return
    action.complete = complete  # type: ignore[attr-defined]
