"""Pages that open from disk: no network, no script, readable on a phone and in dark mode."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

STYLE = """
:root { color-scheme: light dark; --line: #8886; --soft: #8882; --good: #1a7f37; --bad: #cf222e; }
@media (prefers-color-scheme: dark) { :root { --good: #3fb950; --bad: #ff7b72; } }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 70rem; padding: 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2rem; }
table { border-collapse: collapse; }
td, th { border-bottom: 1px solid var(--line); padding: .25rem .6rem; text-align: left; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.wide { overflow-x: auto; }
code { font-size: .95em; } summary { cursor: pointer; }
"""


def page(title: str, body: str, style: str = "") -> str:
    """A page. `title` is text; `body` is HTML and `style` CSS, after `STYLE`."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}{style}</style>\n</head>\n<body>\n<main>\n{body}</main>\n"
        "</body>\n</html>\n"
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A table. Titles are text, and ">" before one marks a column of numbers; cells are HTML already."""
    attributes = [' class="number"' if title.startswith(">") else "" for title in head]
    titles = [escape(title.removeprefix(">")) for title in head]
    yield '<div class="wide"><table>\n<thead><tr>'
    yield "".join(
        f'<th scope="col"{attribute}>{title}</th>' for attribute, title in zip(attributes, titles, strict=True)
    )
    yield "</tr></thead>\n<tbody>\n"
    for row in rows:
        cells = "".join(f"<td{attribute}>{cell}</td>" for attribute, cell in zip(attributes, row, strict=True))
        yield f"<tr>{cells}</tr>\n"
    yield "</tbody></table></div>\n"
