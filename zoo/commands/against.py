"""`zoo parity MODEL --against X`."""

from __future__ import annotations

import argparse
from typing import Any

from zoo import console
from zoo.commands.common import refuse, report, write_reports
from zoo.errors import SpecError

NOT_TAKEN = (
    "--backends",
    "--layers",
    "--gradients",
    "--steps",
    "--graph",
    "--stored-reference",
    "--device",
    "--mode",
    "--dtype",
    "--tolerance",
    "--repeat",
    "--seed",
    "--width",
)
"""Flags of `zoo parity` that have no meaning here."""


def run(options: argparse.Namespace) -> int:
    from zoo.parity.foreign import against

    if options.preprocess is not None:
        raise SpecError("--preprocess and --against exclude each other: run one after the other")
    if options.against is None:
        raise SpecError("--framework, --rename, --training and --repro go with --against")
    refuse(options, NOT_TAKEN, "--against, which runs one network in its own framework")
    if len(options.models) + (options.checkpoint is not None and not options.models) != 1:
        raise SpecError("--against compares one network with one model: name one")
    with console.progress(1) as step:
        step(str(options.against), "running and comparing")
        document = against(
            options.models[0] if options.models else options.checkpoint,
            options.against,
            framework=options.framework,
            checkpoint=options.checkpoint,
            images=options.image,
            size=options.size,
            batch=options.batch,
            rename=options.rename,
            training=options.training,
            repro=options.repro,
            timeout=options.timeout,
        )
    report(options.json, document, lambda: show(document))
    write_reports(options, document)
    return 0 if document["ok"] else 1


def show(document: dict[str, Any]) -> None:
    from zoo.parity.describe import describe

    for line in describe(document):
        print(line)
