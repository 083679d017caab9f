"""What MkDocs does not do by itself for the site: see mkdocs.yml.

- Pages that stand for files in the root of the repository, such as README.md, get the text of these files.
- Links to files outside docs/ become links into the repository, if mkdocs.yml knows its address, and plain text if not.
- commands.md is made from the commands' own --help, and the pages of notebooks/ from the notebooks, with their results.
"""

from __future__ import annotations

import argparse
import base64
import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from nbconvert import MarkdownExporter

from zoo.commands import SCRIPTS, parser
from zoo.training.flags import command_line

ROOT = Path(__file__).parents[1]

FROM_ROOT = {
    "index.md": "README.md",
    "index.zh.md": "README.zh.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
}
"""Pages that are files in the root of the repository."""

PAGE_OF = {file: f"docs/{name}" for name, file in FROM_ROOT.items()}

LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#:\s]+)(#[^)\s]*)?\)")


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    name = page.file.src_uri
    if name == "commands.md":
        return "\n".join((markdown, *_commands()))
    if name.startswith("notebooks/"):
        return _notebook(ROOT / "docs" / Path(name).with_suffix(".ipynb"))
    source = FROM_ROOT.get(name)
    if source:
        markdown = (ROOT / source).read_text()
    folder = "" if source else posixpath.join("docs", posixpath.dirname(name))

    def moved(link: re.Match[str]) -> str:
        """A link of a file in `folder` of the repository, as the page has it."""
        picture, text, target, anchor = link.groups(default="")
        path = posixpath.normpath(posixpath.join(folder, target))
        path = PAGE_OF.get(path, path)
        if path.startswith("docs/"):
            return (
                f"{picture}[{text}]({posixpath.relpath(path, posixpath.join('docs', posixpath.dirname(name)))}{anchor})"
            )
        return f"[{text}]({config.repo_url.rstrip('/')}/blob/main/{path}{anchor})" if config.repo_url else text

    return LINK.sub(moved, markdown)


def _commands() -> Iterator[str]:
    with mock.patch.dict(os.environ, COLUMNS="100"):
        commands = next(action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
        for name, command in commands.choices.items():
            text = (command_line.parser(name, f"zoo {name}") if name in SCRIPTS else command).format_help()
            yield f"## zoo {name}\n\n```text\n{text.rstrip()}\n```\n"


def _notebook(path: Path) -> str:
    """A notebook as Markdown, its pictures inside."""
    markdown, resources = MarkdownExporter().from_filename(str(path))
    for name, content in resources["outputs"].items():
        kind = {".png": "image/png", ".svg": "image/svg+xml"}[Path(name).suffix]
        markdown = markdown.replace(f"({name})", f"(data:{kind};base64,{base64.b64encode(content).decode()})")
    return f"{markdown}\n[Download the notebook]({path.name})\n"
