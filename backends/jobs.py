"""What a worker does: `python -m backends.jobs FOLDER` runs the job in a folder, in this process.

The folder holds job.json, model.json (the model's document) and the arrays that the job needs; `backends.worker` puts
them there. The job adds its arrays and, last, result.json.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from backends import deploys, get, load
from backends.device import parse
from backends.engine import Engine, EngineOptions
from backends.observed import FILES, Observes
from zoo.errors import BackendError, ZooError
from zoo.language.document import from_json
from zoo.language.model import Model

Array = NDArray[Any]
Predict: TypeAlias = Callable[..., Mapping[str, Array]]

BATCH = 16
"""The largest batch given to a network: with images of 299 x 299 pixels it takes about a gigabyte of memory."""

imported = 0.0
"""Seconds that importing the framework took before this process was forked."""


def _work(folder: Path) -> dict[str, Any]:
    job = json.loads((folder / "job.json").read_text())
    return TASKS[job["task"]](from_json((folder / "model.json").read_text()), folder, job)


def _predict(model: Model, folder: Path, job: Mapping[str, Any]) -> dict[str, Any]:
    inputs, arrays = np.load(folder / "inputs.npy"), load_file(job["weights"])
    clock = [time.perf_counter()]
    backend = get(job["backend"])
    clock.append(time.perf_counter())
    net = None
    if job["deploy"]:
        engine = deploys(job["backend"]).deploy(model, arrays, EngineOptions(job["dtype"], parse(job["device"])))
        clock += [time.perf_counter()] * 2
        predict = _predict_by(engine)
    else:
        net = backend.build(model, parse(job["device"]))
        clock.append(time.perf_counter())
        backend.load(net, arrays)
        clock.append(time.perf_counter())
        predict = functools.partial(backend.predict, net)
    outputs = _in_batches(functools.partial(predict, tape=True) if job["tape"] else predict, inputs)
    clock.append(time.perf_counter())
    save_file({name: np.ascontiguousarray(array) for name, array in outputs.items()}, folder / "outputs.safetensors")
    if job["dump"]:
        save_file(backend.dump(net), folder / "dump.safetensors")
    if job["observe"]:
        observer: Observes = load(job["backend"], "observe")
        observer.observe(net, inputs).save(folder)
    steady = _steady(predict, inputs, outputs, job["repeat"])
    steps = ("import", "build", "load", "run")
    seconds = {step: end - begin for step, begin, end in zip(steps, clock, clock[1:], strict=False)}
    seconds["import"] += imported
    return {"version": backend.version(), "seconds": seconds, "memory": peak_memory(), "steady": steady}


def _predict_by(engine: Engine) -> Predict:
    """`Runs.predict` for an engine: a function from a batch to {"logits": [N, classes]}."""

    def predict(x: Array) -> dict[str, Array]:
        return {"logits": engine(x)}

    return predict


def _in_batches(predict: Predict, inputs: Array) -> dict[str, Array]:
    """The outputs for all images, run in batches of at most `BATCH`."""
    batches = [predict(inputs[first : first + BATCH]) for first in range(0, len(inputs), BATCH)]
    return {name: np.concatenate([outputs[name] for outputs in batches]) for name in batches[0]}


def _steady(predict: Predict, inputs: Array, outputs: Mapping[str, Array], repeat: int) -> dict[str, float]:
    """How much the logits change when the network runs again, and when images run one by one: see `worker.run`."""
    if repeat < 2 or "logits" not in outputs:
        return {}
    first = outputs["logits"]
    scale = float(np.abs(first).max()) or 1.0
    again = [_in_batches(predict, inputs)["logits"] for _ in range(repeat - 1)]
    single = np.concatenate([predict(inputs[i : i + 1])["logits"] for i in range(len(inputs))])
    repeated = max(float(np.abs(other - first).max()) for other in again)
    return {"repeated": repeated / scale, "single": float(np.abs(single - first).max()) / scale}


def _judge(model: Model, folder: Path, job: Mapping[str, Any]) -> dict[str, Any]:
    backend = get(job["backend"])
    from backends import parts

    return {"version": backend.version(), **parts.judge(model, folder, job["seed"], job["runs"])}


def _judge_operations(model: Model, folder: Path, job: Mapping[str, Any]) -> dict[str, Any]:
    from backends import parts

    return {"rounding": parts.judge_operations(model, folder, job["operations"], job["seed"], job["runs"])}


def _differentiate(model: Model, folder: Path, job: Mapping[str, Any]) -> dict[str, Any]:
    """Differentiate the operations that `job` names or, if it names none, all stages and heads."""
    backend = get(job["backend"])
    from backends import parts

    net = backend.build(parts.without_dropout(model), parse(job["device"]))
    backend.load(net, load_file(folder / "weights.safetensors"))
    if "operations" in job:
        parts.differentiate_operations(job["backend"], net, folder, job["graph"], job["operations"])
        return {}
    loss = parts.differentiate(job["backend"], net, folder, job["graph"])
    return {"version": backend.version(), "loss": loss}


def _judge_steps(model: Model, folder: Path, job: Mapping[str, Any]) -> dict[str, Any]:
    backend = get(job["backend"])
    from backends import steps

    steps.judge(model, folder, job["seed"], job["runs"])
    return {"version": backend.version()}


def _train(model: Model, folder: Path, job: Mapping[str, Any]) -> dict[str, Any]:
    backend = get(job["backend"])
    from backends import steps

    net = backend.build(model, parse(job["device"]))
    backend.load(net, load_file(folder / "weights.safetensors"))
    steps.train(job["backend"], net, folder, job["seed"], job["graph"])
    return {"version": backend.version()}


def _examine(model: Model, folder: Path, job: Mapping[str, Any]) -> dict[str, Any]:
    """Run the same images several times: the first outputs, and the seconds of each run."""
    backend = get(job["backend"])
    net = backend.build(model, parse(job["device"]))
    backend.load(net, load_file(folder / "weights.safetensors"))
    images, seconds = np.load(folder / "inputs.npy"), []
    for _ in range(job["runs"]):
        start = time.perf_counter()
        outputs = backend.predict(net, images)
        seconds.append(time.perf_counter() - start)
    save_file({name: np.ascontiguousarray(array) for name, array in outputs.items()}, folder / "outputs.safetensors")
    return {"version": backend.version(), "gpus": backend.gpus(), "seconds": seconds}


def _observe(model: Model, folder: Path, job: Mapping[str, Any]) -> dict[str, Any]:
    """Run a user's own network and record its operations: see `zoo.parity.foreign`."""
    version = get(job["backend"]).version()
    observer: Observes = load(job["backend"], "observe")
    target = job["target"]
    net = observer.load(Path(job["folder"], target)) if Path(target).suffix in FILES else _called(target, job["folder"])
    observer.assign(net, {name: np.load(folder / f"tensor{i}.npy") for i, name in enumerate(job["tensors"])})
    observer.observe(net, np.load(folder / "inputs.npy"), job["training"]).save(folder)
    return {"version": version}


def _preprocess(model: Model, folder: Path, job: Mapping[str, Any]) -> dict[str, Any]:
    """Run a user's preprocessing on images: see `zoo.parity.preprocessing`."""
    function = _imported(job["target"], job["folder"])
    for number, image in enumerate(job["images"]):
        try:
            array = np.asarray(function(image), np.float32)
        except Exception as error:
            raise BackendError(f"{job['target']}({image!r}) failed: {type(error).__name__}: {error}") from error
        array = array[0] if array.ndim == 4 and len(array) == 1 else array
        if array.ndim == 3 and array.shape[0] != 3 and array.shape[2] == 3:
            array = array.transpose(2, 0, 1)
        if array.ndim != 3 or array.shape[0] != 3 or array.shape[1] != array.shape[2]:
            raise BackendError(
                f"{job['target']}({image!r}): expected an array [3, N, N], [1, 3, N, N] or [N, N, 3], not "
                f"{list(array.shape)}"
            )
        np.save(folder / f"image{number}.npy", array)
    return {}


def _imported(target: str, folder: str) -> Any:
    """The object "package.module:name". Raises BackendError when it cannot be imported."""
    module, _, name = target.partition(":")
    sys.path.insert(0, folder)
    try:
        function: Any = importlib.import_module(module)
        for part in name.split("."):
            function = getattr(function, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise BackendError(f"{target}: expected package.module:function, but {error}") from None
    return function


def _called(target: str, folder: str) -> Any:
    """What "package.module:function" returns. Raises BackendError when it cannot be imported or fails."""
    function = _imported(target, folder)
    try:
        return function()
    except Exception as error:
        raise BackendError(f"{target}: calling it without arguments failed: {type(error).__name__}: {error}") from error


TASKS = {
    "observe": _observe,
    "predict": _predict,
    "preprocess": _preprocess,
    "judge": _judge,
    "judge_operations": _judge_operations,
    "differentiate": _differentiate,
    "judge_steps": _judge_steps,
    "train": _train,
    "examine": _examine,
}


def peak_memory() -> int | None:
    """The peak memory of this process in bytes: Linux's VmHWM, None elsewhere.

    getrusage's ru_maxrss would include the parent's memory before exec.
    """
    status = Path("/proc/self/status")
    match = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return int(match[1]) * 1024 if match else None


def main(folder: Path) -> None:
    try:
        result = _work(folder)
    except ZooError as error:
        result = {"error": type(error).__name__, "message": str(error)}
    (folder / "result.part").write_text(json.dumps(result))
    (folder / "result.part").rename(folder / "result.json")


def work(folder: Path) -> NoReturn:
    """Run the job in a folder, and end the process."""
    status = 1
    try:
        main(folder)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)  # at a normal exit MindSpore 2.8 prints an ignored exception for every cell


if __name__ == "__main__":
    work(Path(sys.argv[1]))
