"""Training: one module a framework, each a `Trainer`. Importing this imports no framework.

What is the same everywhere stands here once: when gradients become an update, by what they are scaled, and what is
saved. A framework computes gradients and applies updates.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backends import get, load
from zoo.errors import TrainingError
from zoo.language.model import Model
from zoo.language.nodes import Head
from zoo.language.trace import parameters, trace
from zoo.training.plan import EMA_WARMUP, SCALE_GROWTH, Plan
from zoo.training.processes import Processes

Array = NDArray[np.float32]
STATISTICS = (".bn.mean", ".bn.var")


class Trainer(ABC):
    """A network in training by a plan.

    `updates` counts the optimizer's updates; `pending` the batches whose gradients wait for one; `scale` is the loss
    scale. Tensors the optimizer keeps and the average are saved and restored under canonical names and in canonical
    layout, so that a run can go on in another framework. For the same reason dropout's masks are drawn here, in NumPy:
    while a step runs, a multiplication takes the place of the network's own dropout.

    tensors  the framework's, by canonical name
    heads    the classifiers with dropout, modules of the network, by path
    masked   for each of them, a module that multiplies by the mask that its `set` was given, in training
    """

    backend: str
    tensors: dict[str, Any]
    heads: dict[str, Any]
    masked: dict[str, Any]

    def __init__(self, net: Any, plan: Plan, processes: Processes | None = None) -> None:
        self.net = net
        self.plan = plan
        self.processes = Processes() if processes is None else processes
        self.spec: Model = net.spec
        self.names = list(plan.groups)
        self.updates = 0
        self.pending = 0
        self.scale = plan.loss_scale
        self._since_overflow = 0
        self.dropouts = _dropouts(self.spec)
        self.seed(0)

    def seed(self, number: int, first: int = 0, total: int | None = None) -> None:
        """Draw the next batches' dropout masks from this seed; the batch begins at image `first` of `total`."""
        self._random, self._first, self._total = np.random.default_rng(number), first, total

    def masks(self, count: int) -> dict[str, Array]:
        """By the path of each classifier with dropout: [count, features] of 0 and 1 / (1 - rate), for one batch."""
        drawn = {}
        for path, (features, rate) in self.dropouts.items():
            uniform = self._random.random((self._total or count, features), np.float32)
            kept = uniform[self._first : self._first + count] >= np.float32(rate)
            drawn[path] = kept / np.float32(1 - rate)
        return drawn

    @contextmanager
    def given_masks(self, count: int) -> Iterator[None]:
        """Drop features by the next batch's masks; afterwards the network's own dropout is back in its place."""
        own = {path: head.dropout for path, head in self.heads.items()}
        try:
            for path, mask in self.masks(count).items():
                self.masked[path].set(mask)
                self.heads[path].dropout = self.masked[path]
            yield
        finally:
            for path, dropout in own.items():
                self.heads[path].dropout = dropout

    def step(self, images: Array, targets: Array, lr: float, total: int | None = None) -> Any:
        """Learn from a batch: images [N, C, H, W], soft targets [N, classes], the learning rate of this step.

        With several processes, which have `total` images together, from them all: gradients are of the mean (or sum)
        over all their images, each normalises by its own, and running statistics become the mean of all processes'.
        Returns the loss of these images before the update, a scalar of the framework; float() waits for the device.
        """
        several = self.processes.size  # gradients are averaged over them, whatever the number of their images
        weight = several if self.plan.reduction == "sum" else several * len(images) / (total or several * len(images))
        loss = self.backward(images, targets, self.scale * weight / self.plan.accumulate)
        if several > 1 and (running := self.running_statistics()):
            self.processes.average([self.tensors[name] for name in running])
        self.pending += 1
        if self.pending == self.plan.accumulate:
            self.update(lr)
        return loss

    def flush(self, lr: float) -> None:
        """Make the update that gathered batches wait for, fewer than `accumulate` as they are: by their mean."""
        if self.pending:
            self.update(lr)

    def update(self, lr: float) -> None:
        """Turn the gradients gathered so far into one update."""
        plan, factor = self.plan, 1 / self.scale
        if self.pending:
            factor *= plan.accumulate / self.pending
        self.pending = 0
        guarded = plan.dynamic or plan.drop_overflow
        if guarded or plan.clip is not None:
            norm = self.gradient_norm() * factor
            if guarded and not math.isfinite(norm):
                self.clear()
                self._since_overflow = 0
                if plan.dynamic:
                    self.scale = max(1.0, self.scale / 2)
                return
            if plan.clip is not None and norm > plan.clip:
                factor *= plan.clip / norm
        self.updates += 1
        self.apply(factor, lr, plan.optimizer.numbers(self.updates))
        self.clear()
        if plan.ema is not None:
            self.average(plan.ema * (1 - math.exp(-self.updates / EMA_WARMUP)))
        self._since_overflow += 1
        if plan.dynamic and self._since_overflow % SCALE_GROWTH == 0:
            self.scale *= 2

    def state(self) -> dict[str, Array]:
        """What the next step depends on beside the weights: "SLOT/NAME" and "ema/NAME" arrays, and "progress"."""
        arrays = {f"{slot}/{name}": array for slot, held in self.slots().items() for name, array in held.items()}
        arrays["progress"] = np.array([self.updates, self.scale, self._since_overflow], np.float64)
        return arrays

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from what `state` gave, in this framework or another. Raises TrainingError when it does not fit."""
        held = self.slots()
        wanted = {f"{slot}/{name}": array.shape for slot, part in held.items() for name, array in part.items()}
        came = {name: array.shape for name, array in state.items() if name != "progress"}
        if wanted != came or "progress" not in state:
            odd = sorted(name for name, _ in set(wanted.items()) ^ set(came.items())) or ["progress"]
            raise TrainingError(
                f"the optimizer's state is not {self.plan.optimizer.name}'s of this network and these flags: "
                f"{len(odd)} tensors differ, the first {odd[0]}"
            )
        self.set_slots({slot: {name: state[f"{slot}/{name}"] for name in part} for slot, part in held.items()})
        updates, self.scale, since = (float(number) for number in state["progress"])
        self.updates, self._since_overflow = int(updates), int(since)

    def dumped(self) -> dict[str, Array]:
        """The weights as they are, by canonical name."""
        return get(self.backend).dump(self.net)

    @property
    def averaged(self) -> dict[str, Array]:
        """The moving average of all weights, batch-norm statistics included; {} without `ema`."""
        return self.slots().get("ema", {})

    def saved(self) -> dict[str, Array]:
        """What a run needs to go on: `state`, and the weights as "weights/NAME"."""
        return {**self.state(), **{f"weights/{name}": array for name, array in self.dumped().items()}}

    def resume(self, saved: Mapping[str, NDArray[Any]]) -> None:
        """Go on from what `saved` gave. Raises TrainingError when it does not fit."""
        prefix = "weights/"
        self.restore({name: array for name, array in saved.items() if not name.startswith(prefix)})
        held = {n.removeprefix(prefix): a for n, a in saved.items() if n.startswith(prefix)}
        get(self.backend).load(self.net, held)

    def everything(self) -> list[str]:
        """Canonical names of all weights, running statistics included: what is averaged."""
        return list(parameters(self.spec))

    def running_statistics(self) -> list[str]:
        """Canonical names of the means and variances that training changes."""
        fixed = self.frozen_norms()
        return [n for n in parameters(self.spec) if n.endswith(STATISTICS) and n.rpartition(".")[0] not in fixed]

    def frozen_norms(self) -> list[str]:
        """Paths of batch norms that are not trained, and so normalise by their running statistics."""
        weights = [name for name in parameters(self.spec) if name.endswith((".bn.weight", ".bn.bias"))]
        return sorted({name.rpartition(".")[0] for name in weights if name not in self.plan.groups})

    @abstractmethod
    def backward(self, images: Array, targets: Array, scale: float) -> Any:
        """Add the gradients of `scale` times the loss to those gathered, averaged over the processes.

        Returns the loss itself.
        """

    @abstractmethod
    def differentiate(self, part: str, x: Array, upstream: Array) -> dict[str, Array]:
        """One stage or head alone, in training: given its input and the gradient of its output.

        Returns "output", "input" (the gradient there), "gradient/NAME" for each of its parameters, and
        "statistic/NAME" for batch norm's running statistics as they are afterwards. It has no dropout.
        """

    @abstractmethod
    def feed(self, gradients: Mapping[str, Array]) -> None:
        """Add gradients by canonical name to those gathered, as `backward` does with its own."""

    @abstractmethod
    def gradients(self) -> dict[str, Array]:
        """Gradients gathered so far, by canonical name."""

    @abstractmethod
    def gradient_norm(self) -> float:
        """The Euclidean norm of all gradients gathered so far, as one vector."""

    @abstractmethod
    def apply(self, factor: float, lr: float, numbers: tuple[float, ...]) -> None:
        """One update by `factor` times the gradients."""

    @abstractmethod
    def clear(self) -> None:
        """Forget the gradients."""

    @abstractmethod
    def average(self, decay: float) -> None:
        """Average = decay * average + (1 - decay) * weights."""

    @abstractmethod
    def slots(self) -> dict[str, dict[str, Array]]:
        """The optimizer's tensors by slot and canonical name, and under "ema" the average."""

    @abstractmethod
    def set_slots(self, slots: Mapping[str, Mapping[str, NDArray[Any]]]) -> None:
        """Put back what `slots` gave."""


def _dropouts(model: Model) -> dict[str, tuple[int, float]]:
    """Paths of the classifiers with dropout, and of each how many features it drops at which rate."""
    found = {}
    for op in trace(model).ops:
        if isinstance(op.node, Head) and op.node.dropout:
            features = op.inputs.channels if op.node.pool else op.inputs.size
            found[op.path] = (op.node.hidden or features, op.node.dropout)
    return found


def statistics(model: Model, part: str) -> list[str]:
    """Canonical names of a part's running means and variances."""
    return [n for n in parameters(model) if n.startswith(f"{part}.") and n.endswith(STATISTICS)]


def trainer(backend: str, net: Any, plan: Plan, processes: Processes | None = None) -> Trainer:
    """The network in training, by its own framework. Raises TrainingError for what the framework does not have."""
    made: Trainer = load(backend, "training").Trainer(net, plan, processes)
    return made
