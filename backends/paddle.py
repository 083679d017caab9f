"""Paddle: a spec as an ordinary `nn.Layer` whose sublayer paths are the spec's names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import paddle
import paddle.nn.functional as F
from numpy.typing import NDArray
from paddle import Tensor, nn

from backends.device import Device
from backends.predict import float32
from backends.predict import tape as record
from weights.check import check
from weights.names import CONVENTIONS
from zoo.errors import UnavailableError
from zoo.geometry import pair, reach
from zoo.model import Model, Norm
from zoo.nodes import (
    AdaptiveAvgPool,
    AvgPool,
    Box,
    Chain,
    Concat,
    Conv,
    Depthwise,
    Head,
    MaxPool,
    Node,
    NormRelu,
    Relu,
    Residual,
    assert_never,
    children,
)
from zoo.trace import InputCheck, Op, parameters, trace

CONVENTION = CONVENTIONS["paddle"]
ZEROS = paddle.ParamAttr(initializer=nn.initializer.Constant(0.0))
"""Weights are loaded right after a network is built; Paddle's random ones would take longer than the rest of it."""


class Network(nn.Layer):
    """Stages, head and auxiliary heads under their spec names.

    Takes [N, C, H, W]; returns logits [N, classes], in training (logits, *aux) if there are auxiliary heads, or the
    list of feature maps if the spec has taps.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.spec = model
        self.check_input = InputCheck(model)
        ops = {op.path: op for op in trace(model).ops}
        for name, node in model.parts.items():
            self.add_sublayer(name, _layer(node, name, ops, model))

    def __call__(self, x: Tensor) -> Tensor | list[Tensor] | tuple[Tensor, ...]:
        self.check_input(tuple(x.shape), self.training)
        return super().__call__(x)

    def forward(self, x: Tensor) -> Tensor | list[Tensor] | tuple[Tensor, ...]:
        features, aux = [], []
        for stage in self.spec.stages:
            x = getattr(self, stage.name)(x)
            if stage.name in self.spec.taps:
                features.append(x)
            if self.training:
                aux += [getattr(self, a.name)(x) for a in self.spec.aux if a.after == stage.name]
        if self.spec.taps:
            return features
        x = self.head(x)
        return (x, *aux) if aux else x


class ConvNormAct(nn.Layer):
    def __init__(self, node: Box, inputs: int, outputs: int, groups: int, norm: Norm | None) -> None:
        super().__init__()
        self.conv = nn.Conv2D(
            inputs,
            outputs,
            pair(node.kernel),
            node.stride,
            [window // 2 for window in reach(node)] if node.padding == "half" else node.padding.upper(),
            node.dilation,
            groups,
            weight_attr=ZEROS,
            bias_attr=None if node.bias else False,
        )
        self.bn = _norm(outputs, norm) if node.norm else nn.Identity()
        self.act = node.act

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x))
        return F.relu(x) if self.act else x


class PreActivation(nn.Layer):
    def __init__(self, channels: int, norm: Norm | None) -> None:
        super().__init__()
        self.bn = _norm(channels, norm)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(x))


class BatchNorm2D(nn.BatchNorm2D):
    """Keeps the unbiased batch variance, as PyTorch's and MindSpore's do; Paddle's own keeps the biased one."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        biased = self._variance.clone()
        y = F.batch_norm(x, self._mean, biased, self.weight, self.bias, True, self._momentum, self._epsilon)
        with paddle.no_grad():
            added = biased - self._momentum * self._variance
            count = x.shape[0] * x.shape[2] * x.shape[3]
            paddle.assign(biased + added / max(count - 1, 1), self._variance)
        return y


class Branches(nn.Layer):
    """Children side by side, joined along the channels."""

    def __init__(self, branches: dict[str, nn.Layer]) -> None:
        super().__init__()
        for name, branch in branches.items():
            self.add_sublayer(name, branch)

    def forward(self, x: Tensor) -> Tensor:
        return paddle.concat([branch(x) for branch in self.children()], 1)


class Sum(nn.Layer):
    """shortcut(x) + scale * body(x)."""

    def __init__(self, node: Residual, branches: dict[str, nn.Layer]) -> None:
        super().__init__()
        self.body, self.shortcut = branches["body"], branches.get("shortcut")
        self.scale, self.act = node.scale, node.act

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        y = (x if self.shortcut is None else self.shortcut(x)) + (y if self.scale == 1 else y * self.scale)
        return F.relu(y) if self.act else y


class Classifier(nn.Layer):
    def __init__(self, node: Head, features: int, classes: int) -> None:
        super().__init__()
        self.pool, self.act = node.pool, node.act
        self.hidden = nn.Linear(features, node.hidden, weight_attr=ZEROS) if node.hidden else None
        self.dropout = nn.Dropout(node.dropout)
        self.fc = nn.Linear(node.hidden or features, classes, weight_attr=ZEROS)

    def forward(self, x: Tensor) -> Tensor:
        x = x.mean((2, 3)) if self.pool else x.flatten(1)
        if self.hidden is not None:
            x = self.hidden(x)
            x = F.relu(x) if self.act else x
        return self.fc(self.dropout(x))


def _norm(channels: int, norm: Norm | None) -> nn.Layer:
    return BatchNorm2D(channels, norm.decay, norm.eps) if norm else nn.Identity()


def _layer(node: Node, path: str, ops: Mapping[str, Op], model: Model) -> nn.Layer:
    def below(parent: Chain | Concat | Residual) -> dict[str, nn.Layer]:
        return {name: _layer(child, f"{path}.{name}", ops, model) for name, child in children(parent)}

    match node:
        case Chain():
            return nn.Sequential(*below(node).values())
        case Concat():
            return Branches(below(node))
        case Residual():
            return Sum(node, below(node))
        case Conv():
            return ConvNormAct(node, ops[path].inputs.channels, node.channels, 1, model.norm)
        case Depthwise():
            channels = ops[path].inputs.channels
            return ConvNormAct(node, channels, channels, channels, model.norm)
        case NormRelu():
            return PreActivation(ops[path].inputs.channels, model.norm)
        case Relu():
            return nn.ReLU()
        case MaxPool(kernel, stride, padding):
            border = {"half": kernel // 2, "valid": 0, "same": "SAME", "ceil": 0}[padding]
            return nn.MaxPool2D(kernel, stride, border, ceil_mode=padding == "ceil")
        case AvgPool(kernel, stride, padding, count_include_pad):
            half = kernel // 2 if padding == "half" else 0
            return nn.AvgPool2D(kernel, stride, half, exclusive=not count_include_pad)
        case AdaptiveAvgPool(size):
            return nn.AdaptiveAvgPool2D(size)
        case Head():
            shape = ops[path].inputs
            return Classifier(node, shape.channels if node.pool else shape.size, model.num_classes)
    assert_never(node)


def version() -> str:
    return str(paddle.__version__)


def gpus() -> int:
    """How many Paddle sees."""
    return paddle.device.cuda.device_count() if paddle.is_compiled_with_cuda() else 0


def build(model: Model, device: Device | None = None) -> Network:
    """The network in eval mode, on the device, with weights yet to be loaded.

    Raises UnavailableError when there is no such GPU.
    """
    net = Network(model)
    net.eval()
    if device is None:
        return net
    if device.kind == "gpu" and device.index >= gpus():
        raise UnavailableError(f"paddle: no device {device}: this build of paddle {version()} sees {gpus()} GPUs")
    return net.to(device=str(device))


def load(net: Network, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Copy canonical weights in. Raises WeightsError, with the network unchanged, when they do not fit."""
    check(arrays, net.spec)
    state = net.state_dict()
    for name, parameter in parameters(net.spec).items():
        state[CONVENTION.rename(name)].set_value(CONVENTION.orient(np.asarray(arrays[name], np.float32), parameter))


def dump(net: Network) -> dict[str, NDArray[np.float32]]:
    """The network's weights as canonical arrays of their own."""
    state = net.state_dict()
    return {
        name: np.ascontiguousarray(CONVENTION.restore(state[CONVENTION.rename(name)].numpy(), parameter))
        for name, parameter in parameters(net.spec).items()
    }


def autocast(net: Network) -> AbstractContextManager[None]:
    """Paddle's mixed precision, float16. Raises UnavailableError on a CPU, where it would change nothing."""
    if not next(iter(net.parameters())).place.is_gpu_place():
        raise UnavailableError("paddle: mixed precision needs a GPU: Paddle's auto_cast leaves a CPU's float32 alone")
    return paddle.amp.auto_cast(level="O1", dtype="float16")


def classifier(
    net: Network, graph: bool = False, half: bool = False
) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """A function of a batch [N, C, H, W] that gives its logits [N, classes]: see `backends.Backend.classifier`."""
    if half:
        autocast(net)
    forward = paddle.jit.to_static(net.forward, full_graph=True) if graph else net

    @paddle.no_grad()
    def classify(x: NDArray[np.float32]) -> NDArray[np.float32]:
        net.eval()
        with autocast(net) if half else nullcontext():
            logits = forward(paddle.to_tensor(x, place=next(iter(net.parameters())).place))
        return logits.astype("float32").numpy()

    return classify


def predict(net: Network, x: NDArray[np.float32], tape: bool = False) -> dict[str, NDArray[np.float32]]:
    """Run a batch [N, C, H, W] in eval mode: {"logits": [N, classes]}, or each tap's feature map by stage.

    With `tape`: every stage's output, "logits", and every auxiliary head's logits.
    """
    training = net.training
    net.eval()
    try:
        with paddle.no_grad():
            batch = paddle.to_tensor(float32(x), place=next(iter(net.parameters())).place)
            outputs = record(net, batch) if tape else net.spec.named(net(batch))
    finally:
        (net.train if training else net.eval)()
    return {name: value.numpy() for name, value in outputs.items()}
