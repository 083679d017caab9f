"""Paddle: a spec as an ordinary `nn.Layer` whose sublayer paths are the spec's names."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import paddle
import paddle.nn.functional as F
from numpy.typing import NDArray
from paddle import Tensor, nn

from backends.device import Device
from backends.tape import tape as record
from weights.check import check
from weights.names import CONVENTIONS
from zoo.errors import UnavailableError
from zoo.model import Model, Norm
from zoo.nodes import AdaptiveAvgPool, AvgPool, Chain, Concat, Conv, Head, MaxPool, Node, assert_never, children
from zoo.trace import Op, check_input, least_size, pair, parameters, trace

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
        self.least_size = {training: least_size(model, training) for training in (False, True)}
        ops = {op.path: op for op in trace(model).ops}
        for name, node in model.parts.items():
            self.add_sublayer(name, _layer(node, name, ops, model))

    def __call__(self, x: Tensor) -> Tensor | list[Tensor] | tuple[Tensor, ...]:
        check_input(self.spec, tuple(x.shape), self.least_size[self.training])
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


class ConvNormReLU(nn.Layer):
    def __init__(self, node: Conv, channels: int, norm: Norm | None) -> None:
        super().__init__()
        kernel = pair(node.kernel)
        padding = [k // 2 for k in kernel] if node.padding == "half" else node.padding.upper()
        self.conv = nn.Conv2D(channels, node.channels, kernel, node.stride, padding, weight_attr=ZEROS, bias_attr=False)
        self.bn = nn.BatchNorm2D(node.channels, norm.decay, norm.eps) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class Branches(nn.Layer):
    """Children side by side, joined along the channels."""

    def __init__(self, branches: dict[str, nn.Layer]) -> None:
        super().__init__()
        for name, branch in branches.items():
            self.add_sublayer(name, branch)

    def forward(self, x: Tensor) -> Tensor:
        return paddle.concat([branch(x) for branch in self.children()], 1)


class Classifier(nn.Layer):
    def __init__(self, node: Head, features: int, classes: int) -> None:
        super().__init__()
        self.pool = node.pool
        self.hidden = nn.Linear(features, node.hidden, weight_attr=ZEROS) if node.hidden else None
        self.dropout = nn.Dropout(node.dropout)
        self.fc = nn.Linear(node.hidden or features, classes, weight_attr=ZEROS)

    def forward(self, x: Tensor) -> Tensor:
        x = x.mean((2, 3)) if self.pool else x.flatten(1)
        if self.hidden is not None:
            x = F.relu(self.hidden(x))
        return self.fc(self.dropout(x))


def _layer(node: Node, path: str, ops: Mapping[str, Op], model: Model) -> nn.Layer:
    match node:
        case Chain():
            return nn.Sequential(*(_layer(child, f"{path}.{name}", ops, model) for name, child in children(node)))
        case Concat():
            return Branches({name: _layer(child, f"{path}.{name}", ops, model) for name, child in children(node)})
        case Conv():
            return ConvNormReLU(node, ops[path].inputs.channels, model.norm)
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


def build(model: Model, device: Device | None = None) -> Network:
    """The network in eval mode, on the device, with weights yet to be loaded.

    Raises UnavailableError when there is no such GPU.
    """
    net = Network(model)
    net.eval()
    if device is None:
        return net
    gpus = paddle.device.cuda.device_count() if paddle.is_compiled_with_cuda() else 0
    if device.kind == "gpu" and device.index >= gpus:
        raise UnavailableError(f"paddle: no device {device}: this build of paddle {version()} sees {gpus} GPUs")
    return net.to(device=str(device))


def load(net: Network, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Copy canonical weights in. Raises WeightsError, with the network unchanged, when they do not fit."""
    check(arrays, net.spec)
    state = net.state_dict()
    for name in parameters(net.spec):
        state[CONVENTION.rename(name)].set_value(CONVENTION.orient(arrays[name]))


def dump(net: Network) -> dict[str, NDArray[np.float32]]:
    """The network's weights as canonical arrays of their own."""
    state = net.state_dict()
    return {
        name: np.ascontiguousarray(CONVENTION.orient(state[CONVENTION.rename(name)].numpy()))
        for name in parameters(net.spec)
    }


def predict(net: Network, x: NDArray[np.float32], tape: bool = False) -> dict[str, NDArray[np.float32]]:
    """Run a batch [N, C, H, W] in eval mode: {"logits": [N, classes]}, or each tap's feature map by stage.

    With `tape`: every stage's output, "logits", and every auxiliary head's logits.
    """
    training = net.training
    net.eval()
    try:
        with paddle.no_grad():
            batch = paddle.to_tensor(x, place=next(iter(net.parameters())).place)
            outputs = record(net, batch) if tape else net.spec.named(net(batch))
    finally:
        (net.train if training else net.eval)()
    return {name: value.numpy() for name, value in outputs.items()}
