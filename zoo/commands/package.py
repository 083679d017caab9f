"""`zoo package`."""

from __future__ import annotations

import argparse

from zoo.commands.common import CHECKPOINT, MODEL, Commands, add_command, report
from zoo.frameworks import FRAMEWORKS


def add(commands: Commands) -> None:
    command = add_command(
        commands, "package", run, "write a folder to give away: weights, source, ONNX, card, labels, certificate"
    )
    command.add_argument("model", metavar="MODEL", help=f"{MODEL}, or a name of published weights")
    command.add_argument("--checkpoint", metavar="F", help=f"the weights: {CHECKPOINT} (default: MODEL's own)")
    command.add_argument("--to", metavar="DIR", required=True, help="a new folder")
    command.add_argument("--backend", choices=FRAMEWORKS, default="torch", help="the framework (default: torch)")
    command.add_argument("--ema", action="store_true", help="the moving average of the weights")
    command.add_argument("--push", metavar="OWNER/NAME", help="upload it to the Hugging Face hub too")


def run(options: argparse.Namespace) -> int:
    from zoo.packaging import package, push

    files = package(options.model, options.to, checkpoint=options.checkpoint, backend=options.backend, ema=options.ema)
    document = {
        "folder": options.to,
        "files": {file.name: file.stat().st_size for file in files},
        "pushed": push(options.to, options.push) if options.push else None,
    }
    report(options.json, document, lambda: show(document))
    return 0


def show(document: dict[str, object]) -> None:
    files = document["files"]
    assert isinstance(files, dict)
    for name, size in files.items():
        print(f"{size:12,}  {document['folder']}/{name}")
    if document["pushed"]:
        print(document["pushed"])
