"""Paddle: gradients by autograd; updates by our own rules, `zoo.training.optimizers`, not by `paddle.optimizer`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
from numpy.typing import NDArray
from paddle import Tensor, nn
from paddle.distributed.fleet.utils.hybrid_parallel_util import fused_allreduce_gradients

from backends import training
from backends.paddle.engines import autocast, compiled
from backends.paddle.network import CONVENTION, Network, modes_kept, place
from zoo.language.trace import parameters
from zoo.training.optimizers import update
from zoo.training.plan import Plan, trainable
from zoo.training.processes import Processes

Array = NDArray[np.float32]


class Trainer(training.Trainer):
    """See `backends.training.Trainer`.

    Training changes only the network's weights and running statistics: each layer's mode, `stop_gradient` and dropout
    are set for a step and put back after it. Gradients that the parameters hold when the trainer is made are dropped.
    """

    backend = "paddle"
    parameters: list[Tensor]
    forward: Callable[[Tensor], Any]

    def __init__(self, net: Network, plan: Plan, processes: Processes | None = None) -> None:
        super().__init__(net, plan, processes)
        if plan.half:
            autocast(net)  # raises here, not at the first step, if there is no mixed precision
        self.place = place(net)
        state = net.state_dict()
        self.tensors: dict[str, Tensor] = {name: state[CONVENTION.rename(name)] for name in self.everything()}
        self.layouts = parameters(self.spec)
        self.parameters = [self.tensors[name] for name in self.names]
        self.held = {
            slot: [paddle.full_like(p, value) for p in self.parameters] for slot, value in plan.optimizer.slots.items()
        }
        self.ema = [tensor.detach().clone() for tensor in self.tensors.values()] if plan.ema is not None else []
        self.heads = {path: net.get_sublayer(path) for path in self.dropouts}
        self.masked = {path: Masked(self.place) for path in self.dropouts}
        self.clear()
        self.forward = compiled(net) if plan.graph else net
        if self.processes.size > 1 and not plan.graph:
            with self._set_for_training():  # DataParallel looks for the parameters that have gradients
                self.forward = paddle.DataParallel(net)

    @contextlib.contextmanager
    def _set_for_training(self) -> Iterator[None]:
        """Set modes and `stop_gradient` as the plan requires, and put them back on exit."""
        before = [(self.tensors[name], self.tensors[name].stop_gradient) for name in trainable(self.spec)]
        with modes_kept(self.net):
            self.net.train()
            for path in self.frozen_norms():
                self.net.get_sublayer(path).eval()
            for name in trainable(self.spec):
                norm = name.rpartition(".")[0]  # Paddle computes gamma's gradient only together with beta's
                computed = {f"{norm}.weight", f"{norm}.bias"} if norm.endswith(".bn") else {name}
                self.tensors[name].stop_gradient = self.plan.groups.keys().isdisjoint(computed)
            try:
                yield
            finally:
                for tensor, flag in before:
                    tensor.stop_gradient = flag

    def backward(self, images: Array, targets: Array, scale: float) -> Tensor:
        x, t = (paddle.to_tensor(array, place=self.place) for array in (images, targets))
        with self._set_for_training():
            with self.given_masks(len(images)), autocast(self.net) if self.plan.half else contextlib.nullcontext():
                outputs = self.forward(x)
            loss = self.loss(outputs if isinstance(outputs, list | tuple) else [outputs], t)
            (loss if scale == 1 else loss * scale).backward()
        if self.plan.graph and self.processes.size > 1:  # DataParallel cannot be compiled: average by hand
            fused_allreduce_gradients(self.parameters, None)
        return loss.detach()

    def differentiate(self, part: str, x: Array, upstream: Array) -> dict[str, Array]:
        inputs = paddle.to_tensor(x, place=self.place, stop_gradient=False)
        with self._set_for_training():
            output = self.net.get_sublayer(part)(inputs)
            output.backward(paddle.to_tensor(upstream, place=self.place))
        assert inputs.grad is not None
        results = {"output": output.numpy(), "input": inputs.grad.numpy()}
        results |= {f"gradient/{n}": g for n, g in self.gradients().items()}
        self.clear()
        return results | {f"statistic/{n}": self.tensors[n].numpy() for n in training.statistics(self.spec, part)}

    def loss(self, outputs: Sequence[Tensor], targets: Tensor) -> Tensor:
        def one(z: Tensor) -> Tensor:
            z = z.astype("float32")
            if self.plan.loss == "CE":
                # Paddle's softmax and losses, on a CPU, take every logit that is 64 below the largest for 64 below it.
                below = z - z.max(1, keepdim=True).detach()
                losses = (targets * (below.exp().sum(1, keepdim=True).log() - below)).sum(1)
                return losses.mean() if self.plan.reduction == "mean" else losses.sum()
            return F.binary_cross_entropy_with_logits(z, targets, reduction=self.plan.reduction)

        losses = [one(z) for z in outputs]
        return losses[0] + self.plan.aux_factor * sum(losses[1:]) if len(losses) > 1 else losses[0]

    def feed(self, gradients: Mapping[str, Array]) -> None:
        for name, parameter in zip(self.names, self.parameters, strict=True):
            gradient = paddle.to_tensor(self._oriented(name, gradients[name]), place=parameter.place)
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient

    def gradients(self) -> dict[str, Array]:
        return {
            n: self._array(n, p.grad) for n, p in zip(self.names, self.parameters, strict=True) if p.grad is not None
        }

    def gradient_norm(self) -> float:
        return float(paddle.add_n([(p.grad * p.grad).sum() for p in self.parameters if p.grad is not None]).sqrt())

    @paddle.no_grad()
    def apply(self, factor: float, lr: float, numbers: tuple[float, ...]) -> None:
        for i, (name, p) in enumerate(zip(self.names, self.parameters, strict=True)):
            if p.grad is None:  # as paddle.optimizer does
                continue
            group, g = self.plan.groups[name], p.grad if factor == 1 else p.grad * factor
            slots = tuple(held[i] for held in self.held.values())
            new, slots = update(Rules, self.plan.optimizer, p, g, slots, lr * group.scale, group.decay, numbers)
            paddle.assign(new, p)
            for held, slot in zip(self.held.values(), slots, strict=True):
                held[i] = slot

    def clear(self) -> None:
        for tensor in self.tensors.values():
            tensor.grad = None

    @paddle.no_grad()
    def average(self, decay: float) -> None:
        for average, tensor in zip(self.ema, self.tensors.values(), strict=True):
            paddle.assign(average + (tensor - average) * (1 - decay), average)  # lerp_ leaks memory at every call

    def slots(self) -> dict[str, dict[str, Array]]:
        held = {
            slot: {n: self._array(n, t) for n, t in zip(self.names, tensors, strict=True)}
            for slot, tensors in self.held.items()
        }
        if self.ema:
            held["ema"] = {n: self._array(n, t) for n, t in zip(self.tensors, self.ema, strict=True)}
        return held

    def set_slots(self, slots: Mapping[str, Mapping[str, NDArray[Any]]]) -> None:
        for slot, arrays in slots.items():
            tensors = self.ema if slot == "ema" else self.held[slot]
            for tensor, (name, array) in zip(tensors, arrays.items(), strict=True):
                tensor.set_value(self._oriented(name, array))

    def _oriented(self, name: str, array: NDArray[Any]) -> NDArray[Any]:
        """A canonical array in Paddle's layout."""
        return np.ascontiguousarray(CONVENTION.orient(array, self.layouts[name]))

    def _array(self, name: str, tensor: Tensor) -> Array:
        """A copy in canonical layout."""
        return np.array(CONVENTION.restore(tensor.numpy(), self.layouts[name]), np.float32, order="C")


class Masked(nn.Layer):
    """Dropout by a given mask.

    There is one buffer for each batch size: a compiled graph reads the buffer that it was traced with.
    """

    def __init__(self, place: Any) -> None:
        super().__init__()
        self.place = place
        self.masks: dict[int, Tensor] = {}

    def set(self, mask: Array) -> None:
        """Use this mask, [N, features] of 0 and 1 / (1 - rate), for the next batch."""
        new = paddle.to_tensor(mask, place=self.place)
        buffer = self.masks.setdefault(len(mask), new)
        if buffer is not new:
            buffer.set_value(new)
        self.register_buffer("mask", buffer, persistable=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.mask


class Rules:
    """The functions that the rules of `zoo.training.optimizers` call."""

    sqrt, sign, norm = paddle.sqrt, paddle.sign, paddle.linalg.norm

    @staticmethod
    def where(condition: Tensor, yes: float, no: Tensor) -> Tensor:
        return paddle.where(condition, paddle.full_like(no, yes), no)
