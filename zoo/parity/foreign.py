"""`zoo parity MODEL --against X`: whether a foreign network is the network of a spec, and if not, why.

The network runs once, in its own framework, in a process of its own. What it computes is aligned with the spec
(`zoo.parity.alignment`), operation by operation. A difference is explained by a cause from the catalogue
(`zoo.parity.causes`), which is proved by a repair: a change to the spec with which the difference vanishes. After a
repair the next difference is looked for, until none is left or one cannot be explained.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import weights
from backends import get, load, worker
from backends.observed import FILES, Observation, Observes
from zoo.arguments import integer
from zoo.data.images import read_image, sample_photographs
from zoo.data.transforms import Evaluate
from zoo.errors import BackendError, InputError, SpecError
from zoo.frameworks import FRAMEWORKS
from zoo.language.interpreter import Interpreter
from zoo.language.model import Model
from zoo.language.rewrites import deployable, fold_norms
from zoo.language.trace import InputCheck
from zoo.parity.alignment import PASSING, Alignment, Finding, align
from zoo.parity.bands import bands, error
from zoo.parity.causes import Candidate, Case, prove
from zoo.parity.describe import describe
from zoo.parity.names import read_names, with_names
from zoo.parity.reproduction import Fault, fault_of, write_reproduction
from zoo.parity.updates import Verdict, noise
from zoo.parity.updates import judge as judge_updates

Array = NDArray[Any]

MOST = 60
"""The largest number of causes that are looked for."""


def against(
    model: str | Path | Model,
    target: str | Path,
    *,
    framework: str | None = None,
    checkpoint: str | Path | None = None,
    images: Sequence[str | Path] = (),
    size: int | None = None,
    batch: int | None = None,
    rename: str | Path | Mapping[str, str] | None = None,
    training: bool = False,
    repro: str | Path | None = None,
    timeout: float = 600,
) -> dict[str, Any]:
    """Compare a network with a spec; returns the JSON document of `zoo parity --against`.

    model       anything that `weights.resolve` takes
    target      "package.module:function", a function or class that returns the network when it is called without
                arguments, and may be in the working folder; or a file: TorchScript (.pt), ONNX, a Paddle inference
                model (.json), MindIR
    framework   of the function: torch (the default), mindspore, paddle or jax
    checkpoint  weights to put into both; None: the network's own
    images      by default scikit-learn's first photograph; all are preprocessed as the model's publisher does
    size        side of the input in pixels; None: the model's own
    batch       number of images in the batch; the images are repeated to fill it
    rename      by the spec's names of operations or of their weights, the network's own names; or a JSON file with
                them. These operations are matched by name, the others as usual
    training    run it in training mode too, and compare the running statistics of batch norm: `zoo.parity.updates`
    repro       a folder for a reproduction of the first difference, if there is one: `zoo.parity.reproduction`
    timeout     seconds for each run of the network

    The document has the verdict, the first difference and the causes: see `judge`. Raises ZooError for bad input, and
    BackendError when the network cannot be built or run.
    """
    full = weights.resolve(model)
    spec = _main_path(full)
    name = os.fspath(target)
    backend = _backend(name, framework)
    given: dict[str, Array] | None = None
    if checkpoint is not None:
        opened = weights.open_checkpoint(checkpoint, model=spec)
        full = opened.model
        spec = _main_path(full)
        given = weights.restrict(opened.arrays(), spec, full)
    inputs = _inputs(spec, images, size, batch)
    names = {} if rename is None else read_names(rename, spec)
    with tempfile.TemporaryDirectory(prefix="zoo-against-") as folder:
        seen, version = observed(backend, spec, name, inputs, Path(folder), timeout=timeout)
        seen = with_names(seen, names, spec)
        if given is not None:
            seen, version = _with_weights(backend, spec, name, inputs, Path(folder), seen, given, timeout)
            seen = with_names(seen, names, spec)
        trained = None
        if training:
            batch_of_noise = noise(spec, inputs.shape[-1])
            trained, _ = observed(backend, spec, name, batch_of_noise, Path(folder), training=True, timeout=timeout)
    verdict, first = _judge(spec, seen, inputs, given, trained, full)
    if repro is not None and first is not None:
        write_reproduction(first, Path(repro))
    own = str(checkpoint) if checkpoint else "the network's own"
    return _facts(spec, name, backend, version, own, images, inputs) | verdict


def assert_same(
    net: Any,
    model: str | Path | Model,
    *,
    arrays: Mapping[str, Array] | None = None,
    images: Sequence[str | Path] = (),
    size: int | None = None,
    batch: int | None = None,
    rename: str | Path | Mapping[str, str] | None = None,
    training: bool = False,
) -> None:
    """Raise AssertionError, with the place and the cause, unless a network of this process is that of a spec.

    net      a module of one of the frameworks; its mode and its weights are not changed
    model    anything that `weights.resolve` takes
    arrays   canonical weights that the network should have; None: its own are taken

    The other parameters are those of `against`. Raises BackendError for anything but a framework's module, and ZooError
    for bad input.
    """
    document = compare_network(
        net, model, arrays=arrays, images=images, size=size, batch=batch, rename=rename, training=training
    )
    if not document["ok"]:
        raise AssertionError("\n".join(describe(document)))


def compare_network(
    net: Any,
    model: str | Path | Model,
    *,
    arrays: Mapping[str, Array] | None = None,
    images: Sequence[str | Path] = (),
    size: int | None = None,
    batch: int | None = None,
    rename: str | Path | Mapping[str, str] | None = None,
    training: bool = False,
) -> dict[str, Any]:
    """The same as `assert_same`, but returns the JSON document of `zoo parity --against`."""
    full = weights.resolve(model)
    spec = _main_path(full)
    backend = framework_of(net)
    inputs = _inputs(spec, images, size, batch)
    names = {} if rename is None else read_names(rename, spec)
    observer: Observes = load(backend, "observe")
    seen = with_names(observer.observe(net, inputs), names, spec)
    trained = observer.observe(net, noise(spec, inputs.shape[-1]), True) if training else None
    verdict, _ = _judge(spec, seen, inputs, arrays, trained, full)
    own = "the network's own" if arrays is None else "those given"
    return _facts(spec, type(net).__name__, backend, get(backend).version(), own, images, inputs) | verdict


def _facts(
    spec: Model,
    name: str,
    backend: str,
    version: str,
    weighted: str,
    images: Sequence[str | Path],
    inputs: Array,
) -> dict[str, Any]:
    """What was compared: the part of the document before the verdict."""
    return {
        "model": spec.name,
        "against": name,
        "framework": backend,
        "version": version,
        "weights": weighted,
        "input": {"images": [str(path) for path in images] or "scikit-learn's sample", "shape": list(inputs.shape)},
    }


def framework_of(net: Any) -> str:
    """The framework of a network. Raises BackendError for anything but a framework's module."""
    for name, row in FRAMEWORKS.items():
        package, _, kind = row.module.rpartition(".")
        if package in sys.modules and isinstance(net, getattr(sys.modules[package], kind)):
            return name
    *others, last = (row.module for row in FRAMEWORKS.values())
    raise BackendError(f"expected a {', '.join(others)} or {last}, not {type(net).__name__}")


def _main_path(spec: Model) -> Model:
    if spec.head is None:
        raise SpecError(f"{spec.name}: feature maps cannot be compared with a network's logits: leave out the taps")
    return replace(spec, aux=())


def _inputs(spec: Model, images: Sequence[str | Path], size: int | None, batch: int | None) -> Array:
    """The batch, preprocessed as the model's publisher does."""
    side = spec.size if size is None else integer(size, "the size")
    photographs = [read_image(path) for path in images] if images else sample_photographs()[:1]
    count = integer(len(photographs) if batch is None else batch, "the batch")
    InputCheck(spec)((count, spec.in_channels, side, side))
    evaluate = Evaluate(spec, side)
    return np.stack([evaluate.pixels(photographs[i % len(photographs)]) for i in range(count)])


def judge(model: Model, seen: Observation, inputs: Array, given: Mapping[str, Array] | None = None) -> dict[str, Any]:
    """Compare what a network has computed with a spec without auxiliary heads; returns verdict, place and causes.

    ok             whether it is the spec's network
    max_rel_error  of its logits against the float64 reference with the same weights; None if they cannot be compared
    band           the largest error that rounding explains
    checked        number of operations, and of inputs of operations, that were compared
    first          the first difference in order of execution; None when there is none
    cause, change  of that difference; None where no cause in the catalogue explains it
    proved         whether the change makes the difference vanish
    causes         all causes that were proved, in order
    left           differences that are not explained
    """
    return _judge(model, seen, inputs, given)[0]


def _judge(
    model: Model,
    seen: Observation,
    inputs: Array,
    given: Mapping[str, Array] | None,
    trained: Observation | None = None,
    full: Model | None = None,
) -> tuple[dict[str, Any], Fault | None]:
    """The verdict, and what is needed to reproduce the first difference; `full` is the spec with auxiliary heads."""
    model, given, folded = _form(model, seen, inputs, given)
    within = PASSING if folded else 0.0
    found = align(model, seen, inputs, given, weights_within=within)
    arrays = dict(found.arrays)
    case = Case(model, seen, inputs, given, found, weights_within=within)
    causes: list[Candidate] = []
    explained: Candidate | None = None
    unexplained = _repairable(found)
    while unexplained is not None and len(causes) < MOST:
        candidate = prove(case, unexplained)
        if candidate is None:
            break
        causes += [*candidate.first, candidate]
        case = case.apply(candidate).aligned()
        if explained is None and not _among(found.first, case.found.findings):
            explained = (*candidate.first, candidate)[0]
        unexplained = _repairable(case.found)
    first = found.first
    logits, band = None, None
    if not any(finding.kind in ("missing", "extra") for finding in found.findings):
        float64 = {name: array.astype(np.float64) for name, array in arrays.items()}
        expected = Interpreter(model, float64).tape(inputs)["logits"]
        if expected.shape == seen.output.shape:
            logits = error(seen.output, expected)
            band = bands(model, arrays, inputs, {"logits": expected})["logits"]
    cause, change = _named(first, explained)
    document = {
        "ok": first is None and logits is not None and band is not None and logits <= band,
        "max_rel_error": logits if logits is None or np.isfinite(logits) else None,
        "band": band,
        "checked": found.checked,
        "first": None if first is None else first.document(),
        "cause": cause,
        "proved": explained is not None or (first is not None and first.kind == "weight"),
        "change": change,
        "causes": [
            {"cause": candidate.cause, "where": list(candidate.where), "change": candidate.text} for candidate in causes
        ],
        "left": [finding.document() for finding in case.found.findings],
    }
    if trained is not None and full is not None:
        document = _with_training(document, judge_updates(full, trained, case.found.matched))
    return document, None if first is None else fault_of(first, found, seen, arrays, model)


def _with_training(document: dict[str, Any], verdict: Verdict) -> dict[str, Any]:
    """The document with the findings in training mode added to those in eval mode."""
    causes = [*document["causes"], *(cause.document() for cause in verdict.causes)]
    left = [*document["left"], *(finding.document() for finding in verdict.left)]
    more = {"ok": document["ok"] and not verdict.findings, "checked": document["checked"] + verdict.checked}
    if document["first"] is None and verdict.findings:
        cause = verdict.causes[0] if verdict.causes else None
        more |= {
            "first": verdict.findings[0].document(),
            "cause": None if cause is None else cause.cause,
            "change": None if cause is None else f"{', '.join(cause.where)}: {cause.text}",
            "proved": cause is not None,
        }
    return {**document, **more, "causes": causes, "left": left}


def _form(
    model: Model, seen: Observation, inputs: Array, given: Mapping[str, Array] | None
) -> tuple[Model, Mapping[str, Array] | None, bool]:
    """The spec and the given weights, and whether they were rewritten as exporters do: for a network without norms."""
    if model.norm is None or any(operation.kind == "norm" for operation in seen.operations):
        return model, given, False
    arrays = weights.initial(model) if given is None else given
    forms = [rewrite(model, arrays) for rewrite in (fold_norms, deployable)]
    counts = [len(align(form, seen, inputs, products=False).findings) for form, _ in forms]
    form, folded = forms[counts.index(min(counts))]
    return form, None if given is None else folded, True


def _repairable(found: Alignment) -> Finding | None:
    """The first difference that a cause of the catalogue may explain."""
    for finding in found.findings:
        if finding.kind not in ("weight", "extra"):
            return finding
    return None


def _among(finding: Finding | None, findings: Sequence[Finding]) -> bool:
    return finding is not None and any((one.path, one.kind) == (finding.path, finding.kind) for one in findings)


def _named(first: Finding | None, explained: Candidate | None) -> tuple[str | None, str | None]:
    if explained is not None:
        return explained.cause, f"{', '.join(explained.where)}: {explained.text}"
    if first is not None and first.kind == "weight":
        return "weight", f"{first.path}: {first.detail}"
    return None, None


def _backend(target: str, framework: str | None) -> str:
    suffix = Path(target).suffix
    if ":" in target and suffix not in FILES:
        if framework is not None and framework not in FRAMEWORKS:
            raise BackendError(f"--framework {framework}: expected one of {', '.join(FRAMEWORKS)}")
        return framework or "torch"
    if suffix not in FILES:
        raise InputError(f"{target}: expected package.module:function, or a file that ends in {', '.join(FILES)}")
    if not Path(target).is_file():
        raise InputError(f"{target}: there is no such file")
    if framework not in (None, FILES[suffix]):
        raise BackendError(f"{target}: --framework {framework} cannot run it: leave the flag out")
    return FILES[suffix]


def observed(
    backend: str,
    model: Model,
    target: str,
    inputs: Array,
    folder: Path,
    tensors: Mapping[str, Array] | None = None,
    training: bool = False,
    timeout: float = 600,
) -> tuple[Observation, str]:
    """Run the target in a process of its own; returns what it computes, and the framework's version.

    `tensors` are put into it first, under its own names; `training` runs it in training mode.
    """
    np.save(folder / "inputs.npy", inputs)
    job: dict[str, Any] = {
        "target": target,
        "folder": os.getcwd(),
        "tensors": sorted(tensors or {}),
        "training": training,
    }
    for number, name in enumerate(job["tensors"]):
        assert tensors is not None
        np.save(folder / f"tensor{number}.npy", tensors[name])
    report = worker.call("observe", backend, model, folder, job, timeout)
    return Observation.load(folder), report["version"]


def _with_weights(
    backend: str,
    model: Model,
    target: str,
    inputs: Array,
    folder: Path,
    seen: Observation,
    given: Mapping[str, Array],
    timeout: float,
) -> tuple[Observation, str]:
    """Run the network again with the given weights in place of its own; an alignment says where each belongs."""
    tensors = {}
    for name, operation in align(model, seen, inputs, products=False).matched.items():
        for role, own in operation.names.items():
            array = given.get(f"{name}.{role}")
            if array is not None:
                shape = seen.arrays[operation.parameters[role]].shape
                turned = array.ndim == 4 and array.shape != shape and array.swapaxes(2, 3).shape == shape
                tensors[own] = np.ascontiguousarray(array.swapaxes(2, 3) if turned else array, np.float32)
    return observed(backend, model, target, inputs, folder, tensors, timeout=timeout)
