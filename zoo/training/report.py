"""What a run tells while it goes and leaves behind: a bar or mindcv's lines, result.log, TensorBoard, curves.png."""

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
"""Of result.log, 20 characters each, as mindcv writes them: times in seconds, `-` for what was not measured."""

LOG_SCALE_FROM = 20.0
"""The quotient of the largest and the least loss from which their axis is logarithmic."""


@dataclass(frozen=True)
class Epoch:
    """An epoch's figures: accuracies in percent, times in seconds; None was not measured, or is not in result.log."""

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
        """What `line` wrote. Raises ValueError."""
        number, loss, top1, top5, train, evaluation, _ = line.split()
        first, five = (None if share == "-" else float(share.rstrip("%")) for share in (top1, top5))
        return cls(int(number), float(loss), first, five, None, float(train), float(evaluation))


class Reporter:
    """Tells of a training run, as a context manager; epochs and steps count from 1.

    folder        where result.log, curves.png and tensorboard/ go; None: nowhere
    model         the network's name, the figure's title
    epochs        in the run; `steps` in each
    mode          bar: live, of the whole run; log: mindcv's lines every `log_interval` steps, at the first and the last
                  of an epoch; auto: a bar on a terminal, else lines; none: nothing is printed
    tensorboard   write scalars too; raises TrainingError without tensorboardX
    start_epoch   epochs done before, of a run that is resumed: their rows of result.log stay, later ones are replaced;
                  and batches of the next one, `start_step`

    The figure is drawn at the end, of an interrupted run too, but not where an error ended it.
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
    ) -> None:
        self.folder = None if folder is None else Path(folder)
        self.model, self.epochs, self.steps = model, epochs, steps
        self.mode = ("bar" if sys.stdout.isatty() else "log") if mode == "auto" else mode
        self.log_interval, self.tensorboard, self.start_epoch = log_interval, tensorboard, start_epoch
        self.done = start_epoch * steps + start_step
        self.history: list[Epoch] = []
        self.rates: list[tuple[float, float]] = []
        self._bars: Progress | None = None
        self._scalars: Any = None
        self._stack = ExitStack()
        self._since, self._images = time.perf_counter(), 0

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
        self._since = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()
        if self.folder is not None and self.history and kind in (None, KeyboardInterrupt, Stopped):
            self._draw(self.folder / "curves.png")

    def step(self, epoch: int, step: int, loss: float, lr: float, images: int) -> None:
        """A step is done: its loss, its learning rate, how many images it took."""
        self._images += images
        done = (epoch - 1) * self.steps + step
        due = step % self.log_interval == 0 or step in (1, self.steps)
        if self._bars is not None:
            self._bars.update(
                self._bars.task_ids[0],
                completed=done,
                description=f"Epoch {epoch}/{self.epochs}",
                figures=f"loss {loss:.4f}  lr {lr:.2e}  {self._speed():,.0f} images/s",
            )
        if not due:
            return
        self.rates.append((done / self.steps, lr))
        if self.mode == "log":
            seconds = time.perf_counter() - self._since
            self.message(
                f"Epoch: [{epoch}/{self.epochs}], batch: [{step}/{self.steps}], "
                f"loss: {loss:.6f}, lr: {lr:.6f}, time: {seconds:.6f}s"
            )
        self._scalar(done, {"train/loss": loss, "train/lr": lr, "images_per_second": self._speed()})
        self._since, self._images = time.perf_counter(), 0

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
        """An epoch is done, and validated where accuracies (in percent) and a loss are given; times in seconds."""
        done = Epoch(epoch, train_loss, top1, top5, val_loss, train_seconds, eval_seconds)
        self.history.append(done)
        if self.folder is not None:
            with (self.folder / "result.log").open("a", encoding="utf-8") as file:
                file.write(done.line())
        self._scalar(epoch * self.steps, {"val/top1": top1, "val/top5": top5, "val/loss": val_loss})
        figures = {"Top_1_Accuracy": top1, "Top_5_Accuracy": top5}
        shares = "".join(f", {name}: {share:.4f}%" for name, share in figures.items() if share is not None)
        self.message(
            f"Epoch: [{epoch}/{self.epochs}], loss: {train_loss:.6f}{shares}, "
            f"train: {train_seconds:.2f}s, val: {eval_seconds:.2f}s"
        )
        self._since, self._images = time.perf_counter(), 0

    def message(self, text: str) -> None:
        """Print a line, above the bar where there is one; nothing in mode none."""
        if self.mode != "none":
            print(text, flush=True)

    def _speed(self) -> float:
        """Images a second since the last line."""
        return self._images / max(time.perf_counter() - self._since, 1e-9)

    def _scalar(self, step: int, values: dict[str, float | None]) -> None:
        if self._scalars is not None:
            for name, value in values.items():
                if value is not None:
                    self._scalars.add_scalar(name, value, step)

    def _begin_log(self, folder: Path) -> None:
        """The header, and of a run that is resumed the rows of the epochs done."""
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
    """Print how well a network did: a line of totals, and its `worst` classes by each measure, or every class."""
    from rich.markup import escape

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
            table.add_row(escape(row["class"]), *shares, precision, escape(row["mistaken_for"] or ""))
        console.show(table)


def study_table(results: list[dict[str, Any]]) -> None:
    """`validate.py --study`: a row for each network that the weights of a file were run as."""
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
    """A pass over a dataset: yields what to call with batches done and their number; modes are a Reporter's."""
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
    """The rows of a result.log, if there is one; whatever is no row, the header too, is left out. Raises OSError."""
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else ():
        try:
            rows.append(Epoch.parse(line))
        except (ValueError, TypeError):
            continue
    return rows


def draw(figure: Any, title: str, epochs: Sequence[Epoch], rates: Sequence[tuple[float, float]]) -> None:
    """Loss, accuracy where it was measured, and learning rate over epochs, on an empty matplotlib Figure.

    rates   pairs: epochs done, with their fraction; the learning rate then
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
"""Of the figure: fields of `Epoch`, their names, colours (Okabe and Ito's, which all eyes tell apart), and the best."""


def _points(epochs: Sequence[Epoch], field: str) -> list[tuple[int, float]]:
    """Epochs and values, where there is a finite one."""
    values = [(epoch.number, getattr(epoch, field)) for epoch in epochs]
    return [(number, value) for number, value in values if value is not None and math.isfinite(value)]


def _row(cells: Sequence[str]) -> str:
    return "".join(f"{cell:<20}" for cell in cells).rstrip() + "\n"


def _of(part: int, total: int) -> str:
    return f"{100 * part / total:.2f}% ({part} of {total})" if total else ""


def _bars() -> Progress:
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    description, figures = TextColumn("{task.description}"), TextColumn("{task.fields[figures]}")
    return Progress(description, BarColumn(), TaskProgressColumn(), figures, TimeRemainingColumn())


def _writer(folder: Path, first_step: int) -> Any:
    """TensorBoard's; what an earlier run wrote from `first_step` on is hidden."""
    from weights.formats.mindspore import value_type

    value_type()  # before protobuf is imported: where MindSpore may be, only one of its implementations will do
    try:
        tensorboard = importlib.import_module("tensorboardX")
    except ImportError:
        raise TrainingError("--tensorboard: tensorboardX is not installed: pip install tensorboardX") from None
    return tensorboard.SummaryWriter(str(folder), purge_step=first_step)
