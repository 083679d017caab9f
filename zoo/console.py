"""Tables on standard output, progress on standard error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table


def new(*columns: str, wrap: bool = False) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(
            column.lstrip(">"), justify="right" if column.startswith(">") else "left", no_wrap=not wrap, overflow="fold"
        )
    return table


def show(table: Table) -> None:
    """Figures are never cut: a table is as wide as they need; where it may wrap, it does."""
    console = Console()
    if all(column.no_wrap for column in table.columns):
        wide = console.options.update(max_width=1000)
        console.width = max(console.width, console.measure(table, options=wide).maximum)
    else:
        console.width = max(console.width, 100)
    console.print(table)


@contextmanager
def progress(total: int) -> Iterator[Callable[[str, str], None]]:
    """A live bar on a terminal, a line a step in a log; yields what to call with a model and the step it begins."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda model, step: print(f"{model}: {step}", file=console.file, flush=True)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        bar = bars.add_task("", total=total)
        begun = 0

        def show(model: str, step: str) -> None:
            nonlocal begun
            bars.update(bar, completed=begun, description=f"{model}: {step}")
            begun += 1

        yield show
