"""One framework in a process of its own: `python -m backends.worker FOLDER`, and `run`, which starts it and waits.

Arrays cross by file. The folder holds job.json, model.json (the model's document), weights.safetensors and inputs.npy;
the worker adds outputs.safetensors (and dump.safetensors, its weights read back) and, last, result.json.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from backends import deploys, get, load
from backends.device import parse
from backends.engine import Engine, EngineOptions
from backends.observed import FILES, Observation, Observes
from zoo import errors
from zoo.errors import BackendError, ZooError
from zoo.frameworks import Dtype
from zoo.language.document import from_json, to_json
from zoo.language.model import Model

Array = NDArray[Any]
Predict: TypeAlias = Callable[..., Mapping[str, Array]]

BATCH = 16
"""The largest batch that `run` gives a network: of 299 x 299 pixels it takes about a gigabyte."""

STDERR_LINES = 5
"""The number of a failed worker's last lines that its error shows."""


@dataclass(frozen=True)
class Result:
    """What a worker reports.

    outputs  as `Runs.predict` returns them
    seconds  to import, build, load and run
    memory   the process's peak, in bytes; None where the system does not tell
    dump     the weights read back from the network, if asked for
    seen     every operation of the main path, if asked for
    steady   "repeated" and "single", if asked for: see `run`
    """

    version: str
    seconds: dict[str, float]
    memory: int | None
    outputs: dict[str, Array]
    dump: dict[str, Array] = field(default_factory=dict)
    seen: Observation | None = None
    steady: dict[str, float] = field(default_factory=dict)


def run(
    backend: str,
    model: Model,
    weights: Mapping[str, Array] | Path,
    inputs: Array,
    *,
    device: str | None = None,
    tape: bool = False,
    dump: bool = False,
    observe: bool = False,
    repeat: int = 1,
    deploy: bool = False,
    dtype: Dtype = "fp32",
    timeout: float = 600,
    environment: Mapping[str, str] | None = None,
) -> Result:
    """Build `model` in its own process, load `weights` (arrays or a safetensors file), run `inputs` [N, C, H, W].

    inputs of more than `BATCH` images run in several batches

    tape     return every stage's output and every auxiliary head's logits too
    dump     read the weights back from the network
    observe  run it once more and record every operation; the frameworks can, the runtimes and the reference cannot
    repeat   how often to run it; from 2 on, `steady` has the largest differences of the logits: between the runs
             ("repeated"), and between the images in the batch and one by one ("single"), each max |y - z| / max |z|
    deploy   run the backend's engine (`backends.engine`) instead of its module, in `dtype`; it has the logits only
    environment  variables to add to this process's

    Raises UnavailableError when the framework or device is missing, BackendError when the worker dies or takes
    longer than `timeout` seconds (its last lines of standard error are in the message), and whatever ZooError it met.
    """
    with tempfile.TemporaryDirectory(prefix="zoo-worker-") as name:
        folder = Path(name)
        if not isinstance(weights, Path):
            save_file(
                {key: np.ascontiguousarray(array) for key, array in weights.items()}, folder / "weights.safetensors"
            )
            weights = folder / "weights.safetensors"
        np.save(folder / "inputs.npy", inputs)
        job = {
            "weights": str(weights.resolve()),
            "device": device,
            "tape": tape,
            "dump": dump,
            "observe": observe,
            "repeat": repeat,
            "deploy": deploy,
            "dtype": dtype,
        }
        report = call("predict", backend, model, folder, job, timeout, environment)
        return Result(
            report["version"],
            report["seconds"],
            report["memory"],
            load_file(folder / "outputs.safetensors"),
            load_file(folder / "dump.safetensors") if dump else {},
            Observation.load(folder) if observe else None,
            report["steady"],
        )


def call(
    task: str,
    backend: str,
    model: Model,
    folder: Path,
    job: Mapping[str, Any],
    timeout: float,
    environment: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Run one of `TASKS` in a worker, on the files in `folder`; returns its report. Raises as `run` does.

    `environment` is added to this process's. What the worker prints is left in the file "stderr".
    """
    (folder / "result.json").unlink(missing_ok=True)
    (folder / "model.json").write_text(to_json(model))
    (folder / "job.json").write_text(json.dumps({"task": task, "backend": backend, **job}))
    _start(backend, folder, timeout, environment or {})
    report: dict[str, Any] = json.loads((folder / "result.json").read_text())
    if "error" in report:
        raise _error(report["error"], report["message"])
    return report


def _start(backend: str, folder: Path, timeout: float, more: Mapping[str, str]) -> None:
    """Start the worker and wait for its result. Raises BackendError when it leaves none."""
    environment = {"OMP_NUM_THREADS": str(os.cpu_count() or 1), **os.environ, "NVIDIA_TF32_OVERRIDE": "0", **more}
    paths = [*filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)), str(Path(__file__).parents[1])]
    environment["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, paths))
    log = folder / "stderr"
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "backends.worker", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=stderr,
            stderr=stderr,
            env=environment,
            cwd=folder,  # -m puts the working folder first on the path: it must not be the caller's
            start_new_session=True,
        )
        try:
            process.wait(timeout)
            end = _describe(process.returncode)
        except subprocess.TimeoutExpired:
            end = f"did not finish within {timeout:g} s"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if not (folder / "result.json").exists():
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        said = " | ".join(lines[-STDERR_LINES:]) or "it wrote nothing to standard error"
        raise BackendError(f"{backend}: its worker {end}: {said}")


def _describe(status: int) -> str:
    return f"died of {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"


def _error(kind: str, message: str) -> ZooError:
    made: ZooError = getattr(errors, kind)(message)
    return made


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
    return {"version": backend.version(), "seconds": seconds, "memory": peak_memory(), "steady": steady}


def _predict_by(engine: Engine) -> Predict:
    """An engine called as a network is: `Runs.predict` without the network."""

    def predict(x: Array) -> dict[str, Array]:
        return {"logits": engine(x)}

    return predict


def _in_batches(predict: Predict, inputs: Array) -> dict[str, Array]:
    """The outputs for all images, run in batches of at most `BATCH`."""
    batches = [predict(inputs[first : first + BATCH]) for first in range(0, len(inputs), BATCH)]
    return {name: np.concatenate([outputs[name] for outputs in batches]) for name in batches[0]}


def _steady(predict: Predict, inputs: Array, outputs: Mapping[str, Array], repeat: int) -> dict[str, float]:
    """Whether a network gives the same logits again, and for the images one by one."""
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
    """Differentiate the stages and heads or, where `job` has some, operations."""
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
    """Run a network that is not ours: see `zoo.parity.foreign`."""
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


if __name__ == "__main__":
    status = 1
    try:
        main(Path(sys.argv[1]))
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)  # MindSpore 2.8 prints an ignored exception a cell when the interpreter takes it apart
