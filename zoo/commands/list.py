"""`zoo list`."""

from __future__ import annotations

import argparse
from typing import Any

from zoo import console
from zoo.catalogue import info
from zoo.commands.common import Commands, add_command, matching, report


def add(commands: Commands) -> None:
    command = add_command(commands, "list", run, "list models and their publishers")
    command.add_argument("pattern", nargs="?", default="*", help="shell pattern, e.g. 'inception*'")


def run(options: argparse.Namespace) -> int:
    rows = [info(name) for name in matching(options.pattern)]
    report(options.json, [{k: v for k, v in row.items() if k != "stages"} for row in rows], lambda: show(rows))
    return 0


def show(rows: list[dict[str, Any]]) -> None:
    table = console.new("model", ">size", ">parameters", ">GMACs", "published by", "same network as")
    for row in rows:
        table.add_row(
            row["model"],
            str(row["size"]),
            f"{row['parameters']:,}",
            f"{row['macs'] / 1e9:.3f}",
            ", ".join(row["publishers"]) or "the paper",
            ", ".join(row["same_network_as"]),
        )
    console.show(table)
