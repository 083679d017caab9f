"""`zoo parity MODEL --preprocess X`."""

from __future__ import annotations

import argparse
from typing import Any

from zoo import console
from zoo.commands import against
from zoo.commands.common import refuse, report, write_reports
from zoo.errors import SpecError

NOT_TAKEN = (
    *against.NOT_TAKEN,
    "--checkpoint",
    "--size",
    "--batch",
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
    write_reports(options, document)
    return 0 if document["ok"] else 1


def show(document: dict[str, Any]) -> None:
    from zoo.parity.describe import describe_preprocessing

    print("\n".join(describe_preprocessing(document)))
