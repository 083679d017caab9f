"""`zoo parity`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zoo import console
from zoo.commands import against, preprocessing, training_parity
from zoo.commands.common import Commands, add_command, expanded, names, report, write_reports

Cells = list[str]


def add(commands: Commands) -> None:
    text = "run models in several frameworks and compare each with the float64 reference"
    parity = add_command(commands, "parity", run, text)
    parity.add_argument("models", nargs="*", metavar="MODEL",
                        help="a name, a shell pattern ('*' is all of them), package.module:NAME, a .json document or a "
                        "checkpoint; not needed with --checkpoint")  # fmt: skip
    parity.add_argument("--backends", type=names, metavar="LIST", help="default: torch,mindspore,paddle,jax")
    parity.add_argument("--checkpoint", type=Path, metavar="FILE",
                        help="weights of one model, of any source (default: random, from --seed)")  # fmt: skip
    parity.add_argument("--image", type=Path, action="append", default=[], metavar="PATH",
                        help="a file, or a folder of images; may be repeated (default: scikit-learn's two "
                        "photographs)")  # fmt: skip
    parity.add_argument("--size", type=int, metavar="N", help="input of N x N pixels (default: the model's own)")
    parity.add_argument("--batch", type=int, metavar="N", help="repeat the images to N (default: as many as there are)")
    parity.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the weights (default: 0)")
    parity.add_argument(
        "--width", type=float, default=1.0, metavar="X", help="multiply all channel counts (default: 1)"
    )
    parity.add_argument("--layers", action="store_true", help="compare every stage and auxiliary head too, and every "
                        "operation by itself")  # fmt: skip
    parity.add_argument("--repeat", type=int, default=1, metavar="N",
                        help="run each backend N times, and the images one by one: all must agree "
                        "(default: 1)")  # fmt: skip
    parity.add_argument("--gradients", action="store_true",
                        help="compare training instead: every stage's outputs, gradients and statistics")  # fmt: skip
    parity.add_argument("--steps", type=int, metavar="K",
                        help="compare K training steps instead: losses, and weights after the last one")  # fmt: skip
    parity.add_argument("--graph", action="store_true",
                        help="with --gradients or --steps: compile the networks (GRAPH mode, ...)")  # fmt: skip
    parity.add_argument("--device", metavar="cpu|gpu", help="gpu skips frameworks that see no GPU (default: cpu)")
    parity.add_argument("--mode", choices=("module", "deploy"), default="module", help="deploy compares each backend's "
                        "engine, as zoo.build(mode='deploy') makes it (default: module)")  # fmt: skip
    parity.add_argument("--dtype", default="fp32", metavar="D",
                        help="of engines: fp32, tf32 (GPU), bf16 or fp16; the band is measured in it "
                        "(default: fp32)")  # fmt: skip
    parity.add_argument("--tolerance", type=float, metavar="X", help="largest relative error (default: what rounding "
                        "explains, for these weights and inputs)")  # fmt: skip
    parity.add_argument("--against", metavar="X",
                        help="compare a network of yours with MODEL: package.module:function, which returns it, or a "
                        "file: TorchScript (.pt), torch.export (.pt2), .onnx, .mindir, a Paddle "
                        "inference model (.json)")  # fmt: skip
    parity.add_argument("--rename", type=Path, metavar="FILE",
                        help="with --against: a JSON file that maps the spec's names to the network's own, for "
                        "operations that the alignment would mistake for each other")  # fmt: skip
    parity.add_argument("--framework", metavar="F", help="of --against package.module:function (default: torch)")
    parity.add_argument("--training", action="store_true",
                        help="with --against: run it in training mode too, for batch norm's running statistics and the "
                        "order of auxiliary logits")  # fmt: skip
    parity.add_argument("--preprocess", metavar="X",
                        help="compare how images are preprocessed instead: package.module:function, which takes an "
                        "image's path and returns an array [3, H, W]")  # fmt: skip
    parity.add_argument("--repro", type=Path, metavar="FOLDER",
                        help="with --against: write the first operation that differs, its arrays and a script for each "
                        "framework")  # fmt: skip
    parity.add_argument(
        "--stored-reference", action="store_true", help="compare with the reference that the package stores"
    )
    parity.add_argument("--html", type=Path, metavar="FILE", help="write a page that opens from disk")
    parity.add_argument("--junit", type=Path, metavar="FILE", help="write the verdicts as JUnit XML")
    parity.add_argument("--timeout", type=float, default=600, metavar="S", help="seconds for one worker (default: 600)")


def run(options: argparse.Namespace) -> int:
    from zoo.parity.logits import Settings, compare

    if options.training or any(
        value is not None for value in (options.against, options.framework, options.rename, options.repro)
    ):
        return against.run(options)
    if options.preprocess is not None:
        return preprocessing.run(options)
    if options.gradients or options.steps is not None or options.graph:
        return training_parity.run(options)
    choices = {} if options.backends is None else {"backends": options.backends}
    settings = Settings(
        device=options.device,
        mode=options.mode,
        dtype=options.dtype,
        tolerance=options.tolerance,
        layers=options.layers,
        repeat=options.repeat,
        stored_reference=options.stored_reference,
        timeout=options.timeout,
        **choices,
    )
    models = expanded(options.models)
    with console.progress(len(models) * (2 + len(settings.backends))) as step:
        document = compare(
            models,
            settings,
            checkpoint=options.checkpoint,
            images=options.image,
            size=options.size,
            batch=options.batch,
            seed=options.seed,
            width=options.width,
            progress=step,
        )
    report(options.json, document, lambda: show(document))
    write_reports(options, document)
    return 0 if document["ok"] else 1


def show(report: dict[str, Any]) -> None:
    columns = (
        "model",
        "backend",
        ">parameters",
        ">GMACs",
        ">error",
        "top-1",
        "top-5",
        ">build s",
        ">load s",
        ">run s",
        ">peak GB",
        "",
    )
    table = console.new(*columns)
    notes = []
    for result in report["models"]:
        first = [result["model"], f"{result['parameters']:,}", f"{result['macs'] / 1e9:.3f}"]
        for name, entry in {"reference": result["reference"], **result["backends"]}.items():
            cells, note = _entry(name, entry)
            table.add_row(first[0], cells[0], *first[1:], *cells[1:])
            first = ["", "", ""]
            if note:
                notes.append(f"{result['model']}, {name}: {note}")
        table.add_section()
    console.show(table)
    _print_rankings(report)
    _print_steady(report)
    _print_layers(report)
    for text in (*notes, *_facts(report)):
        print(text)
    if not any("ok" in entry for result in report["models"] for entry in result["backends"].values()):
        print("No framework was compared, so nothing was proved.")


def _entry(name: str, entry: dict[str, Any]) -> tuple[Cells, str]:
    """The cells of a row, without the model's, and a note to print below the table, or ""."""
    if "skipped" in entry:
        return [name, *[""] * 7, "skipped"], entry["skipped"]
    if "error" in entry:
        return [name, *[""] * 7, "[bold red]failed[/]"], entry["error"]
    seconds = [f"{entry['seconds'][step]:.1f}" if "seconds" in entry else "" for step in ("build", "load", "run")]
    seconds.append(f"{entry['memory'] / 1e9:.1f}" if entry.get("memory") else "")
    if name == "reference":
        return [f"{name} (float64)", "", "", "", *seconds, "stored" if "stored" in entry else ""], ""
    error = "not finite" if entry["max_rel_error"] is None else f"{entry['max_rel_error']:.1e}"
    agrees = ["same" if entry[key] else "[bold red]differs[/]" for key in ("top1_agrees", "top5_agrees")]
    verdict = "[green]ok[/]" if entry["ok"] else "[bold red]out of tolerance[/]"
    return [f"{name} {entry['version']}", error, *agrees, *seconds, verdict], ""


def _print_rankings(report: dict[str, Any]) -> None:
    """For the user's own images: how often the first class is the reference's, and when rounding can change it."""
    for result in report["models"]:
        if isinstance(result["input"]["images"], str) or "margin" not in result["reference"]:
            continue
        for name, entry in result["backends"].items():
            if "top1" in entry:
                top1 = entry["top1"]
                flipped = top1["flipped_up_to"]
                where = "" if flipped is None else f"; where it differs, the margin is at most {flipped:.1e}"
                same = f"the same first class for {top1['same']} of {top1['images']} images"
                print(f"{result['model']}, {name}: {same}{where}.")
        print(
            f"{result['model']}: smallest margin between the first two classes {result['reference']['margin']:.1e} of "
            f"the largest logit; rounding can change the order below {2 * result['bands']['logits']:.1e}."
        )


def _print_steady(report: dict[str, Any]) -> None:
    for result in report["models"]:
        for name, entry in result["backends"].items():
            if "repeated" in entry:
                again = "the same bits" if entry["repeated"] == 0 else f"differs by {entry['repeated']:.1e}"
                single = "the same bits" if entry["single"] == 0 else f"differ by {entry['single']:.1e}"
                print(f"{result['model']}, {name}: repeated: {again}; images one by one: {single}.")


def _print_layers(report: dict[str, Any]) -> None:
    from zoo.parity.describe import place

    for result in report["models"]:
        entries = {name: entry["layers"] for name, entry in result["backends"].items() if "layers" in entry}
        if not entries:
            continue
        table = console.new(f"{result['model']}: error of", *(f">{name}" for name in entries), ">rounding explains")
        for layer, band in result["bands"].items():
            errors = (layers[layer] for layers in entries.values())
            cells = ("not finite" if error is None else f"{error:.1e}" for error in errors)
            table.add_row(layer, *cells, f"{band:.1e}")
        console.show(table)
        for name, entry in result["backends"].items():
            if found := entry.get("operations"):
                first = "" if found["first"] is None else f"; the first: {place(found['first'])}"
                print(f"{name}: {found['compared']} operations and inputs compared, {found['outside']} outside{first}")


def _facts(report: dict[str, Any]) -> Iterator[str]:
    """Inputs, weights and the definition of the error: sentences below the table."""
    first = report["models"][0]
    images = first["input"]["images"]
    what = images if isinstance(images, str) else ", ".join(images[:3])
    what += f" and {len(images) - 3} more" if not isinstance(images, str) and len(images) > 3 else ""
    how = "" if report["mode"] == "module" else f"; each backend's engine, in {report['dtype']}"
    yield f"Inputs: {what}, preprocessed as each model's publisher does; device: {report['device']}{how}."
    if first["weights"].startswith("random"):
        yield (
            f"Weights: {first['weights']} (batch-norm statistics measured so that activations stay alive); "
            "no trained weights ship with the project."
        )
    else:
        yield f"Weights: {first['weights']}."
    limit = "" if report["tolerance"] is None else f"; tolerance {report['tolerance']:.2g}, the largest of any model"
    yield f"Error: max |logits - reference| / max |reference|{limit}."
