"""The worker's two jobs in judging training: make the float64 judgement, and do the same in a framework.

Both read and write safetensors in one folder: `weights`, `given/PART` (its input "x" and "upstream", the gradient of
its output), and `NAME/PART`, what came out in a framework or, under "reference", must.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from backends.training import trainer
from zoo.language.model import Model
from zoo.language.nodes import Head, Leaf, transform
from zoo.training.optimizers import Optimizer
from zoo.training.plan import Plan, groups

Array = NDArray[Any]

AUX_FACTOR = 0.3
"""GoogLeNet's (Szegedy et al. 2014, https://arxiv.org/abs/1409.4842, section 5)."""


def without_dropout(model: Model) -> Model:
    """The model with every dropout at 0: masks are each framework's own."""

    def plain(leaf: Leaf) -> Leaf:
        return replace(leaf, dropout=0.0) if isinstance(leaf, Head) else leaf

    return replace(
        model,
        head=None if model.head is None else replace(model.head, dropout=0.0),
        aux=tuple(replace(aux, node=transform(aux.node, plain)) for aux in model.aux),
    )


def judge(model: Model, folder: Path, seed: int) -> float:
    """From `inputs.npy` and `weights`: what goes into each part, and what comes out in float64.

    The gradients given are noise of unit variance. The loss's own would not do: what a batch norm after the part takes
    out again, sums to 0 over the batch, and a relative error of 0 says nothing. Returns the loss of the whole network.
    """
    from backends.torch import double

    model = without_dropout(model)
    arrays = load_file(folder / "weights.safetensors")
    net = double.double(model, arrays)
    random, images = np.random.default_rng(seed), np.load(folder / "inputs.npy")
    given = {
        part: {"x": x, "upstream": random.standard_normal(shape).astype(np.float32)}
        for part, (x, shape) in double.inputs(net, images).items()
    }
    arrays = double.clear_of_kinks(model, arrays, {part: held["x"] for part, held in given.items()})
    save_file(arrays, folder / "weights.safetensors")
    for part, held in given.items():
        _save(folder, "given", part, held)
    targets = np.eye(model.num_classes)[np.arange(len(images)) % model.num_classes]
    np.save(folder / "targets.npy", targets)
    judged = trainer("torch", double.double(model, arrays), plan(model))
    loss = float(judged.backward(images.astype(np.float64), targets, 1.0))
    judged.clear()
    _run(trainer("torch", double.double(model, arrays), plan(model)), folder, "reference")
    return loss


def differentiate(name: str, net: Any, folder: Path, graph: bool) -> float:
    """Every part of the network `net` with the judge's weights, in the framework `name`; returns the loss."""
    training = trainer(name, net, plan(net.spec, graph))
    _run(training, folder, name)
    images, targets = np.load(folder / "inputs.npy"), np.load(folder / "targets.npy")
    return float(training.backward(images, targets.astype(np.float32), 1.0))


def plan(model: Model, graph: bool = False) -> Plan:
    """Everything is trained, by anything."""
    return Plan(Optimizer(), groups(model), aux_factor=AUX_FACTOR, graph=graph)


def _run(training: Any, folder: Path, name: str) -> None:
    for part in training.spec.parts:
        given = load_file(folder / "given" / f"{part}.safetensors")
        _save(folder, name, part, training.differentiate(part, given["x"], given["upstream"]))


def _save(folder: Path, name: str, part: str, arrays: Mapping[str, Array]) -> None:
    (folder / name).mkdir(exist_ok=True)
    save_file({n: np.ascontiguousarray(a) for n, a in arrays.items()}, folder / name / f"{part}.safetensors")
