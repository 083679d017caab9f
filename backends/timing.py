"""A network timed in a process of its own: `python -m backends.timing`, and `TimedProcess`, which starts it.

The process gets its job as a line of JSON on standard input, builds the network, and answers with a line of facts. Then
it answers every line {"batch": N} with the seconds of one run on N images, after a run that is not timed. Several such
processes can thus take turns, so that other load on the machine slows all of them alike. Answers are lines of standard
output that begin with `ANSWER`.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from backends import deploys, get
from backends.device import parse
from backends.engine import EngineOptions, available_threads
from backends.jobs import peak_memory
from zoo.errors import BackendError, UnavailableError, ZooError
from zoo.language.document import from_json
from zoo.language.model import Model

ANSWER = "zoo-timing: "
Call = Callable[[np.ndarray[Any, Any]], object]
CEILING_SIDE = 2048

TIMEOUT = 1800
"""Seconds to wait for an answer: `torch.compile` may take minutes."""


class TimedProcess:
    """A process that runs a network on request.

    `job` is sent to `command`, by default this module; `facts` is its first answer. Raises UnavailableError when the
    backend has no such mode or device, BackendError when the process fails.
    """

    def __init__(self, name: str, job: dict[str, Any], command: Sequence[str] = (), threads: int | None = None) -> None:
        self.name = name
        threads = threads or available_threads()
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
        self.errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 (`close` closes it)
        self.folder = tempfile.TemporaryDirectory(prefix="zoo-timing-")
        self.process = subprocess.Popen(
            [*(command or (sys.executable, "-m", "backends.timing"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env=environment | {"PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path if path)},
            cwd=self.folder.name,  # -m puts the working folder first on the path: it must not be the caller's
        )
        try:
            self.facts = self.ask(job)
        except BaseException:
            self.close()
            raise

    def time(self, batch: int) -> float:
        """The seconds of one run on `batch` images."""
        return float(self.ask({"batch": batch})["seconds"])

    def memory(self) -> int | None:
        """The process's peak memory in bytes; None where the system does not tell."""
        return self.ask({"memory": True})["memory"]

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """The answer to a question. Raises BackendError if the process fails or takes longer than `TIMEOUT`."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        timer = threading.Timer(TIMEOUT, self.process.kill)
        timer.start()
        try:
            print(json.dumps(question), file=self.process.stdin, flush=True)
            line = next((line for line in self.process.stdout if line.startswith(ANSWER)), None)
        except BrokenPipeError:
            line = None
        finally:
            timer.cancel()
        if line is None:
            status = self.process.wait()
            self.errors.seek(0)
            said = [text for text in self.errors.read().splitlines() if text.strip()][-3:]
            raise BackendError(f"{self.name}: its process ended with status {status}: {' | '.join(said)}")
        answer: dict[str, Any] = json.loads(line.removeprefix(ANSWER))
        if "error" in answer:
            raise (UnavailableError if answer["skipped"] else BackendError)(answer["error"])
        return answer

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.errors.close()
        self.folder.cleanup()


def serve(make: Callable[[dict[str, Any]], tuple[Call, dict[str, Any], tuple[int, int, int]]]) -> None:
    """Answer questions on standard input. `make` returns the function to time, facts, and the shape of an image."""
    begin = time.perf_counter()
    try:
        call, facts, shape = make(json.loads(sys.stdin.readline()))
    except ZooError as error:
        _answer({"error": str(error), "skipped": isinstance(error, UnavailableError)})
        os._exit(0)
    _answer({**facts, "start_up": time.perf_counter() - begin})
    inputs: dict[int, Any] = {}
    for line in sys.stdin:
        question = json.loads(line)
        if "memory" in question:
            _answer({"memory": peak_memory()})
            continue
        batch = question["batch"]
        if batch not in inputs:
            inputs[batch] = np.random.default_rng(0).uniform(-1, 1, (batch, *shape)).astype(np.float32)
        call(inputs[batch])  # after a wait, the first run would also time cold caches and threads waking up
        start = time.perf_counter()
        call(inputs[batch])
        _answer({"seconds": time.perf_counter() - start})
    os._exit(0)  # at a normal exit MindSpore 2.8 prints an ignored exception for every cell


def _answer(document: dict[str, Any]) -> None:
    print(f"\n{ANSWER}{json.dumps(document)}", flush=True)


def _make(job: dict[str, Any]) -> tuple[Call, dict[str, Any], tuple[int, int, int]]:
    if job["backend"] == "ceiling":
        return _ceiling()
    import weights

    begin = time.perf_counter()
    backend = get(job["backend"])
    imported = time.perf_counter() - begin
    model = from_json(job["model"])
    arrays = weights.initial(model, 0)
    begin = time.perf_counter()
    call, description, seconds = MODES[job["mode"]](job, model, arrays)
    facts = {
        "version": backend.version(),
        "description": description,
        "import": imported,
        "build": time.perf_counter() - begin,
        "compile": seconds.get("compile"),
    }
    return call, facts, (model.in_channels, model.size, model.size)


def _module(graph: bool) -> Callable[..., Any]:
    def make(job: dict[str, Any], model: Model, arrays: Any) -> tuple[Call, str, dict[str, float]]:
        backend = get(job["backend"])
        net = backend.build(model, parse(job["device"]))
        backend.load(net, arrays)
        return deploys(job["backend"]).classifier(net, graph), "graph" if graph else "eager", {}

    return make


def _deploy(job: dict[str, Any], model: Model, arrays: Any) -> tuple[Call, str, dict[str, float]]:
    calibration = None
    if job["dtype"] == "int8":
        shape = (16, model.in_channels, model.size, model.size)
        calibration = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    options = EngineOptions(job["dtype"], parse(job["device"]), job["threads"], job["compiler"], calibration)
    engine = deploys(job["backend"]).deploy(model, arrays, options)
    return engine, engine.description, engine.seconds


def _train(job: dict[str, Any], model: Model, arrays: Any) -> tuple[Call, str, dict[str, float]]:
    from backends.training import trainer
    from zoo.frameworks import FRAMEWORKS
    from zoo.training.optimizers import Optimizer
    from zoo.training.plan import Plan, groups

    backend = get(job["backend"])
    if job["backend"] not in FRAMEWORKS:
        raise UnavailableError(f"{job['backend']}: runs in inference only")
    graph = FRAMEWORKS[job["backend"]].compiles_by_default
    net = backend.build(model, parse(job["device"]))
    backend.load(net, arrays)
    training = trainer(job["backend"], net, Plan(Optimizer("momentum", 0.9), groups(model), graph=graph))
    targets = np.eye(model.num_classes, dtype=np.float32)

    def step(x: Any) -> float:
        return float(training.step(x, targets[np.arange(len(x)) % model.num_classes], 0.01))

    return step, f"training step, {'graph' if graph else 'eager'}", {}


MODES = {"eager": _module(False), "graph": _module(True), "deploy": _deploy, "train": _train}


def _ceiling() -> tuple[Call, dict[str, Any], tuple[int, int, int]]:
    """A float32 matrix product, by ONNX Runtime, PyTorch or NumPy, whichever is installed first in this order.

    ONNX Runtime's own kernels reach the processor's limit. PyTorch and NumPy call a BLAS: on an AMD processor MKL
    reached a half of the limit, OpenBLAS a quarter.
    """
    side = CEILING_SIDE
    array = np.random.default_rng(0).uniform(-1, 1, (side, side)).astype(np.float32)
    product, version = _onnx_product(array) or _torch_product(array) or _numpy_product(array)
    described = f"a matrix product of {side} x {side}, float32, {version}"
    return product, {"flops": 2 * side**3, "description": described, "version": version}, (1, 1, 1)


def _onnx_product(array: Any) -> tuple[Call, str] | None:
    try:
        import onnx
        import onnxruntime
    except ImportError:
        return None
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, array.shape) for name in ("x", "y")]
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = onnx.helper.make_graph(
        [node], "product", values[:1], values[1:], [onnx.numpy_helper.from_array(array, "w")]
    )
    opset = [onnx.helper.make_opsetid("", 20)]
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = int(os.environ["OMP_NUM_THREADS"])
    session = onnxruntime.InferenceSession(
        onnx.helper.make_model(graph, ir_version=9, opset_imports=opset).SerializeToString(), settings
    )
    return (lambda x: session.run(None, {"x": array})), f"ONNX Runtime {onnxruntime.__version__}"


def _torch_product(array: Any) -> tuple[Call, str] | None:
    try:
        import torch
    except ImportError:
        return None
    tensor = torch.from_numpy(array)
    return (lambda x: tensor @ tensor), f"PyTorch {torch.__version__}"


def _numpy_product(array: Any) -> tuple[Call, str]:
    return (lambda x: array @ array), f"NumPy {np.__version__}"


if __name__ == "__main__":
    serve(_make)
