"""`zoo doctor`."""

from __future__ import annotations

import argparse
from typing import Any

from zoo import console
from zoo.commands.common import Commands, add_command, names, report

STATUS = {"ok": "[green]{}[/]", "not installed": "{}"}
"""How a status is shown; the others are red."""


def add(commands: Commands) -> None:
    command = add_command(commands, "doctor", run, "show what is installed, and whether its kernels are right and fast")
    command.add_argument("--backends", type=names, metavar="B,B", help="some of torch, mindspore, paddle, jax, onnx, "
                         "openvino (default: all)")  # fmt: skip


def run(options: argparse.Namespace) -> int:
    from zoo.doctor import examine

    document = examine(options.backends) if options.backends else examine()
    report(options.json, document, lambda: show(document))
    return 0 if document["ok"] else 1


def show(document: dict[str, Any]) -> None:
    table = console.new(
        *("backend", "version", ">GPUs", ">convolution", ">of ceiling", ">product", ">of ceiling", ">error"),
        *("kernel", "status"),
    )
    for entry in document["backends"]:
        shown = STATUS.get(entry["status"], "[bold red]{}[/]").format(entry["status"])
        if "product" not in entry:
            table.add_row(entry["backend"], *[""] * 8, shown)
            continue
        probes = [entry["convolution"], entry["product"]]
        rates = [cell for probe in probes for cell in (f"{probe['gflops']:.0f} GFLOP/s", f"{probe['of_ceiling']:.0%}")]
        error = f"{max(probe['error'] for probe in probes):.1e}"
        kernel = entry["convolution"]["kernel"] or ""
        table.add_row(entry["backend"], entry["version"], str(entry["gpus"]), *rates, error, kernel, shown)
    console.show(table)
    for entry in document["backends"]:
        if entry["advice"]:
            print(f"{entry['backend']}: {entry['status']}: {entry['advice']}")
        if entry["environment"]:
            settings = " ".join(f"{name}={value}" for name, value in entry["environment"].items())
            print(f"{entry['backend']}: set before its import, unless the environment has them: {settings}")
    print(
        f"zoo {document['version']}; {document['processor']}, {document['threads']} threads. "
        f"The ceiling is the rate of {document['ceiling']}: {document['ceiling_gflops']:.0f} GFLOP/s.\n"
        "A 3x3 convolution of 64 channels at 56 x 56, batch 8, and a product of 1,024 x 1,024, in float32 on the CPU, "
        "by the\nbackend's plain modules; error against NumPy in float64."
    )
