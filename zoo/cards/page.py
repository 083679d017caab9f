"""A card as one HTML page, with the network drawn."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from zoo import drawing, html
from zoo.cards.sections import Section, sections
from zoo.language.model import Model

STYLE = """
td:first-child { white-space: nowrap; } th, td { vertical-align: top; }
td { overflow-wrap: break-word; } td:last-child:not(.number) { min-width: 13rem; }
"""


def page(card: Mapping[str, Any], model: Model) -> str:
    """The page of a document of `zoo.info` and its network."""
    return html.page(card["model"], "".join(_body(card, model)), STYLE + drawing.STYLE)


def _body(card: Mapping[str, Any], model: Model) -> Iterator[str]:
    yield f'<h1>{escape(card["model"])}</h1>\n<p><a href="#network">The network, drawn</a></p>\n'
    for section in sections(card):
        if section.title:
            yield f"<h2>{escape(section.title)}</h2>\n"
        if section.text:
            yield f"<p>{marked(section.text)}</p>\n"
        yield from html.table(section.head, list(_cells(section)))
    yield '<h2 id="network">The network</h2>\n'
    yield f"<p>{escape(drawing.NOTATION)} A click or the Enter key on a box shows more.</p>\n"
    yield drawing.draw(model, {}, card["size"])


def _cells(section: Section) -> Iterator[list[str]]:
    """A section's rows as HTML."""
    for first, *others in section.rows:
        if section.head[-1] == "code":
            others = [f"`{cell}`" for cell in others]
        yield [marked(f"`{first}`" if section.code else first), *map(marked, others)]


def marked(text: str) -> str:
    """Text as HTML, its `code` marked."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(text))
