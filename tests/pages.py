"""Runs a page of the documentation: writes its files, executes its commands, and compares what they print.

The fence of a block of code says what it is for:

    ```python    a file, if the first line is "# NAME.py"; otherwise a program that is run
    ```console   commands after "$ ", and what they print; "..." stands for any text. A command that ends in "# refused"
                 must end with status 2, one that ends in "# status 1" with status 1
    ```bash      commands that are run; their output is not compared

Other fences (text, toml, yaml) are not run. A block under `<!-- not run: REASON -->` is left out.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]

FENCE = re.compile(r"(<!-- not run: [^\n]* -->\n)?^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    kind: str
    text: str
    run: bool


def blocks(page: Path) -> list[Block]:
    """The page's fenced blocks, in order."""
    return [Block(kind, text, not skipped) for skipped, kind, text in FENCE.findall(page.read_text())]


def commands(block: Block) -> Iterator[tuple[str, str | None]]:
    """The commands of a block and what each should print; None if the block does not say."""
    if block.kind == "console":
        for command in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
            line, _, output = command.partition("\n")
            yield line, output
    else:
        for line in re.sub(r"\\\n\s*", "", block.text).splitlines():
            if line and not line.startswith("#"):
                yield line, None


def follow(page: Path, folder: Path, **environment: str) -> int:
    """Follow the page in `folder`; returns the number of commands and programs that were run."""
    done = 0
    for block in blocks(page):
        if not block.run or block.kind not in ("python", "console", "bash"):
            continue
        if block.kind != "python":
            for line, output in commands(block):
                execute(line, output, folder, environment)
                done += 1
        elif name := re.match(r"# (\S+\.py)\n", block.text):
            (folder / name[1]).parent.mkdir(parents=True, exist_ok=True)
            (folder / name[1]).write_text(block.text)
        else:
            (folder / "block.py").write_text(block.text)
            execute("python block.py", None, folder, environment)
            done += 1
    return done


def execute(line: str, output: str | None, folder: Path, environment: dict[str, str]) -> None:
    """Run a command, which must end as the page says and print what it shows."""
    result = subprocess.run(
        line,
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        cwd=folder,
        env={
            **os.environ,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)]),
            "PYTHONWARNINGS": "ignore",
            "COLUMNS": "200",
            "TERM": "dumb",
            **environment,
        },
    )
    status = 2 if line.endswith("# refused") else 1 if line.endswith("# status 1") else 0
    assert result.returncode == status, f"{line}: status {result.returncode}\n{result.stdout}{result.stderr}"
    if output:
        printed = result.stderr if status == 2 else result.stdout
        wanted = ".*".join(map(re.escape, _plain(output).split("...")))
        assert re.search(wanted, _plain(printed), re.DOTALL), f"{line}: expected\n{output}\nprinted\n{printed}"


def _plain(text: str) -> str:
    """A text without trailing blanks, empty lines and the lengths of rules, for comparison."""
    lines = (re.sub("─+", "─", line.rstrip()) for line in text.splitlines())
    return "\n".join(line for line in lines if line)
