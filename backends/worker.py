"""One framework in a process of its own: `run` starts it with a job (`backends.jobs`) and waits.

On Linux the process is forked from one that has imported the framework (`backends.forkserver`), unless it is for a GPU.

Arrays are passed in files. The folder holds job.json, model.json (the model's document), weights.safetensors and
inputs.npy; the worker adds outputs.safetensors (and dump.safetensors, its weights read back) and, last, result.json.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from backends import forkserver
from backends.observed import Observation
from zoo import errors
from zoo.errors import BackendError, ZooError
from zoo.frameworks import Dtype
from zoo.language.document import to_json
from zoo.language.model import Model

Array = NDArray[Any]

STDERR_LINES = 5
"""The number of lines, the last ones of a failed worker's standard error, that the error message shows."""


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

    More than `jobs.BATCH` images run in several batches.

    device       as in `backends.device.parse`
    tape         also return every stage's output and every auxiliary head's logits
    dump         read the weights back from the network
    observe      run it once more and record every operation; frameworks can, runtimes and the reference cannot
    repeat       how often to run it; from 2 on, `steady` has the largest differences of the logits: between the runs
                 ("repeated"), and between images in a batch and one by one ("single"), each max |y - z| / max |z|
    deploy       run the backend's engine (`backends.engine`) in `dtype` instead of its module; it returns only logits
    timeout      in seconds
    environment  environment variables to add to those of this process

    Raises UnavailableError when the framework or device is missing, BackendError when the worker dies or takes longer
    than `timeout` (the message has its last lines of standard error), and any ZooError that the worker raises.
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
    """Run one of `jobs.TASKS` in a worker, on the files in `folder`; returns its report. Raises as `run` does.

    `environment` is added to the environment of this process. The file "stderr" gets what the worker prints.
    """
    (folder / "result.json").unlink(missing_ok=True)
    (folder / "model.json").write_text(to_json(model))
    (folder / "job.json").write_text(json.dumps({"task": task, "backend": backend, **job}))
    _start(backend, folder, timeout, environment or {}, str(job.get("device") or "cpu") == "cpu")
    report: dict[str, Any] = json.loads((folder / "result.json").read_text())
    if "error" in report:
        raise _error(report["error"], report["message"])
    return report


def _start(backend: str, folder: Path, timeout: float, more: Mapping[str, str], on_cpu: bool) -> None:
    """Start the worker and wait for its result. Raises BackendError when it writes none."""
    environment = {"OMP_NUM_THREADS": str(os.cpu_count() or 1), **os.environ, "NVIDIA_TF32_OVERRIDE": "0", **more}
    paths = [*filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)), str(Path(__file__).parents[1])]
    environment["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, paths))
    if sys.platform == "linux" and on_cpu:
        status = forkserver.server(backend).run(folder, timeout, environment)
    else:
        status = _execute(folder, timeout, environment)
    if not (folder / "result.json").exists():
        log = (folder / "stderr").read_text(errors="replace")
        lines = [line for line in log.splitlines() if line.strip()]
        said = " | ".join(lines[-STDERR_LINES:]) or "it wrote nothing to standard error"
        raise BackendError(f"{backend}: its worker {_describe(status, timeout)}: {said}")


def _execute(folder: Path, timeout: float, environment: Mapping[str, str]) -> int | None:
    """Run the job in a new process; returns its exit status, or None if it was killed after `timeout` seconds."""
    with (folder / "stderr").open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "backends.jobs", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=stderr,
            stderr=stderr,
            env=environment,
            cwd=folder,  # -m puts the working folder first on the path: it must not be the caller's
            start_new_session=True,
        )
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _describe(status: int | None, timeout: float) -> str:
    if status is None:
        return f"did not finish within {timeout:g} s"
    return f"died of {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"


def _error(kind: str, message: str) -> ZooError:
    made: ZooError = getattr(errors, kind)(message)
    return made
