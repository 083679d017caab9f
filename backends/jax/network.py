"""JAX: build a Model as an ordinary `flax.nnx.Module` whose module paths are the spec's names.

A network takes images and returns feature maps as [N, C, H, W]; inside, they are [N, H, W, C], Flax's layout.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax._src import xla_bridge
from numpy.typing import NDArray

from backends.assemble import Kit, assemble
from backends.device import Device, require
from backends.predict import float32
from backends.predict import tape as record
from weights.manifest import check
from zoo.frameworks import FRAMEWORKS
from zoo.language.geometry import border, pair, reach
from zoo.language.model import Model, Norm
from zoo.language.nodes import AdaptiveAvgPool, AvgPool, Box, Head, MaxPool, Residual
from zoo.language.trace import InputCheck, parameters

CONVENTION = FRAMEWORKS["jax"].convention
LAUNCHED = FRAMEWORKS["jax"].launcher.size


class Network(nnx.Module):
    """A network whose stages, head and auxiliary heads are attributes under their spec names.

    It maps images [N, C, H, W] to logits [N, classes]. In training mode, a network with auxiliary heads returns
    (logits, *auxiliary logits). A network whose spec has taps returns the list of their feature maps instead. A stage
    called by itself takes and returns [N, H, W, C].
    """

    head: Any

    def __init__(self, model: Model) -> None:
        self.spec = model
        self.check_input = InputCheck(model)
        self.deterministic = True
        modules = assemble(model, kit(nnx.Rngs(0)), self)
        for name, module in modules.items():
            setattr(self, name, module)

    @property
    def training(self) -> bool:
        """Whether the network is in training mode."""
        return not self.deterministic

    def __call__(self, x: Array) -> Array | list[Array] | tuple[Array, ...]:
        if all(isinstance(side, int) for side in x.shape[1:]):  # a program may be exported for images of any size
            self.check_input(x.shape, self.training)
        x = channels_last(x)
        features, aux = [], []
        for stage in self.spec.stages:
            x = getattr(self, stage.name)(x)
            if stage.name in self.spec.taps:
                features.append(channels_first(x))
            if self.training:
                aux += [getattr(self, a.name)(x) for a in self.spec.aux if a.after == stage.name]
        if self.spec.taps:
            return features
        x = self.head(x)
        return (x, *aux) if aux else x


def channels_last(x: Any) -> Any:
    """[N, C, H, W] as [N, H, W, C]; other arrays as they are."""
    return x.transpose(0, 2, 3, 1) if x.ndim == 4 else x


def channels_first(x: Any) -> Any:
    """[N, H, W, C] as [N, C, H, W]; other arrays as they are."""
    return x.transpose(0, 3, 1, 2) if x.ndim == 4 else x


class ConvNormAct(nnx.Module):
    """Convolution, batch norm, ReLU: one box of the papers' figures."""

    def __init__(self, rngs: nnx.Rngs, node: Box, inputs: int, outputs: int, groups: int, norm: Norm | None) -> None:
        self.conv = nnx.Conv(
            inputs,
            outputs,
            pair(node.kernel),
            node.stride,
            padding=_padding(node),
            kernel_dilation=node.dilation,
            feature_group_count=groups,
            use_bias=node.bias,
            kernel_init=zeros,
            bias_init=zeros,
            rngs=rngs,
        )
        if norm and node.norm:
            self.bn = BatchNorm(outputs, norm, rngs)
        self.norm, self.act = bool(norm and node.norm), node.act

    def __call__(self, x: Array) -> Array:
        x = self.conv(x)
        x = self.bn(x) if self.norm else x
        return nnx.relu(x) if self.act else x


class PreActivation(nnx.Module):
    """Batch norm, ReLU."""

    def __init__(self, rngs: nnx.Rngs, channels: int, norm: Norm | None) -> None:
        self.norm = norm is not None
        if norm is not None:
            self.bn = BatchNorm(channels, norm, rngs)

    def __call__(self, x: Array) -> Array:
        return nnx.relu(self.bn(x) if self.norm else x)


class BatchNorm(nnx.BatchNorm):
    """Batch norm whose running variance is the unbiased one, as in PyTorch and MindSpore; Flax's own is biased."""

    def __init__(self, channels: int, norm: Norm, rngs: nnx.Rngs) -> None:
        super().__init__(
            channels,
            use_running_average=True,
            momentum=norm.decay,
            epsilon=norm.eps,
            use_fast_variance=False,  # the fast one is a difference of two large numbers
            scale_init=zeros,
            bias_init=zeros,
            rngs=rngs,
        )

    def __call__(self, x: Array, *arguments: Any, **options: Any) -> Array:
        if self.use_running_average:
            return super().__call__(x, *arguments, **options)
        before = self.momentum * self.var.value
        y = super().__call__(x, *arguments, **options)
        count = x.size // x.shape[-1]
        self.var.value = before + (self.var.value - before) * (count / max(count - 1, 1))
        return y


class Function(nnx.Module):
    """A module that calls a function on a feature map and a node."""

    def __init__(self, function: Any, node: Any) -> None:
        self.function, self.node = function, node

    def __call__(self, x: Array) -> Array:
        return self.function(x, self.node)


class Chain(nnx.Module):
    """Runs modules one after another; they are called 0, 1, ..."""

    def __init__(self, modules: Sequence[nnx.Module]) -> None:
        self.names = tuple(map(str, range(len(modules))))
        for name, module in zip(self.names, modules, strict=True):
            setattr(self, name, module)

    def __call__(self, x: Array) -> Array:
        for name in self.names:
            x = getattr(self, name)(x)
        return x


class Branches(nnx.Module):
    """Runs its branches on the same input and concatenates their outputs along the channels."""

    def __init__(self, branches: dict[str, nnx.Module]) -> None:
        self.names = tuple(branches)
        for name, branch in branches.items():
            setattr(self, name, branch)

    def __call__(self, x: Array) -> Array:
        return jnp.concatenate([getattr(self, name)(x) for name in self.names], -1)


class Sum(nnx.Module):
    """shortcut(x) + scale * body(x), then ReLU if the node has one."""

    body: Any
    shortcut: Any

    def __init__(self, node: Residual, branches: dict[str, nnx.Module]) -> None:
        for name, branch in branches.items():
            setattr(self, name, branch)
        self.names = tuple(branches)
        self.scale, self.act = node.scale, node.act

    def __call__(self, x: Array) -> Array:
        y = self.body(x)
        y = y if self.scale == 1 else y * self.scale
        y = (self.shortcut(x) if "shortcut" in self.names else x) + y
        return nnx.relu(y) if self.act else y


class Classifier(nnx.Module):
    """Global average pooling or flattening, a hidden layer if the node has one, dropout, and a linear layer."""

    def __init__(self, rngs: nnx.Rngs, node: Head, features: int, classes: int) -> None:
        linear = partial(nnx.Linear, kernel_init=zeros, bias_init=zeros, rngs=rngs)
        self.node = node
        if node.hidden:
            self.hidden = linear(features, node.hidden)
        self.dropout = nnx.Dropout(node.dropout, deterministic=True, rngs=rngs)
        self.fc = linear(node.hidden or features, classes)

    def __call__(self, x: Array) -> Array:
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))  # logits in bfloat16 would have three digits
        x = x.mean((1, 2)) if self.node.pool else channels_first(x).reshape(x.shape[0], -1)
        if self.node.hidden:
            x = self.hidden(x)
            x = nnx.relu(x) if self.node.act else x
        return self.fc(self.dropout(x))


def zeros(key: Any, shape: Sequence[int], dtype: Any, **_: Any) -> NDArray[Any]:
    """Zeros by NumPy: weights are loaded right after building, and JAX would compile an initialiser for every shape."""
    return np.zeros(shape, dtype)


def _padding(node: Box | MaxPool | AvgPool) -> Any:
    if node.padding == "half":
        return [(side // 2, side // 2) for side in reach(node)]
    return node.padding.upper()


def _relu(x: Array, node: None) -> Array:
    return nnx.relu(x)


def _max_pool(x: Array, node: MaxPool) -> Array:
    pads = _padding(node)
    if node.padding == "ceil":
        pads = [border("ceil", side, node.kernel, node.stride) for side in x.shape[1:3]]
    return nnx.max_pool(x, pair(node.kernel), pair(node.stride), pads)


def _avg_pool(x: Array, node: AvgPool) -> Array:
    return nnx.avg_pool(x, pair(node.kernel), pair(node.stride), _padding(node), node.count_include_pad)


def _adaptive_avg_pool(x: Array, node: AdaptiveAvgPool) -> Array:
    for axis in (1, 2):
        n = x.shape[axis]
        ends = [(i * n // node.size, -(-(i + 1) * n // node.size)) for i in range(node.size)]
        x = jnp.stack([jax.lax.slice_in_dim(x, *each, axis=axis).mean(axis) for each in ends], axis)
    return x


def kit(rngs: nnx.Rngs) -> Kit[nnx.Module]:
    """Flax's constructors.

    `rngs` is made for each network: making one starts JAX's threads, after which this process must not fork any more.
    """
    return Kit(
        box=partial(ConvNormAct, rngs),
        norm_relu=partial(PreActivation, rngs),
        relu=partial(Function, _relu, None),
        max_pool=partial(Function, _max_pool),
        avg_pool=partial(Function, _avg_pool),
        adaptive_avg_pool=partial(Function, _adaptive_avg_pool),
        classifier=partial(Classifier, rngs),
        chain=Chain,
        concat=Branches,
        residual=Sum,
    )


def version() -> str:
    return str(jax.__version__)


def gpus() -> int:
    """The number of GPUs that this process may use."""
    if LAUNCHED in os.environ and not xla_bridge.backends_are_initialized():  # JAX must not start before they connect
        has_cuda = any(importlib.util.find_spec(f"jax_cuda{version}_plugin") for version in (12, 13))
        return len(list(Path("/dev").glob("nvidia[0-9]*"))) if has_cuda else 0
    try:
        return len(jax.local_devices(backend="gpu"))
    except RuntimeError:
        return 0


def place(device: Device | None) -> Any:
    """JAX's own object for a device; None, its default, stays None. Raises UnavailableError if there is no such GPU."""
    if device is None:
        return None
    if device.kind == "cpu":
        return jax.local_devices(backend="cpu")[0]
    found = {each.local_hardware_id: each for each in jax.local_devices(backend="gpu")} if gpus() else {}
    require(device, "jax", version(), lambda: max(found, default=-1) + 1)
    return found[device.index]


def build(model: Model, device: Device | None = None) -> Network:
    """The network in eval mode, before weights are loaded. Raises UnavailableError when there is no such GPU."""
    where = place(device)
    net = Network(model)
    if where is not None:
        _set(net, {name: variable.value for name, variable in variables(net).items()}, where)
    return net


def variables(net: Network) -> dict[str, nnx.Variable[Any]]:
    """The network's parameters and running statistics by canonical name."""
    return {name: child(net, CONVENTION.rename(name)) for name in parameters(net.spec)}


def child(net: nnx.Module, path: str) -> Any:
    """The module or variable at a path."""
    found: Any = net
    for name in path.split("."):
        found = getattr(found, name)
    return found


def place_of(net: Network) -> Any:
    """The device, as a sharding, that the network's weights were put on; None if JAX may choose."""
    first = next(iter(variables(net).values())).value
    return first.sharding if isinstance(first, Array) and first.committed else None


def _set(net: Network, values: Mapping[str, Any], where: Any) -> None:
    placed = jax.device_put(dict(values), where)
    for name, variable in variables(net).items():
        variable.value = placed[name]


def load(net: Network, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Copy canonical weights into the network.

    Raises WeightsError, leaving the network unchanged, when they do not fit.
    """
    check(arrays, net.spec)
    oriented = {
        name: np.array(CONVENTION.orient(np.asarray(arrays[name]), parameter), np.float32, order="C")
        for name, parameter in parameters(net.spec).items()
    }
    _set(net, oriented, place_of(net))


def dump(net: Network) -> dict[str, NDArray[np.float32]]:
    """Copies of the network's weights as canonical arrays."""
    layouts = parameters(net.spec)
    return {name: canonical(variable.value, layouts[name]) for name, variable in variables(net).items()}


def canonical(array: Any, parameter: Any) -> NDArray[np.float32]:
    """A copy in canonical layout."""
    return np.array(CONVENTION.restore(np.asarray(array), parameter), np.float32, order="C")


def train(net: Network) -> None:
    """Put the network into training mode."""
    net.train()


def predict(net: Network, x: NDArray[np.float32], tape: bool = False) -> dict[str, NDArray[np.float32]]:
    """Run a batch [N, C, H, W] in eval mode: {"logits": [N, classes]}, or each tap's feature map by stage name.

    With `tape`: every stage's output, "logits", and every auxiliary head's logits. The network is compiled for every
    shape of a batch.
    """
    with jax.default_matmul_precision("highest"):
        outputs = _run(*nnx.split(net), float32(x), tape)
    logits = ["logits"] if net.spec.head is not None else []
    names = [*(stage.name for stage in net.spec.stages), *logits, *(aux.name for aux in net.spec.aux)]
    return {name: np.array(outputs[name]) for name in names if name in outputs}  # `jit` has sorted them


@partial(jax.jit, static_argnums=(0, 3))
def _run(graph: Any, state: Any, x: Array, tape: bool) -> dict[str, Array]:
    net = nnx.merge(graph, state)
    net.eval()
    if not tape:
        return net.spec.named(net(x))
    return {name: channels_first(value) for name, value in record(net, channels_last(x)).items()}
