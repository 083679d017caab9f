"""`zoo bench`."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from typing import Any

from zoo import console
from zoo.commands.common import MODEL, Commands, add_command, expanded, names, report
from zoo.errors import ZooError
from zoo.files import atomic_write, write_csv

FIGURES = (".png", ".svg", ".pdf")


def add(commands: Commands) -> None:
    command = add_command(commands, "bench", run, "measure how fast networks run, in every framework and mode")
    command.add_argument("models", metavar="MODEL", nargs="+", help=f"{MODEL}; patterns too")
    command.add_argument("--backends", type=names, metavar="B,B", help="some of torch, mindspore, paddle, jax, onnx, "
                         "openvino (default: the first four)")  # fmt: skip
    command.add_argument("--mode", type=names, metavar="M,M",
                         help="some of eager, graph, deploy (default: eager,deploy)")  # fmt: skip
    command.add_argument("--train", action="store_true", help="time training steps instead, without auxiliary heads")
    command.add_argument("--dtype", type=names, default=("fp32",), metavar="D,D",
                         help="of engines: some of fp32, tf32, bf16, fp16, int8 (default: fp32)")  # fmt: skip
    command.add_argument("--batch", type=names, default=("1",), metavar="N,N", help="images in a batch (default: 1)")
    command.add_argument("--size", type=int, metavar="N", help="side of the images (default: the network's)")
    command.add_argument("--width", type=float, default=1.0, metavar="X", help="factor on the channel counts")
    command.add_argument("--rounds", type=int, default=10, metavar="N", help="timed runs (default: 10)")
    command.add_argument("--threads", type=int, metavar="N", help="on the CPU (default: all)")
    command.add_argument("--compiler", default="", metavar="C", help="of torch's engine: compile, aot")
    command.add_argument("--device", metavar="D", help="cpu or gpu (default: cpu)")
    command.add_argument("--csv", metavar="FILE", help="write the rows as CSV")
    command.add_argument("--markdown", metavar="FILE", help="write the rows as a Markdown table")
    command.add_argument("--figure", metavar="FILE", help="draw latency against multiply-adds and published "
                         "accuracy (.png, .svg, .pdf)")  # fmt: skip


def run(options: argparse.Namespace) -> int:
    from zoo import bench
    from zoo.frameworks import FRAMEWORKS

    try:
        batches = tuple(int(text) for text in options.batch)
    except ValueError:
        raise ZooError(f"--batch {','.join(options.batch)}: expected numbers, as in --batch 1,8") from None
    if options.train and options.mode:
        raise ZooError("--train and --mode exclude each other")
    if options.compiler and options.backends != ("torch",):
        raise ZooError("--compiler is for torch's engine: add --backends torch")
    _check_outputs(options)
    settings = bench.Settings(
        options.backends or tuple(FRAMEWORKS),
        ("train",) if options.train else options.mode or ("eager", "deploy"),
        options.dtype,
        batches,
        options.rounds,
        options.device,
        options.threads,
        options.compiler,
    )
    models = expanded(options.models)
    dtypes = sum(len(settings.dtypes) if mode == "deploy" else 1 for mode in settings.modes)
    steps = len(settings.backends) * dtypes + settings.rounds
    with console.progress(len(models) * steps) as progress:
        document = bench.bench(models, settings, size=options.size, width=options.width, progress=progress)
    report(options.json, document, lambda: show(document))
    if options.csv:
        write_csv(options.csv, bench.COLUMNS, [[row[name] for name in bench.COLUMNS] for row in document["rows"]])
    if options.markdown:
        with atomic_write(options.markdown) as part:
            part.write_text(bench.markdown(document))
    if options.figure and document["rows"]:
        bench.figure(document, Path(options.figure))
    return 0 if document["rows"] else 1


def _check_outputs(options: argparse.Namespace) -> None:
    """Check that the files can be written, before anything takes long. Raises ZooError."""
    for name in ("csv", "markdown", "figure"):
        path = getattr(options, name)
        if path and (Path(path).is_dir() or not Path(path).parent.is_dir()):
            raise ZooError(f"--{name} {path}: cannot write there: it is a folder, or there is no such folder")
    if options.figure:
        if Path(options.figure).suffix not in FIGURES:
            raise ZooError(f"--figure {options.figure}: expected a name that ends in {' or '.join(FIGURES)}")
        if importlib.util.find_spec("matplotlib") is None:
            raise ZooError("--figure needs matplotlib: pip install matplotlib")


def show(document: dict[str, Any]) -> None:
    from zoo.bench import facts

    table = console.new(
        *("model", "backend", "mode", "dtype", ">batch", ">p10 ms", ">p50 ms", ">p90 ms", ">images/s"),
        *(">of ceiling", ">start-up s", ">MB"),
    )
    for row in document["rows"]:
        table.add_row(
            *(row["model"], f"{row['backend']} {row['version']}", row["mode"], row["dtype"], str(row["batch"])),
            *(f"{row[name]:.1f}" for name in ("p10_ms", "p50_ms", "p90_ms", "images_per_second")),
            "" if row["utilisation"] is None else f"{row['utilisation']:.0%}",
            f"{row['start_up_s']:.1f}",
            "" if row["memory_mb"] is None else f"{row['memory_mb']:.0f}",
        )
    console.show(table)
    for entry in document["skipped"]:
        print(f"skipped: {entry['model']}, {entry['backend']} {entry['mode']} {entry['dtype']}: {entry['reason']}")
    print(facts(document))
