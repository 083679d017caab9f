"""`zoo source`."""

from __future__ import annotations

import argparse

import weights
from zoo.commands.common import MODEL, Commands, add_command, names, report, write_text
from zoo.frameworks import FRAMEWORKS
from zoo.language.model import configure


def add(commands: Commands) -> None:
    command = add_command(
        commands, "source", run, "print a network as one file of Python that needs only its framework"
    )
    command.add_argument("model", metavar="MODEL", help=MODEL)
    command.add_argument("--backend", choices=FRAMEWORKS, default="torch", help="the framework (default: torch)")
    command.add_argument("--num-classes", type=int, metavar="N", help="classes (default: the model's)")
    command.add_argument("--width", type=float, default=1.0, metavar="X", help="multiply all channel counts")
    command.add_argument("--taps", type=names, default=(), metavar="LIST", help="stages to return instead of logits")
    command.add_argument("--no-aux", dest="aux", action="store_false", help="leave auxiliary heads out")
    command.add_argument("--out", metavar="FILE", help="write it to this file instead of standard output")


def run(options: argparse.Namespace) -> int:
    from zoo.source.write import source

    model = configure(
        weights.resolve(options.model),
        num_classes=options.num_classes,
        width=options.width,
        taps=options.taps,
        aux=options.aux,
    )
    text = source(model, options.backend)
    document = {"model": model.name, "backend": options.backend, "source": text}
    report(options.json, document, lambda: show(text, options.out))
    return 0


def show(text: str, file: str | None) -> None:
    if file is None:
        print(text, end="")
    else:
        write_text(file, text, "the source")
