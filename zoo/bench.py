"""`zoo bench`: how fast networks run, in every backend, mode and dtype, each in a process of its own."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

import weights
from backends.device import parse
from backends.engine import available_threads
from backends.timing import MODES, TimedProcess
from weights import published
from zoo import processor
from zoo.arguments import integer
from zoo.errors import BackendError, InputError, UnavailableError
from zoo.frameworks import DTYPES, FRAMEWORKS, RUNTIMES
from zoo.language.document import to_json
from zoo.language.model import Model, configure
from zoo.language.trace import InputCheck, trace

WARM_UP = 2
"""Untimed runs of each batch size before the timed ones: they compile, allocate and pack weights."""

PAUSE = 0.25
"""Seconds to wait before each turn: the previous process's threads keep spinning, for 0.2 s by default in OpenMP."""

STYLES = {"eager": ":", "graph": "--", "deploy": "-"}
MARKERS = {"fp32": "o", "tf32": "P", "bf16": "s", "fp16": "D", "int8": "^"}
"""Line styles of the modes, and markers of the dtypes, in a figure; each backend has a colour."""

COLUMNS = (
    *("model", "backend", "mode", "dtype", "batch", "p10_ms", "p50_ms", "p90_ms", "images_per_second"),
    *("utilisation", "start_up_s", "compile_s", "memory_mb", "version", "description"),
)
"""Columns of the CSV file."""


Configuration: TypeAlias = tuple[dict[str, str], Callable[[], TimedProcess]]
"""How a network is run, as reported (backend, mode, dtype), and the function that starts a process that runs it so."""


@dataclass(frozen=True)
class Settings:
    """What to measure.

    backends  keys of FRAMEWORKS and RUNTIMES
    modes     "eager", "graph", "deploy"; or "train" for a training step
    dtypes    of engines: "fp32", "tf32", "bf16", "fp16", "int8"
    batches   numbers of images in a batch
    rounds    timed runs of each configuration at each batch size
    device    "cpu", "gpu" or "gpu:1"; by default the framework's own default, for an engine the CPU
    threads   on the CPU; by default $OMP_NUM_THREADS, or as many as this process may use
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
        if self.threads is not None:
            integer(self.threads, "threads")
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

    Weights are random: the time does not depend on them. Each configuration is built in a process of its own. Then all
    configurations of a model take turns, one run of each batch size at a time, so that other load on the machine slows
    all of them alike. The ceiling is the rate of a large float32 matrix product on the CPU, which takes turns too.
    `utilisation` is the rate of the network's convolutions and linear layers, at the median time, divided by the
    ceiling (None on a GPU). `top1` is the published accuracy of a model's weights, or None. Configurations that a
    backend does not have are listed as skipped. Networks have no auxiliary heads, in training steps (mode "train") too.
    """
    specs = [configure(weights.resolve(model), aux=False, width=width) for model in models]
    if not specs:
        raise InputError("no model to measure")
    specs = specs if size is None else [_resized(spec, integer(size, "the size")) for spec in specs]
    found = [measured(spec, configurations(spec, settings), settings, partial(progress, spec.name)) for spec in specs]
    return {
        **found[-1],
        "rows": [row for document in found for row in document["rows"]],
        "skipped": [entry for document in found for entry in document["skipped"]],
        "ceiling_gflops": statistics.median(document["ceiling_gflops"] for document in found),
        "macs": {spec.name: trace(spec).macs for spec in specs},
        "top1": {spec.name: published.top1(spec) for spec in specs},
    }


def measured(
    spec: Model,
    ways: Sequence[Configuration],
    settings: Settings,
    progress: Callable[[str], None] = lambda name: None,
) -> dict[str, Any]:
    """The same as `bench` for one model, `spec`, and any configurations that run it."""
    found = _take_turns(ways, settings, progress)
    macs = trace(spec).macs
    for row in found["rows"]:
        work = 2 * macs * row["batch"] * (3 if row["mode"] == "train" else 1)  # backward: two products for each
        on_cpu = (settings.device or "cpu") == "cpu"
        row["utilisation"] = work / (row["p50_ms"] / 1000) / found["rate"] if on_cpu else None
    return {
        "rows": [{"model": spec.name, **row} for row in found["rows"]],
        "skipped": [{"model": spec.name, **entry} for entry in found["skipped"]],
        "ceiling_gflops": found["rate"] / 1e9,
        "ceiling": found["ceiling"],
        "threads": settings.threads or available_threads(),
        "device": settings.device or "cpu",
        "processor": processor.description(),
        "rounds": settings.rounds,
        "macs": {spec.name: macs},
        "top1": {spec.name: published.top1(spec)},
    }


def configurations(spec: Model, settings: Settings) -> list[Configuration]:
    """Every combination of backend, mode and dtype; modules are timed in float32 only."""
    found: list[Configuration] = []
    for backend in settings.backends:
        for mode in settings.modes:
            for dtype in settings.dtypes if mode == "deploy" else ("fp32",):
                job = {
                    "backend": backend,
                    "mode": mode,
                    "dtype": dtype,
                    "model": to_json(spec),
                    "device": settings.device,
                    "threads": settings.threads,
                    "compiler": settings.compiler,
                }

                def start(name: str = f"{backend} {mode} {dtype}", job: dict[str, Any] = job) -> TimedProcess:
                    if job["backend"] in RUNTIMES and job["mode"] in ("eager", "graph"):
                        raise UnavailableError(f"{job['backend']}: has engines only")
                    return TimedProcess(name, job, threads=settings.threads)

                found.append(({"backend": backend, "mode": mode, "dtype": dtype}, start))
    return found


def _take_turns(ways: Sequence[Configuration], settings: Settings, progress: Callable[[str], None]) -> dict[str, Any]:
    """Start the processes, warm them up, and let them take turns; returns rows, skipped ways and the ceiling's rate."""
    rows: list[dict[str, Any]] = []
    skipped: list[dict[str, str]] = []
    running: list[tuple[dict[str, str], TimedProcess]] = []
    times: dict[tuple[str, int], list[float]] = {}
    with ExitStack() as stack:
        ceiling = TimedProcess("ceiling", {"backend": "ceiling"}, threads=settings.threads)
        stack.callback(ceiling.close)
        for facts, start in ways:
            progress(" ".join(filter(None, facts.values())))
            try:
                process = start()
                stack.callback(process.close)
                for batch in settings.batches:
                    for _ in range(WARM_UP):
                        process.time(batch)
            except BackendError as error:
                skipped.append({**facts, "reason": str(error)})
            else:
                running.append((facts, process))
        products = [ceiling.time(1) for _ in range(WARM_UP)]
        for number in range(settings.rounds):
            progress(f"round {number + 1} of {settings.rounds}")
            time.sleep(PAUSE)
            products.append(ceiling.time(1))
            turn = number % max(len(running), 1)
            for facts, process in running[turn:] + running[:turn]:  # another one begins each round
                time.sleep(PAUSE)
                try:
                    for batch in settings.batches:
                        times.setdefault((process.name, batch), []).append(process.time(batch))
                except BackendError as error:
                    skipped.append({**facts, "reason": str(error)})
                    running = [entry for entry in running if entry[1] is not process]
        for facts, process in running:
            memory = process.memory()
            for batch in settings.batches:
                low, middle, high = np.percentile(times[process.name, batch], (10, 50, 90)).tolist()
                rows.append(
                    {
                        **facts,
                        "batch": batch,
                        **{"p10_ms": 1000 * low, "p50_ms": 1000 * middle, "p90_ms": 1000 * high},
                        "images_per_second": batch / middle,
                        "start_up_s": process.facts["start_up"],
                        "compile_s": process.facts.get("compile"),
                        "memory_mb": None if memory is None else memory / 1e6,
                        "version": process.facts["version"],
                        "description": process.facts["description"],
                        "seconds": times[process.name, batch],
                    }
                )
        rate = ceiling.facts["flops"] / statistics.median(products[WARM_UP:])
        described = ceiling.facts["description"]
    return {"rows": rows, "skipped": skipped, "rate": rate, "ceiling": described}


def _resized(spec: Model, size: int) -> Model:
    InputCheck(spec)((1, spec.in_channels, size, size))
    return replace(spec, size=size)


def markdown(document: dict[str, Any]) -> str:
    """The rows as a Markdown table; the line below it says where and how they were measured."""
    batches = sorted({row["batch"] for row in document["rows"]})
    head = [
        "model",
        "run by",
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
        best = max((row["utilisation"] for row in own.values() if row["utilisation"]), default=None)
        memory = "" if first["memory_mb"] is None else f"{first['memory_mb']:.0f}"
        way = " ".join(filter(None, key[1:]))
        start = f"{first['start_up_s']:.1f}"
        share = "" if best is None else f"{best:.0%}"
        lines.append(f"| {' | '.join((key[0], way, *cells, share, start, memory))} |")
    lines += ["", facts(document)]
    return "\n".join(lines) + "\n"


def facts(document: dict[str, Any]) -> str:
    """Where and how the figures were measured, in words."""
    return (
        f"Medians of {document['rounds']} rounds in which all take turns; {document['threads']} threads, "
        f"{document['device']}, {document['processor']}. The ceiling is the rate of {document['ceiling']}: "
        f"{document['ceiling_gflops']:.0f} GFLOP/s."
    )


def figure(document: dict[str, Any], path: str | Path) -> None:
    """Draw latency at the smallest batch size against multiply-adds, and against published accuracy, by matplotlib."""
    from matplotlib.figure import Figure

    from zoo.files import atomic_write

    axes_of = {"multiply-adds of an image, billions": {name: macs / 1e9 for name, macs in document["macs"].items()}}
    if accuracies := {name: top1 for name, top1 in document["top1"].items() if top1 is not None}:
        axes_of["published top-1 accuracy on ImageNet, percent"] = accuracies
    batch = min(row["batch"] for row in document["rows"])
    rows = [row for row in document["rows"] if row["batch"] == batch]
    drawing = Figure(figsize=(4 + 4.5 * len(axes_of), 5), layout="constrained")
    panels = drawing.subplots(1, len(axes_of), sharey=True, squeeze=False)[0]
    for axes, (label, positions) in zip(panels, axes_of.items(), strict=True):
        _panel(axes, rows, positions)
        axes.set_xlabel(label)
    panels[0].set_ylabel(f"latency, ms, batch {batch}")
    panels[0].set_yscale("log")
    handles, labels = panels[0].get_legend_handles_labels()
    drawing.legend(handles, labels, fontsize=8, frameon=False, loc="outside right upper")
    drawing.suptitle(f"{document['processor']}, {document['threads']} threads", fontsize=9)
    with atomic_write(path) as part:
        drawing.savefig(part, format=Path(path).suffix.removeprefix(".") or "png", dpi=150)


def _panel(axes: Any, rows: Sequence[dict[str, Any]], positions: Mapping[str, float]) -> None:
    """Draw the rows' latencies at the models' positions, a line for each backend, mode and dtype."""
    names = list(dict.fromkeys((row["backend"], row["mode"], row["dtype"]) for row in rows))
    backends = list(dict.fromkeys(backend for backend, _, _ in names))
    for name in names:
        own = sorted(
            (positions[row["model"]], row["p50_ms"])
            for row in rows
            if (row["backend"], row["mode"], row["dtype"]) == name and row["model"] in positions
        )
        axes.plot(
            [x for x, _ in own],
            [y for _, y in own],
            label=" ".join(name),
            linewidth=1,
            marker=MARKERS.get(name[2], "o"),
            color=f"C{backends.index(name[0])}",
            linestyle=STYLES.get(name[1], "-"),
        )
    for number, (model, x) in enumerate(sorted(positions.items(), key=lambda item: item[1])):
        times = [row["p50_ms"] for row in rows if row["model"] == model]
        if times:  # neighbours are labelled above and below in turn
            y, offset, side = (max(times), 6, "bottom") if number % 2 == 0 else (min(times), -6, "top")
            axes.annotate(
                model, (x, y), xytext=(0, offset), textcoords="offset points", ha="center", va=side, fontsize=8
            )
    axes.margins(x=0.15, y=0.12)
    axes.grid(alpha=0.3)
