"""Training: the base class of each framework's `Trainer`. Importing this module imports no framework.

The base class holds what is the same in all frameworks: when accumulated gradients become an update, how they are
scaled, and what is saved. A framework's subclass computes gradients and applies updates.
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
    """Trains a network according to a plan.

    The optimizer's tensors and the moving average are saved and restored under canonical names and in canonical layout,
    so that another framework can continue the run. For the same reason dropout masks are drawn here, in NumPy: during a
    step, a multiplication by the mask replaces the network's own dropout.

    updates  the number of the optimizer's updates so far
    pending  the number of batches whose gradients are accumulated and not yet applied
    scale    the loss scale
    tensors  the framework's tensors by canonical name
    heads    the network's classifiers that have dropout, by path
    masked   for each of these, a module that multiplies by the mask last passed to its `set`
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
        """Draw the dropout masks of the next batches from this seed.

        When several processes share a batch of `total` images, this process has those from index `first` on.
        """
        self._random, self._first, self._total = np.random.default_rng(number), first, total

    def masks(self, count: int) -> dict[str, Array]:
        """Draw one batch's masks, by the classifier's path: arrays [count, features] of 0 and 1 / (1 - rate)."""
        drawn = {}
        for path, (features, rate) in self.dropouts.items():
            uniform = self._random.random((self._total or count, features), np.float32)
            kept = uniform[self._first : self._first + count] >= np.float32(rate)
            drawn[path] = kept / np.float32(1 - rate)
        return drawn

    @contextmanager
    def given_masks(self, count: int) -> Iterator[None]:
        """Replace the network's dropout by multiplication with newly drawn masks; put it back on exit."""
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
        """Train on a batch: images [N, C, H, W], soft targets [N, classes], and the learning rate of this step.

        Several processes share a batch of `total` images. The gradients are then those of the mean (or sum) over all
        of its images; batch norm normalises by each process's own images; running statistics are averaged over the
        processes.

        Returns the loss of this process's images before the update, as a scalar of the framework, which the device may
        not have computed yet: float() waits for it, and so do gradient clipping and the checks for overflow.
        """
        size = self.processes.size  # gradients are averaged over processes, however many images each has
        weight = size if self.plan.reduction == "sum" else size * len(images) / (total or size * len(images))
        loss = self.backward(images, targets, self.scale * weight / self.plan.accumulate)
        if size > 1 and (running := self.running_statistics()):
            self.processes.average([self.tensors[name] for name in running])
        self.pending += 1
        if self.pending == self.plan.accumulate:
            self.update(lr)
        return loss

    def flush(self, lr: float) -> None:
        """Apply the mean of the accumulated gradients even if fewer than `accumulate` batches have been added."""
        if self.pending:
            self.update(lr)

    def update(self, lr: float) -> None:
        """Apply the accumulated gradients as one update, or drop them if they overflowed."""
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
        """Everything but the weights that the next step depends on: "SLOT/NAME", "ema/NAME" and "progress" arrays."""
        arrays = {f"{slot}/{name}": array for slot, held in self.slots().items() for name, array in held.items()}
        arrays["progress"] = np.array([self.updates, self.scale, self._since_overflow], np.float64)
        return arrays

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue from what `state` returned, in any framework. Raises TrainingError when it does not fit."""
        held = self.slots()
        expected = {f"{slot}/{name}": array.shape for slot, arrays in held.items() for name, array in arrays.items()}
        given = {name: array.shape for name, array in state.items() if name != "progress"}
        if expected != given or "progress" not in state:
            differing = sorted({name for name, _ in expected.items() ^ given.items()}) or ["progress"]
            raise TrainingError(
                f"the optimizer's state is not {self.plan.optimizer.name}'s of this network and these flags: "
                f"{len(differing)} tensors are missing, unexpected or of another shape, the first is {differing[0]}; "
                "resume with the flags of the run that saved it"
            )
        self.set_slots({slot: {name: state[f"{slot}/{name}"] for name in arrays} for slot, arrays in held.items()})
        updates, self.scale, since_overflow = (float(number) for number in state["progress"])
        self.updates, self._since_overflow = int(updates), int(since_overflow)

    def dumped(self) -> dict[str, Array]:
        """Copies of the current weights by canonical name."""
        return get(self.backend).dump(self.net)

    @property
    def averaged(self) -> dict[str, Array]:
        """The moving average of all weights, running statistics included, by canonical name; {} without `ema`."""
        return self.slots().get("ema", {})

    def saved(self) -> dict[str, Array]:
        """Everything needed to resume the run: `state`, and the weights as "weights/NAME"."""
        return {**self.state(), **{f"weights/{name}": array for name, array in self.dumped().items()}}

    def resume(self, saved: Mapping[str, NDArray[Any]]) -> None:
        """Continue from what `saved` returned. Raises TrainingError when it does not fit."""
        prefix = "weights/"
        self.restore({name: array for name, array in saved.items() if not name.startswith(prefix)})
        weights = {n.removeprefix(prefix): a for n, a in saved.items() if n.startswith(prefix)}
        get(self.backend).load(self.net, weights)

    def everything(self) -> list[str]:
        """Canonical names of all weights, running statistics included."""
        return list(parameters(self.spec))

    def running_statistics(self) -> list[str]:
        """Canonical names of the running means and variances that training changes."""
        frozen = self.frozen_norms()
        return [n for n in parameters(self.spec) if n.endswith(STATISTICS) and n.rpartition(".")[0] not in frozen]

    def frozen_norms(self) -> list[str]:
        """Paths of the batch norms whose gamma or beta is not trained; they normalise by their running statistics."""
        weights = [name for name in parameters(self.spec) if name.endswith((".bn.weight", ".bn.bias"))]
        return sorted({name.rpartition(".")[0] for name in weights if name not in self.plan.groups})

    @abstractmethod
    def backward(self, images: Array, targets: Array, scale: float) -> Any:
        """Add the gradients of `scale` times the loss, averaged over the processes, to those accumulated.

        Returns the loss itself, not scaled.
        """

    @abstractmethod
    def differentiate(self, part: str, x: Array, upstream: Array) -> dict[str, Array]:
        """Run one stage, head, or operation of one, without dropout, in training mode, and differentiate it.

        `part` is its path, `x` its input and `upstream` the gradient of the loss with respect to its output. Returns
        "output", "input" (the gradient with respect to the input), "gradient/NAME" for each of its parameters, and
        "statistic/NAME" for its running statistics after the pass.
        """

    @abstractmethod
    def feed(self, gradients: Mapping[str, Array]) -> None:
        """Add the given gradients, by canonical name, to those accumulated, in place of `backward`."""

    @abstractmethod
    def gradients(self) -> dict[str, Array]:
        """Copies of the accumulated gradients by canonical name."""

    @abstractmethod
    def gradient_norm(self) -> float:
        """The Euclidean norm of all accumulated gradients, taken as one vector. Waits for the device."""

    @abstractmethod
    def apply(self, factor: float, lr: float, numbers: tuple[float, ...]) -> None:
        """Update the weights from `factor` times the gradients; `numbers` are `Optimizer.numbers` of this update."""

    @abstractmethod
    def clear(self) -> None:
        """Drop the accumulated gradients."""

    @abstractmethod
    def average(self, decay: float) -> None:
        """Set the moving average to decay * average + (1 - decay) * weights."""

    @abstractmethod
    def slots(self) -> dict[str, dict[str, Array]]:
        """Copies of the optimizer's tensors by slot and canonical name, and of the moving average as slot "ema"."""

    @abstractmethod
    def set_slots(self, slots: Mapping[str, Mapping[str, NDArray[Any]]]) -> None:
        """Restore what `slots` returned."""


def _dropouts(model: Model) -> dict[str, tuple[int, float]]:
    """The number of input features of dropout, and its rate, by the path of each classifier that has dropout."""
    found = {}
    for op in trace(model).ops:
        if isinstance(op.node, Head) and op.node.dropout:
            features = op.inputs.channels if op.node.pool else op.inputs.size
            found[op.path] = (op.node.hidden or features, op.node.dropout)
    return found


def statistics(model: Model, part: str) -> list[str]:
    """Canonical names of the running means and variances of one stage or head."""
    return [n for n in parameters(model) if n.startswith(f"{part}.") and n.endswith(STATISTICS)]


def trainer(backend: str, net: Any, plan: Plan, processes: Processes | None = None) -> Trainer:
    """The backend's `Trainer` of a network that the same backend has built.

    Raises BackendError for a backend that does not train, and ZooError for a plan that the framework cannot carry out.
    """
    made: Trainer = load(backend, "training").Trainer(net, plan, processes)
    return made
