"""MindSpore: a spec as an ordinary `nn.Cell` whose cell paths are the spec's names; PyNative and GRAPH mode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn
from mindspore import ops as F
from numpy.typing import NDArray

from backends.assemble import Kit, assemble
from backends.device import Device
from backends.predict import float32
from backends.predict import tape as record
from weights.manifest import check
from zoo.errors import BackendError, UnavailableError
from zoo.frameworks import FRAMEWORKS
from zoo.language.geometry import pair, reach
from zoo.language.model import Model, Norm
from zoo.language.nodes import AdaptiveAvgPool, AvgPool, Box, Head, MaxPool, Residual
from zoo.language.trace import InputCheck, parameters

CONVENTION = FRAMEWORKS["mindspore"].convention


class Network(nn.Cell):
    """Stages, head and auxiliary heads under their spec names.

    Takes [N, C, H, W]; returns logits [N, classes], in training (logits, *aux) if there are auxiliary heads, or the
    list of feature maps if the spec has taps.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        cells = assemble(model, KIT, self)
        self.spec = model
        self.check_input = InputCheck(model)
        self.stage_names = tuple(stage.name for stage in model.stages)
        self.aux_names = tuple((aux.name, aux.after) for aux in model.aux)
        self.taps = model.taps
        for name, cell in cells.items():
            self.insert_child_to_cell(name, cell)
        for name, parameter in self.parameters_and_names():
            parameter.name = name

    def __call__(self, x: Tensor) -> Tensor | list[Tensor] | tuple[Tensor, ...]:
        self.check_input(tuple(x.shape), self.training)
        return super().__call__(x)

    def construct(self, x: Tensor) -> Tensor | list[Tensor] | tuple[Tensor, ...]:
        features, aux = [], []
        for name in self.stage_names:
            x = getattr(self, name)(x)
            if name in self.taps:
                features.append(x)
            if self.training:
                for aux_name, after in self.aux_names:
                    if after == name:
                        aux.append(getattr(self, aux_name)(x))
        if self.taps:
            return features
        x = self.head(x)
        return (x, *aux) if aux else x


class ConvNormAct(nn.Cell):
    def __init__(self, node: Box, inputs: int, outputs: int, groups: int, norm: Norm | None) -> None:
        super().__init__()
        height, width = reach(node)
        half = node.padding == "half"
        self.conv = nn.Conv2d(
            inputs,
            outputs,
            pair(node.kernel),
            node.stride,
            pad_mode="pad" if half else node.padding,
            padding=(height // 2, height // 2, width // 2, width // 2) if half else 0,
            dilation=node.dilation,
            group=groups,
            has_bias=node.bias,
            weight_init="zeros",
        )
        self.bn = _norm(outputs, norm) if node.norm else nn.Identity()
        self.act = node.act

    def construct(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x))
        return F.relu(x) if self.act else x


class PreActivation(nn.Cell):
    def __init__(self, channels: int, norm: Norm | None) -> None:
        super().__init__()
        self.bn = _norm(channels, norm)

    def construct(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(x))


class Branches(nn.Cell):
    """Children side by side, joined along the channels."""

    def __init__(self, branches: dict[str, nn.Cell]) -> None:
        super().__init__()
        self.names = tuple(branches)
        for name, branch in branches.items():
            self.insert_child_to_cell(name, branch)

    def construct(self, x: Tensor) -> Tensor:
        outputs = []
        for name in self.names:
            outputs.append(getattr(self, name)(x))
        return F.concat(outputs, 1)


class Sum(nn.Cell):
    """shortcut(x) + scale * body(x)."""

    def __init__(self, node: Residual, branches: dict[str, nn.Cell]) -> None:
        super().__init__()
        self.body, self.shortcut = branches["body"], branches.get("shortcut")
        self.scale, self.act = node.scale, node.act

    def construct(self, x: Tensor) -> Tensor:
        y = self.body(x)
        y = (x if self.shortcut is None else self.shortcut(x)) + (y if self.scale == 1 else y * self.scale)
        return F.relu(y) if self.act else y


class Dropout(nn.Cell):
    """nn.Dropout, whose masks ms.set_seed does not repeat; this one's it does, in eager mode."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def construct(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.p, self.training)


class Classifier(nn.Cell):
    def __init__(self, node: Head, features: int, classes: int) -> None:
        super().__init__()
        self.pool, self.act = node.pool, node.act
        self.hidden = nn.Dense(features, node.hidden, weight_init="zeros") if node.hidden else None
        self.dropout = Dropout(node.dropout)
        self.fc = nn.Dense(node.hidden or features, classes, weight_init="zeros")

    def construct(self, x: Tensor) -> Tensor:
        x = x.mean((2, 3)) if self.pool else F.flatten(x)
        if self.hidden is not None:
            x = self.hidden(x)
            x = F.relu(x) if self.act else x
        return self.fc(self.dropout(x))


def _norm(channels: int, norm: Norm | None) -> nn.Cell:
    return nn.BatchNorm2d(channels, norm.eps, norm.decay) if norm else nn.Identity()


def _max_pool(node: MaxPool) -> nn.Cell:
    if node.padding == "same":
        return nn.MaxPool2d(node.kernel, node.stride, pad_mode="same")
    half = node.kernel // 2 if node.padding == "half" else 0
    return nn.MaxPool2d(node.kernel, node.stride, pad_mode="pad", padding=half, ceil_mode=node.padding == "ceil")


def _avg_pool(node: AvgPool) -> nn.Cell:
    half = node.kernel // 2 if node.padding == "half" else 0
    include = node.count_include_pad
    return nn.AvgPool2d(node.kernel, node.stride, pad_mode="pad", padding=half, count_include_pad=include)


def _adaptive_avg_pool(node: AdaptiveAvgPool) -> nn.Cell:
    return nn.AdaptiveAvgPool2d(node.size)


def _chain(cells: Sequence[nn.Cell]) -> nn.Cell:
    return nn.SequentialCell(list(cells))


KIT: Kit[nn.Cell] = Kit(
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
    return str(ms.__version__)


def gpus() -> int:
    """How many MindSpore sees; it is asked only where there may be one, as it answers no with a page of warnings."""
    there = any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/dxg").exists()
    return ms.hal.device_count("GPU") if there and ms.hal.is_available("GPU") else 0


def build(model: Model, device: Device | None = None) -> Network:
    """The network in eval mode, with weights yet to be loaded; a device is set for the whole process.

    Raises UnavailableError when there is no such GPU, BackendError when MindSpore already runs on another device.
    """
    if device is not None and (device.kind.upper(), device.index) != _current_device():
        if device.kind == "gpu" and device.index >= gpus():
            raise UnavailableError(
                f"mindspore: no device {device}: this build of mindspore {version()} sees {gpus()} GPUs"
            )
        try:
            ms.set_device(device.kind.upper(), device.index)
        except RuntimeError:
            raise BackendError(
                f"mindspore: device {device} asked for, but this process already runs on {_current_device()[0].lower()}"
            ) from None
    net = Network(model)
    net.set_train(False)
    return net


def _current_device() -> tuple[str, int]:
    return ms.get_context("device_target"), ms.get_context("device_id")


def load(net: Network, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Copy canonical weights in. Raises WeightsError, leaving the network unchanged, when they do not fit.

    They are assigned: what `set_data` puts there, a graph that is compiled already does not see.
    """
    check(arrays, net.spec)
    state = dict(net.parameters_and_names())  # paths: a cell around the network prefixes its parameters' names
    for name in parameters(net.spec):
        F.assign(state[CONVENTION.rename(name)], Tensor(np.asarray(arrays[name], np.float32)))


def dump(net: Network) -> dict[str, NDArray[np.float32]]:
    """Copies of the network's weights as canonical arrays."""
    state = dict(net.parameters_and_names())
    return {name: state[CONVENTION.rename(name)].asnumpy().copy() for name in parameters(net.spec)}


def train(net: Network) -> None:
    """Put the network into training mode."""
    net.set_train(True)


def predict(net: Network, x: NDArray[np.float32], tape: bool = False) -> dict[str, NDArray[np.float32]]:
    """Run a batch [N, C, H, W] in eval mode: {"logits": [N, classes]}, or each tap's feature map by stage name.

    With `tape`: every stage's output, "logits", and every auxiliary head's logits.
    """
    training = net.training
    net.set_train(False)
    try:
        batch = Tensor(float32(x))
        outputs = record(net, batch) if tape else net.spec.named(net(batch))
    finally:
        net.set_train(training)
    return {name: value.asnumpy() for name, value in outputs.items()}
