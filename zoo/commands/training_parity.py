"""`zoo parity --gradients` and `zoo parity --steps`."""

from __future__ import annotations

import argparse
from typing import Any

from zoo import console
from zoo.commands.common import expanded, refuse, report, write_reports
from zoo.errors import SpecError
from zoo.frameworks import FRAMEWORKS

NOT_TAKEN = (
    "--checkpoint",
    "--image",
    "--layers",
    "--stored-reference",
    "--repeat",
    "--mode",
    "--dtype",
)
"""Flags of `zoo parity` that have no meaning here."""


def run(options: argparse.Namespace) -> int:
    from zoo.parity import gradients, steps

    if options.gradients and options.steps is not None:
        raise SpecError("--gradients and --steps exclude each other: run one after the other")
    if not options.gradients and options.steps is None:
        raise SpecError("--graph goes with --gradients or --steps")
    flag = "--gradients" if options.gradients else "--steps"
    refuse(options, NOT_TAKEN, f"{flag}, which trains from random weights on noise")
    if not options.models:
        raise SpecError("no model to compare: name some")
    models, backends = expanded(options.models), options.backends or tuple(FRAMEWORKS)
    common: dict[str, Any] = {
        "width": options.width,
        "size": options.size,
        "batch": gradients.BATCH if options.batch is None else options.batch,
        "seed": options.seed,
        "graph": options.graph,
        "device": options.device,
        "tolerance": options.tolerance,
        "timeout": options.timeout,
    }
    with console.progress(len(models) * (1 + len(backends))) as progress:
        if options.gradients:
            document = gradients.compare(models, backends, progress=progress, **common)
        else:
            document = steps.compare(models, options.steps, backends, progress=progress, **common)
    report(options.json, document, lambda: show(document))
    write_reports(options, document)
    return 0 if document["ok"] else 1


def show(document: dict[str, Any]) -> None:
    """Print a row for each model and backend; below the table, what is wrong and what was compared."""
    from zoo.parity.training_report import columns, explanation, rows

    titles = columns(document)
    table = console.new("model", "backend", *(f">{title}" for title in titles), "", "nearest to its band")
    notes, before = [], ""
    for row in rows(document):
        name, before = "" if row.model == before else row.model, row.model
        figures = row.figures or [""] * len(titles)
        style = "green" if row.verdict == "ok" else "bold red"
        verdict = row.verdict if row.verdict == "skipped" else f"[{style}]{row.verdict}[/]"
        table.add_row(name, f"{row.backend} {row.version}".strip(), *figures, verdict, row.nearest)
        whose = f"{row.model}, {row.backend}" if row.figures else row.backend
        notes += [f"{whose}: {problem}" for problem in row.problems]
    console.show(table)
    for note in dict.fromkeys(notes):
        print(note)
    for line in explanation(document):
        print(line)
