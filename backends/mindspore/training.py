"""MindSpore: gradients by `value_and_grad`; updates by its primitives where they equal our rules, else by our rules.

With `Plan.graph`, gradients, updates and the moving average are compiled by `jit`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn
from mindspore import ops as F
from numpy.typing import NDArray

from backends import training
from backends.mindspore.engines import mixed
from backends.mindspore.network import CONVENTION, Network, modes_kept
from zoo.training.optimizers import Optimizer, update
from zoo.training.plan import Plan, trainable
from zoo.training.processes import Processes

Array = NDArray[np.float32]


class Trainer(training.Trainer):
    """See `backends.training.Trainer`.

    Training changes only the network's weights and running statistics: each cell's mode, `requires_grad` and dropout
    are set for a step and put back after it.
    """

    backend = "mindspore"

    def __init__(self, net: Network, plan: Plan, processes: Processes | None = None) -> None:
        super().__init__(net, plan, processes)
        state = dict(net.parameters_and_names())
        self.tensors: dict[str, Parameter] = {name: state[CONVENTION.rename(name)] for name in self.everything()}
        self.parameters = ParameterTuple([self.tensors[name] for name in self.names])
        self.held = {
            slot: ParameterTuple(
                [
                    Parameter(F.full_like(p, value), name=f"{slot}/{name}")
                    for name, p in zip(self.names, self.parameters, strict=True)
                ]
            )
            for slot, value in plan.optimizer.slots.items()
        }
        self.ema = (
            [Parameter(p.copy(), name=f"ema/{n}") for n, p in self.tensors.items()] if plan.ema is not None else []
        )
        self.cells: dict[str, nn.Cell] = dict(net.cells_and_names())
        self.heads = {path: self.cells[path] for path in self.dropouts}
        self.masked = {path: Masked(path) for path in self.dropouts}
        self.average_all = ms.jit(self._average()) if plan.graph else self._average()
        self.accumulated: list[Tensor] = []
        native = None if plan.graph else NATIVE.get(plan.optimizer.name, lambda o: None)(plan.optimizer)
        self.update_all = ms.jit(self._rule()) if plan.graph else self._rule() if native is None else self._own(native)
        aux_factor, mean = plan.aux_factor, plan.reduction == "mean"
        loss_of_each = cross_entropy if plan.loss == "CE" else binary_cross_entropy

        def loss_of(z: Tensor, t: Tensor) -> Tensor:
            losses = loss_of_each(z.astype(ms.float32), t)
            return losses.mean() if mean else losses.sum()

        def run(x: Tensor) -> Tensor | tuple[Tensor, ...]:
            return net(x)

        predict = mixed(run) if plan.half else run

        def forward(x: Tensor, t: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
            outputs = predict(x)
            if isinstance(outputs, tuple):
                loss = loss_of(outputs[0], t)
                for z in outputs[1:]:
                    loss = loss + aux_factor * loss_of(z, t)
            else:
                loss = loss_of(outputs, t)
            return loss * scale, loss

        gradient = ms.value_and_grad(forward, None, self.parameters, has_aux=True)
        if self.processes.size > 1:
            average = nn.DistributedGradReducer(self.parameters, mean=True, degree=self.processes.size)

            def averaged(x: Tensor, t: Tensor, scale: Tensor) -> Any:
                losses, gradients = gradient(x, t, scale)
                return losses, average(gradients)

            self.gradient = ms.jit(averaged) if plan.graph else averaged
        else:
            self.gradient = ms.jit(gradient) if plan.graph else gradient

    @contextmanager
    def _set_for_training(self) -> Iterator[None]:
        """Set modes and `requires_grad` as the plan requires, and put them back on exit."""
        wrong = [n for n in trainable(self.spec) if self.tensors[n].requires_grad != (n in self.plan.groups)]
        with modes_kept(self.net):
            self.net.set_train(True)
            for path in self.frozen_norms():
                self.cells[path].set_train(False)
            for name in wrong:
                self.tensors[name].requires_grad = name in self.plan.groups
            try:
                yield
            finally:
                for name in wrong:
                    self.tensors[name].requires_grad = name not in self.plan.groups

    def backward(self, images: Array, targets: Array, scale: float) -> Tensor:
        with self._set_for_training(), self.given_masks(len(images)):
            (_, loss), gradients = self.gradient(Tensor(images), Tensor(targets), Tensor(scale, ms.float32))
        self._accumulate(gradients)
        return loss

    def differentiate(self, part: str, x: Array, upstream: Array) -> dict[str, Array]:
        names = [name for name in self.names if name.startswith(f"{part}.")]
        cell, parameters = self.cells[part], ParameterTuple([self.tensors[n] for n in names])

        def forward(x: Tensor, upstream: Tensor) -> tuple[Tensor, Tensor]:
            output = cell(x)
            return (output * upstream).sum(), output

        function = ms.value_and_grad(forward, 0, parameters, has_aux=True)
        function = ms.jit(function) if self.plan.graph else function
        with self._set_for_training():
            (_, output), (at_input, gradients) = function(Tensor(x), Tensor(upstream))
        results = {"output": _array(output), "input": _array(at_input)}
        results |= {f"gradient/{n}": _array(g) for n, g in zip(names, gradients, strict=True)}
        return results | {f"statistic/{n}": _array(self.tensors[n]) for n in training.statistics(self.spec, part)}

    def _accumulate(self, gradients: Any) -> None:
        self.accumulated = (
            [a + b for a, b in zip(self.accumulated, gradients, strict=True)] if self.accumulated else list(gradients)
        )

    def feed(self, gradients: Mapping[str, Array]) -> None:
        self._accumulate([Tensor(gradients[name]) for name in self.names])

    def gradients(self) -> dict[str, Array]:
        return {name: gradient.asnumpy().copy() for name, gradient in zip(self.names, self.accumulated, strict=True)}

    def gradient_norm(self) -> float:
        return float(F.sqrt(F.addn([F.reduce_sum(g * g) for g in self.accumulated])).asnumpy())

    def apply(self, factor: float, lr: float, numbers: tuple[float, ...]) -> None:
        gradients = self.accumulated if factor == 1 else [g * factor for g in self.accumulated]
        self.update_all(*(Tensor(number, ms.float32) for number in (lr, *numbers)), *gradients)

    def _rule(self) -> Callable[..., Tensor]:
        """A function that updates all parameters by our own rule, from the learning rate, the numbers, the gradients.

        It is a single map over all parameters, which `jit` can compile: compiled, it takes a sixth of the time.
        """
        optimizer, parameters, each = self.plan.optimizer, self.parameters, F.HyperMap()
        count = len(optimizer.numbers(1))
        slots = tuple(self.held.values())
        decays = tuple(self.plan.groups[name].decay for name in self.names)
        scales = tuple(self.plan.groups[name].scale for name in self.names)

        def update_one(
            lr: Tensor,
            numbers: tuple[Tensor, ...],
            p: Parameter,
            g: Tensor,
            scale: float,
            decay: float,
            *held: Parameter,
        ) -> bool:
            new, new_slots = update(Rules, optimizer, p, g, held, lr * scale, decay, numbers)
            F.assign(p, new)
            for slot, value in zip(held, new_slots):  # noqa: B905, MindSpore's compiler does not know strict=
                F.assign(slot, value)
            return True

        def update_all(lr: Tensor, *rest: Tensor) -> Any:
            return each(F.partial(update_one, lr, rest[:count]), parameters, rest[count:], scales, decays, *slots)

        return update_all

    def _average(self) -> Callable[[Tensor, Tensor], Any]:
        """A function that updates the moving average, from the decay and 1 - decay; a single map, as in `_rule`."""
        averages, tensors, each = ParameterTuple(self.ema), ParameterTuple(list(self.tensors.values())), F.HyperMap()

        def average_one(decay: Tensor, rest: Tensor, average: Parameter, tensor: Parameter) -> bool:
            F.assign(average, decay * average + rest * tensor)
            return True

        def average_all(decay: Tensor, rest: Tensor) -> Any:
            return each(F.partial(average_one, decay, rest), averages, tensors)

        return average_all

    def _own(self, native: Update) -> Callable[..., None]:
        """The same function as that of `_rule`, by MindSpore's own primitives."""

        def update_all(lr: Tensor, *gradients: Tensor) -> None:
            for i, (name, p, g) in enumerate(zip(self.names, self.parameters, gradients, strict=True)):
                group = self.plan.groups[name]
                g = g + group.decay * p if group.decay else g
                native(p, g, [held[i] for held in self.held.values()], lr * group.scale)

        return update_all

    def clear(self) -> None:
        self.accumulated = []

    def average(self, decay: float) -> None:
        self.average_all(Tensor(decay, ms.float32), Tensor(1 - decay, ms.float32))

    def slots(self) -> dict[str, dict[str, Array]]:
        held = {s: dict(zip(self.names, map(_array, tensors), strict=True)) for s, tensors in self.held.items()}
        if self.ema:
            held["ema"] = dict(zip(self.tensors, map(_array, self.ema), strict=True))
        return held

    def set_slots(self, slots: Mapping[str, Mapping[str, NDArray[Any]]]) -> None:
        for slot, arrays in slots.items():
            for tensor, array in zip(self.ema if slot == "ema" else self.held[slot], arrays.values(), strict=True):
                F.assign(tensor, Tensor(np.asarray(array, np.float32)))


class Masked(nn.Cell):
    """Dropout by a given mask.

    Masks are parameters, one for each batch size, because a graph treats any other tensor of a cell as a constant.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        self.masks: dict[int, Parameter] = {}

    def set(self, mask: Array) -> None:
        tensor, count = Tensor(mask), len(mask)
        if count not in self.masks:
            self.masks[count] = Parameter(tensor, requires_grad=False)
        self.mask = self.masks[count]
        self.mask.name = f"{self.path}.mask.{count}"
        F.assign(self.mask, tensor)

    def update_parameters_name(self, prefix: str = "", recurse: bool = True) -> None:
        """Keep the masks' names when a classifier takes this cell: a graph needs them unique and unchanging."""

    def construct(self, x: Tensor) -> Tensor:
        return x * self.mask


class Rules:
    """The functions that the rules of `zoo.training.optimizers` call."""

    sqrt, sign, where = F.sqrt, F.sign, F.where

    @staticmethod
    def norm(x: Tensor) -> Tensor:
        return F.sqrt(F.reduce_sum(x * x))


Update = Callable[[Parameter, Tensor, list[Parameter], Tensor], Any]


def _momentum(o: Optimizer) -> Update | None:
    if o.nesterov:
        return None
    apply = F.operations.ApplyMomentum()
    return lambda p, g, slots, lr: apply(p, slots[0], lr, g, o.momentum)


def _adagrad(o: Optimizer) -> Update:
    apply = F.operations.ApplyAdagradV2(epsilon=o.eps)
    return lambda p, g, slots, lr: apply(p, slots[0], lr, g)


NATIVE: dict[str, Callable[[Optimizer], Update | None]] = {
    "sgd": _momentum,
    "momentum": _momentum,
    "adagrad": _adagrad,
}
"""MindSpore's primitives that equal our rules. The others differ on a CPU in MindSpore 2.8.0, as measured:
ApplyMomentum ignores use_nesterov; ApplyRMSProp adds epsilon inside the square root for tensors of up to 7 elements,
outside it for larger ones; Adam computes 1 - beta2 in float32, an error of 1.3e-5."""


def cross_entropy(z: Tensor, t: Tensor) -> Tensor:
    """The loss of each image, [N], from logits z and soft targets t, both [N, classes]."""
    return -(t * F.log_softmax(z, 1)).sum(1)


def binary_cross_entropy(z: Tensor, t: Tensor) -> Tensor:
    """The loss of each logit, [N, classes]: max(z, 0) - z t + log(1 + exp(-|z|))."""
    return F.relu(z) - z * t + F.log(1 + F.exp(-F.abs(z)))


def _array(tensor: Tensor) -> Array:
    return tensor.asnumpy().copy()
