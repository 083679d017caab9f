"""A worker's tasks in `zoo parity --steps`: a few training steps in float64, in float32 and in a framework.

The tasks exchange files in one folder: inputs.npy, the images of each step [K, N, C, H, W]; targets.npy, their soft
targets [N, classes]; weights.safetensors, the initial weights. Results are safetensors files with "loss", [K],
and the weights after the last step.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from backends import get
from backends.parts import AUX_FACTOR
from backends.training import Trainer, trainer
from zoo.language.model import Model
from zoo.training.optimizers import Optimizer
from zoo.training.plan import Plan, groups

LEARNING_RATE = 1e-3
WEIGHT_DECAY = 4e-5
"""As in mindcv's recipes for these networks."""


def judge(model: Model, folder: Path, seed: int, runs: int) -> None:
    """Train in float64 ("reference"), and `runs` times in float32 with sums in random orders ("rounded0", ...)."""
    from backends.torch import double
    from backends.torch.shuffled import Shuffled

    arrays = load_file(folder / "weights.safetensors")
    _train(trainer("torch", double.double(model, arrays), plan(model)), folder, "reference", seed, np.float64)
    for run in range(runs):
        net = get("torch").build(model)
        get("torch").load(net, arrays)
        with Shuffled(run):
            _train(trainer("torch", net, plan(model)), folder, f"rounded{run}", seed)


def train(name: str, net: Any, folder: Path, seed: int, graph: bool) -> None:
    """Train in the framework `name`; `net` must have the initial weights."""
    _train(trainer(name, net, plan(net.spec, graph)), folder, name, seed)


def plan(model: Model, graph: bool = False) -> Plan:
    """Gradient descent with momentum and weight decay on every parameter."""
    return Plan(Optimizer("momentum"), groups(model, WEIGHT_DECAY), aux_factor=AUX_FACTOR, graph=graph)


def _train(training: Trainer, folder: Path, name: str, seed: int, dtype: Any = np.float32) -> None:
    batches, targets = np.load(folder / "inputs.npy"), np.load(folder / "targets.npy")
    losses = []
    for step, images in enumerate(batches):
        training.seed(seed + step)
        losses.append(float(training.step(images.astype(dtype), targets.astype(dtype), LEARNING_RATE)))
    arrays = {name: np.ascontiguousarray(array) for name, array in training.dumped().items()}
    save_file({**arrays, "loss": np.array(losses)}, folder / f"{name}.safetensors")
