"""`zoo inspect`."""

from __future__ import annotations

import argparse
from typing import Any

from zoo.commands.common import CHECKPOINT, Commands, add_checkpoint_options, add_command, report
from zoo.frameworks import FRAMEWORKS
from zoo.language.model import Preprocess

NOT_PUBLISHERS = {
    "zoo": "canonical weights",
    **{name: f"zoo.build's network, saved by {row.title}" for name, row in FRAMEWORKS.items()},
}
"""Sources that are not publishers, in words."""


def add(commands: Commands) -> None:
    command = add_command(commands, "inspect", run, "show a checkpoint's format, source, network and variant")
    command.add_argument("file", metavar="FILE", help=CHECKPOINT)
    add_checkpoint_options(command)
    add_part_options(command)


def add_part_options(command: argparse.ArgumentParser) -> None:
    """Options for files whose network has another classifier, or is a part of a larger module."""
    command.add_argument(
        "--num-classes",
        type=int,
        metavar="N",
        help="number of classes: 1000 removes the background class of a file with 1001; for a file with another "
        "classifier than the network's, or none, the number of classes of a new one",
    )
    command.add_argument(
        "--prefix", metavar="P", help="take the network below this prefix of a larger module, e.g. student."
    )


def run(options: argparse.Namespace) -> int:
    from weights import open_checkpoint

    opened = open_checkpoint(
        options.file,
        options.source,
        options.model,
        ema=options.ema,
        num_classes=options.num_classes,
        prefix=options.prefix,
    )
    document = opened.document()
    report(options.json, document, lambda: show(document))
    return 0


def show(document: dict[str, Any]) -> None:
    names = document["class_names"]
    metadata = {
        key: value
        for key, value in document["metadata"].items()
        if value and key not in ("spec", "class_names", "format", "model", "names", "preprocess_assumed")
    }
    lines = {
        "format": document["format"],
        "source": sources(document),
        "model": document["model"] or "cannot be told from the names alone: give --model",
        "classes": _classes(document),
        "class names": f"{', '.join(names[:3])}{', ...' if len(names) > 3 else ''}" if names else "not in the file",
        "input channels": str(document["in_channels"]),
        "width": f"{document['width']:g}",
        "auxiliary heads": ", ".join(document["aux"]) or "none",
        "moving average": "yes" if document["moving_average"] else "no",
        "tensors": f"{document['tensors']}, {document['elements']:,} elements, "
        + ", ".join(f"{count} {dtype}" for dtype, count in document["dtypes"].items()),
        "preprocessing": _preprocessing(document),
        "removed": "; ".join(document["removed"]) or "nothing",
        "metadata": ", ".join(f"{key}={value:.80}" for key, value in metadata.items()) or "none",
    }
    print(document["file"])
    for name, value in lines.items():
        print(f"  {name:15}  {printable(value)}")
    for note in document["notes"]:
        print(f"  note: {printable(note)}")
    if document["possible"] and document["model"] is None:
        print("Its names fit these networks:")
        first = document["possible"][0]["model"]
        for possible in document["possible"]:
            texts = list(dict.fromkeys(f"{d['what']} {d['second']}, not {d['first']}" for d in possible["differs_in"]))
            print(f"  {possible['model']:30}  {f'unlike {first}: ' + '; '.join(texts[:3]) if texts else ''}".rstrip())


def printable(text: str) -> str:
    """Text from a file without control characters, which a terminal would obey."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _classes(document: dict[str, Any]) -> str:
    count = document["num_classes"]
    if not document["classifier"]:
        return f"{count}, of a new classifier: the file has none that fits"
    return f"{count}{' (the first is background: --num-classes 1000)' if count == 1001 else ''}"


def _preprocessing(document: dict[str, Any]) -> str:
    """The preprocessing, and where it is from."""
    how = dict(document["preprocess"])
    size = how.pop("size")
    text = Preprocess(**how).describe(size)
    if document["preprocess_known"]:
        return text if document["preprocess_of"] == "the file" else f"{text} (from {document['preprocess_of']})"
    return f"not in the file; assumed, as {document['preprocess_of']}'s: {text}"


def sources(document: dict[str, Any]) -> str:
    """Whose file it is, in words."""
    return " or ".join(NOT_PUBLISHERS.get(source, source) for source in document["sources"])
