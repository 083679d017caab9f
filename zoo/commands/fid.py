"""`zoo fid`."""

from __future__ import annotations

import argparse
from typing import Any

from zoo import console
from zoo.commands.common import CHECKPOINT, Commands, add_command, report

STEPS = 20
"""Lines of progress for each folder, if standard error is not a terminal."""


def add(commands: Commands) -> None:
    text = "compare two sets of images: Frechet inception distance, and KID and Inception score if asked for"
    command = add_command(commands, "fid", run, text)
    command.add_argument("first", metavar="A", help="a folder of images, or an .npz file with mu and sigma")
    command.add_argument("second", metavar="B", help="the same")
    command.add_argument("--backend", default="torch", metavar="B", help="what runs the network (default: torch)")
    command.add_argument("--pipeline", default="torch-fidelity", metavar="P",
                         help="how images are resized: torch-fidelity (as TensorFlow 1; the default) or pytorch-fid; "
                         "their figures differ")  # fmt: skip
    command.add_argument("--features", default="2048", metavar="D", help="64, 192, 768 or 2048 (default)")
    command.add_argument("--kid", action="store_true", help="compute the kernel inception distance too")
    command.add_argument("--kid-subsets", type=int, default=100, metavar="N", help="subsets for KID (default: 100)")
    command.add_argument("--kid-subset-size", type=int, default=1000, metavar="N",
                         help="images in a subset (default: 1000)")  # fmt: skip
    command.add_argument("--score", action="store_true", help="compute the Inception score of A too")
    command.add_argument(
        "--splits", type=int, default=10, metavar="N", help="splits for the Inception score (default: 10)"
    )
    command.add_argument("--checkpoint", metavar="F", help=f"weights of inception_v3.fid: {CHECKPOINT} "
                         "(default: the published ones, downloaded)")  # fmt: skip
    command.add_argument("--random-weights", type=int, dest="seed", metavar="SEED", help="random weights, for tests")
    command.add_argument("--batch", type=int, default=32, metavar="N", help="images at a time (default: 32)")
    command.add_argument("--device", metavar="D", help="cpu, gpu, gpu:1 (default: cpu)")
    command.add_argument("--save-stats", dest="save", metavar="F", help="write A's mu and sigma into this .npz file")


def run(options: argparse.Namespace) -> int:
    from zoo.fidelity import fid

    names = ("backend", "checkpoint", "seed", "pipeline", "features", "kid", "kid_subsets", "kid_subset_size", "score")
    chosen = {name: getattr(options, name) for name in (*names, "splits", "batch", "device", "save")}
    reached: dict[str, int] = {}
    with console.progress(2 * STEPS) as step:

        def progress(path: str, done: int, total: int) -> None:
            if reached.get(path, -1) < (part := done * STEPS // total):
                reached[path] = part
                step(path, f"{done} of {total} images")

        document = fid(options.first, options.second, progress=progress, **chosen)
    report(options.json, document, lambda: show(document))
    return 0


def show(document: dict[str, Any]) -> None:
    figures = {"FID": f"{document['fid']:.6g}"}
    if "kid" in document:
        kid = document["kid"]
        figures["KID"] = f"{kid['mean']:.6g} +- {kid['std']:.2g}, {kid['subsets']} subsets of {kid['subset_size']}"
    if "inception_score" in document:
        score = document["inception_score"]
        figures["Inception score"] = f"{score['mean']:.6g} +- {score['std']:.2g}, {score['splits']} splits"
    images = ", ".join("stored" if n is None else f"{n:,}" for n in document["images"])
    about = f"{document['features']} features of inception_v3.fid, {document['weights']}, in {document['backend']}"
    for name, value in {
        **figures,
        "images": images,
        "features": about,
        "preprocessing": document["preprocess"],
    }.items():
        print(f"{name:15}  {value}")
