"""`zoo parity --gradients`: training, stage by stage, in every backend, compared with PyTorch in float64.

Each stage and head is run alone in training mode, with the same input and the same gradient of its output. Compared are
its output, the gradient at its input, every parameter's gradient, and batch norm's new running statistics; and the loss
of the whole network in a first step. End to end, rounding in float32 would exceed any useful tolerance of the
gradients: docs/training.md.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

import weights
from backends import worker
from zoo.arguments import integer
from zoo.errors import BackendError, UnavailableError, ZooError
from zoo.frameworks import FRAMEWORKS
from zoo.language.model import Model, configure
from zoo.language.trace import InputCheck

TOLERANCE = 1e-5
"""The largest relative error, in the Frobenius norm, of any array."""

LOSS_TOLERANCE = 5e-5
"""Of the loss of the whole network in its first training step, where all rounding adds up."""

BATCH = 4
CLASSES = 10
"""Ten classes: the gradients of so small a classifier say as much as a thousand's."""

Array = NDArray[Any]


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
    tolerance: float = TOLERANCE,
    timeout: float = 600,
    progress: Callable[[str, str], None] = lambda model, step: None,
) -> dict[str, Any]:
    """Compare every stage and head of every model in every backend; returns the JSON of `zoo parity --gradients`.

    Models are anything that `weights.resolve` takes. The input is a batch of noise from -1 to 1 at `size` pixels (by
    default the model's own), weights are `weights.initial`'s from `seed`. `graph` compiles: GRAPH mode, to_static,
    torch.compile. Raises ZooError for bad input, UnavailableError without PyTorch, which computes the float64 values; a
    backend that is missing or fails is part of the result instead.
    """
    for name in backends:
        if name not in FRAMEWORKS:
            raise BackendError(f"unknown backend {name!r}: expected some of {', '.join(FRAMEWORKS)}")
    batch, seed = integer(batch, "the batch", least=2), integer(seed, "the seed", least=0)
    specs = [configure(weights.resolve(model), width=width, num_classes=CLASSES) for model in models]
    for model in specs:
        side = model.size if size is None else integer(size, "the size")
        InputCheck(model)((batch, model.in_channels, side, side), True)
    results = []
    for model in specs:
        side = model.size if size is None else size
        with tempfile.TemporaryDirectory(prefix="zoo-gradients-") as name:
            folder = Path(name)
            progress(model.name, "reference")
            shape = (batch, model.in_channels, side, side)
            np.save(folder / "inputs.npy", np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32))
            weights.write(folder / "weights.safetensors", weights.initial(model, seed), model)
            judge = worker.call("judge", "torch", model, folder, {"seed": seed}, timeout)
            entries = {}
            for backend in backends:
                progress(model.name, backend)
                job = {"device": device, "graph": graph}
                try:
                    report = worker.call("differentiate", backend, model, folder, job, timeout)
                    entry = {"version": report["version"], **_judge(model, folder, backend, tolerance)}
                    entry["loss_error"] = abs(report["loss"] / judge["loss"] - 1)
                    entry["ok"] &= entry["loss_error"] <= LOSS_TOLERANCE
                    entries[backend] = entry
                except UnavailableError as error:
                    entries[backend] = {"skipped": str(error)}
                except ZooError as error:
                    entries[backend] = {"error": str(error), "ok": False}
        results.append({"model": model.name, "judge": judge["version"], "shape": list(shape), "backends": entries})
    judged = [entry for result in results for entry in result["backends"].values() if "ok" in entry]
    return {
        "ok": bool(judged) and all(entry["ok"] for entry in judged),
        "tolerance": tolerance,
        "width": width,
        "graph": graph,
        "models": results,
    }


def _judge(model: Model, folder: Path, backend: str, tolerance: float) -> dict[str, Any]:
    """The largest error of each kind, and where it is, over all stages and heads."""
    worst: dict[str, dict[str, Any]] = {}
    count, ok = 0, True
    for part in model.parts:
        expected = load_file(folder / "reference" / f"{part}.safetensors")
        came = load_file(folder / backend / f"{part}.safetensors")
        if set(came) != set(expected):
            raise BackendError(
                f"{backend}: {part}: arrays differ from the reference's: {sorted(set(came) ^ set(expected))}"
            )
        for name, array in expected.items():
            kind, _, where = name.partition("/")
            error = float(np.linalg.norm(came[name] - array) / np.linalg.norm(array))
            ok &= error <= tolerance
            count += 1
            if kind not in worst or not error <= worst[kind]["error"]:
                worst[kind] = {"error": error if np.isfinite(error) else None, "where": where or part}
    return {"arrays": count, "worst": worst, "ok": ok}
