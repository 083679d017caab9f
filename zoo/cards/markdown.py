"""A card's tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from zoo.cards.sections import Section, sections


def body(card: Mapping[str, Any]) -> Iterator[str]:
    """The sections of a document of `zoo.info`, in Markdown."""
    for section in sections(card):
        if section.title:
            yield f"\n## {section.title}\n"
        if section.text:
            yield f"\n{section.text}\n"
        yield table(section)


def table(section: Section) -> str:
    """A section's table, in Markdown."""
    head = [title.removeprefix(">") for title in section.head]
    kinds = ["---:" if title.startswith(">") else "---" for title in section.head]
    rows = [row(head), f"|{'|'.join(kinds)}|"]
    for first, *others in section.rows:
        quote = "`{}`" if section.head[-1] == "code" else "{}"
        rows.append(row([f"`{first}`" if section.code else first, *(quote.format(cell) for cell in others)]))
    return "\n" + "\n".join(rows) + "\n"


def row(cells: Sequence[str]) -> str:
    """A row of a table."""
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
