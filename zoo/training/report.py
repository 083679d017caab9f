"""What a run reports: a progress bar or mindcv's log lines, result.log, TensorBoard scalars, curves.png."""

from __future__ import annotations

import importlib
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from zoo import console
from zoo.errors import Stopped, TrainingError
from zoo.files import atomic_write
from zoo.training.metrics import Tally, Which

if TYPE_CHECKING:
    from rich.progress import Progress

Mode = Literal["auto", "bar", "log", "none"]

COLUMNS = ("Epoch", "TrainLoss", "Top_1_Accuracy", "Top_5_Accuracy", "TrainTime", "EvalTime", "TotalTime")
"""Columns of result.log, 20 characters each, as in mindcv: times in seconds, `-` for what was not measured."""

LOG_SCALE_FROM = 20.0
"""The axis of losses is logarithmic if the largest loss is at least this many times the smallest."""


@dataclass(frozen=True)
class Epoch:
    """The figures of an epoch: accuracies in percent, times in seconds; None: not measured, or not in result.log."""

    number: int
    train_loss: float
    top1: float | None
    top5: float | None
    val_loss: float | None
    train_seconds: float
    eval_seconds: float

    def line(self) -> str:
        """Its row of result.log."""
        total = self.train_seconds + self.eval_seconds
        shares = ("-" if share is None else f"{share:.4f}%" for share in (self.top1, self.top5))
        times = (f"{seconds:.2f}" for seconds in (self.train_seconds, self.eval_seconds, total))
        return _row((str(self.number), f"{self.train_loss:.6f}", *shares, *times))

    @classmethod
    def parse(cls, line: str) -> Epoch:
        """The figures of a row that `line` wrote. Raises ValueError for any other text."""
        number, loss, top1, top5, train, evaluation, _ = line.split()
        first, five = (None if share == "-" else float(share.rstrip("%")) for share in (top1, top5))
        return cls(int(number), float(loss), first, five, None, float(train), float(evaluation))


class Reporter:
    """Reports a training run, as a context manager; epochs and steps count from 1.

    folder        for result.log, curves.png and tensorboard/; None: nothing is written
    model         the network's name, the title of the figure
    epochs        number of epochs in the run; `steps`: in each epoch
    mode          bar: a live bar of the whole run; log: mindcv's lines, every `log_interval` steps and at the first and
                  the last step of an epoch; auto: a bar on a terminal, otherwise lines; none: nothing is printed
    tensorboard   write scalars too; raises TrainingError without tensorboardX
    start_epoch   epochs that a resumed run has already done: their rows of result.log are kept and later ones replaced;
                  `start_step`: steps of the epoch after them
    rates         learning rates that the resumed run has already reported, for the figure

    The figure is drawn at the end, also of a run that is interrupted, but not of one that ends in an error.
    """

    def __init__(
        self,
        folder: str | Path | None,
        model: str,
        epochs: int,
        steps: int,
        *,
        mode: Mode = "auto",
        log_interval: int = 100,
        tensorboard: bool = False,
        start_epoch: int = 0,
        start_step: int = 0,
        rates: Sequence[tuple[float, float]] = (),
    ) -> None:
        self.folder = None if folder is None else Path(folder)
        self.model, self.epochs, self.steps = model, epochs, steps
        self.mode = ("bar" if sys.stdout.isatty() else "log") if mode == "auto" else mode
        self.log_interval, self.tensorboard, self.start_epoch = log_interval, tensorboard, start_epoch
        self.done = start_epoch * steps + start_step
        self.history: list[Epoch] = []
        self.rates = list(rates)
        self._loss = float("nan")
        self._bars: Progress | None = None
        self._scalars: Any = None
        self._stack = ExitStack()
        self._last_line, self._images = time.perf_counter(), 0

    def __enter__(self) -> Reporter:
        with ExitStack() as stack:
            if self.folder is not None:
                self._begin_log(self.folder)
                if self.tensorboard:
                    self._scalars = _writer(self.folder / "tensorboard", self.done + 1)
                    stack.callback(self._scalars.close)
            if self.mode == "bar":
                self._bars = stack.enter_context(_bars())
                self._bars.add_task("", total=self.epochs * self.steps, completed=self.done, figures="")
            self._stack = stack.pop_all()
        self._last_line = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()
        if self.folder is not None and self.history and kind in (None, KeyboardInterrupt, Stopped):
            self._draw(self.folder / "curves.png")

    def is_due(self, step: int) -> bool:
        """Whether a step of an epoch is reported with its loss."""
        return step % self.log_interval == 0 or step in (1, self.steps)

    def step(self, epoch: int, step: int, loss: float | None, lr: float, images: int) -> None:
        """Report a step: its loss, None if it has not been read and is not due; its learning rate; its images."""
        self._images += images
        done = (epoch - 1) * self.steps + step
        self._loss = self._loss if loss is None else loss
        if self._bars is not None:
            self._bars.update(
                self._bars.task_ids[0],
                completed=done,
                description=f"Epoch {epoch}/{self.epochs}",
                figures=f"loss {self._loss:.4f}  lr {lr:.2e}  {self._speed():,.0f} images/s",
            )
        if not self.is_due(step):
            return
        self.rates.append((done / self.steps, lr))
        if self.mode == "log":
            seconds = time.perf_counter() - self._last_line
            self.message(
                f"Epoch: [{epoch}/{self.epochs}], batch: [{step}/{self.steps}], "
                f"loss: {self._loss:.6f}, lr: {lr:.6f}, time: {seconds:.6f}s"
            )
        self._scalar(done, {"train/loss": self._loss, "train/lr": lr, "images_per_second": self._speed()})
        self._last_line, self._images = time.perf_counter(), 0

    def epoch(
        self,
        epoch: int,
        train_loss: float,
        top1: float | None,
        top5: float | None,
        val_loss: float | None,
        train_seconds: float,
        eval_seconds: float,
    ) -> None:
        """Report an epoch; it was validated if accuracies (in percent) and a loss are given. Times in seconds."""
        done = Epoch(epoch, train_loss, top1, top5, val_loss, train_seconds, eval_seconds)
        self.history.append(done)
        if self.folder is not None:
            with (self.folder / "result.log").open("a", encoding="utf-8") as file:
                file.write(done.line())
        self._scalar(epoch * self.steps, {"val/top1": top1, "val/top5": top5, "val/loss": val_loss})
        figures = {"Top_1_Accuracy": top1, "Top_5_Accuracy": top5}
        shares = "".join(f", {name}: {share:.4f}%" for name, share in figures.items() if share is not None)
        self.message(
            f"Epoch: [{epoch}/{self.epochs}], loss: {train_loss:.6f}{shares}, train: {train_seconds:.2f}s"
            + (f", val: {eval_seconds:.2f}s" if val_loss is not None else "")
        )
        self._last_line, self._images = time.perf_counter(), 0

    def message(self, text: str) -> None:
        """Print a line, above the bar if there is one; in mode none print nothing."""
        if self.mode != "none":
            print(text, flush=True)

    def _speed(self) -> float:
        """Images a second since the last line."""
        return self._images / max(time.perf_counter() - self._last_line, 1e-9)

    def _scalar(self, step: int, values: dict[str, float | None]) -> None:
        if self._scalars is not None:
            for name, value in values.items():
                if value is not None:
                    self._scalars.add_scalar(name, value, step)

    def _begin_log(self, folder: Path) -> None:
        """Write the header, and in a resumed run the rows of the epochs that are done."""
        path = folder / "result.log"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.history = [row for row in reported(path) if row.number <= self.start_epoch]
            with atomic_write(path) as part:
                part.write_text(_row(COLUMNS) + "".join(done.line() for done in self.history), encoding="utf-8")
        except OSError as error:
            raise TrainingError(f"{path}: cannot write the results there: {error.strerror}") from None

    def _draw(self, path: Path) -> None:
        try:
            from matplotlib.figure import Figure
        except ImportError:
            self.message(f"{path.name}: not drawn, as matplotlib is not installed: pip install matplotlib")
            return
        figure = Figure(figsize=(8, 8), layout="constrained")
        draw(figure, self.model, self.history, self.rates)
        with atomic_write(path) as part:
            figure.savefig(part, format="png", dpi=150)


def validation_table(name: str, tally: Tally, classes: Sequence[str], worst: int = 10, per_class: bool = False) -> None:
    """Print how well a network did: a line of totals, and the `worst` classes by each measure, or every class."""
    counted: dict[Which, str] = {"top1": "top-1", "top5": "top-5"} if tally.classes >= 5 else {"top1": "top-1"}
    totals = ", ".join(f"{title} {_of(tally.correct(which), len(tally))}" for which, title in counted.items())
    print(f"{name}: {totals}, loss {tally.loss:.4f}")
    rows = tally.rows(classes)
    if per_class or len(rows) <= worst:
        shown = {"class": rows if per_class else [rows[number] for number in tally.worst(worst)]}
    else:
        shown = {
            f"the {worst} worst by {title}": [rows[number] for number in tally.worst(worst, which)]
            for which, title in counted.items()
        }
    for whose, some in shown.items():
        table = console.new(whose, *(f">{title}" for title in counted.values()), ">precision", "mostly mistaken for")
        for row in some:
            shares = (_of(row[which], row["images"]) for which in counted)
            precision = "" if row["precision"] is None else f"{row['precision']:.2f}%"
            table.add_row(row["class"], *shares, precision, row["mistaken_for"] or "")
        console.show(table)


def study_table(results: list[dict[str, Any]]) -> None:
    """Print the table of `validate.py --study`: a row for each file and each network that evaluated its weights."""
    rows = console.new("checkpoint", ">eps", "padding counted", ">top-1", ">top-5", ">loss")
    name = ""
    for result in results:
        counts = (result["top1_correct"], result["top5_correct"])
        shares = (
            f"{k} of {result['images']} ({100 * k / result['images']:.2f}%)" if k is not None else "" for k in counts
        )
        shown = result["checkpoint"] if result["checkpoint"] != name else ""
        name = result["checkpoint"]
        rows.add_row(
            shown,
            f"{result['eps']:g}",
            "yes" if result["count_include_pad"] else "no",
            *shares,
            f"{result['summary']['loss']:.4f}",
        )
    console.show(rows)


@contextmanager
def batches(mode: Mode, log_interval: int) -> Iterator[Callable[[int, int], None]]:
    """Show the progress of a pass over a dataset, in a mode of `Reporter`.

    Yields a function to call with the number of batches done and their total.
    """
    if mode == "auto":
        mode = "bar" if sys.stdout.isatty() else "log"
    if mode != "bar":

        def line(done: int, total: int) -> None:
            if mode == "log" and done % log_interval == 0:
                print(f"batch: [{done}/{total}]", flush=True)

        yield line
        return
    with _bars() as bars:
        task = bars.add_task("Validating", figures="")
        yield lambda done, total: bars.update(task, completed=done, total=total)


def reported(path: Path) -> list[Epoch]:
    """The rows of a result.log, [] if it does not exist; the header and damaged lines are skipped. Raises OSError."""
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else ():
        try:
            rows.append(Epoch.parse(line))
        except (ValueError, TypeError):
            continue
    return rows


def draw(figure: Any, title: str, epochs: Sequence[Epoch], rates: Sequence[tuple[float, float]]) -> None:
    """Draw loss, accuracy (if it was measured) and learning rate over epochs on an empty matplotlib Figure.

    rates   pairs of the number of epochs done, a fraction included, and the learning rate at that point
    """
    from matplotlib.ticker import MaxNLocator

    panels = {panel: curves for panel, curves in PANELS.items() if any(_points(epochs, field) for field in curves)}
    heights = [3.0] * len(panels) + [1.3] * bool(rates)
    axes = figure.subplots(len(heights), sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for axis, (panel, curves) in zip(axes, panels.items(), strict=False):
        for field, (name, color, best) in curves.items():
            if points := _points(epochs, field):
                at, value = best(points, key=lambda point: point[1])
                label = f"{name}: best {value:.4g} at epoch {at}"
                axis.plot(*zip(*points, strict=True), "o-", color=color, lw=1.8, ms=3.5, label=label)
        axis.set_ylabel(panel)
        axis.legend(frameon=False, loc="best")
    losses = [value for field in PANELS["loss (nats)"] for _, value in _points(epochs, field)]
    if losses and min(losses) > 0 and max(losses) / min(losses) >= LOG_SCALE_FROM:
        axes[0].set_yscale("log")
    if rates:
        axes[-1].plot(*zip(*rates, strict=True), color="#666666", lw=1.8)
        axes[-1].set_ylabel("learning rate")
        axes[-1].set_ylim(0, 1.1 * max(rate for _, rate in rates) or 1)
        axes[-1].ticklabel_format(axis="y", style="sci", scilimits=(-2, 2), useMathText=True)
    for axis in axes:
        axis.grid(color="#e4e4e4", lw=0.8)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1].set_xlabel("epochs")
    axes[-1].set_xlim(left=0)
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.suptitle(title, fontweight="bold")
    figure.align_ylabels()


PANELS: dict[str, dict[str, tuple[str, str, Any]]] = {
    "loss (nats)": {"train_loss": ("training", "#0072b2", min), "val_loss": ("validation", "#d55e00", min)},
    "accuracy (%)": {"top1": ("top-1", "#d55e00", max), "top5": ("top-5", "#009e73", max)},
}
"""Panels of the figure: fields of `Epoch`, their names, their colours (the colour-blind safe palette of Okabe and Ito)
and which value is the best."""


def _points(epochs: Sequence[Epoch], field: str) -> list[tuple[int, float]]:
    """Numbers of epochs and their values of a field, if finite."""
    values = [(epoch.number, getattr(epoch, field)) for epoch in epochs]
    return [(number, value) for number, value in values if value is not None and math.isfinite(value)]


def _row(cells: Sequence[str]) -> str:
    return "".join(f"{cell:<20}" for cell in cells).rstrip() + "\n"


def _of(part: int, total: int) -> str:
    return f"{100 * part / total:.2f}% ({part} of {total})" if total else ""


def _bars() -> Progress:
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    description = TextColumn("{task.description}", markup=False)
    figures = TextColumn("{task.fields[figures]}", markup=False)
    return Progress(description, BarColumn(), TaskProgressColumn(), figures, TimeRemainingColumn())


def _writer(folder: Path, first_step: int) -> Any:
    """TensorBoard's writer; it hides the scalars of an earlier run from `first_step` on."""
    try:
        tensorboard = importlib.import_module("tensorboardX")
    except ImportError:
        raise TrainingError("--tensorboard: tensorboardX is not installed: pip install tensorboardX") from None
    return tensorboard.SummaryWriter(str(folder), purge_step=first_step)
