"""validate.py and `zoo validate`: how well networks classify.

It takes checkpoints of any source, and preprocesses images as the publisher does, or as the run that wrote the
checkpoint. --study evaluates the weights in four variants of the network, which differ as ports of a network most often
do: batch norm with eps 1e-3 or 1e-5, the border of average pools counted or not.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import weights
from backends import deploys, get
from zoo.commands import runtime
from zoo.data import Dataset
from zoo.errors import InputError, TrainingError
from zoo.files import atomic_write
from zoo.frameworks import RUNTIMES
from zoo.language.model import Model, Norm
from zoo.language.nodes import AvgPool, Leaf, transform
from zoo.training import inputs, recipe, resume
from zoo.training.evaluation import Evaluation, Predict, evaluate
from zoo.training.flags import Arguments, parse, remarks
from zoo.training.metrics import Tally
from zoo.training.report import batches, study_table, validation_table
from zoo.training.skipped import SkippedImages

EPSILONS = (1e-3, 1e-5)
"""Epsilons of --study: TensorFlow's and PyTorch's."""


def main(arguments: Sequence[str] | None = None) -> int:
    a = parse(arguments, "validate")
    for sentence in remarks(a):
        recipe.logger.warning(sentence)
    get(a.backend)
    _check_outputs(a)
    runtime.uses_engine(a)
    processes = runtime.processes(a)
    files: list[Path | None] = []
    if a.pretrained:
        files.append(processes.first(lambda: resume.pretrained(a)))
    files += recipe.checkpoints(a.ckpt_path)
    if not files and weights.is_checkpoint(a.model):
        files = [Path(a.model)]
    if not files:
        recipe.logger.warning("no --ckpt_path: %s is evaluated with random weights", a.model)
        files = [None]
    data = processes.first(lambda: inputs.dataset(a, a.val_split, least_classes=1))
    skipped = SkippedImages(a.bad_images, processes)
    networks = [recipe.network(a, data, file) for file in files]
    datasets = [inputs.for_network(a, data, network.model, network.opened) for network in networks]
    results = []
    for file, network, numbered in zip(files, networks, datasets, strict=True):
        name = str(file or f"{a.model}, random weights")
        for variant, changes in _variants(a, network.model):
            result, engine = _evaluate(a, numbered, network, variant, skipped)
            figures = _figures(a, variant, result, len(data))
            results.append({"checkpoint": name, **changes, **figures, "engine": engine})
            if not a.study and processes.rank == 0:
                validation_table(name, result.tally, _classes(numbered, variant), a.worst, a.per_class)
                print(f"{engine}: {_speed(result)}")
                _write_tables(a, numbered, variant, result.tally, _suffix(file, files))
    if processes.rank == 0:
        _finish(a, results, skipped)
    processes.leave()
    return 0


def _finish(a: Arguments, results: list[dict[str, Any]], skipped: SkippedImages) -> None:
    """Print and write the results of all checkpoints."""
    if a.study:
        study_table(results)
    if len(skipped):
        print(f"{len(skipped)} images could not be read and are not counted: {skipped.path}")
    if a.json:
        try:
            with atomic_write(a.json) as part:
                part.write_text(json.dumps(results, indent=2) + "\n")
        except OSError as error:
            raise TrainingError(f"--json {a.json}: cannot write it: {error.strerror}") from None
    if not a.study:
        print(results[-1]["summary"])


def _variants(a: Arguments, model: Model) -> Iterator[tuple[Model, dict[str, Any]]]:
    """The network, or with --study its variants, each with the values that define it."""
    if not a.study:
        yield model, {}
        return
    if model.norm is None:
        raise TrainingError(f"--study: {model.name} has no batch norm")
    for eps in EPSILONS:
        for counted in (True, False):

            def pool(leaf: Leaf, counted: bool = counted) -> Leaf:
                return replace(leaf, count_include_pad=counted) if isinstance(leaf, AvgPool) else leaf

            stages = tuple(replace(stage, node=transform(stage.node, pool)) for stage in model.stages)
            yield (
                replace(model, norm=Norm(eps, model.norm.decay), stages=stages),
                {"eps": eps, "count_include_pad": counted},
            )


def _evaluate(
    a: Arguments, data: Dataset, network: recipe.Network, model: Model, skipped: SkippedImages
) -> tuple[Evaluation, str]:
    """The result, and what ran the network, in words."""
    backend, processes = get(a.backend), skipped.processes
    loader = inputs.validation_loader(a, data, model, processes)
    with ExitStack() as stack:
        if runtime.uses_engine(a):
            engine = stack.enter_context(runtime.engine(a, model, network.arrays(a.seed), processes))
            classify: Predict = engine
            description = engine.description
        else:
            net = backend.build(model, runtime.device(a))
            backend.load(net, network.arrays(a.seed))
            classify = deploys(a.backend).classifier(net, recipe.graph(a), a.val_amp_level != "O0")
            description = _module(a, backend.version())
        progress = stack.enter_context(batches("none" if processes.rank else a.progress, a.log_interval))
        result = evaluate(classify, loader, model.num_classes, progress, processes)
    skipped.add(data, loader.skipped)
    if not len(result.tally):
        raise InputError(f"{data.name}, {data.split}: none of its {len(data)} images can be read")
    return result, description


def _module(a: Arguments, version: str) -> str:
    """What runs the network, where it is not an engine."""
    how = "graph" if recipe.graph(a) or a.backend in RUNTIMES else "eager"
    half = "" if a.val_amp_level == "O0" else f", mixed precision {a.val_amp_level}"
    return f"{a.backend} {version}, {how}{half}"


def _figures(a: Arguments, model: Model, result: Evaluation, images: int) -> dict[str, Any]:
    """A result, for JSON."""
    tally = result.tally
    return {
        "model": model.name,
        "backend": a.backend,
        "version": get(a.backend).version(),
        "size": model.size,
        "images": len(tally),
        "unreadable": images - len(tally),
        "top1_correct": tally.correct("top1"),
        "top5_correct": tally.correct("top5") if tally.classes >= 5 else None,
        "summary": tally.summary(),
        "images_per_second": result.images_per_second,
        "network_ms_per_image": result.network_milliseconds,
        "loop_ms_per_image": 1000 / result.images_per_second,
    }


def _speed(result: Evaluation) -> str:
    return (
        f"{result.images_per_second:.1f} images/s; {1000 / result.images_per_second:.1f} ms an image, "
        f"of which the network alone {result.network_milliseconds:.1f} ms"
    )


def _classes(data: Dataset, model: Model) -> list[str]:
    """The names of the network's classes: the dataset's, and numbers for any that the dataset does not have."""
    return [*data.classes, *(f"class {k}" for k in range(len(data.classes), model.num_classes))]


def _check_outputs(a: Arguments) -> None:
    """Check that the reports can be written, before anything takes long. Raises TrainingError."""
    given = {name: getattr(a, name) for name in ("json", "csv", "confusion", "predictions") if getattr(a, name)}
    for name, path in given.items():
        if not Path(path).parent.is_dir():
            raise TrainingError(f"--{name} {path}: cannot write there: no such folder")
        if Path(path).is_dir() or not os.access(Path(path).parent, os.W_OK):
            raise TrainingError(f"--{name} {path}: cannot write there: it is a folder, or its folder is read-only")
        if a.study and name != "json":
            raise TrainingError(f"--{name} does not go with --study, whose result is one table")
    if len(set(given.values())) < len(given):
        raise TrainingError(f"{' and '.join(f'--{name}' for name in given)}: two of them name the same file")


def _suffix(file: Path | None, files: Sequence[Path | None]) -> str:
    """The end of a report's name, which with several checkpoints is different for each."""
    if len(files) == 1 or file is None:
        return ""
    alike = [other for other in files if other and other.stem == file.stem]
    return f"-{file.stem}" if len(alike) == 1 else f"-{files.index(file) + 1}-{file.stem}"


def _write_tables(a: Arguments, data: Dataset, model: Model, tally: Tally, suffix: str) -> None:
    """Write --csv, --confusion and --predictions."""

    def target(path: str) -> Path:
        return Path(path).with_stem(f"{Path(path).stem}{suffix}")

    classes = _classes(data, model)
    if a.csv:
        tally.write_classes(target(a.csv), classes)
    if a.confusion:
        tally.write_confusion(target(a.confusion), classes)
    if a.predictions:
        tally.write_predictions(target(a.predictions), classes, data.path)
