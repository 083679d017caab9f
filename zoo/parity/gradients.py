"""`zoo parity --gradients`: training, stage by stage, in every backend, compared with PyTorch in float64.

Each stage and head is run alone in training mode, with the same input and the same gradient of its output. Its output,
the gradient at its input, every parameter's gradient and batch norm's new running statistics are compared; and so is
the loss of the whole network in a first step. Through the whole network, rounding in float32 would exceed any useful
tolerance of the gradients: docs/training.md. Where a stage is outside its band, each of its operations is compared in
the same way.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import weights
from backends import parts, worker
from zoo.arguments import integer
from zoo.frameworks import FRAMEWORKS
from zoo.language.model import Model
from zoo.language.trace import trace
from zoo.parity.bands import RUNS, SINGLE, band
from zoo.parity.outcomes import all_ok, check_tolerance, outcome, to_train

BATCH = 4

Rounding = Mapping[str, Mapping[str, float]]


def compare(
    models: Sequence[str | Path | Model],
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
    """Compare every stage and head of every model in every backend; returns the JSON of `zoo parity --gradients`.

    Models are anything that `weights.resolve` takes. The input is a batch of noise from -1 to 1 at `size` pixels (by
    default the model's own), weights are `weights.initial`'s from `seed`. `graph` compiles: GRAPH mode, to_static,
    torch.compile. `tolerance` is the largest relative error of any array; None: what rounding explains, measured by
    PyTorch in float32 with sums in random orders. Raises ZooError for bad input, UnavailableError without PyTorch,
    which computes the float64 values; a backend that is missing or fails is part of the result instead.
    """
    check_tolerance(tolerance)
    seed = integer(seed, "the seed", least=0)
    results = []
    for model, side in to_train(models, backends, width, size, batch):
        with tempfile.TemporaryDirectory(prefix="zoo-gradients-") as name:
            folder = Path(name)
            progress(model.name, "reference")
            shape = (batch, model.in_channels, side, side)
            np.save(folder / "inputs.npy", np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32))
            weights.write(folder / "weights.safetensors", weights.initial(model, seed), model)
            judge = worker.call("judge", "torch", model, folder, {"seed": seed, "runs": RUNS}, timeout)
            job = {"device": device, "graph": graph}
            entries = {}
            for backend in backends:
                progress(model.name, backend)
                entries[backend] = outcome(_entry, model, folder, backend, judge, job, tolerance, seed, timeout)
        results.append({"model": model.name, "judge": judge["version"], "shape": list(shape), "backends": entries})
    return {
        "ok": all_ok(entry for result in results for entry in result["backends"].values()),
        "tolerance": tolerance,
        "width": width,
        "graph": graph,
        "models": results,
    }


def _entry(
    model: Model,
    folder: Path,
    backend: str,
    judge: Mapping[str, Any],
    job: Mapping[str, Any],
    tolerance: float | None,
    seed: int,
    timeout: float,
) -> dict[str, Any]:
    """Run a backend on the files that the judge has written, and compare."""
    report = worker.call("differentiate", backend, model, folder, job, timeout)
    entry = {"version": report["version"], **_judge(folder, backend, judge["rounding"], tolerance)}
    error = abs(report["loss"] / judge["loss"] - 1)
    entry["loss_error"] = error if np.isfinite(error) else None
    entry["loss_band"] = band([judge["loss_rounding"]]) if tolerance is None else tolerance
    entry["ok"] &= error <= entry["loss_band"]
    if entry["outside"]:
        entry |= _descend(model, folder, backend, entry["outside"], job, tolerance, seed, timeout)
    return entry


def _judge(
    folder: Path, backend: str, rounding: Rounding, tolerance: float | None, factor: float = 1.0
) -> dict[str, Any]:
    """For each kind, the error that is the largest share of its band, and where; and the parts outside their bands."""
    worst: dict[str, dict[str, Any]] = {}
    outside: list[str] = []
    count = 0
    for part, of_part in rounding.items():
        for name, error in parts.errors(folder, backend, part).items():
            kind, _, where = name.partition("/")
            limit = factor * band([of_part[name]]) if tolerance is None else tolerance
            count += 1
            if not error <= limit and part not in outside:
                outside.append(part)
            entry = {"error": error if np.isfinite(error) else None, "band": limit, "where": where or part}
            if kind not in worst or not _share(entry) <= _share(worst[kind]):
                worst[kind] = entry
    return {"arrays": count, "worst": worst, "outside": outside, "ok": not outside}


def _share(entry: Mapping[str, Any]) -> float:
    """An error divided by its band."""
    return float("inf") if entry["error"] is None else entry["error"] / (entry["band"] or 1e-300)


def _descend(
    model: Model,
    folder: Path,
    backend: str,
    outside: Sequence[str],
    job: Mapping[str, Any],
    tolerance: float | None,
    seed: int,
    timeout: float,
) -> dict[str, Any]:
    """Compare each operation of the stages that are outside their bands, given the reference's input."""
    paths = [op.path for op in trace(model).ops]
    inside = {part: [path for path in paths if path.startswith(f"{part}.")] for part in outside}
    inside = {part: operations for part, operations in inside.items() if operations}
    alone = [part for part in outside if part not in inside]  # a stage of one operation
    operations = [path for of_part in inside.values() for path in of_part]
    if not operations:
        return {"operations": {"compared": 0, "outside": alone}}
    made = {"operations": inside, "seed": seed, "runs": RUNS}
    rounding = worker.call("judge_operations", "torch", model, folder, made, timeout)["rounding"]
    worker.call("differentiate", backend, model, folder, {**job, "operations": operations}, timeout)
    found = _judge(folder, backend, rounding, tolerance, SINGLE)["outside"]
    return {"operations": {"compared": len(operations), "outside": [*alone, *found]}}
