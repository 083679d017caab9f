"""`zoo parity --gradients` and `zoo parity --steps`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from zoo import console
from zoo.commands.common import expanded, refuse, report
from zoo.errors import SpecError
from zoo.frameworks import FRAMEWORKS

KINDS = ("output", "input", "gradient", "statistic")
NOT_TAKEN = (
    "--checkpoint",
    "--image",
    "--layers",
    "--stored-reference",
    "--repeat",
    "--mode",
    "--dtype",
    "--html",
    "--junit",
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
    report(options.json, document, lambda: (show_gradients if options.gradients else show_steps)(document))
    return 0 if document["ok"] else 1


def show_gradients(report: dict[str, Any]) -> None:
    def cells(result: dict[str, Any], entry: dict[str, Any]) -> list[str]:
        worst = entry["worst"]
        errors = [*(worst[kind]["error"] if kind in worst else 0.0 for kind in KINDS), entry["loss_error"]]
        nearest = max(worst.values(), key=lambda at: _share(at["error"], at["band"]))
        share = _share(nearest["error"], nearest["band"])
        return [*map(_figure, errors), _verdict(entry), f"{nearest['where']} ({100 * share:.0f}%)"]

    _show(report, (*(f">{kind}" for kind in KINDS), ">loss"), cells, _outside)
    first = report["models"][0]
    print(
        f"Each stage and head in training, batch {first['shape'][0]}, width {report['width']:g}: its output, the "
        "gradient at its input, all parameters' gradients,\nbatch norm's new running statistics, for the same input "
        f"and the same gradient of its output, against PyTorch {first['judge']} in float64;\n"
        "and the loss of the whole network in a first step."
    )
    print(f"Error: |value - reference| / |reference| (Frobenius); {_limit(report)}.")


def show_steps(report: dict[str, Any]) -> None:
    def cells(result: dict[str, Any], entry: dict[str, Any]) -> list[str]:
        errors, bands = entry["errors"], result["bands"]
        shares = {place: _share(error, bands[place]) for place, error in errors.items()}
        largest = [
            max((e for place, e in errors.items() if place.startswith(what)), key=_size, default=0.0)
            for what in ("weights", "statistics")
        ]
        figures = (errors["loss 1"], errors[f"loss {report['steps']}"], *largest)
        at = max(shares, key=shares.__getitem__)
        return [*map(_figure, figures), _verdict(entry), f"{at} ({100 * shares[at]:.0f}%)"]

    def outside(entry: dict[str, Any]) -> list[str]:
        return [f"outside: {', '.join(entry['outside'])}"] if entry["outside"] else []

    _show(report, (">first loss", ">last loss", ">weights", ">statistics"), cells, outside)
    first = report["models"][0]
    print(
        f"{report['steps']} training steps, batch {first['shape'][0]}, width {report['width']:g}, momentum, from the "
        f"same weights, with the same dropout masks, against PyTorch {first['judge']} in float64.\n"
        "Error of a loss: |y - reference| / |reference|; of a stage's weights and running statistics after the last "
        f"step: |y - reference| / |reference - start| (Frobenius), the largest;\n{_limit(report)}."
    )


def _show(
    report: dict[str, Any],
    columns: Sequence[str],
    cells: Callable[[dict[str, Any], dict[str, Any]], list[str]],
    outside: Callable[[dict[str, Any]], list[str]],
) -> None:
    """Print a row for each model and backend, and below the table what is wrong.

    columns  of figures
    cells    the figures of a result's entry, its verdict, and the place that is nearest to its band
    outside  lines about an entry that is outside its band
    """
    table = console.new("model", "backend", *columns, "", "nearest to its band")
    notes = []
    for result in report["models"]:
        name = result["model"]
        for backend, entry in result["backends"].items():
            if note := entry.get("skipped") or entry.get("error"):
                verdict = "skipped" if "skipped" in entry else "[bold red]failed[/]"
                table.add_row(name, backend, *[""] * len(columns), verdict, "")
                notes.append(f"{backend}: {note}")
            else:
                table.add_row(name, f"{backend} {entry['version']}", *cells(result, entry))
                notes += [f"{result['model']}, {backend}: {line}" for line in outside(entry)]
            name = ""
    console.show(table)
    for note in dict.fromkeys(notes):
        print(note)


def _size(error: float | None) -> float:
    return float("inf") if error is None else error


def _share(error: float | None, band: float) -> float:
    """An error over its band, which `--tolerance 0` makes 0."""
    return _size(error) / band if band else float("inf") if _size(error) else 0.0


def _figure(error: float | None) -> str:
    return "not finite" if error is None else f"{error:.1e}"


def _verdict(entry: dict[str, Any]) -> str:
    return "[green]ok[/]" if entry["ok"] else "[bold red]outside its band[/]"


def _limit(report: dict[str, Any]) -> str:
    tolerance = report["tolerance"]
    return "each must be within what rounding explains" if tolerance is None else f"tolerance {tolerance:g}"


def _outside(entry: dict[str, Any]) -> list[str]:
    """Which stages are outside their bands, and which of their operations are by themselves."""
    lines = []
    if entry["outside"]:
        found = entry["operations"]
        inside = ", ".join(found["outside"]) or f"none of their {found['compared']} operations by itself"
        lines.append(f"outside: {', '.join(entry['outside'])}; of their operations: {inside}")
    if not _size(entry["loss_error"]) <= entry["loss_band"]:
        lines.append(
            f"outside: the loss of the first step, {_figure(entry['loss_error'])}; band {entry['loss_band']:.1e}"
        )
    return lines
