"""Train Inception-v4 at a quarter of its width on scikit-learn's digits in one framework, and evaluate the file in all.

    python examples/demo.py [--backend torch|mindspore|paddle|jax] [--out demo]

It needs no internet connection and no GPU, and takes two to four minutes on two cores. Each step is a command of
train.py or validate.py, which is printed. It writes OUT/demo.png and the files of the run. The exit status is 1 if
fewer than 97% of the held-out third are classified correctly, or if two frameworks differ in the prediction for any
image.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from zoo import console  # noqa: E402
from zoo.data import open_dataset  # noqa: E402
from zoo.frameworks import FRAMEWORKS  # noqa: E402
from zoo.training.report import Epoch, draw  # noqa: E402

BACKENDS = tuple(FRAMEWORKS)
LEAST = 97.0
"""Percent of the held-out images that must be classified correctly."""

Rows = list[dict[str, str]]


def call(*words: str | Path, quiet: bool = False) -> None:
    """Run one of the project's scripts, and exit if it fails."""
    shown = [str(word.relative_to(ROOT)) if isinstance(word, Path) and ROOT in word.parents else word for word in words]
    print("\n$ python", *shown, flush=True)
    output = subprocess.DEVNULL if quiet else None
    done = subprocess.run([sys.executable, *map(str, words)], stdout=output)
    if done.returncode:
        sys.exit(done.returncode)


def evaluate(backend: str, checkpoint: Path, out: Path) -> tuple[dict[str, Any], Rows]:
    """The figures of validate.py, and its prediction for every image."""
    figures, predictions = out / f"{backend}.json", out / f"{backend}.csv"
    flags = ["-c", ROOT / "configs" / "digits.yaml", "--backend", backend, "--ckpt_path", checkpoint]
    call(ROOT / "validate.py", *flags, "--json", figures, "--predictions", predictions, quiet=True)
    with predictions.open(newline="") as file:
        return json.loads(figures.read_text())[0], list(csv.DictReader(file))


def picture(path: Path, run: Path, rows: dict[str, Rows]) -> None:
    """Draw the run's curves, and the 15 digits with the largest loss, each with the frameworks' predictions."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 6.5), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1))
    epochs = [Epoch.parse(line) for line in (run / "result.log").read_text().splitlines()[1:]]
    draw(left, "Training: a quarter of Inception-v4 on 1,201 digits", epochs, [])
    digits = open_dataset("digits", ".", "test")
    one = next(iter(rows.values()))
    hardest = sorted(range(len(one)), key=lambda k: -float(one[k]["loss"]))[:15]
    for axis, k in zip(right.subplots(3, 5).flat, hardest, strict=True):
        axis.imshow(digits.image(k), cmap="gray")
        predicted = [row[k]["predicted"] for row in rows.values()]
        wrong = {prediction != one[k]["class"] for prediction in predicted} != {False}
        axis.set_title(
            f"a {one[k]['class']}: " + " ".join(predicted), color="#d55e00" if wrong else "#009e73", fontsize=11
        )
        axis.axis("off")
    right.suptitle(f"The hardest of {len(one)} others, by {', '.join(rows)}", fontweight="bold")
    figure.savefig(path, dpi=110)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", default="torch", choices=BACKENDS, help="framework that trains (torch)")
    parser.add_argument("--out", default="demo", type=Path, help="folder for all files (demo)")
    args = parser.parse_args()
    run = args.out / args.backend
    recipe = ROOT / "configs" / "digits.yaml"
    call(ROOT / "train.py", "-c", recipe, "--backend", args.backend, "--ckpt_save_dir", run, "--log_interval", "1000")
    last = max(run.glob("inception_v4-*.ckpt"), key=lambda path: path.stat().st_mtime_ns)

    order = (args.backend, *(name for name in BACKENDS if name != args.backend))
    found = {backend: evaluate(backend, last, args.out) for backend in order}
    rows = {backend: theirs for backend, (_, theirs) in found.items()}
    theirs = {backend: [row["predicted"] for row in its] for backend, its in rows.items()}
    same = {b: sum(map(str.__eq__, its, theirs[args.backend])) for b, its in theirs.items()}
    table = console.new("evaluated by", ">top-1", ">top-5", ">loss", ">images/s", f">predictions as {args.backend}'s")
    for backend, (figures, its) in found.items():
        table.add_row(
            f"{backend} {figures['version']}",
            *(f"{figures[f'top{k}_correct']} of {figures['images']}" for k in (1, 5)),
            f"{figures['summary']['loss']:.7f}",
            f"{figures['images_per_second']:.0f}",
            f"{same[backend]} of {len(its)}",
        )
    print(f"\n{last}, trained by {args.backend}:")
    console.show(table)
    picture(args.out / "demo.png", run, rows)
    top1 = found[args.backend][0]["summary"]["Top_1_Accuracy"]
    agree = all(count == len(rows[args.backend]) for count in same.values())
    print(f"{top1:.2f}% of the held-out third are correct; {'all' if agree else 'NOT all'} predictions are the same in")
    print(f"{', '.join(order)}. The picture: {args.out / 'demo.png'}")
    return int(top1 < LEAST or not agree)


if __name__ == "__main__":
    sys.exit(main())
