"""MindSpore: build a Model as an ordinary `nn.Cell` whose cell paths are the spec's names.

It runs in PyNative and in GRAPH mode.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn
from mindspore import ops as F
from numpy.typing import NDArray

from backends.assemble import Kit, assemble
from backends.device import Device, require
from backends.mindspore.pools import AvgPool2d, MaxPool2d
from backends.predict import float32
from backends.predict import tape as record
from weights.manifest import check
from zoo.errors import BackendError
from zoo.frameworks import FRAMEWORKS
from zoo.language.geometry import pair, reach
from zoo.language.model import Model, Norm
from zoo.language.nodes import AdaptiveAvgPool, Box, Head, Residual
from zoo.language.trace import InputCheck, parameters

CONVENTION = FRAMEWORKS["mindspore"].convention


class Network(nn.Cell):
    """A network whose stages, head and auxiliary heads are attributes under their spec names.

    It maps images [N, C, H, W] to logits [N, classes]. In training mode, a network with auxiliary heads returns
    (logits, *auxiliary logits). A network whose spec has taps returns the list of their feature maps instead.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.spec = model
        self.check_input = InputCheck(model)
        self.stage_names = tuple(stage.name for stage in model.stages)
        self.aux_names = tuple((aux.name, aux.after) for aux in model.aux)
        self.taps = model.taps
        cells = assemble(model, KIT, self)
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
    """Convolution, batch norm, ReLU: one box of the papers' figures."""

    def __init__(self, node: Box, inputs: int, outputs: int, groups: int, norm: Norm | None) -> None:
        super().__init__()
        height, width = reach(node)
        pad_mode: str = node.padding
        padding = (0, 0, 0, 0)
        if node.padding == "half" and node.stride == height % 2 == width % 2 == 1:
            pad_mode = "same"  # the same padding; MindSpore's ONNX exporter gets this one right for 1x7 kernels too
        elif node.padding == "half":
            pad_mode, padding = "pad", (height // 2, height // 2, width // 2, width // 2)
        self.conv = nn.Conv2d(
            inputs,
            outputs,
            pair(node.kernel),
            node.stride,
            pad_mode=pad_mode,
            padding=padding,
            dilation=node.dilation,
            group=groups,
            has_bias=node.bias,
            weight_init="zeros",
        )
        self.bn = _norm(outputs, norm) if node.norm else nn.Identity()
        self.act = nn.ReLU() if node.act else nn.Identity()

    def construct(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class PreActivation(nn.Cell):
    """Batch norm, ReLU."""

    def __init__(self, channels: int, norm: Norm | None) -> None:
        super().__init__()
        self.bn = _norm(channels, norm)
        self.act = nn.ReLU()

    def construct(self, x: Tensor) -> Tensor:
        return self.act(self.bn(x))


class Branches(nn.Cell):
    """Runs its branches on the same input and concatenates their outputs along the channels."""

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
    """shortcut(x) + scale * body(x), then ReLU if the node has one."""

    def __init__(self, node: Residual, branches: dict[str, nn.Cell]) -> None:
        super().__init__()
        self.body = branches["body"]
        self.shortcut = branches["shortcut"] if "shortcut" in branches else nn.Identity()
        self.scale = node.scale
        self.act = nn.ReLU() if node.act else nn.Identity()

    def construct(self, x: Tensor) -> Tensor:
        y = self.body(x)
        y = y if self.scale == 1 else y * self.scale
        return self.act(self.shortcut(x) + y)


class Dropout(nn.Cell):
    """`nn.Dropout` whose masks are repeatable in PyNative mode: unlike MindSpore's, they follow `ms.set_seed`."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def construct(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.p, self.training)


class Classifier(nn.Cell):
    """Global average pooling or flattening, a hidden layer if the node has one, dropout, and a linear layer."""

    def __init__(self, node: Head, features: int, classes: int) -> None:
        super().__init__()
        self.pool = node.pool
        self.hidden = nn.Dense(features, node.hidden, weight_init="zeros") if node.hidden else nn.Identity()
        self.act = nn.ReLU() if node.hidden and node.act else nn.Identity()
        self.dropout = Dropout(node.dropout)
        self.fc = nn.Dense(node.hidden or features, classes, weight_init="zeros")

    def construct(self, x: Tensor) -> Tensor:
        x = x.mean((2, 3)) if self.pool else F.flatten(x)
        return self.fc(self.dropout(self.act(self.hidden(x))))


def _norm(channels: int, norm: Norm | None) -> nn.Cell:
    return nn.BatchNorm2d(channels, norm.eps, norm.decay) if norm else nn.Identity()


def _adaptive_avg_pool(node: AdaptiveAvgPool) -> nn.Cell:
    return nn.AdaptiveAvgPool2d(node.size)


def _chain(cells: Sequence[nn.Cell]) -> nn.Cell:
    return nn.SequentialCell(list(cells))


KIT: Kit[nn.Cell] = Kit(
    box=ConvNormAct,
    norm_relu=PreActivation,
    relu=nn.ReLU,
    max_pool=MaxPool2d,
    avg_pool=AvgPool2d,
    adaptive_avg_pool=_adaptive_avg_pool,
    classifier=Classifier,
    chain=_chain,
    concat=Branches,
    residual=Sum,
)


def version() -> str:
    return str(ms.__version__)


def gpus() -> int:
    """The number of GPUs that MindSpore sees."""
    # Without a driver there is none, and MindSpore would answer with a page of warnings.
    driver = any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/dxg").exists()
    return ms.hal.device_count("GPU") if driver and ms.hal.is_available("GPU") else 0


def build(model: Model, device: Device | None = None) -> Network:
    """The network in eval mode, before weights are loaded. MindSpore sets `device` for the whole process.

    Raises UnavailableError when there is no such GPU, BackendError when MindSpore already runs on another device.
    """
    if device is not None:
        set_device(device)
    net = Network(model)
    net.set_train(False)
    return net


def set_device(device: Device) -> None:
    """Run this process on a device. Raises as `build` does."""
    current = Device(ms.get_context("device_target").lower(), ms.get_context("device_id"))
    if device == current:
        return
    require(device, "mindspore", version(), gpus)
    try:
        ms.set_device(device.kind.upper(), device.index)
    except RuntimeError:
        raise BackendError(
            f"mindspore: device {device} was requested, but this process already runs on {current}, and MindSpore "
            "cannot change the device of a process: start another process"
        ) from None


def load(net: Network, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Copy canonical weights into the network.

    Raises WeightsError, leaving the network unchanged, when they do not fit.

    Tensors are assigned in place, because graphs compiled earlier do not see the effect of `set_data`.
    """
    check(arrays, net.spec)
    # Paths, not the parameters' own names: a cell that contains the network puts a prefix before those.
    state = dict(net.parameters_and_names())
    for name in parameters(net.spec):
        F.assign(state[CONVENTION.rename(name)], Tensor(np.asarray(arrays[name], np.float32)))


def dump(net: Network) -> dict[str, NDArray[np.float32]]:
    """Copies of the network's weights as canonical arrays."""
    state = dict(net.parameters_and_names())
    return {name: state[CONVENTION.rename(name)].asnumpy().copy() for name in parameters(net.spec)}


@contextmanager
def modes_kept(net: nn.Cell) -> Iterator[None]:
    """On exit, put every cell back into the mode, training or eval, that it was in."""
    modes = [(cell, cell.training) for _, cell in net.cells_and_names()]
    try:
        yield
    finally:
        net.set_train(modes[0][1])
        for cell, training in modes:
            if cell.training != training:
                cell.add_flags(training=training)


def train(net: Network) -> None:
    """Put the network into training mode."""
    net.set_train(True)


def predict(net: Network, x: NDArray[np.float32], tape: bool = False) -> dict[str, NDArray[np.float32]]:
    """Run a batch [N, C, H, W] in eval mode: {"logits": [N, classes]}, or each tap's feature map by stage name.

    With `tape`: every stage's output, "logits", and every auxiliary head's logits.
    """
    with modes_kept(net):
        net.set_train(False)
        batch = Tensor(float32(x))
        outputs = record(net, batch) if tape else net.spec.named(net(batch))
    return {name: value.asnumpy() for name, value in outputs.items()}
