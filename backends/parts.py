"""The two tasks of a worker in `zoo parity --gradients`: compute the float64 reference, and the same in a framework.

A part is a stage or a head. Both tasks exchange safetensors files in one folder:

    weights         the network's weights
    given/PART      a part's input "x", and "upstream", the gradient of the loss with respect to its output
    reference/PART  the part's results in float64: see `Trainer.differentiate`
    BACKEND/PART    its results in a framework
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from backends.training import Trainer, trainer
from zoo.language.model import Model
from zoo.language.nodes import Head, Leaf, transform
from zoo.training.optimizers import Optimizer
from zoo.training.plan import Plan, groups

Array = NDArray[Any]

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


def judge(model: Model, folder: Path, seed: int) -> float:
    """Compute each part's input and its float64 results from `inputs.npy` and `weights`.

    Biases in `weights` are shifted: see `double.clear_of_kinks`. The upstream gradients are noise of unit variance. The
    gradients of the loss itself would not do: where a batch norm follows the part, they sum to 0 over the batch, so
    that some results are 0 and have no relative error. Returns the loss of the whole network.
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
    arrays = double.clear_of_kinks(model, arrays, {part: of_part["x"] for part, of_part in given.items()})
    save_file(arrays, folder / "weights.safetensors")
    for part, of_part in given.items():
        _save(folder, "given", part, of_part)
    targets = np.eye(model.num_classes)[np.arange(len(images)) % model.num_classes]
    np.save(folder / "targets.npy", targets)
    training = trainer("torch", double.double(model, arrays), plan(model))
    loss = float(training.backward(images.astype(np.float64), targets, 1.0))
    # A new network: the pass above has changed the running statistics.
    _differentiate_parts(trainer("torch", double.double(model, arrays), plan(model)), folder, "reference")
    return loss


def differentiate(name: str, net: Any, folder: Path, graph: bool) -> float:
    """Compute every part's results in the framework `name`; returns the loss of the whole network.

    `net` has the weights that `judge` has written.
    """
    training = trainer(name, net, plan(net.spec, graph))
    _differentiate_parts(training, folder, name)
    images, targets = np.load(folder / "inputs.npy"), np.load(folder / "targets.npy")
    return float(training.backward(images, targets.astype(np.float32), 1.0))


def plan(model: Model, graph: bool = False) -> Plan:
    """A plan that trains every parameter; the optimizer is not used."""
    return Plan(Optimizer(), groups(model), aux_factor=AUX_FACTOR, graph=graph)


def _differentiate_parts(training: Trainer, folder: Path, name: str) -> None:
    for part in training.spec.parts:
        given = load_file(folder / "given" / f"{part}.safetensors")
        _save(folder, name, part, training.differentiate(part, given["x"], given["upstream"]))


def _save(folder: Path, name: str, part: str, arrays: Mapping[str, Array]) -> None:
    (folder / name).mkdir(exist_ok=True)
    save_file({n: np.ascontiguousarray(a) for n, a in arrays.items()}, folder / name / f"{part}.safetensors")
