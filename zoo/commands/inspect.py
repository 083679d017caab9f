"""`zoo inspect`."""

from __future__ import annotations

import argparse
from typing import Any

from zoo.commands.common import Commands, add_checkpoint_options, add_command, report
from zoo.frameworks import FRAMEWORKS

OURS = {
    "zoo": "canonical weights",
    **{name: f"zoo.build's network, saved by {row.title}" for name, row in FRAMEWORKS.items()},
}
"""Sources that are no publishers."""


def add(commands: Commands) -> None:
    command = add_command(commands, "inspect", run, "say what a checkpoint file is: format, source, network, variant")
    command.add_argument("file", metavar="FILE")
    add_checkpoint_options(command)


def run(options: argparse.Namespace) -> int:
    from weights import open_checkpoint

    document = open_checkpoint(options.file, options.source, options.model, ema=options.ema).document()
    report(options.json, document, lambda: show(document))
    return 0


def show(document: dict[str, Any]) -> None:
    known = ("source", "licence") if document["preprocess_known"] else document["metadata"]
    metadata = {key: value for key, value in document["metadata"].items() if key in known and value}
    one = document["model"] or "cannot be told from the names alone: give --model"
    preprocess = document["preprocess"]
    means = " ".join(f"{value:g}" for value in preprocess["mean"])
    spreads = " ".join(f"{value:g}" for value in preprocess["std"])
    feed = (
        f"shorter side to {preprocess['resize']}, {preprocess['interpolation']}; middle {preprocess['size']} x "
        f"{preprocess['size']}; {preprocess['channels']}, mean {means}, std {spreads}"
    )
    lines = {
        "format": document["format"],
        "source": sources(document),
        "model": one,
        "classes": str(document["num_classes"])
        + (" (the first is background: --num-classes 1000)" if document["num_classes"] == 1001 else ""),
        "input channels": str(document["in_channels"]),
        "width": f"{document['width']:g}",
        "auxiliary heads": ", ".join(document["aux"]) or "none",
        "tensors": f"{document['tensors']}, {document['elements']:,} elements, "
        + ", ".join(f"{count} {dtype}" for dtype, count in document["dtypes"].items()),
        "preprocessing": feed
        if document["preprocess_known"]
        else f"not in the file; {document['preprocess_of']}'s: {feed}",
        "taken off": "; ".join(document["removed"]) or "nothing",
        "metadata": ", ".join(f"{key}={value}" for key, value in metadata.items()) or "none",
    }
    print(document["file"])
    for name, value in lines.items():
        print(f"  {name:15}  {value}")
    if document["possible"] and document["model"] is None:
        print("Its names fit these networks:")
        first = document["possible"][0]["model"]
        for possible in document["possible"]:
            texts = list(dict.fromkeys(f"{d['what']} {d['second']}, not {d['first']}" for d in possible["differs_in"]))
            print(f"  {possible['model']:30}  {f'unlike {first}: ' + '; '.join(texts[:3]) if texts else ''}".rstrip())


def sources(document: dict[str, Any]) -> str:
    """Whose file it is, in words."""
    return " or ".join(OURS.get(source, source) for source in document["sources"])
