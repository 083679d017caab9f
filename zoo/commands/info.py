"""`zoo info`."""

from __future__ import annotations

import argparse
import shutil
import textwrap
from typing import Any

from zoo import console
from zoo.commands.common import MODEL, Commands, add_command, report, write_text

WIDTH = 100
"""Width in characters of text that is not written to a terminal."""


def add(commands: Commands) -> None:
    command = add_command(commands, "info", run, "show a model's card: its figures, published weights and flavours")
    command.add_argument("model", metavar="MODEL", help=f"{MODEL}, or a name of published weights")
    command.add_argument("--size", type=int, metavar="N", help="input of N x N pixels (default: the model's own)")
    command.add_argument("--spec", metavar="FILE", help="write the network's specification, a .json document "
                         "that every command takes in place of a name")  # fmt: skip
    command.add_argument("--html", metavar="FILE", help="write the card as a page, with the network drawn")
    command.add_argument("--svg", metavar="FILE", help="write a picture of the network, drawn as in the papers")


def run(options: argparse.Namespace) -> int:
    from zoo.cards.facts import info

    card = info(options.model, options.size)
    write_files(options, card)
    report(options.json, card, lambda: show(card))
    return 0


def write_files(options: argparse.Namespace, card: dict[str, Any]) -> None:
    if not (options.spec or options.html or options.svg):
        return
    import weights
    from zoo.cards.figure import figure
    from zoo.cards.page import page
    from zoo.language.document import to_json

    model = weights.resolve(options.model)
    if options.spec:
        write_text(options.spec, to_json(model, indent=2) + "\n", "the specification")
    if options.html:
        write_text(options.html, page(card, model), "the page")
    if options.svg:
        write_text(options.svg, figure(model, options.size), "the picture")


def show(card: dict[str, Any]) -> None:
    from zoo.cards.sections import sections

    width = shutil.get_terminal_size((WIDTH, 0)).columns
    print(card["model"])
    for section in sections(card):
        if not section.title:
            for name, value in section.rows:
                print(textwrap.fill(value, width, initial_indent=f"  {name:18}  ", subsequent_indent=" " * 22))
            continue
        print(f"\n{section.title}")
        if section.text:
            print(textwrap.fill(section.text, width))
        table = console.new(*section.head, wrap=True)
        for row in section.rows:
            table.add_row(*row)
        console.show(table)
