"""The cost of reading and converting checkpoints, as ratios: `python benchmarks/checkpoints.py [--rounds N]`.

Reading: `weights.read`, which also recognises, renames and checks tensors, is compared with the publisher's own
loader on a full Inception-v4 (Inception-ResNet-v2 for Keras). Each load has a process of its own, with imports done
before the clock starts. The two loaders take turns, and medians are compared. Memory is the peak of the whole
process.

Converting: each conversion is compared with reading the file with `weights.read` and writing as many bytes as the
result has, flushed to the disk. The three take turns in one process.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import weights
from zoo.files import atomic_write
from zoo.models import MODELS

READ, CONVERT, MEMORY = 2.0, 1.5, 2.2
"""The largest ratios allowed."""

LOADERS = {
    "torch": "import torch; load = lambda f: torch.load(f, weights_only=True)",
    "torch-legacy": "import torch; load = lambda f: torch.load(f, weights_only=True)",
    "safetensors": "from safetensors.numpy import load_file as load",
    "mindspore": "import mindspore; load = mindspore.load_checkpoint",
    "paddle": "import paddle; load = paddle.load",
    "keras": "import os; os.environ['KERAS_BACKEND'] = 'torch'; import keras; "
    "load = keras.applications.InceptionResNetV2(weights=None).load_weights",
}
LOADERS["keras-legacy"] = LOADERS["keras"]
FILES = {
    "torch": ("inception_v4", "timm", "v4.pth"),
    "torch-legacy": ("inception_v4", "timm", "v4-legacy.pth"),
    "safetensors": ("inception_v4", "timm", "v4.safetensors"),
    "mindspore": ("inception_v4", "mindcv", "v4.ckpt"),
    "paddle": ("inception_v4", "paddle", "v4.pdparams"),
    "keras": ("inception_resnet_v2", "keras", "irv2.weights.h5"),
    "keras-legacy": ("inception_resnet_v2", "keras", "irv2.h5"),
}
TARGETS = {"torch": "timm", "torch-legacy": "zhulf", "safetensors": "zoo", "mindspore": "mindcv", "paddle": "paddle"}


def timed(setup, file):
    """Seconds of one load, and the peak memory of its process in bytes."""
    code = (
        f"import sys, time\n{setup}\nbegin = time.perf_counter(); kept = load(sys.argv[1])\n"
        "print('took', time.perf_counter() - begin, flush=True)\n"
        "print(open('/proc/self/status').read(), flush=True); import os; os._exit(0)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-W", "ignore", "-c", code, str(file)]
    out = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    return float(re.search(r"took (\S+)", out)[1]), int(re.search(r"VmHWM:\s+(\d+)", out)[1]) * 1024


def reading(folder, rounds):
    print("| file | MB | ours, s | its own loader, s | ratio | ours, peak memory / file |\n|---|---|---|---|---|---|")
    good = True
    for name, (model, source, file) in FILES.items():
        setup = f"import weights; load = lambda f: weights.read(f, model={model!r})"
        (folder / file).read_bytes()  # puts it into the system's cache
        runs = [(timed(setup, folder / file), timed(LOADERS[name], folder / file)) for _ in range(rounds)]
        ours, theirs = (statistics.median(run[i][0] for run in runs) for i in (0, 1))
        size = (folder / file).stat().st_size
        memory = max(run[0][1] for run in runs) / size
        good &= ours <= READ * theirs and memory <= MEMORY
        cells = (f"{source} {name}", f"{size / 1e6:.0f}", f"{ours:.3f}", f"{theirs:.3f}", f"{ours / theirs:.2f}")
        print(f"| {' | '.join(cells)} | {memory:.2f} |", flush=True)
    return good


def converting(folder, rounds):
    print("\n| from \\ to | " + " | ".join(TARGETS) + " | peak memory / file |\n" + "|---" * (len(TARGETS) + 2) + "|")
    good = True
    for name in TARGETS:
        file = folder / FILES[name][2]
        cells, peaks = [], []
        for format_, target in TARGETS.items():
            ratio = conversion(file, folder / "out", target, format_, rounds)
            setup = f"import weights; load = lambda f: weights.convert(f, {str(folder / 'out')!r}, "
            setup += f"model='inception_v4', to={target!r}, format={format_!r})"
            peaks.append(timed(setup, file)[1] / file.stat().st_size)
            cells.append(f"{ratio:.2f}")
            good &= ratio <= CONVERT
        good &= max(peaks) <= MEMORY
        print(f"| {name} | {' | '.join(cells)} | {max(peaks):.2f} |", flush=True)
    return good


def conversion(file, out, target, format_, rounds):
    """The time of a conversion relative to reading the file and writing as many bytes."""
    converts, reads, writes = [], [], []
    for _ in range(rounds):
        begin = time.perf_counter()
        weights.convert(file, out, model="inception_v4", to=target, format=format_)
        converts.append(time.perf_counter() - begin)
        data = out.read_bytes()
        begin = time.perf_counter()
        weights.read(file, model="inception_v4")
        reads.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        with atomic_write(out) as part:
            part.write_bytes(data)
        writes.append(time.perf_counter() - begin)
    return statistics.median(converts) / (statistics.median(reads) + statistics.median(writes))


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for format_, (model, source, file) in FILES.items():
            arrays = weights.initial(MODELS[model])
            weights.write(folder / file, arrays, model, to=source, format=format_)
        good = reading(folder, rounds)
        good &= converting(folder, rounds)
    print(f"\n{'Within' if good else 'Outside'} the bounds: reading {READ}, converting {CONVERT}, memory {MEMORY}.")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
