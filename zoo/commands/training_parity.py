"""`zoo parity --gradients` and `zoo parity --steps`."""

from __future__ import annotations

import argparse
from typing import Any

from zoo import console
from zoo.commands.common import expanded, refuse, report
from zoo.errors import SpecError
from zoo.frameworks import FRAMEWORKS

KINDS = ("output", "input", "gradient", "statistic")
BAD = "[bold red]"
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
    table = console.new("model", "backend", *(f">{kind}" for kind in KINDS), ">loss", "", "nearest to its band")
    notes = []
    for result in report["models"]:
        name = result["model"]
        for backend, entry in result["backends"].items():
            if note := entry.get("skipped") or entry.get("error"):
                table.add_row(name, backend, *[""] * 5, _missing(entry), "")
                notes.append(f"{backend}: {note}")
            else:
                worst = entry["worst"]
                errors = [*(worst[kind]["error"] if kind in worst else 0.0 for kind in KINDS), entry["loss_error"]]
                nearest = max(worst.values(), key=_share)
                cells = (_figure(error) for error in errors)
                row = (f"{backend} {entry['version']}", *cells, _verdict(entry))
                table.add_row(name, *row, f"{nearest['where']} ({100 * _share(nearest):.0f}%)")
                notes += _outside(result["model"], backend, entry)
            name = ""
    console.show(table)
    for note in dict.fromkeys(notes):
        print(note)
    first = report["models"][0]
    print(
        f"Each stage and head in training, batch {first['shape'][0]}, width {report['width']:g}: its output, the "
        "gradient at its input, all parameters' gradients,\nbatch norm's new running statistics, for the same input "
        f"and the same gradient of its output, against PyTorch {first['judge']} in float64;\n"
        "and the loss of the whole network in a first step."
    )
    print(f"Error: |value - reference| / |reference| (Frobenius); {_limit(report)}.")


def show_steps(report: dict[str, Any]) -> None:
    table = console.new("model", "backend", ">first loss", ">last loss", ">weights", ">statistics", "",
                        "nearest to its band")  # fmt: skip
    notes = []
    for result in report["models"]:
        name, bands = result["model"], result["bands"]
        for backend, entry in result["backends"].items():
            if note := entry.get("skipped") or entry.get("error"):
                table.add_row(name, backend, *[""] * 4, _missing(entry), "")
                notes.append(f"{backend}: {note}")
            else:
                errors = {place: float("inf") if e is None else e for place, e in entry["errors"].items()}
                largest = (
                    max((e for place, e in errors.items() if place.startswith(what)), default=0.0)
                    for what in ("weights", "statistics")
                )
                at = max(errors, key=lambda place: errors[place] / bands[place])
                figures = (errors["loss 1"], errors[f"loss {report['steps']}"], *largest)
                cells = (_figure(error) for error in figures)
                nearest = f"{at} ({100 * errors[at] / bands[at]:.0f}%)"
                table.add_row(name, f"{backend} {entry['version']}", *cells, _verdict(entry), nearest)
                notes += [f"{result['model']}, {backend}: outside: {place}" for place in entry["outside"]]
            name = ""
    console.show(table)
    for note in dict.fromkeys(notes):
        print(note)
    first = report["models"][0]
    print(
        f"{report['steps']} training steps, batch {first['shape'][0]}, width {report['width']:g}, momentum, from the "
        f"same weights, with the same dropout masks, against PyTorch {first['judge']} in float64.\n"
        "Error of a loss: |y - reference| / |reference|; of a stage's weights and running statistics after the last "
        f"step: |y - reference| / |reference - start| (Frobenius), the largest;\n{_limit(report)}."
    )


def _share(entry: dict[str, Any]) -> float:
    return float("inf") if entry["error"] is None else entry["error"] / (entry["band"] or 1e-300)


def _figure(error: float | None) -> str:
    return "not finite" if error is None or error == float("inf") else f"{error:.1e}"


def _verdict(entry: dict[str, Any]) -> str:
    return "[green]ok[/]" if entry["ok"] else f"{BAD}outside its band[/]"


def _missing(entry: dict[str, Any]) -> str:
    return "skipped" if "skipped" in entry else f"{BAD}failed[/]"


def _limit(report: dict[str, Any]) -> str:
    tolerance = report["tolerance"]
    return "each must be within what rounding explains" if tolerance is None else f"tolerance {tolerance:g}"


def _outside(model: str, backend: str, entry: dict[str, Any]) -> list[str]:
    """Which stages are outside their bands, and which of their operations are by themselves."""
    if not entry["outside"]:
        return []
    found = entry["operations"]
    inside = ", ".join(found["outside"]) or f"none of their {found['compared']} operations by itself"
    return [f"{model}, {backend}: outside: {', '.join(entry['outside'])}; of their operations: {inside}"]
