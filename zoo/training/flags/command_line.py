"""Reading the flags of train.py and validate.py: the command line overrides a YAML recipe, which overrides defaults."""

from __future__ import annotations

import argparse
import logging
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import weights
from zoo.errors import TrainingError, ZooError
from zoo.language.model import Model
from zoo.training.flags.flag import Flag, Script
from zoo.training.flags.recipes import load
from zoo.training.flags.table import FLAGS, Arguments, flags_of, groups, read, shown, similar

WIDEST_HELP = 110
"""The largest width of --help, in characters; the terminal may be narrower."""

logger = logging.getLogger("zoo")


def parse(arguments: Sequence[str] | None = None, script: Script = "train") -> Arguments:
    """The flags of a command line, sys.argv's by default; others are those of its --config, or the defaults.

    Warns, on the logger "zoo", of a bare `key=value` and of flags that the script ignores. --help prints and exits.
    Raises TrainingError for invalid flags, with what was expected and what was given.
    """
    flags = flags_of(script)
    words = _with_dashes(sys.argv[1:] if arguments is None else arguments, flags)
    program = f"zoo {script}" if sys.argv[0] == f"zoo {script}" else f"{script}.py"
    namespace, rest = parser(script, program).parse_known_args(words)
    if rest:
        raise _unexpected(rest[0], flags)
    texts = vars(namespace)
    config = texts.pop("config", "")
    typed = {name: read(flags[name], text, f"--{name}") for name, text in texts.items()}
    filed = load(config, script) if config else {}
    values = {name: row.default for name, row in flags.items()} | filed | typed
    values["device"] = _chosen_device(typed, filed)
    values |= _one_source_of_weights(typed, filed)
    model = _model(values["model"])
    given = frozenset(typed | filed)
    if "in_channels" not in given:
        values["in_channels"] = model.in_channels
    if "warmup_epochs" not in given:
        own = values["scheduler"] in ("one_cycle", "cyclic")  # these schedules start low by themselves
        values["warmup_epochs"] = 0 if own else min(values["warmup_epochs"], values["epoch_size"] // 4)
    result = Arguments(**values, script=script, config=config, given=given, typed=frozenset(typed))
    _check(result)
    ignored = [f"--{name}" for name in typed if script == "validate" and flags[name].script == "train"]
    if ignored:
        logger.warning("validate.py ignores %s: for training only", ", ".join(ignored))
    return result


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise TrainingError(f"{message.removeprefix('argument ')} (see {self.prog} --help)")


def parser(script: Script, program: str) -> argparse.ArgumentParser:
    """The flags of a script; `program` is what its help calls it."""
    purpose = {"train": "Train a network.", "validate": "Measure how well a network classifies."}[script]
    width = min(WIDEST_HELP, shutil.get_terminal_size().columns) - 2
    parser = _Parser(
        prog=program,
        usage=f"{program} [-c RECIPE] --model NAME [--FLAG VALUE ...]",
        description=f"{purpose} Flags and YAML recipes are mindcv's. On/off flags need no value.",
        epilog="The flags of train.py are accepted too." if script == "validate" else None,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=32, width=width),
    )
    parser.add_argument("-c", "--config", metavar="FILE", help="YAML recipe, a file or one of the project's "
                        "own by name (digits, inception_v4); the command line takes precedence over it")  # fmt: skip
    for title, rows in groups(script).items():
        section = parser.add_argument_group(title)
        for row in rows:
            bare: dict[str, Any] = {"const": "true"} if row.type.nargs == "?" else {}
            section.add_argument(
                f"--{row.name}",
                metavar=row.type.metavar,
                nargs=row.type.nargs,
                action="extend" if row.type.repeats else "store",
                help=_help(row) if row.script in (None, script) else argparse.SUPPRESS,
                **bare,
            )
    return parser


def _help(row: Flag) -> str:
    default = row.unset if row.default is None else shown(row.default)
    return f"{row.help}{row.type.hint} (default: {default})".replace("%", "%%")


def _with_dashes(words: Sequence[str], flags: Mapping[str, Flag]) -> list[str]:
    """A bare `key=value` becomes `--key=value`, unless it is the value of the flag before it."""
    result: list[str] = []
    bare = []
    for word in words:
        before = flags.get(result[-1].removeprefix("--")) if result and result[-1].startswith("--") else None
        is_value = before is not None and before.type.nargs != "?"
        if re.match(r"[a-z]\w*=", word) and not is_value:
            bare.append(word)
            word = f"--{word}"
        result.append(word)
    if bare:
        logger.warning("%s: read as %s", " ".join(bare), " ".join(f"--{word}" for word in bare))
    return result


def _unexpected(word: str, flags: Mapping[str, Flag]) -> TrainingError:
    if not word.startswith("--"):
        return TrainingError(f"{word}: unexpected; flags are given as --name value")
    name = word[2:].partition("=")[0]
    if name in FLAGS:
        return TrainingError(f"--{name}: a flag of validate.py only")
    return TrainingError(f"--{name}: no such flag{similar(name, flags, '--')}")


def _chosen_device(*levels: Mapping[str, Any]) -> str | None:
    """The device of the first level that has one; within a level `device` takes precedence over `device_target`."""
    for level in levels:
        if level.get("device"):
            return str(level["device"])
        if level.get("device_target") in ("CPU", "GPU"):
            return str(level["device_target"]).lower()
    return None


def _one_source_of_weights(*levels: Mapping[str, Any]) -> dict[str, Any]:
    """The values of --pretrained and --ckpt_path: the first level that has one of them decides about both."""
    for level in levels:
        pretrained, path = level.get("pretrained"), level.get("ckpt_path")
        if pretrained and path:
            raise TrainingError("--pretrained and --ckpt_path: expected one source of weights, not both; drop one")
        if pretrained:
            return {"ckpt_path": ()}
        if path:
            return {"pretrained": False}
    return {}


def _model(name: str) -> Model:
    if not name:
        raise TrainingError("--model is required: a name that `zoo list` shows, e.g. inception_v4")
    try:
        return weights.resolve(name)
    except ZooError as error:
        raise TrainingError(f"--model: {error}") from None


def _check(a: Arguments) -> None:
    """Check each flag against the others."""
    for name, row in flags_of(a.script).items():
        if row.needs is not None and (problem := row.needs(a)):
            raise TrainingError(f"--{name}{problem}")
