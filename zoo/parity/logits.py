"""`zoo parity`: every backend runs a model on the same weights and photographs, and is compared with the reference.

Every backend runs in a worker process of its own (`backends.worker`): no two frameworks share a process, any can be
missing, and one that dies does not end the others. Workers run side by side as far as processors and memory allow.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

import weights
from backends import jobs, worker
from backends.device import parse
from backends.engine import available_threads
from backends.observed import Observation
from zoo.arguments import integer, within
from zoo.data.images import image_files, read_image, sample_photographs
from zoo.data.transforms import Evaluate
from zoo.errors import BackendError, InputError, SpecError, ZooError
from zoo.frameworks import DTYPES, FRAMEWORKS, RUNTIMES, Dtype
from zoo.language.document import to_json
from zoo.language.model import Model, configure
from zoo.language.rewrites import for_inference
from zoo.language.trace import InputCheck, trace
from zoo.parity import stored_reference
from zoo.parity.alignment import align
from zoo.parity.bands import Precision, bands
from zoo.parity.bands import error as max_error
from zoo.parity.outcomes import all_ok, check_tolerance, outcome

SAMPLES = "scikit-learn's samples"
WORKER_MEMORY = 3e9
"""Bytes that must be free for another worker to run beside the others."""

Array = NDArray[Any]
Progress = Callable[[str, str], None]


@dataclass(frozen=True)
class Settings:
    """How `compare` runs and judges.

    backends          keys of FRAMEWORKS and RUNTIMES
    device            "cpu", "gpu" or "gpu:1"; None: the CPU
    mode              "module", or "deploy" for each backend's engine, as in `zoo.build`
    dtype             of engines: fp32, tf32 (GPU), bf16 or fp16; the band is measured in the same precision
    tolerance         the largest relative error; None: the band that rounding explains (`zoo.parity.bands`)
    layers            judge every stage and auxiliary head too, and every operation by itself
    repeat            number of runs of each backend; from 2 on, the runs must agree, also with images run one by one
    stored_reference  take the reference's logits, and fingerprints of its stages, from the package instead of computing
                      them
    timeout           seconds for one worker
    """

    backends: Sequence[str] = tuple(FRAMEWORKS)
    device: str | None = None
    mode: Literal["module", "deploy"] = "module"
    dtype: Dtype = "fp32"
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
        check_tolerance(self.tolerance)
        if self.mode not in ("module", "deploy"):
            raise SpecError(f"mode: expected 'module' or 'deploy', not {self.mode!r}")
        if self.dtype not in DTYPES or self.dtype == "int8":
            known = ", ".join(name for name in DTYPES if name != "int8")
            raise BackendError(f"dtype {self.dtype!r}: expected one of {known}; int8 is judged by validate.py, on data")
        if self.dtype != "fp32" and self.mode != "deploy":
            raise SpecError(f"dtype {self.dtype} is for engines: add mode='deploy' (--mode deploy)")
        if self.mode == "deploy" and self.layers:
            raise SpecError("an engine has no stages to judge: leave out layers (--layers), or the mode")
        if self.dtype != "fp32" and self.stored_reference:
            raise SpecError(f"the stored band is for fp32, not {self.dtype}: leave out stored_reference")


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

    Models are anything that `weights.resolve` takes. Weights come from `checkpoint`, a file of any format with the
    weights of one model, which is run as the file has it and need not be named; or they are drawn from `seed` and
    calibrated. Inputs are `images` (files and folders), by default scikit-learn's two photographs. They are repeated to
    fill a `batch`, and preprocessed at `size` pixels. Auxiliary heads are judged at the native size only. `progress` is
    called with a model and the step that begins. Raises ZooError for bad input; a backend that is missing or fails is
    part of the result instead.
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
    files = image_files(images)
    photographs = [read_image(path) for path in files] if files else sample_photographs()
    count = integer(len(photographs) if batch is None else batch, "the batch")
    sides = [model.size if size is None else integer(size, "the size") for model in specs]
    for model, side in zip(specs, sides, strict=True):
        InputCheck(model)((count, model.in_channels, side, side))
    if settings.layers and count > jobs.BATCH:
        raise InputError(f"layers are compared on at most {jobs.BATCH} images, not {count}")

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
            "input": {"images": [str(path) for path in files] or SAMPLES, "shape": list(inputs.shape)},
        }
        if settings.layers:
            described["spec"] = json.loads(to_json(model))
        results.append(described | _judge_all(model, weighted, inputs, settings, progress))
    entries = [entry for result in results for entry in (result["reference"], *result["backends"].values())]
    limits = [result["bands"]["logits"] for result in results if "bands" in result]
    return {
        "ok": all_ok(entries),
        "tolerance": max(limits, default=None) if settings.tolerance is None else settings.tolerance,
        "device": settings.device or "cpu",
        "mode": settings.mode,
        "dtype": settings.dtype,
        "models": results,
    }


def _judge_all(
    model: Model, arrays: Mapping[str, Array], inputs: Array, settings: Settings, progress: Progress
) -> dict[str, Any]:
    side_by_side = workers_at_once(len(settings.backends) + 1, settings.device)
    with (
        tempfile.TemporaryDirectory(prefix="zoo-parity-") as folder,
        ThreadPoolExecutor(side_by_side) as workers,
    ):
        path = Path(folder) / "weights.safetensors"
        weights.write(path, arrays, model)
        threads = {"OMP_NUM_THREADS": str(max(1, available_threads() // side_by_side))}

        def run(backend: str) -> worker.Result:
            progress(model.name, backend)
            ours = backend != "reference"
            return worker.run(
                backend,
                model,
                path,
                inputs,
                device=(settings.device or "cpu") if ours else None,
                tape=settings.layers,
                observe=settings.layers and backend in FRAMEWORKS,
                repeat=settings.repeat if ours else 1,
                deploy=ours and settings.mode == "deploy",
                dtype=settings.dtype if ours else "fp32",
                timeout=settings.timeout,
                environment=threads | ({"NVIDIA_TF32_OVERRIDE": "1"} if settings.dtype == "tf32" else {}),
            )

        judge = None if settings.stored_reference else workers.submit(run, "reference")
        running = {backend: workers.submit(run, backend) for backend in settings.backends}
        limits: dict[str, float]
        measure: Callable[[str, Array], float]
        if judge is None:
            stored = stored_reference.lookup(model, inputs, arrays)
            logits, measure = stored.logits["logits"], stored.error
            limits = {name: stored.bands[name] for name in _outputs(model, settings)}
            reference: dict[str, Any] = {"stored": True}
        else:
            try:
                result = judge.result()
            except ZooError as error:
                for future in running.values():
                    future.cancel()
                return {"reference": {"error": str(error), "ok": False}, "backends": {}}
            expected = result.outputs
            logits = expected["logits"]

            def measure(name: str, values: Array) -> float:
                return max_error(values, expected[name])

            reference = {"version": result.version, "seconds": result.seconds, "memory": result.memory}
            progress(model.name, "bands")
            limits = _bands(model, arrays, inputs, expected, settings)
        if settings.tolerance is not None:
            limits = dict.fromkeys(limits, settings.tolerance)

        def entry(backend: str) -> dict[str, Any]:
            result = running[backend].result()
            judged = _judge(result, logits, measure, limits, settings)
            if result.seen is None:
                return judged
            return judged | _operations(model, result.seen, inputs, arrays, judged["ok"])

        entries = {backend: outcome(entry, backend) for backend in running}
    reference["margin"] = float(margins(logits).min())
    return {"reference": reference, "bands": limits, "backends": entries}


def _bands(
    model: Model, arrays: Mapping[str, Array], inputs: Array, expected: Mapping[str, Array], settings: Settings
) -> dict[str, float]:
    """The band of every output that is judged, measured on the first `jobs.BATCH` images, or on fewer if there are."""
    wanted = {name: expected[name][: jobs.BATCH] for name in _outputs(model, settings)}
    if settings.mode == "deploy":
        model, arrays = for_inference(model, arrays)
    return bands(model, arrays, inputs[: jobs.BATCH], wanted, cast(Precision, settings.dtype))


def workers_at_once(count: int, device: str | None) -> int:
    """How many of `count` workers to run side by side: as many as processors and free memory allow; one on a GPU."""
    if device is not None and device.startswith("gpu"):
        return 1
    return max(1, min(count, available_threads(), int(free_memory() // WORKER_MEMORY)))


def free_memory() -> float:
    """The bytes of memory available to new processes: Linux's MemAvailable; elsewhere, enough for one worker."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return WORKER_MEMORY
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return float(found[0]) * 1024 if found else WORKER_MEMORY


def _outputs(model: Model, settings: Settings) -> list[str]:
    """What is judged, in order of depth."""
    if not settings.layers:
        return ["logits"]
    return [*(stage.name for stage in model.stages), "logits", *(aux.name for aux in model.aux)]


def _judge(
    result: worker.Result,
    reference: Array,
    measure: Callable[[str, Array], float],
    limits: Mapping[str, float],
    settings: Settings,
) -> dict[str, Any]:
    """A backend's entry.

    reference  logits
    measure    the error of an output, by name
    limits     the band of each output
    """
    logits = result.outputs["logits"]
    error = relative_error(logits, reference)
    entry: dict[str, Any] = {
        "version": result.version,
        "max_rel_error": error,
        "top1_agrees": bool((top(logits, 1) == top(reference, 1)).all()),
        "top5_agrees": bool((top(logits, 5) == top(reference, 5)).all()),
        "top1": ranking(logits, reference),
        "ok": error is not None and error <= limits["logits"],
        "seconds": result.seconds,
        "memory": result.memory,
    }
    if result.steady:
        entry |= result.steady
        entry["ok"] &= all(value <= limits["logits"] for value in result.steady.values())
    if settings.layers:
        errors = {name: measure(name, result.outputs[name]) for name in limits}
        layers = {name: found if np.isfinite(found) else None for name, found in errors.items()}
        entry["layers"] = layers
        entry["ok"] &= all(e is not None and e <= limits[name] for name, e in layers.items())
    return entry


def ranking(logits: Array, reference: Array) -> dict[str, Any]:
    """The number of images whose first class is the reference's, and the largest margin of the others."""
    same = (top(logits, 1) == top(reference, 1))[:, 0]
    flipped = margins(reference)[~same]
    return {
        "same": int(same.sum()),
        "images": len(same),
        "flipped_up_to": float(flipped.max()) if len(flipped) else None,
    }


def margins(logits: Array) -> Array:
    """The lead of each image's first class over its second, divided by the largest magnitude of all logits: [N]."""
    two = np.sort(logits, axis=1)[:, -2:]
    lead: Array = (two[:, -1] - two[:, 0]) / (np.abs(logits).max() or 1.0)
    return lead


def _operations(
    model: Model, seen: Observation, inputs: Array, arrays: Mapping[str, Array], ok: bool
) -> dict[str, Any]:
    """Judge every operation by itself, with the input that it had in the framework; auxiliary heads are left out."""
    found = align(replace(model, aux=()), seen, inputs, arrays)
    first = None if found.first is None else found.first.document()
    summary = {
        "compared": found.checked,
        "outside": len(found.findings),
        "first": first,
        "errors": {
            path: {"error": error if np.isfinite(error) else None, "band": band}
            for path, (error, band) in found.errors.items()
        },
    }
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
