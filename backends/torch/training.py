"""PyTorch: gradients by autograd; updates by `torch.optim` where it equals our rules, else by our rules."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from backends import training
from backends.torch.engines import autocast
from backends.torch.network import CONVENTION, Network, modes_kept
from zoo.training.optimizers import Optimizer, update
from zoo.training.plan import Group, Plan
from zoo.training.processes import Processes

Array = NDArray[np.float32]


class Trainer(training.Trainer):
    """See `backends.training.Trainer`.

    Training changes the network's weights and running statistics: each module's mode, `requires_grad` and dropout are
    set for a step and put back after it. Only two other things change: gradients that the parameters hold when the
    trainer is made are dropped, and with several processes DistributedDataParallel's hooks stay on the parameters.
    """

    backend = "torch"
    forward: Callable[[Tensor], Any]

    def __init__(self, net: Network, plan: Plan, processes: Processes | None = None) -> None:
        super().__init__(net, plan, processes)
        state = net.state_dict(keep_vars=True)
        self.tensors: dict[str, Tensor] = {name: state[CONVENTION.rename(name)] for name in self.everything()}
        self.parameters = [self.tensors[name] for name in self.names]
        self.device = next(iter(self.tensors.values())).device
        self.held = {
            slot: [torch.full_like(p, value, requires_grad=False) for p in self.parameters]
            for slot, value in plan.optimizer.slots.items()
        }
        self.ema = [t.detach().clone() for t in self.tensors.values()] if plan.ema is not None else []
        self.native = _native(self)
        self.heads = {path: net.get_submodule(path) for path in self.dropouts}
        self.masked = {path: Masked(self.device) for path in self.dropouts}
        self.clear()
        forward: nn.Module = net
        if self.processes.size > 1:
            devices = None if self.device.type == "cpu" else [self.device]
            with self._set_for_training():  # DDP looks for the parameters that require gradients
                # DDP need not broadcast running statistics: `step` averages them over the processes.
                forward = DistributedDataParallel(net, devices, forward_sync_buffers=False)
        self.forward = torch.compile(forward) if plan.graph else forward

    @contextlib.contextmanager
    def _set_for_training(self) -> Iterator[None]:
        """Set modes and `requires_grad` as the plan requires, and put them back on exit."""
        trained = {id(parameter) for parameter in self.parameters}
        flags = [(parameter, parameter.requires_grad) for parameter in self.net.parameters()]
        with modes_kept(self.net):
            self.net.train()
            for path in self.frozen_norms():
                self.net.get_submodule(path).eval()
            for parameter, _ in flags:
                parameter.requires_grad_(id(parameter) in trained)
            try:
                yield
            finally:
                for parameter, flag in flags:
                    parameter.requires_grad_(flag)

    def backward(self, images: Array, targets: Array, scale: float) -> Tensor:
        x, t = (_send(array, self.device) for array in (images, targets))
        with self._set_for_training():
            with self.given_masks(len(images)), autocast(self.device) if self.plan.half else contextlib.nullcontext():
                outputs = self.forward(x)
            loss = self.loss(outputs if isinstance(outputs, tuple) else (outputs,), t)
            (loss if scale == 1 else loss * scale).backward()
        return loss.detach()

    def differentiate(self, part: str, x: Array, upstream: Array) -> dict[str, Array]:
        inputs = torch.tensor(x, dtype=self.parameters[0].dtype, device=self.device, requires_grad=True)
        with self._set_for_training():
            output = self.net.get_submodule(part)(inputs)
            output.backward(torch.tensor(upstream, dtype=output.dtype, device=self.device))
        results = {"output": _array(output), "input": _array(inputs.grad)}
        results |= {f"gradient/{n}": g for n, g in self.gradients().items()}
        self.clear()
        return results | {f"statistic/{n}": _array(self.tensors[n]) for n in training.statistics(self.spec, part)}

    def loss(self, outputs: tuple[Tensor, ...], targets: Tensor) -> Tensor:
        function = F.cross_entropy if self.plan.loss == "CE" else F.binary_cross_entropy_with_logits
        losses = [function(z.to(targets.dtype), targets, reduction=self.plan.reduction) for z in outputs]
        return losses[0] + self.plan.aux_factor * sum(losses[1:]) if len(losses) > 1 else losses[0]

    def feed(self, gradients: Mapping[str, Array]) -> None:
        for name, parameter in zip(self.names, self.parameters, strict=True):
            gradient = torch.tensor(gradients[name], device=self.device)
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient

    def gradients(self) -> dict[str, Array]:
        return {n: _array(p.grad) for n, p in zip(self.names, self.parameters, strict=True) if p.grad is not None}

    def gradient_norm(self) -> float:
        return float(nn.utils.get_total_norm(self._gradients()))

    def _gradients(self) -> list[Tensor]:
        return [parameter.grad for parameter in self.parameters if parameter.grad is not None]

    @torch.no_grad()
    def apply(self, factor: float, lr: float, numbers: tuple[float, ...]) -> None:
        if factor != 1:
            torch._foreach_mul_(self._gradients(), factor)
        if self.native is not None:
            for options in self.native.param_groups:
                options["lr"] = lr * options["scale"]
            self.native.step()
            return
        for i, (name, p) in enumerate(zip(self.names, self.parameters, strict=True)):
            if p.grad is None:  # as torch.optim does
                continue
            group = self.plan.groups[name]
            slots = tuple(held[i] for held in self.held.values())
            new, slots = update(Rules, self.plan.optimizer, p, p.grad, slots, lr * group.scale, group.decay, numbers)
            p.copy_(new)
            for held, slot in zip(self.held.values(), slots, strict=True):
                held[i].copy_(slot)

    def clear(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def average(self, decay: float) -> None:
        torch._foreach_lerp_(self.ema, list(self.tensors.values()), 1 - decay)

    def slots(self) -> dict[str, dict[str, Array]]:
        held = {s: dict(zip(self.names, map(_array, tensors), strict=True)) for s, tensors in self.held.items()}
        if self.ema:
            held["ema"] = dict(zip(self.tensors, map(_array, self.ema), strict=True))
        return held

    @torch.no_grad()
    def set_slots(self, slots: Mapping[str, Mapping[str, NDArray[Any]]]) -> None:
        for slot, arrays in slots.items():
            for tensor, array in zip(self.ema if slot == "ema" else self.held[slot], arrays.values(), strict=True):
                tensor.copy_(torch.from_numpy(np.ascontiguousarray(array)))

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        super().restore(state)
        self.native = _native(self)


class Masked(nn.Module):
    """Dropout by a given mask."""

    mask: Tensor

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device

    def set(self, mask: Array) -> None:
        self.mask = _send(mask, self.device)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.mask


class Rules:
    """The functions that the rules of `zoo.training.optimizers` call."""

    sqrt, sign, norm = torch.sqrt, torch.sign, torch.linalg.vector_norm

    @staticmethod
    def where(condition: Tensor, yes: Tensor | float, no: Tensor | float) -> Tensor:
        return torch.where(condition, yes, no)


def _native(trainer: Trainer) -> torch.optim.Optimizer | None:
    """PyTorch's own optimizer, working on the trainer's tensors; None where it has none that equals our rule."""
    o = trainer.plan.optimizer
    if o.name not in NATIVE:
        return None
    make, slots = NATIVE[o.name]
    members: dict[Group, list[Tensor]] = {}
    for name, parameter in zip(trainer.names, trainer.parameters, strict=True):
        members.setdefault(trainer.plan.groups[name], []).append(parameter)
    optimizer = make([{"params": ps, "weight_decay": g.decay, "scale": g.scale} for g, ps in members.items()], o)
    for i, parameter in enumerate(trainer.parameters):
        state: dict[str, Any] = dict(zip(slots, (tensors[i] for tensors in trainer.held.values()), strict=True))
        if o.name not in ("sgd", "momentum"):
            # Fused kernels read the count on the parameter's device; the others read it on the CPU.
            count_on = parameter.device if optimizer.defaults.get("fused") else "cpu"
            state["step"] = torch.tensor(float(trainer.updates), device=count_on)
        optimizer.state[parameter] = state
    return optimizer


def _sgd(groups: list[dict[str, Any]], o: Optimizer) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, 0.0, o.momentum, nesterov=o.nesterov, fused=True)


def _adam(groups: list[dict[str, Any]], o: Optimizer) -> torch.optim.Optimizer:
    assert o.betas is not None
    assert o.eps is not None
    make = torch.optim.Adam if o.name == "adam" else torch.optim.AdamW
    return make(groups, 0.0, o.betas, o.eps, fused=True)


def _adagrad(groups: list[dict[str, Any]], o: Optimizer) -> torch.optim.Optimizer:
    assert o.eps is not None
    return torch.optim.Adagrad(groups, 0.0, eps=o.eps)


NATIVE: dict[str, tuple[Callable[[list[dict[str, Any]], Optimizer], torch.optim.Optimizer], tuple[str, ...]]] = {
    "sgd": (_sgd, ("momentum_buffer",)),
    "momentum": (_sgd, ("momentum_buffer",)),
    "adam": (_adam, ("exp_avg", "exp_avg_sq")),
    "adamw": (_adam, ("exp_avg", "exp_avg_sq")),
    "adagrad": (_adagrad, ("sum",)),
}
"""PyTorch's optimizers that equal our rules, and their names for our slots."""


def _send(array: Array, device: torch.device) -> Tensor:
    """The array on the device: through pinned memory to a GPU, so as not to wait for the GPU's earlier work."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)


def _array(tensor: Tensor | None) -> Array:
    assert tensor is not None
    return tensor.detach().cpu().numpy().copy()
