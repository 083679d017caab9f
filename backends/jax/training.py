"""JAX: gradients by `jax.value_and_grad` of a copy of the network; updates by our own rules, in one program.

`zoo.training.optimizers` has the rules. Optax's optimizers compute the same (`tests/frameworks/test_jax.py`), except
nadam, whose momentum has no schedule there. They are not used, because XLA compiles both to the same loops.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from backends import training
from backends.jax.engines import half_precision, quick_compilation
from backends.jax.network import (
    CONVENTION,
    Network,
    canonical,
    channels_first,
    channels_last,
    child,
    place_of,
    variables,
)
from zoo.language.trace import parameters
from zoo.training.optimizers import update
from zoo.training.plan import Plan
from zoo.training.processes import Processes

Float32 = NDArray[np.float32]
Tree = dict[str, Array]


class Trainer(training.Trainer):
    """See `backends.training.Trainer`.

    A step is a function of the weights; while it is traced, it changes a temporary copy of the network. The network
    itself changes only in its weights and running statistics. The caller must not change its structure.

    Steps are always compiled: on a CPU, `Plan.graph` selects XLA's full optimisation instead of `quick_compilation`.
    Steps that are not compiled would take longest, because JAX would compile every operation by itself.
    """

    backend = "jax"
    tensors: dict[str, nnx.Variable[Any]]

    def __init__(self, net: Network, plan: Plan, processes: Processes | None = None) -> None:
        super().__init__(net, plan, processes)
        self.tensors = variables(net)
        self.layouts = parameters(self.spec)
        self.place = place_of(net)
        self.held = {
            slot: {n: jnp.full_like(self.tensors[n].value, value) for n in self.names}
            for slot, value in plan.optimizer.slots.items()
        }
        self.ema = self._values(self.tensors) if plan.ema is not None else {}
        self.accumulated: Tree = {}
        options = None if plan.graph else quick_compilation(self.place)
        self.graph, state = nnx.split(net)
        self.abstract = jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), state)
        gradient = jax.value_and_grad(self._loss, has_aux=True)
        self.value_and_gradients: Callable[..., Any] = jax.jit(gradient, compiler_options=options)
        self.update_all = jax.jit(self._update, donate_argnums=(1, 2))

    def _values(self, names: Any) -> Tree:
        return {name: self.tensors[name].value for name in names}

    def _copy(self, *values: Tree) -> Network:
        """A copy of the network in training mode, with these tensors."""
        net: Network = nnx.merge(self.graph, self.abstract, copy=True)
        found = variables(net)
        for name, value in (item for tree in values for item in tree.items()):
            found[name].value = value
        net.train()
        for path in self.frozen_norms():
            child(net, path).eval()
        if self.plan.half:
            half_precision(net, self.place)
        return net

    def _loss(
        self, trained: Tree, others: Tree, images: Array, targets: Array, masks: Tree, scale: Array
    ) -> tuple[Array, tuple[Array, Tree]]:
        net = self._copy(trained, others)
        for path, mask in masks.items():
            child(net, path).dropout = Masked(mask)
        outputs = net(images)
        losses = [self._loss_of(z.astype(targets.dtype), targets) for z in _several(outputs)]
        loss = losses[0] + self.plan.aux_factor * sum(losses[1:]) if len(losses) > 1 else losses[0]
        found = variables(net)
        return loss * scale, (loss, {name: found[name].value for name in self.running_statistics()})

    def _loss_of(self, z: Array, t: Array) -> Array:
        if self.plan.loss == "CE":
            losses = -(t * nnx.log_softmax(z)).sum(1)
        else:
            losses = nnx.relu(z) - z * t + jnp.log1p(jnp.exp(-jnp.abs(z)))
        return losses.mean() if self.plan.reduction == "mean" else losses.sum()

    def backward(self, images: Float32, targets: Float32, scale: float) -> Array:
        trained = self._values(self.names)
        others = self._values(name for name in self.tensors if name not in trained)
        masks = self.masks(len(images))
        given = jax.device_put((images, targets, masks), self.place)
        (_, (loss, statistics)), gradients = self.value_and_gradients(trained, others, *given, scale)
        for name, value in statistics.items():
            self.tensors[name].value = value
        self._accumulate(self.processes.mean(gradients))
        return loss

    def differentiate(self, part: str, x: Float32, upstream: Float32) -> dict[str, Float32]:
        names = [name for name in self.names if name.startswith(f"{part}.")]
        statistics = training.statistics(self.spec, part)

        def run(trained: Tree, x: Array) -> tuple[Array, Tree]:
            net = self._copy(others, trained)
            net.set_attributes(nnx.Dropout, deterministic=True, raise_if_not_found=False)
            y = channels_first(child(net, part)(channels_last(x)))
            found = variables(net)
            return y, {name: found[name].value for name in statistics}

        def pull_back(trained: Tree, x: Array, upstream: Array) -> Any:
            y, back, changed = jax.vjp(run, trained, x, has_aux=True)
            return y, changed, *back(upstream)

        trained = self._values(names)
        others = self._values(name for name in self.tensors if name.startswith(f"{part}.") and name not in trained)
        function = jax.jit(pull_back, compiler_options=quick_compilation(self.place))  # it runs once
        output, changed, gradients, at_input = function(trained, *jax.device_put((x, upstream), self.place))
        for name, value in changed.items():
            self.tensors[name].value = value
        results = {"output": np.array(output), "input": np.array(at_input)}
        results |= {f"gradient/{n}": g for n, g in self._canonical(gradients).items()}
        return results | {f"statistic/{n}": np.array(value) for n, value in changed.items()}

    def _accumulate(self, gradients: Tree) -> None:
        self.accumulated = _sum(self.accumulated, gradients) if self.accumulated else gradients

    def feed(self, gradients: Mapping[str, Float32]) -> None:
        self._accumulate(self._placed({name: gradients[name] for name in self.names}))

    def gradients(self) -> dict[str, Float32]:
        return self._canonical(self.accumulated)

    def gradient_norm(self) -> float:
        return float(_norm(self.accumulated))

    def apply(self, factor: float, lr: float, numbers: tuple[float, ...]) -> None:
        new, self.held = self.update_all(self._values(self.names), self.held, self.accumulated, factor, lr, numbers)
        self.accumulated = {}
        for name, value in new.items():
            self.tensors[name].value = value

    def _update(
        self,
        parameters: Tree,
        held: dict[str, Tree],
        gradients: Tree,
        factor: Array,
        lr: Array,
        numbers: tuple[Array, ...],
    ) -> tuple[Tree, dict[str, Tree]]:
        """One update of all parameters: their new values, and the optimizer's."""
        new: Tree = {}
        slots: dict[str, Tree] = {slot: {} for slot in self.plan.optimizer.slots}
        for name, p in parameters.items():
            group = self.plan.groups[name]
            old = tuple(held[slot][name] for slot in slots)
            rate = lr * group.scale
            new[name], kept = update(
                Rules, self.plan.optimizer, p, gradients[name] * factor, old, rate, group.decay, numbers
            )
            for tree, value in zip(slots.values(), kept, strict=True):
                tree[name] = value
        return new, slots

    def clear(self) -> None:
        self.accumulated = {}

    def average(self, decay: float) -> None:
        self.ema = _mix(self.ema, self._values(self.tensors), 1 - decay)

    def slots(self) -> dict[str, dict[str, Float32]]:
        held = {slot: self._canonical(self.held[slot]) for slot in self.plan.optimizer.slots}
        return {**held, "ema": self._canonical(self.ema)} if self.ema else held

    def set_slots(self, slots: Mapping[str, Mapping[str, NDArray[Any]]]) -> None:
        for slot, arrays in slots.items():
            if slot == "ema":
                self.ema = self._placed(arrays)
            else:
                self.held[slot] = self._placed(arrays)

    def _placed(self, arrays: Mapping[str, NDArray[Any]]) -> Tree:
        """Copies of canonical arrays in JAX's layout, on the network's device."""
        oriented = {
            name: np.array(CONVENTION.orient(array, self.layouts[name]), np.float32, order="C")
            for name, array in arrays.items()
        }
        placed: Tree = jax.device_put(oriented, self.place)
        return placed

    def _canonical(self, tree: Tree) -> dict[str, Float32]:
        """Copies as canonical arrays, in the order of the spec: `jit` sorts names."""
        return {name: canonical(tree[name], layout) for name, layout in self.layouts.items() if name in tree}


class Masked(nnx.Module):
    """Dropout by a given mask."""

    def __init__(self, mask: Array) -> None:
        self.mask = nnx.data(mask)

    def __call__(self, x: Array) -> Array:
        return x * self.mask


class Rules:
    """The functions that the rules of `zoo.training.optimizers` call."""

    sqrt, sign, where, norm = jnp.sqrt, jnp.sign, jnp.where, staticmethod(lambda x: jnp.sqrt((x * x).sum()))


def _several(outputs: Any) -> Sequence[Array]:
    return outputs if isinstance(outputs, tuple) else (outputs,)


@jax.jit
def _sum(a: Tree, b: Tree) -> Tree:
    return jax.tree.map(jnp.add, a, b)


@jax.jit
def _norm(tree: Tree) -> Array:
    return jnp.sqrt(sum((array * array).sum() for array in tree.values()))


@jax.jit
def _mix(average: Tree, values: Tree, share: Array) -> Tree:
    """Move `average` towards `values`: average + share * (values - average)."""
    return jax.tree.map(lambda old, new: old + (new - old) * share, average, values)
