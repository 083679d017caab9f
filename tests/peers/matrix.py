"""Our networks against the publishers' own, in the publisher's framework and in the others.

`python tests/peers/matrix.py` runs every row, prints the table and writes docs/peers.md; it exits with 1 when an error
or the memory is above its bound.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

sys.path.insert(0, str(Path(__file__).parents[1]))
from support import batch, error

import weights
from backends import REQUIREMENTS, worker
from weights import SOURCES
from zoo.models import MODELS

TOLERANCE, MEMORY = 5e-6, 3.0
HERE = Path(__file__).parent
DOCUMENT = HERE.parents[1] / "docs" / "peers.md"

UNRUNNABLE = {
    "zhulf": "not on PyPI; run by hand at commit 04ca904, 7e-07 against the float64 reference",
    "mmpretrain": "needs mmengine and mmcv; its tensors are torchvision's behind `backbone.`",
}
"""Sources whose classes cannot be installed here, and what their tables rest on instead."""

ROWS = [(source, model) for source, table in SOURCES.items() if source not in UNRUNNABLE for model in table.models]
INTRODUCTION = f"""# The publishers' own networks

Made by `make peers`; do not edit. A row is the publisher's class at its published width, with random weights (gammas
and variances from 0.75 to 1.25) renamed by our table and loaded by its own strict loader, on two images of noise at the
native size; and, for our network in each framework, the largest max |ours - theirs| / max |theirs| over the outputs
named, in float32. At most {TOLERANCE:g}; and at most {MEMORY:g} GB for the process that builds and runs ours, every
stage's output kept.

"""
HEADER = (
    "| publisher | model | outputs | " + " | ".join(REQUIREMENTS) + " |\n|---|---|---|" + "---|" * len(REQUIREMENTS)
)


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


def publisher(source, model, arrays, x):
    """The outputs of the publisher's own network, in its own process."""
    with tempfile.TemporaryDirectory() as folder:
        theirs = {key: np.ascontiguousarray(a) for key, a in SOURCES[source].write(arrays, model).items()}
        save_file(theirs, f"{folder}/weights.safetensors")
        np.save(f"{folder}/inputs.npy", x)
        command = [sys.executable, "-W", "ignore", str(HERE / "publishers.py"), source, model.name, folder]
        run = subprocess.run(command, capture_output=True, text=True)
        if run.returncode:
            raise RuntimeError(f"{source} {model.name}: {run.stderr[-2000:]}")
        return load_file(f"{folder}/outputs.safetensors")


def compare(source, name):
    """What was compared, and for each backend the largest relative error over it and the peak memory in GB."""
    model = MODELS[name]
    arrays, x = weights_for(source, model), batch(model, model.size, count=2)
    theirs = publisher(source, model, arrays, x)
    errors, memory = {}, {}
    for backend in REQUIREMENTS:
        ours = worker.run(backend, model, arrays, x, tape=True)
        errors[backend] = max(error(ours.outputs[key], value) for key, value in theirs.items())
        memory[backend] = (ours.memory or 0) / 1e9
    return sorted(theirs, reverse=True), errors, memory


def main():
    lines, good = [HEADER], True
    for source, name in ROWS:
        outputs, errors, memory = compare(source, name)
        lines.append(
            f"| {source} | `{name}` | {', '.join(outputs)} | {' | '.join(f'{e:.1e}' for e in errors.values())} |"
        )
        print(lines[-1], ", ".join(f"{gigabytes:.1f} GB" for gigabytes in memory.values()), flush=True)
        bad = [backend for backend in errors if errors[backend] > TOLERANCE or memory[backend] > MEMORY]
        if bad:
            good = False
            print(f"{source} {name}: beyond its bounds in {', '.join(bad)}", flush=True)
    for source, reason in UNRUNNABLE.items():
        for name in SOURCES[source].models:
            lines.append(f"| {source} | `{name}` | not run: {reason} |" + " |" * len(REQUIREMENTS))
    frameworks = ", ".join(f"{name} from {source.framework}" for name, source in SOURCES.items())
    DOCUMENT.write_text(INTRODUCTION + "\n".join(lines) + f"\n\nPublishers' frameworks: {frameworks}.\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
