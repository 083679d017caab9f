"""Paddle: build a Model as an ordinary `nn.Layer` whose sublayer paths are the spec's names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import paddle
import paddle.nn.functional as F
from numpy.typing import NDArray
from paddle import Tensor, nn

from backends.assemble import Kit, assemble
from backends.device import Device, require
from backends.predict import float32
from backends.predict import tape as record
from weights.manifest import check
from zoo.frameworks import FRAMEWORKS
from zoo.language.geometry import pair, reach
from zoo.language.model import Model, Norm
from zoo.language.nodes import AdaptiveAvgPool, AvgPool, Box, Head, MaxPool, Residual
from zoo.language.trace import InputCheck, parameters

CONVENTION = FRAMEWORKS["paddle"].convention
ZEROS = paddle.ParamAttr(initializer=nn.initializer.Constant(0.0))
"""Zeros: weights are loaded right after a network is built, and drawing random ones would take most of the time."""


class Network(nn.Layer):
    """A network whose stages, head and auxiliary heads are attributes under their spec names.

    It maps images [N, C, H, W] to logits [N, classes]. In training mode, a network with auxiliary heads returns
    (logits, *auxiliary logits). A network whose spec has taps returns the list of their feature maps instead.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.spec = model
        self.check_input = InputCheck(model)
        layers = assemble(model, KIT, self)
        for name, layer in layers.items():
            self.add_sublayer(name, layer)

    def __call__(self, x: Tensor) -> Tensor | list[Tensor] | tuple[Tensor, ...]:
        if paddle.in_dynamic_mode():  # while a graph is traced, sizes may be unknown
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
    """Convolution, batch norm, ReLU: one box of the papers' figures."""

    def __init__(self, node: Box, inputs: int, outputs: int, groups: int, norm: Norm | None) -> None:
        super().__init__()
        self.conv = nn.Conv2D(
            inputs,
            outputs,
            pair(node.kernel),
            node.stride,
            _padding(node),
            node.dilation,
            groups,
            weight_attr=ZEROS,
            bias_attr=None if node.bias else False,
        )
        self.bn = _norm(outputs, norm) if node.norm else nn.Identity()
        self.act = nn.ReLU() if node.act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class PreActivation(nn.Layer):
    """Batch norm, ReLU."""

    def __init__(self, channels: int, norm: Norm | None) -> None:
        super().__init__()
        self.bn = _norm(channels, norm)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(x))


class BatchNorm2D(nn.BatchNorm2D):
    """Batch norm with the running statistics of PyTorch and MindSpore.

    Paddle's running variance is the biased one; here it is unbiased. Paddle also computes the weight of a new batch,
    1 - decay, from a float32: for a decay of 0.9997 it is 3e-5 off. `correction` is the right weight over Paddle's.
    """

    def __init__(self, channels: int, decay: float, eps: float = 1e-5) -> None:
        super().__init__(channels, decay, eps)
        self.correction = (1 - decay) / (1 - float(np.float32(decay)))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        mean, variance = self._mean.clone(), self._variance.clone()
        y = F.batch_norm(x, mean, variance, self.weight, self.bias, True, self._momentum, self._epsilon)
        with paddle.no_grad():
            count = x.shape[0] * x.shape[2] * x.shape[3]  # a tensor while a graph of unknown sizes is traced
            freedom = max(count - 1, 1) if isinstance(count, int) else paddle.clip(count - 1, 1).astype(mean.dtype)
            more = self.correction - 1
            new_mean = mean + (mean - self._momentum * self._mean) * more
            added = variance - self._momentum * self._variance
            paddle.assign(new_mean, self._mean)
            paddle.assign(variance + added * (more + self.correction / freedom), self._variance)
        return y


class Branches(nn.Layer):
    """Runs its branches on the same input and concatenates their outputs along the channels."""

    def __init__(self, branches: dict[str, nn.Layer]) -> None:
        super().__init__()
        for name, branch in branches.items():
            self.add_sublayer(name, branch)

    def forward(self, x: Tensor) -> Tensor:
        return paddle.concat([branch(x) for branch in self.children()], 1)


class Sum(nn.Layer):
    """shortcut(x) + scale * body(x), then ReLU if the node has one."""

    def __init__(self, node: Residual, branches: dict[str, nn.Layer]) -> None:
        super().__init__()
        self.body = branches["body"]
        self.shortcut = branches.get("shortcut", nn.Identity())
        self.scale = node.scale
        self.act = nn.ReLU() if node.act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        return self.act(self.shortcut(x) + (y if self.scale == 1 else y * self.scale))


class Classifier(nn.Layer):
    """Global average pooling or flattening, a hidden layer if the node has one, dropout, and a linear layer."""

    def __init__(self, node: Head, features: int, classes: int) -> None:
        super().__init__()
        self.pool = node.pool
        self.hidden = nn.Linear(features, node.hidden, weight_attr=ZEROS) if node.hidden else nn.Identity()
        self.act = nn.ReLU() if node.hidden and node.act else nn.Identity()
        self.dropout = nn.Dropout(node.dropout)
        self.fc = nn.Linear(node.hidden or features, classes, weight_attr=ZEROS)

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(x, 1).flatten(1) if self.pool else x.flatten(1)  # mean((2, 3)) is slow in oneDNN
        return self.fc(self.dropout(self.act(self.hidden(x))))


def _norm(channels: int, norm: Norm | None) -> nn.Layer:
    return BatchNorm2D(channels, norm.decay, norm.eps) if norm else nn.Identity()


def _padding(node: Box | MaxPool) -> Literal["SAME"] | tuple[int, int]:
    if node.padding == "same":
        return "SAME"
    height, width = reach(node)
    return (height // 2, width // 2) if node.padding == "half" else (0, 0)


def _max_pool(node: MaxPool) -> nn.Layer:
    return nn.MaxPool2D(node.kernel, node.stride, _padding(node), ceil_mode=node.padding == "ceil")


def _avg_pool(node: AvgPool) -> nn.Layer:
    half = node.kernel // 2 if node.padding == "half" else 0
    return nn.AvgPool2D(node.kernel, node.stride, half, exclusive=not node.count_include_pad)


def _adaptive_avg_pool(node: AdaptiveAvgPool) -> nn.Layer:
    return nn.AdaptiveAvgPool2D(node.size)


def _chain(layers: Sequence[nn.Layer]) -> nn.Layer:
    return nn.Sequential(*layers)


KIT: Kit[nn.Layer] = Kit(
    box=ConvNormAct,
    norm_relu=PreActivation,
    relu=nn.ReLU,
    max_pool=_max_pool,
    avg_pool=_avg_pool,
    adaptive_avg_pool=_adaptive_avg_pool,
    classifier=Classifier,
    chain=_chain,
    concat=Branches,
    residual=Sum,
)


def version() -> str:
    return paddle.version.full_version


def place(net: Network) -> Any:
    """The `paddle.Place` of the network's weights, where its inputs have to be."""
    return net.parameters()[0].place


def gpus() -> int:
    """The number of GPUs that Paddle sees."""
    return paddle.device.cuda.device_count() if paddle.device.is_compiled_with_cuda() else 0


def build(model: Model, device: Device | None = None) -> Network:
    """The network in eval mode, on the device, before weights are loaded.

    Raises UnavailableError when there is no such GPU.
    """
    net = Network(model)
    net.eval()
    if device is None:
        return net
    require(device, "paddle", version(), gpus)
    return net.to(device=str(device))


def load(net: Network, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Copy canonical weights into the network.

    Raises WeightsError, leaving the network unchanged, when they do not fit.
    """
    check(arrays, net.spec)
    state = net.state_dict()
    for name, parameter in parameters(net.spec).items():
        state[CONVENTION.rename(name)].set_value(CONVENTION.orient(np.asarray(arrays[name], np.float32), parameter))


def dump(net: Network) -> dict[str, NDArray[np.float32]]:
    """Copies of the network's weights as canonical arrays."""
    state = net.state_dict()
    return {
        name: np.ascontiguousarray(CONVENTION.restore(state[CONVENTION.rename(name)].numpy(), parameter))
        for name, parameter in parameters(net.spec).items()
    }


def train(net: Network) -> None:
    """Put the network into training mode."""
    net.train()


@contextmanager
def modes_kept(net: nn.Layer) -> Iterator[None]:
    """On exit, put every layer back into the mode, training or eval, that it was in."""
    modes = [(layer, layer.training) for layer in net.sublayers(include_self=True)]
    try:
        yield
    finally:
        for layer, training in modes:
            layer.training = training


def predict(net: Network, x: NDArray[np.float32], tape: bool = False) -> dict[str, NDArray[np.float32]]:
    """Run a batch [N, C, H, W] in eval mode: {"logits": [N, classes]}, or each tap's feature map by stage name.

    With `tape`: every stage's output, "logits", and every auxiliary head's logits.
    """
    with modes_kept(net), paddle.no_grad():
        net.eval()
        batch = paddle.to_tensor(float32(x), place=place(net))
        outputs = record(net, batch) if tape else net.spec.named(net(batch))
    return {name: value.numpy() for name, value in outputs.items()}
