"""Memory of a long run: the resident memory of train.py over 2,000 steps, in each framework.

    python benchmarks/memory.py [--backends torch,mindspore,paddle,jax]

The run validates and writes a checkpoint after every epoch of 100 steps. The exit status is 1 if the memory at the end
is more than 5% above that at step 200.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from zoo import console  # noqa: E402
from zoo.frameworks import FRAMEWORKS  # noqa: E402

STEPS, EPOCH, FIRST, MOST = 2000, 100, 200, 1.05
FLAGS = (
    "--model googlenet --width 0.125 --image_resize 64 --dataset digits --batch_size 12 --opt momentum --lr 0.001 "
    "--num_parallel_workers 2 --val_while_train --ema --progress log"
)


def resident(pid: int) -> float:
    """Resident memory of a process in megabytes."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", text)[1]) / 1024


def measure(backend: str) -> dict[int, float]:
    """Megabytes of memory by the number of steps done."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        flags = f"{FLAGS} --backend {backend} --log_interval {EPOCH} --epoch_size {STEPS // EPOCH}".split()
        command = [sys.executable, "-u", str(ROOT / "train.py"), *flags, "--ckpt_save_dir", folder]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
            for line in run.stdout:
                if at := re.match(rf"Epoch: \[(\d+)/\d+\], batch: \[{EPOCH}/", line):
                    found[int(at[1]) * EPOCH] = resident(run.pid)
        if run.returncode:
            sys.exit(run.returncode)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backends", default=",".join(FRAMEWORKS), help="separated by commas (all)")
    args = parser.parse_args()
    shown = (FIRST, 500, 1000, 1500, STEPS)
    table = console.new("backend", *(f">step {step}, MB" for step in shown), f">last / step {FIRST}")
    worst = 0.0
    for backend in args.backends.split(","):
        found = measure(backend)
        ratio = found[STEPS] / found[FIRST]
        worst = max(worst, ratio)
        table.add_row(backend, *(f"{found[step]:.0f}" for step in shown), f"{ratio:.3f}")
    console.show(table)
    return int(worst > MOST)


if __name__ == "__main__":
    sys.exit(main())
