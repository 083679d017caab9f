"""`zoo fetch`."""

from __future__ import annotations

import argparse
from fnmatch import fnmatch
from pathlib import Path

from weights import published, remote
from zoo.commands.common import Commands, add_command, report
from zoo.errors import WeightsError


def add(commands: Commands) -> None:
    command = add_command(commands, "fetch", run, "download published weights")
    command.add_argument("names", nargs="+", metavar="NAME", help="names as in `zoo list --pretrained`, patterns of "
                         "them ('inception_v3.*'), or hf-hub:OWNER/NAME[@REVISION]")  # fmt: skip
    command.add_argument("--to", metavar="DIR", help="folder to download to (default: the cache); ZOO_MIRROR=DIR makes "
                         "a machine without access to the internet use it")  # fmt: skip


def run(options: argparse.Namespace) -> int:
    chosen: dict[str, published.Published | str] = {}
    for name in options.names:
        if remote.is_address(name):
            chosen[name] = name
        elif row := published.find(name):
            chosen[row.name] = row
        else:
            rows = {row.name: row for row in published.PUBLISHED.values() if fnmatch(row.name, name)}
            if not rows:
                raise WeightsError(f"no published weights {name!r}: `zoo list --pretrained` shows all")
            chosen |= rows
    folder = None if options.to is None else Path(options.to)
    document = []
    for name, what in chosen.items():
        path = remote.fetch(what, folder)
        document.append({"name": name, "path": str(path)})
        if options.json != "-":
            print(f"{name}: {path}", flush=True)
    report(options.json, document, lambda: None)
    return 0
