"""`zoo doctor`: what is installed, which devices it sees, and whether its kernels are right and fast."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from backends import installed, worker
from backends.engine import available_threads
from backends.timing import TimedProcess
from zoo import processor
from zoo.errors import BackendError, ZooError
from zoo.frameworks import FRAMEWORKS, RUNTIMES, Runtime
from zoo.language.interpreter import Interpreter
from zoo.language.model import Model, Preprocess, stages
from zoo.language.nodes import Conv, Head, Node, Relu
from zoo.language.trace import parameters, trace
from zoo.version import __version__

RUNS, PRODUCTS = 6, 5
TOLERANCE = 5e-6
SLOW = 0.1
"""The share of the ceiling below which kernels count as slow: on an idle machine plain modules reach 0.3 to 0.9."""

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Variables that set numbers of threads."""


def _probe_model(name: str, channels: int, size: int, stage: Node, head: Head | None) -> Model:
    return Model(
        name,
        stages(stage=stage),
        head,
        Preprocess(size),
        norm=None,
        size=size,
        in_channels=channels,
        num_classes=channels,
        taps=() if head else ("stage",),
    )


PROBES: dict[str, tuple[Model, int]] = {
    "convolution": (_probe_model("convolution", 64, 56, Conv(64, 3, norm=False), None), 8),
    "product": (_probe_model("product", 1024, 1, Relu(), Head()), 1024),
}
"""Models of a 3x3 convolution of 64 channels at 56 x 56, and of a product of 1,024 x 1,024; each with a batch size."""


def examine(backends: Sequence[str] = (*FRAMEWORKS, *RUNTIMES), timeout: float = 120) -> dict[str, Any]:
    """Check backends, each in a process of its own; returns the JSON document of `zoo doctor`.

    Each entry has the version, the number of GPUs that the backend sees, the environment variables that are set for it
    and, for each of `PROBES`, the error against NumPy in float64 (at most `TOLERANCE`), the rate of its plain modules
    on the CPU, and the kernel that oneDNN reports.
    """
    rows: dict[str, Runtime] = {**FRAMEWORKS, **RUNTIMES}
    for name in backends:
        if name not in rows:
            raise BackendError(f"unknown backend {name!r}: expected some of {', '.join(rows)}")
    product = TimedProcess("ceiling", {"backend": "ceiling"})
    try:
        seconds = [product.time(1) for _ in range(PRODUCTS)]
        ceiling = product.facts["flops"] / min(seconds)
        described = product.facts["description"]
    finally:
        product.close()
    entries = [_examined(rows[name], ceiling, timeout) for name in backends]
    return {
        "ok": all(entry["status"] in ("ok", "slow", "not installed") for entry in entries),
        "version": __version__,
        "processor": processor.description(),
        "threads": available_threads(),
        "ceiling": described,
        "ceiling_gflops": ceiling / 1e9,
        "environment": {name: os.environ[name] for name in THREADS if name in os.environ},
        "backends": entries,
    }


def _examined(row: Runtime, ceiling: float, timeout: float) -> dict[str, Any]:
    entry: dict[str, Any] = {"backend": row.name, "environment": row.environment()}
    if not all(map(installed, row.packages)):
        return {**entry, "status": "not installed", "advice": f"pip install '{row.requirement}'"}
    try:
        for name, (model, count) in PROBES.items():
            found = _probe(row.name, model, count, timeout)
            entry |= {key: found.pop(key) for key in ("version", "gpus")}
            entry[name] = {**found, "of_ceiling": found["gflops"] * 1e9 / ceiling}
    except ZooError as error:
        return {**entry, "status": "broken", "advice": str(error)}
    probes = [entry[name] for name in PROBES]
    if any(not probe["error"] <= TOLERANCE for probe in probes):  # not finite counts as wrong
        return {**entry, "status": "wrong", "advice": "its results differ from NumPy's: report this to its makers"}
    if any(probe["of_ceiling"] < SLOW for probe in probes):
        return {**entry, "status": "slow", "advice": row.when_slow}
    return {**entry, "status": "ok", "advice": ""}


def _probe(backend: str, model: Model, count: int, timeout: float) -> dict[str, Any]:
    """Run a probe's model on `count` images, and compare it with the interpreter."""
    random = np.random.default_rng(0)
    arrays = {
        name: random.uniform(-1, 1, parameter.shape).astype(np.float32) for name, parameter in parameters(model).items()
    }
    images = random.uniform(0, 1, (count, model.in_channels, model.size, model.size)).astype(np.float32)
    with tempfile.TemporaryDirectory(prefix="zoo-doctor-") as name:
        folder = Path(name)
        save_file(arrays, folder / "weights.safetensors")
        np.save(folder / "inputs.npy", images)
        job = {"device": "cpu", "runs": RUNS}
        # OpenVINO 2026.4 sometimes cannot execute a convolution while oneDNN reports.
        verbose = {"ONEDNN_VERBOSE": "1", "DNNL_VERBOSE": "1"} if backend in FRAMEWORKS else {}
        report = worker.call("examine", backend, model, folder, job, timeout, verbose)
        (output,) = load_file(folder / "outputs.safetensors").values()
        kernel = _kernel((folder / "stderr").read_text(errors="replace"))
    expected = Interpreter(model, {name: array.astype(np.float64) for name, array in arrays.items()})(images)
    seconds = min(report["seconds"][1:])
    return {
        "version": report["version"],
        "gpus": report["gpus"],
        "error": _error(output, expected[0] if isinstance(expected, list) else expected),
        "milliseconds": 1000 * seconds,
        "gflops": 2 * trace(model).macs * count / seconds / 1e9,
        "kernel": kernel,
    }


def _error(output: NDArray[Any], expected: NDArray[Any]) -> float:
    return float(np.abs(output - expected).max() / np.abs(expected).max())


def _kernel(printed: str) -> str | None:
    """The implementation of the last convolution or product that oneDNN says it executed; None if it says nothing."""
    names = re.findall(r"exec,cpu,(?:convolution|inner_product|matmul),([^,]+),", printed)
    return names[-1] if names else None
