"""`zoo bench`: how fast networks run, each way in a process of its own, all of them taking turns."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

import weights
from backends.device import parse
from backends.engine import available_threads
from backends.timing import MODES
from backends.timing import Path as TimedPath
from zoo.arguments import integer
from zoo.errors import BackendError, InputError, UnavailableError
from zoo.frameworks import DTYPES, FRAMEWORKS, RUNTIMES
from zoo.language.document import to_json
from zoo.language.model import Model, configure
from zoo.language.trace import InputCheck, trace

WARM_UP = 2
"""Runs of each batch size before the first that counts: they compile, allocate and pack weights."""

STYLES = {"eager": ":", "graph": "--", "deploy": "-"}
MARKERS = {"fp32": "o", "tf32": "P", "bf16": "s", "fp16": "D", "int8": "^"}
"""Of a figure's modes and dtypes; its colours are the backends'."""

COLUMNS = (
    *("model", "backend", "mode", "dtype", "batch", "p10_ms", "p50_ms", "p90_ms", "images_per_second"),
    *("utilisation", "start_up_s", "compile_s", "memory_mb", "version", "description"),
)
"""Of a row, in the order of the CSV file."""


TimedFacts: TypeAlias = tuple[dict[str, str], Callable[[], TimedPath]]
"""What is reported of a path (backend, mode, dtype), and how it is started."""


@dataclass(frozen=True)
class Settings:
    """What to measure.

    backends  keys of FRAMEWORKS and RUNTIMES
    modes     "eager", "graph", "deploy"; or "train" for a training step
    dtypes    of engines
    batches   numbers of images in a batch
    rounds    runs of each path that count
    compiler  of engines: see `zoo.build`
    """

    backends: Sequence[str] = tuple(FRAMEWORKS)
    modes: Sequence[str] = ("eager", "deploy")
    dtypes: Sequence[str] = ("fp32",)
    batches: Sequence[int] = (1,)
    rounds: int = 10
    device: str | None = None
    threads: int | None = None
    compiler: str = ""

    def __post_init__(self) -> None:
        for what, given, known in (
            ("backend", self.backends, (*FRAMEWORKS, *RUNTIMES)),
            ("mode", self.modes, MODES),
            ("dtype", self.dtypes, DTYPES),
        ):
            for value in given:
                if value not in known:
                    raise BackendError(f"unknown {what} {value!r}: expected some of {', '.join(known)}")
            if not given:
                raise BackendError(f"no {what} to measure: name some of {', '.join(known)}")
        if not self.batches:
            raise InputError("no batch size to measure")
        for batch in self.batches:
            integer(batch, "the batch")
        integer(self.rounds, "rounds")
        parse(self.device)


def bench(
    models: Sequence[str | Path | Model],
    settings: Settings = Settings(),
    *,
    size: int | None = None,
    width: float = 1.0,
    progress: Callable[[str, str], None] = lambda model, step: None,
) -> dict[str, Any]:
    """Measure every combination; returns the JSON document of `zoo bench`.

    Weights are random: the time does not depend on them. Each path is built in a process of its own; then all of a
    model's paths take turns, one run of each batch size at a time, so that other load on the machine slows all alike.
    `utilisation` is the multiply-adds of convolutions and linear layers, at the median time, over the rate of a large
    matrix product that takes its turns too. Paths that a backend does not have are listed as skipped.
    """
    specs = [configure(weights.resolve(model), aux=False, width=width) for model in models]
    if not specs:
        raise InputError("no model to measure")
    specs = specs if size is None else [_resized(spec, integer(size, "the size")) for spec in specs]
    found = [measured(spec, paths_of(spec, settings), settings, partial(progress, spec.name)) for spec in specs]
    return {
        **found[-1],
        "rows": [row for document in found for row in document["rows"]],
        "skipped": [entry for document in found for entry in document["skipped"]],
        "ceiling_gflops": statistics.median(document["ceiling_gflops"] for document in found),
        "macs": {spec.name: trace(spec).macs for spec in specs},
    }


def measured(
    spec: Model,
    paths: Sequence[TimedFacts],
    settings: Settings,
    progress: Callable[[str], None] = lambda name: None,
) -> dict[str, Any]:
    """As `bench`, for one model and any paths that run it."""
    found = _take_turns(paths, settings, progress)
    macs = trace(spec).macs
    for row in found["rows"]:
        work = 2 * macs * row["batch"] * (3 if row["mode"] == "train" else 1)  # backward is two products for each one
        row["utilisation"] = work / (row["p50_ms"] / 1000) / found["rate"]
    return {
        "rows": [{"model": spec.name, **row} for row in found["rows"]],
        "skipped": [{"model": spec.name, **entry} for entry in found["skipped"]],
        "ceiling_gflops": found["rate"] / 1e9,
        "ceiling": found["ceiling"],
        "threads": settings.threads or available_threads(),
        "device": settings.device or "cpu",
        "processor": processor(),
        "rounds": settings.rounds,
        "macs": {spec.name: macs},
    }


def paths_of(spec: Model, settings: Settings) -> list[TimedFacts]:
    """The combinations of a model. Runtimes without a framework have engines only."""
    found: list[TimedFacts] = []
    for backend in settings.backends:
        for mode in settings.modes:
            if backend in RUNTIMES and mode in ("eager", "graph") and "deploy" in settings.modes:
                continue
            for dtype in settings.dtypes if mode == "deploy" else ("fp32",):
                job = {
                    "backend": backend,
                    "mode": mode,
                    "dtype": dtype,
                    "model": to_json(spec),
                    "device": settings.device,
                    "threads": settings.threads,
                    "compiler": settings.compiler if backend == "torch" else "",
                }
                facts = {"backend": backend, "mode": mode, "dtype": dtype}

                def start(name: str = f"{backend} {mode} {dtype}", job: dict[str, Any] = job) -> TimedPath:
                    return TimedPath(name, job, threads=settings.threads)

                found.append((facts, start))
    return found


def _take_turns(paths: Sequence[TimedFacts], settings: Settings, progress: Callable[[str], None]) -> dict[str, Any]:
    """Start the paths, warm them up, and let them take turns; returns rows, skipped paths and the ceiling's rate."""
    rows, skipped = [], []
    with ExitStack() as stack:
        ceiling = TimedPath("ceiling", {"backend": "ceiling"}, threads=settings.threads)
        stack.callback(ceiling.close)
        running: list[tuple[dict[str, str], TimedPath]] = []
        for facts, start in paths:
            progress(" ".join(facts.values()))
            try:
                path = start()
                stack.callback(path.close)
                for batch in settings.batches:
                    for _ in range(WARM_UP):
                        path.time(batch)
            except (BackendError, UnavailableError) as error:
                skipped.append({**facts, "reason": str(error)})
            else:
                running.append((facts, path))
        products = [ceiling.time(1) for _ in range(WARM_UP)]
        times: dict[tuple[int, int], list[float]] = {}
        for number in range(settings.rounds):
            progress(f"round {number + 1} of {settings.rounds}")
            products.append(ceiling.time(1))
            turn = number % max(len(running), 1)
            for index in [*range(turn, len(running)), *range(turn)]:  # each path follows another one in every round
                for batch in settings.batches:
                    times.setdefault((index, batch), []).append(running[index][1].time(batch))
        for index, (facts, path) in enumerate(running):
            memory = path.memory()
            for batch in settings.batches:
                low, middle, high = np.percentile(times[index, batch], (10, 50, 90)).tolist()
                rows.append(
                    {
                        **facts,
                        "batch": batch,
                        **{"p10_ms": 1000 * low, "p50_ms": 1000 * middle, "p90_ms": 1000 * high},
                        "images_per_second": batch / middle,
                        "start_up_s": path.facts["start_up"],
                        "compile_s": path.facts.get("compile"),
                        "memory_mb": None if memory is None else memory / 1e6,
                        "version": path.facts["version"],
                        "description": path.facts["description"],
                        "seconds": times[index, batch],
                    }
                )
        rate = ceiling.facts["flops"] / statistics.median(products[WARM_UP:])
        described = ceiling.facts["description"]
    return {"rows": rows, "skipped": skipped, "rate": rate, "ceiling": described}


def _resized(spec: Model, size: int) -> Model:
    InputCheck(spec)((1, spec.in_channels, size, size))
    return replace(spec, size=size)


def processor() -> str:
    """The processor's name and number of cores."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores"


def markdown(document: dict[str, Any]) -> str:
    """The rows as a Markdown table, with what a reader must know below it."""
    batches = sorted({row["batch"] for row in document["rows"]})
    head = [
        "model",
        "path",
        *(f"batch {batch}: ms (images/s)" for batch in batches),
        "of the ceiling",
        "start-up s",
        "memory MB",
    ]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for key in dict.fromkeys((row["model"], row["backend"], row["mode"], row["dtype"]) for row in document["rows"]):
        own = {
            row["batch"]: row
            for row in document["rows"]
            if (row["model"], row["backend"], row["mode"], row["dtype"]) == key
        }
        first = own[batches[0]]
        cells = [f"{own[batch]['p50_ms']:.1f} ({own[batch]['images_per_second']:.1f})" for batch in batches]
        best = max(row["utilisation"] for row in own.values())
        memory = "" if first["memory_mb"] is None else f"{first['memory_mb']:.0f}"
        path = " ".join(filter(None, key[1:]))
        lines.append(f"| {key[0]} | {path} | {' | '.join(cells)} | {best:.0%} | {first['start_up_s']:.1f} | {memory} |")
    lines += ["", facts(document)]
    return "\n".join(lines) + "\n"


def facts(document: dict[str, Any]) -> str:
    """Where and how the figures were measured, in words."""
    return (
        f"Medians of {document['rounds']} rounds, paths taking turns; {document['threads']} threads, "
        f"{document['device']}, {document['processor']}. The ceiling is {document['ceiling']}: "
        f"{document['ceiling_gflops']:.0f} GFLOP/s."
    )


def figure(document: dict[str, Any], path: str | Path) -> None:
    """Draw latency at the smallest batch size against multiply-adds. Raises BackendError without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise BackendError("a figure needs matplotlib: pip install matplotlib") from None
    from zoo.files import atomic_write

    batch = min(row["batch"] for row in document["rows"])
    rows = [row for row in document["rows"] if row["batch"] == batch]
    drawing = Figure(figsize=(8, 5), layout="constrained")
    axes = drawing.subplots()
    names = list(dict.fromkeys((row["backend"], row["mode"], row["dtype"]) for row in rows))
    backends = list(dict.fromkeys(backend for backend, _, _ in names))
    for name in names:
        style = {"color": f"C{backends.index(name[0])}", "linestyle": STYLES.get(name[1], "-")}
        own = sorted(
            (document["macs"][row["model"]] / 1e9, row["p50_ms"])
            for row in rows
            if (row["backend"], row["mode"], row["dtype"]) == name
        )
        marker = MARKERS.get(name[2], "o")
        line = axes.plot([x for x, _ in own], [y for _, y in own], label=" ".join(name), linewidth=1, marker=marker)[0]
        line.set(**style)
    for model, macs in document["macs"].items():
        times = [row["p50_ms"] for row in rows if row["model"] == model]
        if times:
            axes.annotate(
                model, (macs / 1e9, max(times)), xytext=(0, 6), textcoords="offset points", ha="center", fontsize=8
            )
    axes.set_xlabel("multiply-adds of an image, billions")
    axes.set_ylabel(f"latency, ms, batch {batch}")
    axes.set_yscale("log")
    axes.margins(x=0.12, y=0.12)
    axes.grid(alpha=0.3)
    drawing.legend(fontsize=8, frameon=False, loc="outside right upper")
    axes.set_title(f"{document['processor']}, {document['threads']} threads", fontsize=9)
    with atomic_write(path) as part:
        drawing.savefig(part, format=Path(path).suffix.removeprefix(".") or "png", dpi=150)
