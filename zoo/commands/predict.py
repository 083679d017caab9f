"""`zoo predict`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from zoo import console
from zoo.arguments import integer
from zoo.commands.common import CHECKPOINT, MODEL, Commands, add_command, report
from zoo.commands.inspect import printable
from zoo.data.images import read_image
from zoo.errors import InputError, SpecError
from zoo.files import atomic_write, write_csv
from zoo.frameworks import DTYPES
from zoo.language.model import Preprocess


def add(commands: Commands) -> None:
    command = add_command(commands, "predict", run, "classify images, with published weights or your own")
    command.add_argument("model", metavar="MODEL", help=f"{MODEL}; or published weights (`zoo list --pretrained`)")
    command.add_argument("images", nargs="+", metavar="IMAGE", help="files, folders, URLs, or - for standard input")
    command.add_argument("--checkpoint", metavar="F", help=f"weights: {CHECKPOINT} (default: published ones)")
    command.add_argument("--backend", default="torch", metavar="B", help="what runs the network (default: torch)")
    command.add_argument("--mode", choices=("deploy", "module"), default="deploy",
                         help="the backend's fastest engine, or its own module (default: deploy)")  # fmt: skip
    command.add_argument("--dtype", choices=DTYPES, default="fp32", help="of the engine (default: fp32)")
    command.add_argument("--device", metavar="D", help="cpu, gpu, gpu:1 (default: cpu)")
    command.add_argument("--topk", type=int, default=5, metavar="K", help="classes to show (default: 5)")
    command.add_argument("--batch", type=int, default=16, metavar="N", help="images at a time (default: 16)")
    command.add_argument("--size", type=int, metavar="N", help="side of the input in pixels (default: the network's)")
    command.add_argument(
        "--num-classes", type=int, metavar="N", help="classes of a new classifier, for a file without one"
    )
    command.add_argument("--ema", action="store_true", help="the moving average of the weights")
    command.add_argument("--random-weights", type=int, dest="seed", metavar="SEED", help="random weights, for tests")
    command.add_argument("--csv", metavar="FILE", help="write image, rank, label, class and score as CSV")
    command.add_argument("--cam", metavar="FILE", help="write Grad-CAM of one image, drawn over it, as a PNG")
    command.add_argument("--cam-class", type=int, metavar="N", help="Grad-CAM of this class (default: the predicted)")
    command.add_argument("--cam-stage", metavar="S", help="Grad-CAM of this stage's output (default: the last)")


def run(options: argparse.Namespace) -> int:
    from zoo.prediction import predictor

    names = ("backend", "checkpoint", "mode", "dtype", "device", "num_classes", "ema", "seed")
    if options.cam:
        options.mode = "module"  # an engine has no gradients
    ready = predictor(options.model, **{name: getattr(options, name) for name in names})
    failed: list[str] = []
    results: list[dict[str, Any]] = []
    for images in batched(readable(options.images, failed), integer(options.batch, "--batch")):
        results += ready(images, integer(options.topk, "--topk"), options.size)
        if options.cam:
            if len(images) > 1 or len(results) > 1:
                raise SpecError("--cam draws one image: name one")
            draw(ready.net, images[0][1], options)
    if options.csv:
        rows = [(r["image"], i, t["label"], t["class"], t["score"]) for r in results for i, t in enumerate(r["top"], 1)]
        write_csv(options.csv, ("image", "rank", "label", "class", "score"), rows)
    document = [{key: value for key, value in each.items() if key != "pred_scores"} for each in results]
    report(options.json, document, lambda: show(document, options.seed))
    return 2 if failed else 0


def readable(images: Sequence[str], failed: list[str]) -> Iterator[tuple[str, Any]]:
    """The images that can be read, as (name, image) pairs; an error on standard error for each of the others."""
    from zoo.prediction import opened_images

    for given in images:
        try:
            for name, image in opened_images([given]):
                try:
                    yield name, read_image(image) if isinstance(image, Path) else image
                except InputError as error:
                    failed.append(name)
                    print(f"zoo: error: {error}", file=sys.stderr)
        except InputError as error:
            failed.append(given)
            print(f"zoo: error: {error}", file=sys.stderr)


def batched(pairs: Iterable[tuple[str, Any]], size: int) -> Iterator[list[tuple[str, Any]]]:
    """Lists of up to `size` pairs."""
    iterator = iter(pairs)
    while chunk := list(islice(iterator, size)):
        yield chunk


def draw(net: Any, image: Any, options: argparse.Namespace) -> None:
    """Write Grad-CAM as a PNG."""
    from zoo.prediction import grad_cam, overlay

    heat = grad_cam(net, image, options.cam_class, options.cam_stage)
    try:
        with atomic_write(options.cam) as part:
            overlay(net, image, heat).save(part, format="PNG")
    except OSError as error:
        raise InputError(f"{options.cam}: cannot write the picture there: {error.strerror or error}") from None


def show(document: list[dict[str, Any]], seed: int | None) -> None:
    if not document:
        return
    table = console.new("image", ">score", ">label", "class")
    for each in document:
        for rank, top in enumerate(each["top"]):
            name = each["image"] if rank == 0 else ""
            table.add_row(name, f"{top['score']:.4f}", str(top["label"]), printable(top["class"]))
        table.add_section()
    console.show(table)
    first = document[0]
    how = dict(first["preprocess"])
    size = how.pop("size")
    print(f"Images: {Preprocess(**how).describe(size)} (from {first['preprocess_from']}).")
    said_by = {"ImageNet": "ImageNet's, as the weights have none", "": "numbers, as the weights have no names"}
    print(f"Class names: {said_by.get(first['classes_from'], 'from ' + first['classes_from'])}.")
    if seed is not None:
        print(f"Random weights from seed {seed}: the predictions mean nothing.")
