"""Tables on standard output, progress on standard error. rich is imported when something is shown, not before."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rich.text import Text

STYLED = re.compile(r"\[(green|bold red)\](.*)\[/\]", re.DOTALL)
"""A cell that is coloured. All other text is literal: file names and class names may contain square brackets."""

WIDEST = 1000
"""Width in characters of a table that is not written to a terminal, and so need not be wrapped."""

WRAPPED = 100
"""The same for tables of sentences, which are always wrapped."""

LONGEST_WORDS = (40, 32, 24, 18, 12)
"""Lengths, in characters, beyond which words are broken. The first with which the table fits the terminal is used; if
none fits, the first of all, because breaking names would not help."""

BETWEEN = 3
"""Characters between two columns."""


@dataclass
class Table:
    """Rows of cells. Columns whose titles begin with ">" hold figures: they are aligned right and only their titles
    are wrapped.
    """

    columns: tuple[str, ...]
    wrap: bool = False
    rows: list[tuple[str, ...]] = field(default_factory=list)
    sections: set[int] = field(default_factory=set)

    def add_row(self, *cells: str) -> None:
        """Add a row of one cell for each column: literal text, `[green]text[/]` or `[bold red]text[/]`."""
        self.rows.append(cells)

    def add_section(self) -> None:
        """Draw a line below the last row."""
        self.sections.add(len(self.rows) - 1)


def new(*columns: str, wrap: bool = False) -> Table:
    """An empty table; ">" before a title marks a column of figures, `wrap` a table of sentences."""
    return Table(columns, wrap)


def show(table: Table) -> None:
    """Print a table. On a terminal its texts and titles are wrapped to fit the terminal's width; figures never are."""
    from rich import box
    from rich.console import Console
    from rich.table import Table as RichTable

    console = Console(markup=False, highlight=False)
    rich = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
    limit, between = _limit(table.wrap), BETWEEN * len(table.columns) - 1
    texts = [[_text(cell).plain for cell in cells] for cells in zip(table.columns, *table.rows, strict=True)]
    choices = [[_least_width(cells, longest) for cells in texts] for longest in LONGEST_WORDS]
    least = next((widths for widths in choices if sum(widths) + between <= limit), choices[0])
    widths = _shrunk([_natural_width(cells) for cells in texts], least, limit - between)
    for title, width in zip(table.columns, widths, strict=True):
        figures = title.startswith(">")
        justify: Literal["left", "right"] = "right" if figures else "left"
        rich.add_column(title.removeprefix(">"), justify=justify, width=width, overflow="fold")
    for number, row in enumerate(table.rows):
        rich.add_row(*map(_text, row), end_section=number in table.sections)
    wide = console.options.update(max_width=WIDEST)
    console.width = min(console.measure(rich, options=wide).maximum, max(limit, sum(widths) + between))
    console.print(rich)


def _least_width(cells: list[str], longest_word: int) -> int:
    """The width that a column needs at least; the first cell is its title."""
    if cells[0].startswith(">"):
        return max(map(len, [*cells[0].removeprefix(">").split(), *cells[1:]]), default=1)
    return max((min(len(word), longest_word) for cell in cells for word in cell.split()), default=1)


def _natural_width(cells: list[str]) -> int:
    """The width of a column whose cells are not wrapped."""
    return max(len(line) for cell in cells for line in cell.removeprefix(">").split("\n"))


def _shrunk(natural: list[int], least: list[int], available: int) -> list[int]:
    """Widths of columns that fit into `available`, if their least widths do: the widest are shrunk first."""
    widths = [max(width, low) for width, low in zip(natural, least, strict=True)]
    while sum(widths) > available:
        column = max(range(len(widths)), key=lambda i: (widths[i] > least[i], widths[i]))
        if widths[column] == least[column]:
            break
        widths[column] -= 1
    return widths


def _text(cell: str) -> Text:
    from rich.text import Text

    found = STYLED.fullmatch(cell)
    return Text(found[2], style=found[1]) if found else Text(cell)


def _limit(wrap: bool) -> int:
    """The width to keep within: the terminal's, or that of $COLUMNS."""
    if sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit():
        from rich.console import Console

        return Console().width
    return WRAPPED if wrap else WIDEST


@contextmanager
def progress(total: int) -> Iterator[Callable[[str, str], None]]:
    """A live bar on a terminal, one line for each step in a log.

    Yields a function to call, as a step begins, with the model and the name of the step.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda model, step: print(f"{model}: {step}\n", end="", file=console.file, flush=True)
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        bar = bars.add_task("", total=total)
        begun = 0

        def show(model: str, step: str) -> None:
            nonlocal begun
            bars.update(bar, completed=begun, description=f"{model}: {step}")
            begun += 1

        yield show
