"""A worker's tasks in `zoo parity --gradients`: compute results in float64, the reference, and in a framework.

A part is a stage, a head, or an operation of one of them; its name is its path. The tasks exchange safetensors files in
one folder:

    weights         the network's weights
    given/PART      a part's input "x", and "upstream", the gradient of the loss with respect to its output
    reference/PART  the part's results in float64: see `Trainer.differentiate`
    BACKEND/PART    its results in a framework
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from backends.training import Trainer, trainer
from zoo.errors import BackendError
from zoo.language.model import Model
from zoo.language.nodes import Head, Leaf, transform
from zoo.training.optimizers import Optimizer
from zoo.training.plan import Plan, groups

if TYPE_CHECKING:
    from backends.torch.network import Network

Array = NDArray[Any]

Rounding = dict[str, dict[str, float]]
"""The largest error of each array of each part, over some runs in float32: |y - reference| / |reference|, Frobenius."""

LEAST = 1e-6
"""See `errors`."""

AUX_FACTOR = 0.3
"""The weight of auxiliary losses in GoogLeNet (Szegedy et al. 2014, https://arxiv.org/abs/1409.4842, section 5)."""


def without_dropout(model: Model) -> Model:
    """The model with every dropout rate set to 0, so that the frameworks need not draw the same masks."""

    def rate_0(leaf: Leaf) -> Leaf:
        return replace(leaf, dropout=0.0) if isinstance(leaf, Head) else leaf

    return replace(
        model,
        head=None if model.head is None else replace(model.head, dropout=0.0),
        aux=tuple(replace(aux, node=transform(aux.node, rate_0)) for aux in model.aux),
    )


def judge(model: Model, folder: Path, seed: int, runs: int) -> dict[str, Any]:
    """Compute every stage's and head's input and float64 results from `inputs.npy` and `weights`.

    Biases in `weights` and the parts' inputs are moved away from kinks: see `backends.torch.kinks`. The upstream
    gradients are noise of unit variance. The gradients of the loss itself would not do: where a batch norm follows the
    part, they sum to 0 over the batch, so that some results are 0 and have no relative error.

    Returns the "loss" of the whole network in float64, and the largest errors over `runs` runs in float32 that sum in
    random orders: of the loss ("loss_rounding") and of every array ("rounding").
    """
    from backends import get
    from backends.torch import double, kinks
    from backends.torch.shuffled import Shuffled

    model = without_dropout(model)
    arrays = load_file(folder / "weights.safetensors")
    net = double.double(model, arrays)
    images = np.load(folder / "inputs.npy")
    part_inputs = double.inputs(net, list(model.parts), lambda: net(double.tensor(images)))
    arrays = kinks.shift_biases(model, arrays, {part: x for part, (x, _) in part_inputs.items()})
    save_file(arrays, folder / "weights.safetensors")
    net = double.double(model, arrays).train()
    part_inputs = {part: (kinks.move_input(net, part, x), shape) for part, (x, shape) in part_inputs.items()}
    _give(folder, part_inputs, seed)
    targets = np.eye(model.num_classes)[np.arange(len(images)) % model.num_classes]
    np.save(folder / "targets.npy", targets)
    training = trainer("torch", double.double(model, arrays), plan(model))
    loss = float(training.backward(images.astype(np.float64), targets, 1.0))
    errors = []
    for run in range(runs):
        single = get("torch").build(model)
        get("torch").load(single, arrays)
        with Shuffled(run):
            found = trainer("torch", single, plan(model)).backward(images, targets.astype(np.float32), 1.0)
        errors.append(abs(float(found) / loss - 1))
    rounding = _judge_parts(model, arrays, folder, list(part_inputs), runs)
    return {"loss": loss, "loss_rounding": max(errors), "rounding": rounding}


def judge_operations(
    model: Model, folder: Path, operations: Mapping[str, Sequence[str]], seed: int, runs: int
) -> Rounding:
    """After `judge`, do the same for operations, given as paths by the stage or head that contains them.

    Returns their largest errors over `runs` runs in float32.
    """
    from backends.torch import double

    model = without_dropout(model)
    arrays = load_file(folder / "weights.safetensors")
    net = double.double(model, arrays)
    found: dict[str, tuple[Array, tuple[int, ...]]] = {}
    for part, paths in operations.items():
        x = load_file(folder / "given" / f"{part}.safetensors")["x"]
        found |= double.inputs(net, paths, partial(net.get_submodule(part), double.tensor(x)))
    _give(folder, found, seed)
    return _judge_parts(model, arrays, folder, list(found), runs)


def _give(folder: Path, part_inputs: Mapping[str, tuple[Array, tuple[int, ...]]], seed: int) -> None:
    """Write every part's input, and noise as the gradient with respect to its output."""
    random = np.random.default_rng(seed)
    for part, (x, shape) in part_inputs.items():
        _save(folder, "given", part, {"x": x, "upstream": random.standard_normal(shape).astype(np.float32)})


def _judge_parts(model: Model, arrays: Mapping[str, Array], folder: Path, parts: Sequence[str], runs: int) -> Rounding:
    """Write the float64 results of parts; returns their largest errors over `runs` runs in float32."""
    from backends import get
    from backends.torch import double
    from backends.torch.shuffled import Shuffled

    _differentiate_parts(trainer("torch", double.double(model, arrays), plan(model)), folder, "reference", parts)
    rounding: Rounding = {part: {} for part in parts}
    for run in range(runs):
        single: Network = get("torch").build(model)
        get("torch").load(single, arrays)
        with Shuffled(run, sequential=run == 0):
            _differentiate_parts(trainer("torch", single, plan(model)), folder, "rounded", parts)
        for part, of_part in rounding.items():
            for name, error in errors(folder, "rounded", part).items():
                of_part[name] = max(error, of_part.get(name, 0.0))
    return rounding


def differentiate(name: str, net: Any, folder: Path, graph: bool) -> float:
    """Compute every stage's and head's results in the framework `name`; returns the loss of the whole network.

    `net` must have the weights that `judge` has written.
    """
    training = trainer(name, net, plan(net.spec, graph))
    _differentiate_parts(training, folder, name, list(net.spec.parts))
    images, targets = np.load(folder / "inputs.npy"), np.load(folder / "targets.npy")
    return float(training.backward(images, targets.astype(np.float32), 1.0))


def differentiate_operations(name: str, net: Any, folder: Path, graph: bool, operations: Sequence[str]) -> None:
    """Compute the results of the operations that `judge_operations` has prepared."""
    _differentiate_parts(trainer(name, net, plan(net.spec, graph)), folder, name, operations)


def errors(folder: Path, name: str, part: str) -> dict[str, float]:
    """The error of every array of a part: |y - reference| / |reference|, Frobenius norms; infinite if it is not finite.

    An array that is 0 but for rounding, such as the gradient of a bias before a batch norm, has no relative error.
    |reference| therefore counts as at least `LEAST` times the largest norm of the same kind in the part. Raises
    BackendError when the names of the arrays are not the reference's.
    """
    expected = load_file(folder / "reference" / f"{part}.safetensors")
    results = load_file(folder / name / f"{part}.safetensors")
    if set(results) != set(expected):
        differing = sorted(set(results) ^ set(expected))
        raise BackendError(f"{name}: {part}: arrays differ from the reference's: {', '.join(differing)}")
    norms = {key: float(np.linalg.norm(array)) for key, array in expected.items()}
    largest: dict[str, float] = {}
    for key, norm in norms.items():
        kind = key.partition("/")[0]
        largest[kind] = max(norm, largest.get(kind, 0.0))
    found = {}
    for key, array in expected.items():
        scale = max(norms[key], LEAST * largest[key.partition("/")[0]]) or 1.0
        error = float(np.linalg.norm(results[key] - array)) / scale
        found[key] = error if np.isfinite(error) else float("inf")
    return found


def plan(model: Model, graph: bool = False) -> Plan:
    """A plan that trains every parameter; the optimizer is not used."""
    return Plan(Optimizer(), groups(model), aux_factor=AUX_FACTOR, graph=graph)


def _differentiate_parts(training: Trainer, folder: Path, name: str, parts: Sequence[str]) -> None:
    for part in parts:
        given = load_file(folder / "given" / f"{part}.safetensors")
        _save(folder, name, part, training.differentiate(part, given["x"], given["upstream"]))


def _save(folder: Path, name: str, part: str, arrays: Mapping[str, Array]) -> None:
    (folder / name).mkdir(exist_ok=True)
    save_file({n: np.ascontiguousarray(a) for n, a in arrays.items()}, folder / name / f"{part}.safetensors")
