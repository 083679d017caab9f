"""Simulate a full ImageNet run on 1, 8 and 64 devices, from the measured rates of a device and of the loader.

    python benchmarks/scale.py [--rate 317] [--loader 250] [--cores 8] [--bandwidth 10] ...

In each step, every device waits for its next batch, which its own cores prepare in advance as in `zoo.data.Loader`,
then for the slowest device, and then gradients are reduced in a ring. Validation and checkpoints are added.
docs/long_runs.md has the sources of the defaults and the limits of the result.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from zoo import console, info  # noqa: E402
from zoo.data.loader import AHEAD  # noqa: E402

TRAIN, VALIDATION = 1_281_167, 50_000
"""Images of ImageNet (ILSVRC 2012)."""

SIMULATED = 2000
"""Steps of an epoch that are simulated; their mean is used for the others."""

FORWARD = 3
"""Speed of a validation step relative to a training step: it has one of three passes."""


def step_seconds(devices: int, compute: float, prepare: float, reduce: float, jitter: float) -> float:
    """The mean time of a step; `jitter` is the standard deviation of the logarithm of each time."""
    random = np.random.default_rng(devices)
    ready = np.zeros((AHEAD + 1, devices))  # when the batches that wait were ready, the oldest first
    free = np.zeros(devices)  # when a device's cores have time for the next batch
    done = np.zeros(devices)
    for step in range(SIMULATED + AHEAD + 1):
        times = random.lognormal(-(jitter**2) / 2, jitter, (2, devices))
        slot = step % (AHEAD + 1)
        begins = np.maximum(done, ready[slot])
        if step > AHEAD:
            done = np.full(devices, (begins + compute * times[0]).max() + reduce)
        free = np.maximum(free, begins if step > AHEAD else 0.0) + prepare * times[1]
        ready[slot] = free
    return float(done.max()) / SIMULATED


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="inception_v4")
    parser.add_argument("--devices", default="1,8,64", help="numbers of devices, separated by commas (1,8,64)")
    parser.add_argument("--epochs", type=int, default=90, help="epochs of the run (90)")
    parser.add_argument("--batch", type=int, default=32, help="images in a batch, on each device (32)")
    parser.add_argument("--rate", type=float, default=317, help="images/s that one device trains (317)")
    parser.add_argument("--loader", type=float, default=250, help="images/s that one core prepares (250)")
    parser.add_argument("--cores", type=float, default=8, help="cores for each device (8)")
    parser.add_argument("--bandwidth", type=float, default=10, help="GB/s between two devices (10)")
    parser.add_argument("--latency", type=float, default=20, help="microseconds for each message (20)")
    parser.add_argument(
        "--jitter", type=float, default=0.05, help="standard deviation of the logarithm of times (0.05)"
    )
    parser.add_argument("--disk", type=float, default=0.5, help="GB/s to the disk for checkpoints (0.5)")
    parser.add_argument("--slots", type=int, default=3, help="arrays in a state in addition to the weights (3)")
    args = parser.parse_args()
    gigabytes = 4 * info(args.model)["parameters"] / 1e9
    columns = ("devices", "batch", "steps an epoch", "steps", "images/s", "efficiency", "hours")
    table = console.new(*(f">{name}" for name in columns))
    for devices in map(int, args.devices.split(",")):
        passes = 2 * (devices - 1)
        reduce = passes / devices * gigabytes / args.bandwidth + passes * args.latency / 1e6
        prepare = args.batch / (args.loader * args.cores)
        seconds = step_seconds(devices, args.batch / args.rate, prepare, reduce, args.jitter)
        steps = TRAIN // (args.batch * devices)
        validation = VALIDATION / devices / min(FORWARD * args.rate, args.loader * args.cores)
        saving = (args.slots + 1 + 2) * gigabytes / args.disk
        hours = args.epochs * (steps * seconds + validation + saving) / 3600
        rate = args.batch * devices / seconds
        table.add_row(
            f"{devices}",
            f"{args.batch * devices}",
            f"{steps:,}",
            f"{args.epochs * steps:,}",
            f"{rate:,.0f}",
            f"{100 * rate / devices / args.rate:.0f}%",
            f"{hours:,.1f}" if hours < 1000 else f"{math.ceil(hours):,}",
        )
    console.show(table)


if __name__ == "__main__":
    main()
