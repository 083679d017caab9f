"""Flags as YAML: reading recipes, saving the recipe of a run, and what has changed since it was saved."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zoo.errors import TrainingError
from zoo.files import atomic_write
from zoo.training.flags.flag import Script
from zoo.training.flags.table import FLAGS, Arguments, flags_of, groups, read, shown, similar

PACKAGE = Path(__file__).parents[2]
OWN = next(folder for folder in (PACKAGE / "configs", PACKAGE.parent / "configs") if folder.is_dir())
"""The project's recipes: in the installed package, or beside it in a checkout."""


def to_yaml(arguments: Arguments) -> str:
    """All values as YAML, by group. Read with --config, it gives equal Arguments."""
    import yaml

    text = f"# {arguments.script}.py -c THIS_FILE\n"
    for title, rows in groups(arguments.script).items():
        if rows:
            text += f"\n# {title}\n"
        for row in rows:
            value = getattr(arguments, row.name)
            style = None if isinstance(value, tuple) else False  # a tuple on one line
            text += yaml.safe_dump(
                {row.name: value}, default_flow_style=style, allow_unicode=str(value).isprintable(), width=10**6
            )
    return text


def save_yaml(arguments: Arguments, path: str | Path) -> None:
    """Write `to_yaml` to a file, atomically; raises TrainingError if it cannot be written."""
    try:
        with atomic_write(path) as part:
            part.write_text(to_yaml(arguments), encoding="utf-8")
    except OSError as error:
        raise TrainingError(f"{path}: cannot write the flags there: {error.strerror}") from None


def changes(arguments: Arguments, text: str) -> list[str]:
    """The flags that change what a run learns and differ from those in `text`, the YAML of `to_yaml`.

    Returns "--lr 0.1 (was 0.01)", ...
    """
    import yaml

    before = yaml.safe_load(text)
    if not isinstance(before, dict):
        return []
    found = []
    for name, row in flags_of(arguments.script).items():
        if name in before and row.learning:
            value, was = getattr(arguments, name), read(row, before[name], name)
            if was != value:
                found.append(f"--{name} {shown(value)} (was {shown(was)})")
    return found


def load(path: str, script: Script) -> dict[str, Any]:
    """The values of a recipe, a file or the name of one of the project's own ("digits"), that the script accepts.

    Raises TrainingError, with the file and the line, for an invalid recipe.
    """
    values: dict[str, Any] = {}
    for key, value, line in _entries(path):
        where = f"{path}: line {line}: {key}"
        if key in values:
            raise TrainingError(f"{where} occurs twice")
        if key == "config":  # mindcv saves it among the flags
            continue
        if key not in FLAGS:
            raise TrainingError(f"{where}: no such flag{similar(key, FLAGS)}")
        values[key] = read(FLAGS[key], value, where)
    known = flags_of(script)
    return {name: value for name, value in values.items() if name in known}


def _file(name: str) -> Path:
    """The file of that path; or, if there is none, the project's own recipe of that name."""
    own = OWN / f"{name}.yaml"
    return own if not Path(name).exists() and own.is_file() else Path(name)


def _entries(path: str) -> Iterator[tuple[str, Any, int]]:
    """Keys, values and line numbers of a YAML mapping."""
    import yaml

    try:
        loader = yaml.SafeLoader(_file(path).read_text(encoding="utf-8"))
        root = loader.get_single_node()
        if root is None:
            return
        if not isinstance(root, yaml.MappingNode):
            raise TrainingError(f"{path}: line 1: expected a recipe, `flag: value` line by line")
        for key, value in root.value:
            yield str(key.value), loader.construct_object(value, deep=True), key.start_mark.line + 1
    except OSError as error:
        raise TrainingError(f"{path}: cannot read the recipe: {error.strerror}") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise TrainingError(f"{path}: line {line}: not YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise TrainingError(f"{path}: not YAML: {error}") from None
