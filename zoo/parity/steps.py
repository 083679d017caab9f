"""`zoo parity --steps K`: K training steps in every backend, compared with the same steps in float64.

All start from the same weights, and use the same batches and dropout masks. The loss of every step is compared, and so
are the weights and running statistics after the last step. A training step magnifies the rounding errors of the step
before, so the band is measured by the same steps in float32, with sums in random orders.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

import weights
from backends import worker
from backends.training import STATISTICS
from zoo.arguments import integer
from zoo.errors import BackendError
from zoo.frameworks import FRAMEWORKS
from zoo.language.model import Model
from zoo.parity.bands import RUNS, band
from zoo.parity.gradients import BATCH
from zoo.parity.outcomes import CLASSES, all_ok, check_tolerance, outcome, to_train

Array = NDArray[Any]

LOSS = "loss "
"""Begins the name of a loss; the number of its step follows."""


def compare(
    models: Sequence[str | Path | Model],
    steps: int,
    backends: Sequence[str] = tuple(FRAMEWORKS),
    *,
    width: float = 1.0,
    size: int | None = None,
    batch: int = BATCH,
    seed: int = 0,
    graph: bool = False,
    device: str | None = None,
    tolerance: float | None = None,
    timeout: float = 600,
    progress: Callable[[str, str], None] = lambda model, step: None,
) -> dict[str, Any]:
    """Train every model for `steps` steps in every backend; returns the JSON of `zoo parity --steps`.

    Models are anything that `weights.resolve` takes, with ten classes. Each step has another batch of noise from -1 to
    1 at `size` pixels; weights are `weights.calibrated`'s from `seed`. The optimizer is gradient descent with momentum
    0.9, a learning rate of 0.001 and a weight decay of 4e-5. `tolerance` is the largest error; None: what rounding
    explains. Raises ZooError for bad input, UnavailableError without PyTorch, which computes the float64 values; a
    backend that is missing or fails is part of the result instead.

    The error of a loss is |y - reference| / |reference|. The error of a stage's or head's weights after the last step,
    and of its running means and variances, is |y - reference| / |reference - start| in the Frobenius norm.
    """
    check_tolerance(tolerance)
    steps, seed = integer(steps, "the number of steps"), integer(seed, "the seed", least=0)
    results = []
    for model, side in to_train(models, backends, width, size, batch):
        with tempfile.TemporaryDirectory(prefix="zoo-steps-") as name:
            folder = Path(name)
            progress(model.name, "reference")
            shape = (steps, batch, model.in_channels, side, side)
            np.save(folder / "inputs.npy", np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32))
            np.save(folder / "targets.npy", np.eye(CLASSES)[np.arange(batch) % CLASSES])
            start = weights.calibrated(model, seed)
            weights.write(folder / "weights.safetensors", start, model)
            judge = worker.call("judge_steps", "torch", model, folder, {"seed": seed, "runs": RUNS}, timeout)
            reference = load_file(folder / "reference.safetensors")
            limits = _bands(folder, reference, start)
            if tolerance is not None:
                limits = dict.fromkeys(limits, tolerance)
            job = {"device": device, "graph": graph, "seed": seed}
            entries = {}
            for backend in backends:
                progress(model.name, backend)
                entries[backend] = outcome(_entry, model, folder, backend, job, reference, start, limits, timeout)
        results.append(
            {
                "model": model.name,
                "judge": judge["version"],
                "shape": list(shape[1:]),
                "loss": reference["loss"].tolist(),
                "bands": limits,
                "backends": entries,
            }
        )
    return {
        "ok": all_ok(entry for result in results for entry in result["backends"].values()),
        "steps": steps,
        "tolerance": tolerance,
        "width": width,
        "graph": graph,
        "models": results,
    }


def _bands(folder: Path, reference: Mapping[str, Array], start: Mapping[str, Array]) -> dict[str, float]:
    """The band of every error. A loss's band is at least that of the losses before it: one number may be lucky."""
    runs = [errors(load_file(folder / f"rounded{run}.safetensors"), reference, start) for run in range(RUNS)]
    limits = {place: band([of_run[place] for of_run in runs]) for place in runs[0]}
    largest = 0.0
    for place in limits:
        if place.startswith(LOSS):
            largest = limits[place] = max(largest, limits[place])
    return limits


def _entry(
    model: Model,
    folder: Path,
    backend: str,
    job: Mapping[str, Any],
    reference: Mapping[str, Array],
    start: Mapping[str, Array],
    limits: Mapping[str, float],
    timeout: float,
) -> dict[str, Any]:
    """Train in a backend from the files in the folder, and compare."""
    report = worker.call("train", backend, model, folder, job, timeout)
    found = errors(load_file(folder / f"{backend}.safetensors"), reference, start)
    outside = [place for place, error in found.items() if not error <= limits[place]]
    finite = {place: error if np.isfinite(error) else None for place, error in found.items()}
    return {"version": report["version"], "errors": finite, "outside": outside, "ok": not outside}


def errors(
    results: Mapping[str, Array], reference: Mapping[str, Array], start: Mapping[str, Array]
) -> dict[str, float]:
    """The errors by place: "loss 1", "loss 2", ..., and "weights of" and "statistics of" each stage and head.

    They are infinite where a value is not finite. Raises BackendError when `came` and `reference` differ in names.
    """
    if results.keys() != reference.keys():
        differing = sorted(results.keys() ^ reference.keys())
        raise BackendError(f"its weights are not the reference's: {', '.join(differing)}")
    losses = np.abs(results["loss"] / reference["loss"] - 1)
    found = {f"{LOSS}{step}": float(error) for step, error in enumerate(losses, 1)}
    squares: dict[str, Array] = {}
    for name, array in start.items():
        what = "statistics" if name.endswith(STATISTICS) else "weights"
        place = f"{what} of {name.partition('.')[0]}"
        off = np.square(results[name] - reference[name], dtype=np.float64).sum()
        moved = np.square(reference[name] - array, dtype=np.float64).sum()
        squares[place] = squares.get(place, np.zeros(2)) + np.array([off, moved])
    found |= {place: float(np.sqrt(off / (moved or 1.0))) for place, (off, moved) in squares.items()}
    return {place: error if np.isfinite(error) else float("inf") for place, error in found.items()}
