"""The command line: `zoo list`, `info`, `diff`, `parity`, `inspect`, `convert`; `python -m zoo` is the same."""

from __future__ import annotations

import argparse
import io
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from zoo import __version__, tables
from zoo.catalogue import info, list_models
from zoo.errors import SpecError, ZooError
from zoo.files import whole


class Parser(argparse.ArgumentParser):
    """Reports bad usage as every other error: one line, exit status 2."""

    def error(self, message: str) -> NoReturn:
        raise ZooError(f"{message} (see {self.prog} --help)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status: 0 done, 1 out of tolerance, 2 bad usage or input."""
    try:
        options = parser().parse_args(arguments)
        _check_target(options.json)
        status: int = options.run(options)
        sys.stdout.flush()
        return status
    except ZooError as error:
        return _fail(str(error))
    except MemoryError:
        return _fail("out of memory" + (": take a smaller --batch or --size" if options.run is _parity else ""))
    except KeyboardInterrupt:
        print("zoo: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _fail(f"{error.filename or 'standard output'}: {error.strerror}")


def run() -> None:
    """The installed command: `main`, ended cleanly, workers included, when the process is told to terminate."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names need not be text
    sys.exit(main())


def _fail(message: str) -> int:
    print(f"zoo: error: {' '.join(message.splitlines())}", file=sys.stderr)
    return 2


def _check_target(file: str | None) -> None:
    """Before the work, not after it: can the JSON be written there?"""
    if file in (None, "-"):
        return
    path = Path(str(file))
    if path.is_dir():
        raise ZooError(f"{file}: cannot write the JSON there: it is a folder")
    if not path.parent.is_dir():
        raise ZooError(f"{file}: cannot write the JSON there: no such folder")


def parser() -> Parser:
    """The commands and their options."""
    root = Parser(prog="zoo", description="The Inception family: one specification, three frameworks, proved equal.")
    root.add_argument("--version", action="version", version=f"zoo {__version__}")
    commands = root.add_subparsers(title="commands", required=True, metavar="COMMAND", parser_class=Parser)

    list_ = _command(commands, "list", _list, "list models and their publishers")
    list_.add_argument("pattern", nargs="?", default="*", help="shell pattern, e.g. 'inception*'")

    info_ = _command(commands, "info", _info, "show a model's figures, stage by stage")
    info_.add_argument("model", metavar="MODEL")
    info_.add_argument("--size", type=int, metavar="N", help="input of N x N pixels (default: the model's own)")

    diff = _command(commands, "diff", _diff, "say what differs between two flavours, and by how much their logits part")
    diff.add_argument("first", metavar="MODEL")
    diff.add_argument("second", metavar="MODEL")
    diff.add_argument("--no-run", dest="logits", action="store_false", help="compare the specs only")

    parity = _command(
        commands, "parity", _parity, "run models in several frameworks and compare with the float64 reference"
    )
    parity.add_argument("models", nargs="*", metavar="MODEL",
                        help="a name or a shell pattern: '*' is all of them; not needed with --checkpoint")  # fmt: skip
    parity.add_argument("--backends", type=_names, metavar="LIST", help="default: torch,mindspore,paddle")
    parity.add_argument("--checkpoint", type=Path, metavar="FILE",
                        help="weights of one model, of any source (default: made from --seed)")  # fmt: skip
    parity.add_argument("--image", type=Path, action="append", default=[], metavar="FILE", dest="images",
                        help="may be repeated (default: scikit-learn's two photographs)")  # fmt: skip
    parity.add_argument("--size", type=int, metavar="N", help="input of N x N pixels (default: the model's own)")
    parity.add_argument("--batch", type=int, metavar="N", help="repeat the images to N (default: as many as there are)")
    parity.add_argument("--seed", type=int, default=0, metavar="N", help="of the weights (default: 0)")
    parity.add_argument(
        "--width", type=float, default=1.0, metavar="X", help="multiply all channel counts (default: 1)"
    )
    parity.add_argument("--layers", action="store_true", help="judge every stage and auxiliary head too")
    parity.add_argument("--gradients", action="store_true",
                        help="judge training instead: every stage's outputs, gradients, statistics")  # fmt: skip
    parity.add_argument("--graph", action="store_true", help="with --gradients: compiled (GRAPH mode, to_static, ...)")
    parity.add_argument("--device", metavar="cpu|gpu", help="gpu skips frameworks that have none (default: cpu)")
    parity.add_argument("--tolerance", type=float, metavar="X", help="largest relative error (default: 5e-6, gpu 2e-5)")
    parity.add_argument("--stored-reference", action="store_true", help="judge by the logits kept in the package")
    parity.add_argument("--timeout", type=float, default=600, metavar="S", help="seconds for one worker (default: 600)")

    inspect = _command(commands, "inspect", _inspect, "say what a checkpoint file is: format, source, network, variant")
    inspect.add_argument("file", metavar="FILE")
    _checkpoint_options(inspect)

    convert = _command(
        commands, "convert", _convert, "turn any checkpoint into another source's, or into canonical weights"
    )
    convert.add_argument("file", metavar="IN")
    convert.add_argument("out", metavar="OUT", help="its suffix says which kind of file: .safetensors, .pth, .pt, "
                         ".bin, .ckpt, .pdparams, .weights.h5, .h5")  # fmt: skip
    _checkpoint_options(convert)
    convert.add_argument("--to", metavar="SOURCE", help="whose names to write (default: canonical for .safetensors, "
                         "else those of zoo.build's networks in the framework of OUT)")  # fmt: skip
    convert.add_argument("--format", metavar="F", help="instead of what OUT's suffix says, e.g. torch-legacy")
    convert.add_argument("--num-classes", type=int, metavar="N", help="1000 takes the background off a file with 1001; "
                         "any other number makes new classifiers")  # fmt: skip
    return root


def _checkpoint_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--model", metavar="M", help="the network to read it for, where names alone cannot tell")
    command.add_argument("--from", dest="source", metavar="SOURCE", help="whose file it is (default: recognised)")
    command.add_argument("--ema", action="store_true", help="the moving average of the weights")


def _command(commands: Any, name: str, run: Any, text: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=text[0].upper() + text[1:] + "."
    )
    command.add_argument(
        "--json", metavar="FILE", help="write the result as JSON ('-': to standard output, nothing else)"
    )
    command.set_defaults(run=run)
    return command


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _matching(pattern: str) -> list[str]:
    names = list_models(pattern)
    if not names:
        raise SpecError(f"no model matches {pattern!r}; there are {', '.join(list_models())}")
    return names


def _list(options: argparse.Namespace) -> int:
    rows = [info(name) for name in _matching(options.pattern)]
    _report(
        options.json, [{k: v for k, v in row.items() if k != "stages"} for row in rows], lambda: tables.models(rows)
    )
    return 0


def _info(options: argparse.Namespace) -> int:
    figures = info(options.model, options.size)
    _report(options.json, figures, lambda: tables.model(figures))
    return 0


def _diff(options: argparse.Namespace) -> int:
    from zoo.diff import compare

    document = compare(options.first, options.second, options.logits)
    _report(options.json, document, lambda: tables.diff(document))
    return 0


def _parity(options: argparse.Namespace) -> int:
    from zoo.parity import Settings, compare

    if options.gradients or options.graph:
        return _gradients(options)
    choices = {} if options.backends is None else {"backends": options.backends}
    settings = Settings(
        device=options.device,
        tolerance=options.tolerance,
        layers=options.layers,
        stored_reference=options.stored_reference,
        timeout=options.timeout,
        **choices,
    )
    models = _named(options.models)
    with tables.progress(len(models) * (2 + len(settings.backends))) as step:
        report = compare(
            models,
            settings,
            checkpoint=options.checkpoint,
            images=options.images,
            size=options.size,
            batch=options.batch,
            seed=options.seed,
            width=options.width,
            progress=step,
        )
    _report(options.json, report, lambda: tables.parity(report))
    return 0 if report["ok"] else 1


def _gradients(options: argparse.Namespace) -> int:
    from backends import REQUIREMENTS
    from zoo.gradients import BATCH, TOLERANCE, compare

    given = {
        "--checkpoint": options.checkpoint,
        "--image": options.images,
        "--layers": options.layers,
        "--stored-reference": options.stored_reference,
    }
    for flag, value in given.items():
        if value:
            raise SpecError(f"{flag} does not go with --gradients, which judges random weights on noise, part by part")
    if not options.gradients:
        raise SpecError("--graph goes with --gradients")
    if not options.models:
        raise SpecError("no model to compare: name some")
    models, backends = _named(options.models), options.backends or tuple(REQUIREMENTS)
    with tables.progress(len(models) * (1 + len(backends))) as step:
        report = compare(
            models,
            backends,
            width=options.width,
            size=options.size,
            batch=BATCH if options.batch is None else options.batch,
            seed=options.seed,
            graph=options.graph,
            device=options.device,
            tolerance=TOLERANCE if options.tolerance is None else options.tolerance,
            timeout=options.timeout,
            progress=step,
        )
    _report(options.json, report, lambda: tables.gradients(report))
    return 0 if report["ok"] else 1


def _named(patterns: Sequence[str]) -> list[str]:
    return [name for model in patterns for name in (_matching(model) if set(model) & set("*?[") else [model])]


def _inspect(options: argparse.Namespace) -> int:
    from weights import open_checkpoint

    document = open_checkpoint(options.file, options.source, options.model, ema=options.ema).document()
    _report(options.json, document, lambda: tables.checkpoint(document))
    return 0


def _convert(options: argparse.Namespace) -> int:
    from weights import convert

    document = convert(
        options.file,
        options.out,
        model=options.model,
        source=options.source,
        to=options.to,
        format=options.format,
        num_classes=options.num_classes,
        ema=options.ema,
    )
    _report(options.json, document, lambda: tables.conversion(document))
    return 0


def _report(file: str | None, document: Any, show: Any) -> None:
    if file is None:
        show()
        return
    text = json.dumps(document, indent=2)
    if file == "-":
        print(text)
        return
    show()
    try:
        with whole(file) as part:
            part.write_text(text + "\n")
    except OSError as error:
        raise ZooError(f"{file}: cannot write the JSON there: {error.strerror}") from None
