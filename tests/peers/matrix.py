"""Our networks against the publishers' own, in the publisher's framework and in the others.

`python tests/peers/matrix.py` runs every row, prints the table and writes docs/peers.md; with --one-each it runs one
row of each publisher and writes nothing. It exits with 1 when an error or the memory is above its bound.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

sys.path.insert(0, str(Path(__file__).parents[1]))
from support import batch, error

import weights
from backends import worker
from weights import SOURCES
from zoo.frameworks import FRAMEWORKS
from zoo.models import MODELS

TOLERANCE, MEMORY = 5e-6, 3.0
HERE = Path(__file__).parent
DOCUMENT = HERE.parents[1] / "docs" / "peers.md"

UNRUNNABLE = {
    "zhulf": "not on PyPI; by hand at commit 04ca904 all of it, the same bits, 4e-07 from the float64 reference",
    "mmpretrain": "needs mmengine and mmcv; its tensors are torchvision's behind `backbone.`",
}
"""Sources whose classes cannot be installed here, and how their tables were checked instead."""

ROWS = [(source, model) for source, table in SOURCES.items() if source not in UNRUNNABLE for model in table.models]
SUFFIXES = {"torch": [".pth"], "mindspore": [".ckpt"], "paddle": [".pdparams"], "keras": [".weights.h5", ".h5"]}
"""Suffixes of the files that we write; Keras's network also saves a .keras."""

KINDS = ", ".join(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)

INTRODUCTION = f"""# The publishers' own networks

Made by `make peers`; do not edit. A row is the publisher's class at its published width, with random weights (gammas
and variances from 0.75 to 1.25), on two images of noise at the native size.

Weights go through files ({KINDS}) and back. We write them as the publisher
keeps them, without its framework; its own strict loader reads them, and its own saver writes them again; a process in
which no framework can be imported recognises that file and reads canonical weights from it. *Weights* says whether
those are the original ones (PaddleClas's classifiers are scaled). The last columns run them: the largest
max |ours - theirs| / max |theirs| over the outputs named, in float32. The bound is {TOLERANCE:g}, and {MEMORY:g} GB
for the process that builds and runs ours, with every stage's output kept.

"""
COLUMNS = ("publisher", "model", "outputs", "weights", *FRAMEWORKS)
HEADER = f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}"


def weights_for(source, model):
    """Random weights: gammas (where there are any) and variances from 0.75 to 1.25; betas, means, biases near 0."""
    random, without = np.random.default_rng(11), SOURCES[source].models[model.name].without
    arrays = weights.initial(model)
    for name, array in arrays.items():
        if name.endswith((".bn.weight", ".bn.var")):
            array[:] = 1 if name.endswith(without) else random.uniform(0.75, 1.25, array.shape)
        elif array.ndim == 1:
            array[:] = random.normal(0, 0.1, array.shape)
    return arrays


def publisher(source, model, arrays, x, folder):
    """The outputs of the publisher's own network, in its own process: our files loaded, its own ones saved."""
    for suffix in SUFFIXES[SOURCES[source].framework]:
        weights.write(folder / f"ours{suffix}", arrays, model, to=source)
    np.save(folder / "inputs.npy", x)
    run_python("-W", "ignore", HERE / "publishers.py", source, model.name, folder)
    return load_file(folder / "outputs.safetensors")


def read_alone(file, out):
    """Recognise a file, and write its weights to `out`, in a process that cannot import a framework."""
    block = (
        "import sys; sys.modules.update(dict.fromkeys(['torch', 'mindspore', 'paddle', 'jax', 'keras', 'tensorflow']))"
    )
    code = f"{block}; import json, weights; print(json.dumps(weights.convert(sys.argv[1], sys.argv[2])))"
    return json.loads(run_python("-c", code, file, out))


def run_python(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1])}
    run = subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, env=environment)
    if run.returncode:
        raise RuntimeError(f"{' '.join(map(str, arguments[-3:]))}: {run.stderr[-2000:]}")
    return run.stdout


def compare(source, name):
    """What was compared; whether the weights came back; and for each backend the error and the peak memory in GB."""
    model = MODELS[name]
    arrays, x = weights_for(source, model), batch(model, model.size, count=2)
    errors, memory = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        theirs = publisher(source, model, arrays, x, Path(folder))
        canonical, back = Path(folder, "canonical.safetensors"), 0.0
        for file in Path(folder).glob("theirs*"):
            about = read_alone(file, canonical)
            assert source in about["sources"], about
            assert about["model"] == name, about
            again = load_file(canonical)
            back = max(back, *(error(again[key], array) for key, array in arrays.items() if array.any()))
        for backend in FRAMEWORKS:
            ours = worker.run(backend, model, canonical, x, tape=True)
            errors[backend] = max(error(ours.outputs[key], value) for key, value in theirs.items())
            memory[backend] = (ours.memory or 0) / 1e9
    return sorted(theirs, reverse=True), back, errors, memory


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--one-each", action="store_true", help="one network of each publisher; docs/peers.md stays")
    one_each = parser.parse_args().one_each
    rows = list(dict(reversed(ROWS)).items()) if one_each else ROWS
    lines, good = [HEADER], True
    with ThreadPoolExecutor(2) as pool:  # the work is in processes of their own
        for (source, name), result in zip(rows, pool.map(lambda row: compare(*row), rows), strict=True):
            outputs, back, errors, memory = result
            cells = [source, f"`{name}`", ", ".join(outputs), "same bits" if back == 0 else f"{back:.1e}"]
            lines.append(f"| {' | '.join([*cells, *(f'{e:.1e}' for e in errors.values())])} |")
            print(lines[-1], ", ".join(f"{gigabytes:.1f} GB" for gigabytes in memory.values()), flush=True)
            bad = [backend for backend in errors if errors[backend] > TOLERANCE or memory[backend] > MEMORY]
            bad += ["reading back"] * (back > (1e-6 if SOURCES[source].models[name].scale else 0))
            if bad:
                good = False
                print(f"{source} {name}: beyond its bounds in {', '.join(bad)}", flush=True)
    if one_each:
        return 0 if good else 1
    for source, reason in UNRUNNABLE.items():
        for name in SOURCES[source].models:
            lines.append(f"| {source} | `{name}` | not run: {reason} | |" + " |" * len(FRAMEWORKS))
    frameworks = ", ".join(f"{name} from {source.framework}" for name, source in SOURCES.items())
    DOCUMENT.write_text(INTRODUCTION + "\n".join(lines) + f"\n\nPublishers' frameworks: {frameworks}.\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
