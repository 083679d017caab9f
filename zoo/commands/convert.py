"""`zoo convert`."""

from __future__ import annotations

import argparse
from typing import Any

from zoo.commands.common import Commands, add_checkpoint_options, add_command, report
from zoo.commands.inspect import OURS, sources


def add(commands: Commands) -> None:
    text = "turn any checkpoint into another source's, or into canonical weights"
    convert = add_command(commands, "convert", run, text)
    convert.add_argument("file", metavar="IN")
    convert.add_argument("out", metavar="OUT", help="its suffix says which kind of file: .safetensors, .pth, .pt, "
                         ".bin, .ckpt, .pdparams, .weights.h5, .h5")  # fmt: skip
    add_checkpoint_options(convert)
    convert.add_argument("--to", metavar="SOURCE", help="whose names to write (default: canonical for .safetensors, "
                         "else those of zoo.build's networks in the framework of OUT)")  # fmt: skip
    convert.add_argument("--format", metavar="F", help="instead of what OUT's suffix says, e.g. torch-legacy")
    convert.add_argument("--num-classes", type=int, metavar="N", help="1000 takes the background off a file with 1001; "
                         "any other number makes new classifiers")  # fmt: skip


def run(options: argparse.Namespace) -> int:
    from weights import convert

    document = convert(
        options.file,
        options.out,
        model=options.model,
        source=options.source,
        to=options.to,
        format=options.format,
        num_classes=options.num_classes,
        ema=options.ema,
    )
    report(options.json, document, lambda: show(document))
    return 0


def show(document: dict[str, Any]) -> None:
    own = document["converted_from"] or document["model"]
    print(f"{document['file']}: {own}, {document['format']}, of {sources(document)}")
    for line in document["removed"]:
        print(f"  taken off: {line}")
    for line in document["operations"]:
        print(f"  {line}")
    print(f"{document['out']}: as {OURS.get(document['to'], document['to'] + ' has it')}")
