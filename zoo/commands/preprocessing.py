"""`zoo parity MODEL --preprocess X`."""

from __future__ import annotations

import argparse
from typing import Any

from zoo import console
from zoo.commands import against
from zoo.commands.common import refuse, report
from zoo.errors import SpecError

NOT_TAKEN = (
    *against.NOT_TAKEN,
    "--checkpoint",
    "--size",
    "--batch",
    "--html",
    "--junit",
)
"""Flags of `zoo parity` that have no meaning here."""


def run(options: argparse.Namespace) -> int:
    from zoo.parity.preprocessing import compare

    refuse(options, NOT_TAKEN, "--preprocess, which compares images, not networks")
    if len(options.models) != 1:
        raise SpecError("--preprocess compares one function with the preprocessing of one model: name one")
    with console.progress(1) as step:
        document = compare(
            options.models[0], options.preprocess, images=options.image, timeout=options.timeout, progress=step
        )
    report(options.json, document, lambda: show(document))
    return 0 if document["ok"] else 1


def show(document: dict[str, Any]) -> None:
    own, model, error = document["preprocess"], document["model"], document["error"]
    if document["ok"]:
        print(f"{own} preprocesses images as the publisher of {model} does.")
    else:
        print(f"{own} does not preprocess images as the publisher of {model} does.")
        for cause in document["causes"]:
            print(f"Cause: {cause['cause']}: {cause['change']}.")
        print(
            "Proved: with this the arrays are equal."
            if document["proved"]
            else "None of the usual ways to resize, crop and normalise explains it."
        )
    if error is not None:
        print(f"Largest difference: {error:.2g} steps of an 8-bit pixel.")
