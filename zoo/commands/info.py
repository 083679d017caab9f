"""`zoo info`."""

from __future__ import annotations

import argparse
from typing import Any

import weights
from zoo import console
from zoo.catalogue import info
from zoo.commands.common import MODEL, Commands, add_command, report


def add(commands: Commands) -> None:
    command = add_command(commands, "info", run, "show a model's figures, stage by stage")
    command.add_argument("model", metavar="MODEL", help=MODEL)
    command.add_argument("--size", type=int, metavar="N", help="input of N x N pixels (default: the model's own)")


def run(options: argparse.Namespace) -> int:
    figures = info(weights.resolve(options.model), options.size)
    report(options.json, figures, lambda: show(figures))
    return 0


def show(figures: dict[str, Any]) -> None:
    lines = {
        "paper": figures["paper"],
        "published by": ", ".join(figures["publishers"]) or "nobody here; from the paper",
        "same network as": ", ".join(figures["same_network_as"]) or "no other",
        "aliases": ", ".join(figures["aliases"]) or "none",
        "input": f"{figures['in_channels']} x {figures['size']} x {figures['size']} "
        f"(at least {figures['least_size']}, natively {figures['preprocess']['size']})",
        "parameters": f"{figures['parameters']:,}"
        + (f" ({figures['parameters_with_aux']:,} with auxiliary heads)" if figures["aux"] else ""),
        "buffers": f"{figures['buffers']:,}",
        "MACs": f"{figures['macs']:,} ({figures['macs'] / 1e9:.3f} G)",
        "activations": f"{figures['activations']:,}",
        "layers": f"{figures['layers']} convolutions and linear layers",
        "batch norm": f"eps {figures['norm']['eps']:g}, decay {figures['norm']['decay']:g}"
        if figures["norm"]
        else "none",
        "auxiliary heads": ", ".join(f"{name} after {after}" for name, after in figures["aux"].items()) or "none",
    }
    table = console.new("stage", ">output", ">reduction", ">receptive field", ">parameters", ">MMACs")
    for stage in figures["stages"]:
        table.add_row(
            stage["name"],
            f"{stage['channels']} x {stage['height']} x {stage['width']}",
            str(stage["reduction"]),
            str(stage["receptive_field"]),
            f"{stage['parameters']:,}",
            f"{stage['macs'] / 1e6:,.1f}",
        )
    print(figures["model"])
    for name, value in lines.items():
        print(f"  {name:15}  {value}")
    console.show(table)
