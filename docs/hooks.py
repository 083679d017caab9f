"""What MkDocs does not do by itself for the site: see mkdocs.yml.

- README.md and its like, which are in the root of the repository, become pages.
- Links to files outside docs/ become links into the repository, if mkdocs.yml knows its address, and plain text if not.
- commands.md is made from the commands' own --help.
"""

from __future__ import annotations

import argparse
import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files

from zoo.commands import SCRIPTS, parser
from zoo.training.flags import command_line

ROOT = Path(__file__).parents[1]

FROM_ROOT = {
    "README.md": "index.md",
    "README.zh.md": "index.zh.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
"""Files in the root of the repository, and the pages that they become."""

LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#:\s]+)(#[^)\s]*)?\")


@event_priority(100)  # before the plugin that sorts pages by language
def on_files(files: Files, config: Any) -> Files:
    for source, page in FROM_ROOT.items():
        text = LINK.sub(_from_docs, (ROOT / source).read_text())
        files.append(File.generated(config, page, content=text))
    files.append(File.generated(config, "commands.md", content="\n".join(_commands())))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    def moved(link: re.Match[str]) -> str:
        _, text, target, anchor = link.groups()
        path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page.file.src_uri), target))
        if path.startswith("docs/") or not (ROOT / path).exists():
            return link[0]
        return f"[{text}]({config.repo_url.rstrip('/')}/blob/main/{path}{anchor or ''})" if config.repo_url else text

    return LINK.sub(moved, markdown)


def _from_docs(link: re.Match[str]) -> str:
    """A link as the root of the repository has it, from a page in docs/."""
    picture, text, target, anchor = link.groups()
    target = FROM_ROOT.get(target) or posixpath.relpath(target, "docs")
    return f"{picture}[{text}]({target}{anchor or ''})"


def _commands() -> Iterator[str]:
    yield "# Command line\n\nWhat `--help` prints. `python -m zoo` is the same as `zoo`. Every command ends with status 0"
    yield "when it is done and, for `zoo parity`, all is equal; with 1 when it is not; with 2 and one line on standard"
    yield "error when it was used wrongly or was given something that it cannot read.\n"
    with mock.patch.dict(os.environ, COLUMNS="100"):
        commands = next(action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
        for name, command in commands.choices.items():
            text = (command_line.parser(name, f"zoo {name}") if name in SCRIPTS else command).format_help()
            yield f"## zoo {name}\n\n```text\n{text.rstrip()}\n```\n"
