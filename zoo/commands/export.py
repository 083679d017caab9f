"""`zoo export`."""

from __future__ import annotations

import argparse
from typing import Any

from zoo.commands.common import MODEL, Commands, add_command, report


def add(commands: Commands) -> None:
    command = add_command(commands, "export", run, "write a network for programs that know nothing of this project")
    command.add_argument("model", metavar="MODEL", help=MODEL)
    command.add_argument("out", metavar="OUT", help="its suffix decides the format: .onnx, .pt2 (torch.export), "
                         ".mindir, .json (Paddle), .jax, .xml (OpenVINO)")  # fmt: skip
    command.add_argument("--checkpoint", metavar="F", help="weights, a file of any source (default: random ones)")
    command.add_argument(
        "--format", metavar="F", help="onnx, torch-export, aotinductor, mindir, paddle, jax-export, openvino"
    )
    command.add_argument(
        "--dtype",
        choices=("fp32", "fp16"),
        default="fp32",
        help="dtype of the stored weights: fp16 for ONNX and OpenVINO only",
    )
    command.add_argument("--size", type=int, metavar="N", help="side of the images (default: the network's)")
    command.add_argument("--dynamic-size", action="store_true", help="take images of any size")
    command.add_argument("--ema", action="store_true", help="the moving average of the weights")
    command.add_argument("--seed", type=int, default=0, help="seed of random weights (default: 0)")


def run(options: argparse.Namespace) -> int:
    from zoo.exporting import export

    document = export(
        options.model,
        options.out,
        checkpoint=options.checkpoint,
        format=options.format,
        dtype=options.dtype,
        size=options.size,
        dynamic_size=options.dynamic_size,
        ema=options.ema,
        seed=options.seed,
    )
    report(options.json, document, lambda: show(document))
    return 0


def show(document: dict[str, Any]) -> None:
    weights = document["checkpoint"] or "random weights"
    print(f"{document['model']}, {weights}: written as {document['format']} to {', '.join(document['files'])}")
    shape = ", ".join(map(str, document["input"]))
    print(f"Input: float32 [{shape}]; preprocessing: {document['preprocess']}")
