"""`zoo parity`: one model, one set of weights, some photographs, every backend; each compared with the reference.

Every backend runs in a worker process of its own (`backends.worker`): no two frameworks share a process, each can be
missing, and one that dies does not end the others.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import weights
from backends import worker
from backends.device import parse
from backends.observed import Observation
from zoo.arguments import integer, within
from zoo.data.images import read_image, sample_photographs
from zoo.data.transforms import Evaluate
from zoo.errors import BackendError, InputError, SpecError, UnavailableError, ZooError
from zoo.frameworks import FRAMEWORKS, RUNTIMES
from zoo.language.model import Model, configure
from zoo.language.trace import InputCheck, trace
from zoo.parity import reference_logits
from zoo.parity.alignment import align
from zoo.parity.bands import bands

SAMPLES = "scikit-learn's samples"
Array = NDArray[Any]
Progress = Callable[[str, str], None]


@dataclass(frozen=True)
class Settings:
    """How `compare` runs and judges.

    device            "cpu" or "gpu"; None: cpu
    tolerance         the largest relative error; None: the band that rounding explains (`zoo.parity.bands`)
    layers            judge every stage and auxiliary head too, and every operation by itself
    repeat            how often each backend runs; from 2 on, runs must agree, and so must images one by one
    stored_reference  take the reference's logits from the package instead of computing them
    timeout           seconds for one worker
    """

    backends: Sequence[str] = tuple(FRAMEWORKS)
    device: str | None = None
    tolerance: float | None = None
    layers: bool = False
    repeat: int = 1
    stored_reference: bool = False
    timeout: float = 600

    def __post_init__(self) -> None:
        for name in self.backends:
            if name not in (*FRAMEWORKS, *RUNTIMES):
                known = ", ".join((*FRAMEWORKS, *RUNTIMES))
                raise BackendError(f"unknown backend {name!r}: expected some of {known}")
        if not self.backends:
            raise BackendError(f"no backend to compare: name some of {', '.join((*FRAMEWORKS, *RUNTIMES))}")
        parse(self.device)
        integer(self.repeat, "the number of repetitions")
        if not within(self.timeout, 1e-3, 1e9):
            raise InputError(f"the timeout must be a number of seconds above 0, not {self.timeout!r}")
        if self.tolerance is not None and not within(self.tolerance, 0, 1):
            raise InputError(f"the tolerance must be from 0 to 1, not {self.tolerance!r}")
        if self.layers and self.stored_reference:
            raise InputError("the stored reference has logits only: judge layers against a computed one")


def compare(
    models: Sequence[str | Path | Model],
    settings: Settings = Settings(),
    *,
    checkpoint: str | Path | None = None,
    images: Sequence[str | Path] = (),
    size: int | None = None,
    batch: int | None = None,
    seed: int = 0,
    width: float = 1.0,
    progress: Progress = lambda model, step: None,
) -> dict[str, Any]:
    """Run every model in every backend and judge it; returns the JSON document of `zoo parity`.

    Models are anything that `weights.resolve` takes. Weights come from `checkpoint` (any file of one model, which need
    not be named; its variant is run) or from `seed`, calibrated.
    Inputs are `images`, by default scikit-learn's two photographs, repeated to fill a `batch`, preprocessed at `size`
    pixels. Auxiliary heads are judged at the native size only. `progress` is called with a model and the step that
    begins. Raises ZooError for bad input; a backend that is missing or fails is part of the result instead.
    """
    specs = [configure(weights.resolve(model), width=width) for model in models]
    arrays: dict[str, Array] | None = None
    if (
        checkpoint is None
        and len(models) == 1
        and not isinstance(models[0], Model)
        and weights.is_checkpoint(models[0])
    ):
        checkpoint = models[0]
    if checkpoint is not None:
        if len(specs) > 1:
            raise SpecError(f"one checkpoint goes with one model, not with {len(specs)}")
        opened = weights.open_checkpoint(checkpoint, model=models[0] if models else None)
        specs, arrays = [opened.model], opened.arrays()
    if not specs:
        raise SpecError("no model to compare: name some, or give a checkpoint")
    seed = integer(seed, "the seed", least=0)
    photographs = [read_image(path) for path in images] if images else sample_photographs()
    count = integer(len(photographs) if batch is None else batch, "the batch")
    sides = [model.size if size is None else integer(size, "the size") for model in specs]
    for model, side in zip(specs, sides, strict=True):
        InputCheck(model)((count, model.in_channels, side, side))

    results: list[dict[str, Any]] = []
    for model, side in zip(specs, sides, strict=True):
        progress(model.name, "weights")
        if not settings.layers or side != model.size:
            model = replace(model, aux=())  # their linear layers are for the native size
        weighted = weights.calibrated(model, seed) if arrays is None else weights.restrict(arrays, model, specs[0])
        evaluate = Evaluate(model, side)
        inputs = np.stack([evaluate.pixels(photographs[i % len(photographs)]) for i in range(count)])
        traced = trace(replace(model, aux=()), side)
        described: dict[str, Any] = {
            "model": model.name,
            "parameters": traced.trainable,
            "macs": traced.macs,
            "weights": str(checkpoint) if checkpoint else f"random, seed {seed}, calibrated",
            "input": {"images": [str(path) for path in images] or SAMPLES, "shape": list(inputs.shape)},
        }
        results.append(described | _judge_all(model, weighted, inputs, settings, progress))
    entries = [entry for result in results for entry in (result["reference"], *result["backends"].values())]
    judged = [entry for entry in entries if "ok" in entry]
    limits = [result["bands"]["logits"] for result in results if "bands" in result]
    return {
        "ok": bool(judged) and all(entry["ok"] for entry in judged),
        "tolerance": max(limits, default=None) if settings.tolerance is None else settings.tolerance,
        "device": settings.device or "cpu",
        "models": results,
    }


def _judge_all(
    model: Model, arrays: Mapping[str, Array], inputs: Array, settings: Settings, progress: Progress
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="zoo-parity-") as folder:
        path = Path(folder) / "weights.safetensors"
        weights.write(path, arrays, model)
        progress(model.name, "reference")
        limits: dict[str, float]
        if settings.stored_reference:
            logits, band = reference_logits.lookup(model, inputs, arrays)
            expected, limits = {"logits": logits}, {"logits": band}
            reference: dict[str, Any] = {"stored": True}
        else:
            try:
                result = worker.run("reference", model, path, inputs, tape=settings.layers, timeout=settings.timeout)
            except ZooError as error:
                return {"reference": {"error": str(error), "ok": False}, "backends": {}}
            expected = result.outputs
            reference = {"version": result.version, "seconds": result.seconds, "memory": result.memory}
            progress(model.name, "bands")
            limits = bands(model, arrays, inputs, {name: expected[name] for name in _outputs(model, settings)})
        if settings.tolerance is not None:
            limits = dict.fromkeys(limits, settings.tolerance)
        entries = {}
        for backend in settings.backends:
            progress(model.name, backend)
            try:
                result = worker.run(
                    backend,
                    model,
                    path,
                    inputs,
                    device=settings.device or "cpu",
                    tape=settings.layers,
                    observe=settings.layers and backend in FRAMEWORKS,
                    repeat=settings.repeat,
                    timeout=settings.timeout,
                )
                entries[backend] = _judge(result, expected, limits, settings)
                if result.seen is not None:
                    entries[backend] |= _operations(model, result.seen, inputs, arrays, entries[backend]["ok"])
            except UnavailableError as error:
                entries[backend] = {"skipped": str(error)}
            except ZooError as error:
                entries[backend] = {"error": str(error), "ok": False}
    return {"reference": reference, "bands": limits, "backends": entries}


def _outputs(model: Model, settings: Settings) -> list[str]:
    """What is judged, in order of depth."""
    if not settings.layers:
        return ["logits"]
    return [*(stage.name for stage in model.stages), "logits", *(aux.name for aux in model.aux)]


def _judge(
    result: worker.Result, expected: Mapping[str, Array], limits: Mapping[str, float], settings: Settings
) -> dict[str, Any]:
    logits, reference = result.outputs["logits"], expected["logits"]
    error = relative_error(logits, reference)
    entry: dict[str, Any] = {
        "version": result.version,
        "max_rel_error": error,
        "top1_agrees": bool((top(logits, 1) == top(reference, 1)).all()),
        "top5_agrees": bool((top(logits, 5) == top(reference, 5)).all()),
        "ok": error is not None and error <= limits["logits"],
        "seconds": result.seconds,
        "memory": result.memory,
    }
    if result.steady:
        entry |= result.steady
        entry["ok"] &= all(value <= limits["logits"] for value in result.steady.values())
    if settings.layers:
        layers = {name: relative_error(result.outputs[name], expected[name]) for name in limits}
        entry["layers"] = layers
        entry["ok"] &= all(e is not None and e <= limits[name] for name, e in layers.items())
    return entry


def _operations(
    model: Model, seen: Observation, inputs: Array, arrays: Mapping[str, Array], ok: bool
) -> dict[str, Any]:
    """Every operation of the main path by itself, with the input that it had in the framework."""
    found = align(replace(model, aux=()), seen, inputs, arrays)
    first = None if found.first is None else found.first.document()
    summary = {"compared": found.checked, "outside": len(found.findings), "first": first}
    return {"operations": summary, "ok": ok and not found.findings}


def relative_error(y: Array, reference: Array) -> float | None:
    """The error, max |y - reference| / max |reference|; None (JSON has no NaN) when y is not finite."""
    if not np.isfinite(y).all():
        return None
    scale = float(np.abs(reference).max())
    return float(np.abs(y - reference).max()) / (scale or 1.0)


def top(logits: Array, k: int) -> Array:
    """The k classes with the largest logits in each row, largest first: [N, k]."""
    return np.argsort(-logits, axis=1, kind="stable")[:, :k]
