"""Kill a training run repeatedly, at random moments, and compare its result with that of an uninterrupted run.

    python tests/frameworks/kills.py [--backends torch,mindspore,paddle,jax] [--kills 20] [--seed 0] [--out FOLDER]

SIGKILL is sent at a random time after the run has started to train, before it has done its share of the epochs (1/2
with one kill, 1/3 and 2/3 with two), and about every second time at a random time after it has started to write a file.
After each kill, the newest state must be readable, and `--resume` must resume from it. At the end weights, optimizer,
average and the figures of every epoch must be bit-identical; otherwise the exit status is 1.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from zoo import console  # noqa: E402
from zoo.frameworks import FRAMEWORKS  # noqa: E402
from zoo.training.report import Epoch, reported  # noqa: E402
from zoo.training.run_folder import newest  # noqa: E402
from zoo.training.state import read_state  # noqa: E402

Network = tuple[str, str]
"""A network's name, and the flags that choose it."""

GOOGLENET: Network = "googlenet", "--model googlenet --width 0.125 --image_resize 64"
FLAGS = (
    "--dataset digits --num_samples 96 --batch_size 16 --lr 0.01 "
    "--opt momentum --warmup_epochs 0 --aux_factor 0.3 --mixup 0.2 --ema --ema_decay 0.9 --val_while_train "
    "--num_parallel_workers 2 --recovery_interval 1 --keep_checkpoint_max 2 --progress none"
)
"""A run that uses everything in a state: momentum, average, dropout, mixing, a schedule, validation."""

SPAN = 1.5
"""Seconds of training until the next kill, at most."""


@dataclass
class Ordeal:
    """The result for one backend: kills, kills while it was saving, positions that it resumed from, differences."""

    backend: str
    kills: int = 0
    saving: int = 0
    positions: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    seconds: float = 0.0


def ordeal(backend: str, folder: Path, kills: int, epochs: int, seed: int = 0, model: Network = GOOGLENET) -> Ordeal:
    """Make two runs of `epochs`, one of them killed `kills` times. Raises AssertionError if a run does not resume."""
    begun, chance, result = time.perf_counter(), random.Random(seed), Ordeal(backend)
    whole, broken, (name, flags) = folder / "whole", folder / "broken", model
    _end(_start(backend, whole, epochs, flags))
    while result.kills < kills:
        process = _start(backend, broken, epochs, flags, "--resume")
        _until_it_trains(process, broken / f"optim_{name}.ckpt")
        share = epochs * (result.kills + 1) // (kills + 1)
        _until_epoch(share, broken / "result.log", time.monotonic() + chance.uniform(0, SPAN))
        if chance.random() < 0.5:
            _until_it_saves(process, broken, chance.uniform(0, 0.01))
        if process.poll() is not None:
            result.different.append(f"the run was over after {result.kills} kills: give it more epochs")
            break
        process.kill()
        process.communicate()
        result.kills += 1
        result.saving += any(broken.glob(".*.part"))
        result.positions.append(str(newest(broken, name).position))
    _end(_start(backend, broken, epochs, flags, "--resume"))
    result.different += _differences(whole, broken, name, epochs)
    result.seconds = time.perf_counter() - begun
    return result


def _start(backend: str, folder: Path, epochs: int, flags: str, *more: str) -> subprocess.Popen[str]:
    words = f"{flags} {FLAGS} --backend {backend} --epoch_size {epochs}".split()
    command = [sys.executable, str(ROOT / "train.py"), *words, "--ckpt_save_dir", str(folder), *more]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def _end(process: subprocess.Popen[str]) -> None:
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors[-2000:]


def _until_it_trains(process: subprocess.Popen[str], file: Path) -> None:
    """Wait until the run has written its first state."""
    before = file.stat().st_mtime_ns if file.exists() else 0
    until = time.monotonic() + 300
    while process.poll() is None and (not file.exists() or file.stat().st_mtime_ns == before):
        assert time.monotonic() < until, "it does not begin to train"
        time.sleep(0.005)
    assert process.poll() in (None, 0), process.communicate()[1][-2000:]


def _until_epoch(number: int, log: Path, deadline: float) -> None:
    """Wait until the deadline, or until an epoch is done: a fast run would be over before it has been killed."""
    while time.monotonic() < deadline and not (log.exists() and len(reported(log)) >= number):
        time.sleep(0.005)


def _until_it_saves(process: subprocess.Popen[str], folder: Path, delay: float) -> None:
    while process.poll() is None and not any(folder.glob(".*.part")):
        pass
    time.sleep(delay)


def _differences(whole: Path, broken: Path, name: str, epochs: int) -> list[str]:
    found = []
    for path in sorted(whole.glob(f"{name}*.ckpt")):
        other = broken / path.name
        if not other.exists() or other.read_bytes() != path.read_bytes():
            found.append(path.name)
    one, two = (read_state(folder / f"optim_{name}.ckpt") for folder in (whole, broken))
    if one.position != two.position or one.losses != two.losses or one.arrays.keys() != two.arrays.keys():
        found.append("the state")
    found += [name for name, array in one.arrays.items() if array.tobytes() != two.arrays[name].tobytes()]
    figures = [[_figures(row) for row in reported(folder / "result.log")] for folder in (whole, broken)]
    if figures[0] != figures[1] or len(figures[0]) != epochs:
        found.append("result.log")
    return found


def _figures(row: Epoch) -> tuple[object, ...]:
    return row.number, row.train_loss, row.top1, row.top5


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backends", default=",".join(FRAMEWORKS), help="separated by commas (all)")
    parser.add_argument("--kills", type=int, default=20, help="kills of each backend's run (20)")
    parser.add_argument("--epochs", type=int, default=60, help="epochs of each run (60)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments (0)")
    parser.add_argument("--out", type=Path, help="folder for the runs (a temporary one)")
    args = parser.parse_args()
    table = console.new("backend", ">kills", ">while it saved", "resumed from", "weights, state, figures", ">seconds")
    failed = False
    with tempfile.TemporaryDirectory() as temporary:
        for backend in args.backends.split(","):
            one = ordeal(backend, (args.out or Path(temporary)) / backend, args.kills, args.epochs, args.seed)
            failed |= bool(one.different)
            verdict = f"{len(one.different)} differ: {', '.join(one.different[:3])}" if one.different else "identical"
            places = f"{one.positions[0]} ... {one.positions[-1]}" if one.positions else "nothing"
            table.add_row(backend, f"{one.kills}", f"{one.saving}", places, verdict, f"{one.seconds:.0f}")
    console.show(table)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
