"""Whole runs: the held-out accuracies of the demo's recipe with several seeds, in each framework.

A seed determines the initial weights, the order of the images and their augmentation, the same in every framework;
after that, rounding makes runs differ. Frameworks train alike if their accuracies differ by no more than those of
different seeds do.

    python benchmarks/seeds.py [--seeds 5] [--backends torch,mindspore,paddle,jax] [--recipe configs/digits.yaml]

This takes about 25 minutes on two cores. The exit status is 1 if the ranges of two frameworks do not overlap.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from zoo import console  # noqa: E402
from zoo.frameworks import FRAMEWORKS  # noqa: E402
from zoo.training.report import Epoch  # noqa: E402


def final(backend: str, seed: int, recipe: Path) -> float:
    """Top-1 on the held-out images after the last epoch, in percent."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, ROOT / "train.py", "-c", recipe, "--backend", backend, "--seed", seed]
        command += ["--val_interval", 10**6, "--ckpt_save_interval", 10**6, "--ckpt_save_dir", folder]
        subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)
        last = Epoch.parse((Path(folder) / "result.log").read_text().splitlines()[-1])
    assert last.top1 is not None
    return last.top1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--backends", default=",".join(FRAMEWORKS))
    parser.add_argument("--recipe", type=Path, default=ROOT / "configs" / "digits.yaml")
    args = parser.parse_args()
    seeds, found = range(1, args.seeds + 1), {}
    table = console.new("backend", *(f">seed {seed}" for seed in seeds), ">mean", ">deviation")
    for backend in args.backends.split(","):
        found[backend] = []
        for seed in seeds:
            found[backend].append(final(backend, seed, args.recipe))
            print(f"{backend}, seed {seed}: {found[backend][-1]:.2f}%", file=sys.stderr, flush=True)
        figures = [*found[backend], statistics.mean(found[backend]), statistics.stdev(found[backend])]
        table.add_row(backend, *(f"{figure:.2f}" for figure in figures))
    console.show(table)
    apart = [
        f"{one} and {other}"
        for (one, a), (other, b) in itertools.combinations(found.items(), 2)
        if min(a) > max(b) or min(b) > max(a)
    ]
    print(f"The ranges of {', '.join(apart)} do not overlap." if apart else "All ranges overlap.")
    return bool(apart)


if __name__ == "__main__":
    sys.exit(main())
