"""`zoo list`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict
from fnmatch import fnmatch
from typing import Any

from weights import published
from zoo import console
from zoo.cards.facts import fastest
from zoo.catalogue import info
from zoo.commands.common import Commands, add_command, matching, report
from zoo.errors import SpecError
from zoo.models import ALIASES, PUBLISHERS

MOST_NOTED = 12
"""The largest number of rows whose notes are printed."""


def add(commands: Commands) -> None:
    command = add_command(commands, "list", run, "list models and their publishers, or published weights")
    command.add_argument("pattern", nargs="?", default="*", help="shell pattern, e.g. 'inception*'")
    command.add_argument("--pretrained", action="store_true", help="list published weights, by name")


def run(options: argparse.Namespace) -> int:
    if options.pretrained:
        found = weights_matching(options.pattern)
        report(options.json, [asdict(row) | {"bytes": row.bytes} for row in found], lambda: show_weights(found))
        return 0
    rows = [
        {key: value for key, value in info(name).items() if key != "stages"}
        | accuracy(name)
        | {"milliseconds": fastest(name)}
        for name in matching(options.pattern)
    ]
    report(options.json, rows, lambda: show(rows, advise=options.pattern == "*"))
    return 0


def weights_matching(pattern: str) -> list[published.Published]:
    """The published weights whose names, or networks' names, match a pattern. Raises SpecError when there are none."""
    found = [
        row
        for row in published.PUBLISHED.values()
        if fnmatch(row.name, pattern) or fnmatch(row.model, pattern) or ALIASES.get(pattern) == row.model
    ]
    if not found:
        raise SpecError(f"no published weights match {pattern!r}; `zoo list --pretrained` shows all")
    return found


def accuracy(model: str) -> dict[str, Any]:
    """The highest published top-1 accuracy of a model, and the name of its weights; both None if none is known."""
    rows = [row for row in published.of(model) if row.top1 is not None]
    best = max(rows, key=lambda row: row.top1 or 0, default=None)
    return {"top1": best and best.top1, "weights": best and best.name}


def show(rows: list[dict[str, Any]], advise: bool) -> None:
    table = console.new("model", ">size", ">M params", ">GMACs", ">ms", ">top-1", "published by")
    for row in rows:
        table.add_row(
            row["model"],
            str(row["size"]),
            f"{row['parameters'] / 1e6:.2f}",
            f"{row['macs'] / 1e9:.2f}",
            "" if row["milliseconds"] is None else f"{row['milliseconds']:.0f}",
            "" if row["top1"] is None else f"{row['top1']:.1f}",
            ", ".join(PUBLISHERS.get(name, name) for name in row["publishers"]) or "the paper",
        )
    console.show(table)
    print(
        "top-1 is the best accuracy on ImageNet that a publisher states for its weights, in percent.\n"
        "ms is the time for one image in the fastest float32 engine, on two cores (docs/speed.md).\n"
        "`zoo list --pretrained` shows all weights, `zoo info MODEL` one network."
    )
    if advise:
        print("\n".join(advice(rows)))


def advice(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Which network to choose for what."""
    yield "Which one? With a checkpoint, its own: `zoo inspect FILE` recognises it."
    accurate = max(rows, key=lambda row: row["top1"] or 0)
    light = min(rows, key=lambda row: row["macs"])
    timed = [row for row in rows if row["milliseconds"] is not None]
    if accurate["top1"]:
        yield f"  most accurate:      {accurate['model']}, with the weights {accurate['weights']}"
    yield f"  least computation:  {light['model']}"
    if timed:
        fast = min(timed, key=lambda row: row["milliseconds"])
        yield f"  fastest here:       {fast['model']}"
    if any(row["model"] == "inception_v3.fid" for row in rows):
        yield "  to measure images:  inception_v3.fid, which `zoo fid` runs"


def show_weights(rows: list[published.Published]) -> None:
    table = console.new("weights", "network", "published by", ">classes", ">top-1", ">top-5", ">MB", "licence")
    for row in rows:
        table.add_row(
            row.name,
            row.model,
            PUBLISHERS[row.source],
            str(row.classes or "none"),
            "" if row.top1 is None else f"{row.top1:.2f}",
            "" if row.top5 is None else f"{row.top5:.2f}",
            f"{row.bytes / 1e6:.0f}",
            row.licence,
        )
    console.show(table)
    if len(rows) <= MOST_NOTED:
        print("".join(f"{row.name}: {row.note}\n" for row in rows if row.note), end="")
    print(
        "Accuracies are the publishers' own, on ImageNet, in percent. Download and build one:\n"
        f'  zoo.build("{rows[0].name}", backend="torch", pretrained=True)'
    )
