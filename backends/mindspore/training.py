"""MindSpore: gradients by `value_and_grad`, under `jit` in GRAPH mode; updates by primitives or the written rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn
from mindspore import ops as F
from numpy.typing import NDArray

from backends import training
from backends.mindspore.engines import mixed
from backends.mindspore.network import CONVENTION, Network
from zoo.training.optimizers import Optimizer, update
from zoo.training.plan import Plan, trainable
from zoo.training.processes import Processes

Array = NDArray[np.float32]


class Trainer(training.Trainer):
    """See `backends.training.Trainer`."""

    backend = "mindspore"

    def __init__(self, net: Network, plan: Plan, processes: Processes | None = None) -> None:
        super().__init__(net, plan, processes)
        state = dict(net.parameters_and_names())
        self.tensors: dict[str, Parameter] = {name: state[CONVENTION.rename(name)] for name in self.everything()}
        for name in trainable(self.spec):
            self.tensors[name].requires_grad = name in plan.groups
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
        cells = dict(net.cells_and_names())
        self.heads = {path: cells[path] for path in self.dropouts}
        self.masked = {path: Masked(path) for path in self.dropouts}
        self.average_all = ms.jit(self._average()) if plan.graph else self._average()
        self.gathered: list[Tensor] = []
        native = None if plan.graph else NATIVE.get(plan.optimizer.name, lambda o: None)(plan.optimizer)
        self.update_all = ms.jit(self._rule()) if plan.graph else self._rule() if native is None else self._own(native)
        aux_factor, mean = plan.aux_factor, plan.reduction == "mean"
        losses_of = cross_entropy if plan.loss == "CE" else binary_cross_entropy

        def one(z: Tensor, t: Tensor) -> Tensor:
            losses = losses_of(z.astype(ms.float32), t)
            return losses.mean() if mean else losses.sum()

        def run(x: Tensor) -> Tensor | tuple[Tensor, ...]:
            return net(x)

        predict = mixed(run) if plan.half else run

        def forward(x: Tensor, t: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
            outputs = predict(x)
            if isinstance(outputs, tuple):
                loss = one(outputs[0], t)
                for z in outputs[1:]:
                    loss = loss + aux_factor * one(z, t)
            else:
                loss = one(outputs, t)
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

    def backward(self, images: Array, targets: Array, scale: float) -> Tensor:
        self.net.set_train(True)
        cells = dict(self.net.cells_and_names())
        for path in self.frozen_norms():
            cells[path].set_train(False)
        with self.given_masks(len(images)):
            (_, loss), gradients = self.gradient(Tensor(images), Tensor(targets), Tensor(scale, ms.float32))
        self._gather(gradients)
        return loss

    def differentiate(self, part: str, x: Array, upstream: Array) -> dict[str, Array]:
        self.net.set_train(True)
        names = [name for name in self.names if name.partition(".")[0] == part]
        module, given, weights = getattr(self.net, part), Tensor(x), ParameterTuple([self.tensors[n] for n in names])

        def forward(given: Tensor, upstream: Tensor) -> tuple[Tensor, Tensor]:
            output = module(given)
            return (output * upstream).sum(), output

        function = ms.value_and_grad(forward, 0, weights, has_aux=True)
        function = ms.jit(function) if self.plan.graph else function
        (_, output), (at_input, gradients) = function(given, Tensor(upstream))
        found = {"output": _array(output), "input": _array(at_input)}
        found |= {f"gradient/{n}": _array(g) for n, g in zip(names, gradients, strict=True)}
        return found | {f"statistic/{n}": _array(self.tensors[n]) for n in training.statistics(self.spec, part)}

    def _gather(self, gradients: Any) -> None:
        self.gathered = (
            [a + b for a, b in zip(self.gathered, gradients, strict=True)] if self.gathered else list(gradients)
        )

    def feed(self, gradients: Mapping[str, Array]) -> None:
        self._gather([Tensor(gradients[name]) for name in self.names])

    def gradients(self) -> dict[str, Array]:
        return {name: gradient.asnumpy().copy() for name, gradient in zip(self.names, self.gathered, strict=True)}

    def gradient_norm(self) -> float:
        return float(F.sqrt(F.addn([F.reduce_sum(g * g) for g in self.gathered])).asnumpy())

    def apply(self, factor: float, lr: float, numbers: tuple[float, ...]) -> None:
        gradients = self.gathered if factor == 1 else [g * factor for g in self.gathered]
        self.update_all(*(Tensor(number, ms.float32) for number in (lr, *numbers)), *gradients)

    def _rule(self) -> Callable[..., Tensor]:
        """A function of the learning rate, the update's numbers and all gradients: the update by the written rule.

        It is compiled in GRAPH mode: one parameter after another takes six times as long.
        """
        optimizer, parameters, each = self.plan.optimizer, self.parameters, F.HyperMap()
        count = len(optimizer.numbers(1))
        slots = tuple(self.held.values())
        decays = tuple(self.plan.groups[name].decay for name in self.names)
        scales = tuple(self.plan.groups[name].scale for name in self.names)

        def one(
            lr: Tensor,
            numbers: tuple[Tensor, ...],
            p: Parameter,
            g: Tensor,
            scale: float,
            decay: float,
            *held: Parameter,
        ) -> bool:
            new, fresh = update(Rules, optimizer, p, g, held, lr * scale, decay, numbers)
            F.assign(p, new)
            for slot, value in zip(held, fresh):  # noqa: B905, MindSpore's compiler knows no strict=
                F.assign(slot, value)
            return True

        def update_all(lr: Tensor, *rest: Tensor) -> Any:
            return each(F.partial(one, lr, rest[:count]), parameters, rest[count:], scales, decays, *slots)

        return update_all

    def _average(self) -> Callable[[Tensor, Tensor], Any]:
        """A function of the decay and what is left to 1, compiled in GRAPH mode as the update is."""
        averages, tensors, each = ParameterTuple(self.ema), ParameterTuple(list(self.tensors.values())), F.HyperMap()

        def one(decay: Tensor, rest: Tensor, average: Parameter, tensor: Parameter) -> bool:
            F.assign(average, decay * average + rest * tensor)
            return True

        def average_all(decay: Tensor, rest: Tensor) -> Any:
            return each(F.partial(one, decay, rest), averages, tensors)

        return average_all

    def _own(self, native: Update) -> Callable[..., None]:
        """The same by MindSpore's own primitives."""

        def update_all(lr: Tensor, *gradients: Tensor) -> None:
            for i, (name, p, g) in enumerate(zip(self.names, self.parameters, gradients, strict=True)):
                group = self.plan.groups[name]
                g = g + group.decay * p if group.decay else g
                native(p, g, [held[i] for held in self.held.values()], lr * group.scale)

        return update_all

    def clear(self) -> None:
        self.gathered = []

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
    """Dropout by a mask that is given: a parameter for each size of a batch, as a compiled graph holds on to its own,
    and takes other tensors for constants.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        self.masks: dict[int, Parameter] = {}

    def set(self, mask: Array) -> None:
        given, count = Tensor(mask), len(mask)
        if count not in self.masks:
            self.masks[count] = Parameter(given, requires_grad=False)
        self.mask = self.masks[count]
        self.mask.name = f"{self.path}.mask.{count}"
        F.assign(self.mask, given)

    def construct(self, x: Tensor) -> Tensor:
        return x * self.mask if self.training else x


class Rules:
    """What the written rules compute with."""

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
"""MindSpore's primitives of the written meaning. What others do on the CPU in 2.8.0, by measurement: ApplyMomentum
takes no notice of use_nesterov; ApplyRMSProp has epsilon inside the root in tensors of up to 7 numbers and outside it
in others; Adam computes 1 - beta2 in float32, 1.3e-5 off."""


def cross_entropy(z: Tensor, t: Tensor) -> Tensor:
    """Of each image [N], over soft targets t [N, classes]."""
    return -(t * F.log_softmax(z, 1)).sum(1)


def binary_cross_entropy(z: Tensor, t: Tensor) -> Tensor:
    """Of each logit [N, classes]: max(z, 0) - z t + log(1 + exp(-|z|))."""
    return F.relu(z) - z * t + F.log(1 + F.exp(-F.abs(z)))


def _array(tensor: Tensor) -> Array:
    return tensor.asnumpy().copy()
