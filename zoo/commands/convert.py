"""`zoo convert`."""

from __future__ import annotations

import argparse
from typing import Any

from zoo.commands.common import CHECKPOINT, Commands, add_checkpoint_options, add_command, report
from zoo.commands.inspect import NOT_PUBLISHERS, add_part_options, printable, sources


def add(commands: Commands) -> None:
    text = "convert a checkpoint to another source's names and format, or to canonical weights"
    convert = add_command(commands, "convert", run, text)
    convert.add_argument("file", metavar="IN", help=CHECKPOINT)
    convert.add_argument("out", metavar="OUT", help="its suffix decides the format: .safetensors, .pth, .pt, "
                         ".bin, .ckpt, .pdparams, .msgpack, .weights.h5, .h5")  # fmt: skip
    add_checkpoint_options(convert)
    add_part_options(convert)
    convert.add_argument("--to", metavar="SOURCE", help="whose names to write (default: canonical for .safetensors, "
                         "else those of zoo.build's networks in the framework of OUT)")  # fmt: skip
    convert.add_argument("--format", metavar="F", help="the format, instead of that of OUT's suffix: torch-legacy, ...")


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
        prefix=options.prefix,
    )
    report(options.json, document, lambda: show(document))
    return 0


def show(document: dict[str, Any]) -> None:
    own = document["converted_from"] or document["model"]
    print(f"{document['file']}: {own}, {document['format']}, of {sources(document)}")
    for line in document["removed"]:
        print(f"  removed: {printable(line)}")
    for line in document["operations"]:
        print(f"  {line}")
    for note in document["notes"]:
        print(f"  note: {printable(note)}")
    print(f"{document['out']}: written as {NOT_PUBLISHERS.get(document['to'], document['to'])}")
