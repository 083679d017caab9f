"""PyTorch: gradients by autograd, updates by `torch.optim` where it means the same, else by the written rule."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from backends import training
from backends.torch.engines import autocast
from backends.torch.network import CONVENTION, Network
from zoo.training.optimizers import Optimizer, update
from zoo.training.plan import Plan
from zoo.training.processes import Processes

Array = NDArray[np.float32]

_OPTIONS = inspect.signature(DistributedDataParallel).parameters
BROADCAST = "forward_sync_buffers" if "forward_sync_buffers" in _OPTIONS else "broadcast_buffers"
"""What DistributedDataParallel calls the broadcasting of the first process's buffers, from PyTorch 2.13 and before."""


class Trainer(training.Trainer):
    """See `backends.training.Trainer`."""

    backend = "torch"

    def __init__(self, net: Network, plan: Plan, processes: Processes | None = None) -> None:
        super().__init__(net, plan, processes)
        state = net.state_dict(keep_vars=True)
        self.tensors: dict[str, Tensor] = {name: state[CONVENTION.rename(name)] for name in self.everything()}
        for name, tensor in self.tensors.items():
            if isinstance(tensor, nn.Parameter):
                tensor.requires_grad_(name in plan.groups)
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
        forward: nn.Module = net
        if self.processes.size > 1:  # `average` does for buffers what broadcasting would
            devices = None if self.device.type == "cpu" else [self.device]
            forward = DistributedDataParallel(net, devices, **{BROADCAST: False})
        self.forward = torch.compile(forward) if plan.graph else forward

    def backward(self, images: Array, targets: Array, scale: float) -> Tensor:
        self.net.train()
        for path in self.frozen_norms():
            self.net.get_submodule(path).eval()
        x, t = (torch.from_numpy(array).to(self.device, non_blocking=True) for array in (images, targets))
        with self.given_masks(len(images)), autocast(self.device) if self.plan.half else contextlib.nullcontext():
            outputs = self.forward(x)
        loss = self.loss(outputs if isinstance(outputs, tuple) else (outputs,), t)
        (loss if scale == 1 else loss * scale).backward()
        return loss.detach()

    def differentiate(self, part: str, x: Array, upstream: Array) -> dict[str, Array]:
        self.net.train()
        module = self.net.get_submodule(part)
        given = torch.tensor(x, dtype=self.parameters[0].dtype, requires_grad=True)
        output = module(given)
        output.backward(torch.tensor(upstream, dtype=output.dtype))
        found = {"output": _array(output), "input": _array(given.grad)}
        found |= {f"gradient/{n}": g for n, g in self.gradients().items()}
        self.clear()
        return found | {f"statistic/{n}": _array(self.tensors[n]) for n in training.statistics(self.spec, part)}

    def loss(self, outputs: tuple[Tensor, ...], targets: Tensor) -> Tensor:
        function = F.cross_entropy if self.plan.loss == "CE" else F.binary_cross_entropy_with_logits
        losses = [function(z.to(targets.dtype), targets, reduction=self.plan.reduction) for z in outputs]
        return losses[0] + self.plan.aux_factor * sum(losses[1:]) if len(losses) > 1 else losses[0]

    def feed(self, gradients: Mapping[str, Array]) -> None:
        for name, parameter in zip(self.names, self.parameters, strict=True):
            more = torch.tensor(gradients[name], device=self.device)
            parameter.grad = more if parameter.grad is None else parameter.grad + more

    def gradients(self) -> dict[str, Array]:
        return {n: _array(p.grad) for n, p in zip(self.names, self.parameters, strict=True) if p.grad is not None}

    def gradient_norm(self) -> float:
        return float(nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None]))

    @torch.no_grad()
    def apply(self, factor: float, lr: float, numbers: tuple[float, ...]) -> None:
        grads = [p.grad for p in self.parameters]
        if factor != 1:
            torch._foreach_mul_(grads, factor)
        if self.native is not None:
            for group in self.native.param_groups:
                group["lr"] = lr * group["scale"]
            self.native.step()
            return
        for i, (name, p, g) in enumerate(zip(self.names, self.parameters, grads, strict=True)):
            group = self.plan.groups[name]
            slots = tuple(held[i] for held in self.held.values())
            new, slots = update(Rules, self.plan.optimizer, p, g, slots, lr * group.scale, group.decay, numbers)
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
    """Dropout by a mask that is given."""

    mask: Tensor

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device

    def set(self, mask: Array) -> None:
        self.mask = torch.from_numpy(mask).to(self.device)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.mask if self.training else x


class Rules:
    """What the written rules compute with."""

    sqrt, sign, norm = torch.sqrt, torch.sign, torch.linalg.vector_norm

    @staticmethod
    def where(condition: Tensor, yes: Tensor | float, no: Tensor | float) -> Tensor:
        return torch.where(condition, yes, no)


def _native(trainer: Trainer) -> torch.optim.Optimizer | None:
    """PyTorch's own optimizer around the trainer's tensors; None where PyTorch has none of that meaning."""
    o = trainer.plan.optimizer
    if o.name not in NATIVE:
        return None
    make, slots = NATIVE[o.name]
    groups = [
        {"params": [p], "weight_decay": trainer.plan.groups[name].decay, "scale": trainer.plan.groups[name].scale}
        for name, p in zip(trainer.names, trainer.parameters, strict=True)
    ]
    merged: dict[tuple[float, float], dict[str, Any]] = {}
    for group in groups:
        same = merged.setdefault((group["weight_decay"], group["scale"]), {**group, "params": []})
        same["params"] += group["params"]
    optimizer = make(list(merged.values()), o)
    for i, parameter in enumerate(trainer.parameters):
        held = [tensors[i] for tensors in trainer.held.values()]
        state: dict[str, Any] = dict(zip(slots, held, strict=True))
        if o.name != "sgd" and o.name != "momentum":
            state["step"] = torch.tensor(float(trainer.updates))
        optimizer.state[parameter] = state
    return optimizer


def _sgd(groups: list[dict[str, Any]], o: Optimizer) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, 0.0, o.momentum, nesterov=o.nesterov, fused=True)


def _adam(groups: list[dict[str, Any]], o: Optimizer) -> torch.optim.Optimizer:
    kind = torch.optim.Adam if o.name == "adam" else torch.optim.AdamW
    return kind(groups, 0.0, o.betas, o.eps, fused=True)


def _adagrad(groups: list[dict[str, Any]], o: Optimizer) -> torch.optim.Optimizer:
    return torch.optim.Adagrad(groups, 0.0, eps=o.eps)


NATIVE: dict[str, tuple[Callable[[list[dict[str, Any]], Optimizer], torch.optim.Optimizer], tuple[str, ...]]] = {
    "sgd": (_sgd, ("momentum_buffer",)),
    "momentum": (_sgd, ("momentum_buffer",)),
    "adam": (_adam, ("exp_avg", "exp_avg_sq")),
    "adamw": (_adam, ("exp_avg", "exp_avg_sq")),
    "adagrad": (_adagrad, ("sum",)),
}
"""PyTorch's optimizers of the written meaning, and what they call the slots."""


def _array(tensor: Tensor | None) -> Array:
    assert tensor is not None
    return tensor.detach().cpu().numpy().copy()
