"""`zoo diff`."""

from __future__ import annotations

import argparse
from typing import Any

from zoo import console
from zoo.commands.common import MODEL, Commands, add_command, report
from zoo.language.diff import Difference, grouped


def add(commands: Commands) -> None:
    command = add_command(commands, "diff", run, "show how two networks differ, and by how much their logits do")
    command.add_argument("first", metavar="MODEL", help=MODEL)
    command.add_argument("second", metavar="MODEL")
    command.add_argument("--no-run", dest="logits", action="store_false", help="compare the specs only")


def run(options: argparse.Namespace) -> int:
    from zoo.parity.pairs import compare

    document = compare(options.first, options.second, options.logits)
    report(options.json, document, lambda: show(document))
    return 0


def show(document: dict[str, Any]) -> None:
    first, second = document["models"]
    groups = grouped([Difference(**row) for row in document["differences"]])
    if groups:
        table = console.new("what", first, second, "where", wrap=True)
        for (what, ours, theirs), places in groups.items():
            where = places[0] if len(places) == 1 else f"{len(places)} places: {', '.join(places[:3])}"
            table.add_row(what, ours, theirs, where + (", ..." if len(places) > 3 else ""))
        console.show(table)
    same = "the same network in inference" if document["same_network"] else "different networks"
    for name, asked in zip(document["models"], document["asked_for"], strict=True):
        if name != asked:
            print(f"{asked} is {name}.")
    print(f"{first} and {second} are {same}.")
    exact = [(row["from"], row["to"]) for row in document["conversions"] if row["exact"]]
    if first == second:
        pass
    elif exact:
        print(f"Weights convert exactly {' and '.join(f'from {a} to {b}' for a, b in exact)}:")
        print(f"  zoo convert FILE OUT --model {exact[0][1]}")
    else:
        print("No conversion of weights makes them equal.")
    if not document["weights_fit"]:
        print("The weights of one do not fit the other: names or shapes of tensors differ.")
    elif document["max_rel_difference"] is not None:
        print(
            "With the same weights, their logits differ by up to "
            f"{document['max_rel_difference']:.1e} of the largest logit, on two photographs."
        )
