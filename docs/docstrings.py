"""A Griffe extension: the project's docstrings, as Markdown for the API reference.

Docstrings list parameters in two columns, names and descriptions, which Markdown would run together: they become
definition lists.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from griffe import Docstring, Extension, Object

ROW = re.compile(r"(?P<names>\w[\w, *]*?) {2,}(?P<text>\S.*)")


class Columns(Extension):
    def on_object(self, *, obj: Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring = Docstring("\n".join(_lines(obj.docstring.value)), parent=obj)


def _lines(text: str) -> Iterator[str]:
    """The lines of a docstring, its columns as a definition list."""
    row = False
    for line in text.splitlines():
        if match := ROW.fullmatch(line):
            names = ", ".join(f"`{name.strip()}`" for name in match["names"].split(","))
            yield ""
            yield f"{names}\n:   {match['text']}"
            row = True
        elif row and line.startswith("  "):
            yield f"    {line.strip()}"
        else:
            if row:
                yield ""
            row = False
            yield line
