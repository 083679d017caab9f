"""How long `zoo.build` takes compared with timm's `create_model`, in one process, taking turns.

    python benchmarks/building.py [--models inception_v4,xception65] [--rounds 15]

Both make a PyTorch network with random weights. The first call of each is not counted, because it imports modules. The
exit status is 1 if a network takes more than 1.2 times as long as timm's.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "peers"), str(ROOT / "tests")]

from publishers import import_torchvision  # noqa: E402

import zoo  # noqa: E402
from zoo import console  # noqa: E402

LIMIT = 1.2


def seconds(action: Callable[[], object]) -> float:
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="inception_v4,inception_v3,xception65", help="networks that timm has too")
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    import_torchvision()  # timm imports it
    import timm

    table = console.new("model", ">zoo.build ms", ">timm.create_model ms", ">ratio")
    ratios = []
    for name in args.models.split(","):
        turns = [
            (seconds(lambda name=name: zoo.build(name, "torch")), seconds(lambda name=name: timm.create_model(name)))
            for _ in range(args.rounds + 1)
        ][1:]
        ratios.append(statistics.median(ours / theirs for ours, theirs in turns))
        medians = (1000 * statistics.median(column) for column in zip(*turns, strict=True))
        table.add_row(name, *(f"{median:.0f}" for median in medians), f"{ratios[-1]:.2f}")
    console.show(table)
    return int(max(ratios) > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
