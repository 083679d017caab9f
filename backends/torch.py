"""PyTorch: a spec as an ordinary `nn.Module` whose state_dict keys are the canonical names."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from backends.device import Device
from backends.predict import float32
from backends.predict import tape as record
from weights.check import check
from weights.names import CONVENTIONS
from zoo.errors import UnavailableError
from zoo.geometry import border, pair, reach
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

CONVENTION = CONVENTIONS["torch"]


class Network(nn.Module):
    """Stages, head and auxiliary heads under their spec names.

    Takes [N, C, H, W]; returns logits [N, classes], in training (logits, *aux) if there are auxiliary heads, or the
    list of feature maps if the spec has taps.
    """

    head: nn.Module

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.spec = model
        self.check_input = InputCheck(model)
        ops = {op.path: op for op in trace(model).ops}
        for name, node in model.parts.items():
            self.add_module(name, _module(node, name, ops, model))

    def forward(self, x: Tensor) -> Tensor | list[Tensor] | tuple[Tensor, ...]:
        if not torch.compiler.is_compiling():
            self.check_input(tuple(x.shape), self.training)
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


class ConvNormAct(nn.Module):
    def __init__(self, node: Box, inputs: int, outputs: int, groups: int, norm: Norm | None) -> None:
        super().__init__()
        kernel, window = pair(node.kernel), reach(node)
        half = (window[0] // 2, window[1] // 2) if node.padding == "half" else (0, 0)
        kind = SameConv2d if node.padding == "same" else nn.Conv2d
        self.conv = kind(inputs, outputs, kernel, node.stride, half, node.dilation, groups, bias=node.bias)
        self.bn = _norm(outputs, norm) if node.norm else nn.Identity()
        self.act = node.act

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x))
        return F.relu(x, inplace=True) if self.act else x


class PreActivation(nn.Module):
    def __init__(self, channels: int, norm: Norm | None) -> None:
        super().__init__()
        self.bn = _norm(channels, norm)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(x))


class SameConv2d(nn.Conv2d):
    """TensorFlow's SAME padding, which `nn.Conv2d(padding="same")` has for stride 1 only."""

    def forward(self, x: Tensor) -> Tensor:
        reach = tuple((k - 1) * d + 1 for k, d in zip(self.kernel_size, self.dilation, strict=True))
        return super().forward(_pad_same(x, reach, self.stride, 0.0))


class SameMaxPool2d(nn.MaxPool2d):
    """TensorFlow's SAME padding."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(_pad_same(x, pair(self.kernel_size), pair(self.stride), -torch.inf))


class Branches(nn.Module):
    """Children side by side, joined along the channels."""

    def __init__(self, branches: dict[str, nn.Module]) -> None:
        super().__init__()
        for name, branch in branches.items():
            self.add_module(name, branch)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.children()], 1)


class Sum(nn.Module):
    """shortcut(x) + scale * body(x)."""

    def __init__(self, node: Residual, branches: dict[str, nn.Module]) -> None:
        super().__init__()
        self.body, self.shortcut = branches["body"], branches.get("shortcut")
        self.scale, self.act = node.scale, node.act

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        y = (x if self.shortcut is None else self.shortcut(x)) + (y if self.scale == 1 else y * self.scale)
        return F.relu(y, inplace=True) if self.act else y


class Classifier(nn.Module):
    def __init__(self, node: Head, features: int, classes: int) -> None:
        super().__init__()
        self.pool, self.act = node.pool, node.act
        self.hidden = nn.Linear(features, node.hidden) if node.hidden else None
        self.dropout = nn.Dropout(node.dropout)
        self.fc = nn.Linear(node.hidden or features, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = x.mean((2, 3)) if self.pool else x.flatten(1)
        if self.hidden is not None:
            x = self.hidden(x)
            x = F.relu(x) if self.act else x
        return self.fc(self.dropout(x))


def _norm(channels: int, norm: Norm | None) -> nn.Module:
    return nn.BatchNorm2d(channels, norm.eps, 1 - norm.decay) if norm else nn.Identity()


def _pad_same(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...], fill: float) -> Tensor:
    top, bottom = border("same", x.shape[2], kernel[0], stride[0])
    left, right = border("same", x.shape[3], kernel[1], stride[1])
    return F.pad(x, (left, right, top, bottom), value=fill)


def _module(node: Node, path: str, ops: Mapping[str, Op], model: Model) -> nn.Module:
    def below(parent: Chain | Concat | Residual) -> dict[str, nn.Module]:
        return {name: _module(child, f"{path}.{name}", ops, model) for name, child in children(parent)}

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
            if padding == "same":
                return SameMaxPool2d(kernel, stride)
            half = kernel // 2 if padding == "half" else 0
            return nn.MaxPool2d(kernel, stride, half, ceil_mode=padding == "ceil")
        case AvgPool(kernel, stride, padding, count_include_pad):
            half = kernel // 2 if padding == "half" else 0
            return nn.AvgPool2d(kernel, stride, half, count_include_pad=count_include_pad)
        case AdaptiveAvgPool(size):
            return nn.AdaptiveAvgPool2d(size)
        case Head():
            shape = ops[path].inputs
            return Classifier(node, shape.channels if node.pool else shape.size, model.num_classes)
    assert_never(node)


def version() -> str:
    return str(torch.__version__)


def gpus() -> int:
    """How many PyTorch sees."""
    return torch.cuda.device_count()


def build(model: Model, device: Device | None = None) -> Network:
    """The network in eval mode, on the device, with weights yet to be loaded.

    Raises UnavailableError when there is no such GPU.
    """
    net = Network(model).eval()
    if device is None:
        return net
    if device.kind == "gpu" and device.index >= gpus():
        raise UnavailableError(f"torch: no device {device}: this build of torch {version()} sees {gpus()} GPUs")
    return net.to(f"cuda:{device.index}" if device.kind == "gpu" else "cpu")


def load(net: Network, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Copy canonical weights in. Raises WeightsError, with the network unchanged, when they do not fit."""
    check(arrays, net.spec)
    state = net.state_dict()
    with torch.no_grad():
        for name in parameters(net.spec):
            state[CONVENTION.rename(name)].copy_(torch.from_numpy(np.asarray(arrays[name], np.float32)))


def dump(net: Network) -> dict[str, NDArray[np.float32]]:
    """The network's weights as canonical arrays of their own."""
    state = net.state_dict()
    return {name: state[CONVENTION.rename(name)].cpu().numpy().copy() for name in parameters(net.spec)}


def autocast(device: torch.device) -> torch.autocast:
    """PyTorch's mixed precision: float16 on a GPU, bfloat16 on a CPU."""
    return torch.autocast(device.type, torch.float16 if device.type == "cuda" else torch.bfloat16)


def classifier(
    net: Network, graph: bool = False, half: bool = False
) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """A function of a batch [N, C, H, W] that gives its logits [N, classes]: see `backends.Backend.classifier`."""
    forward, device = (torch.compile(net) if graph else net), next(net.parameters()).device

    @torch.inference_mode()
    def classify(x: NDArray[np.float32]) -> NDArray[np.float32]:
        net.eval()
        with autocast(device) if half else contextlib.nullcontext():
            logits = forward(torch.from_numpy(x).to(device))
        return logits.float().cpu().numpy()

    return classify


def predict(net: Network, x: NDArray[np.float32], tape: bool = False) -> dict[str, NDArray[np.float32]]:
    """Run a batch [N, C, H, W] in eval mode: {"logits": [N, classes]}, or each tap's feature map by stage.

    With `tape`: every stage's output, "logits", and every auxiliary head's logits.
    """
    training = net.training
    net.eval()
    try:
        with torch.inference_mode():
            batch = torch.from_numpy(float32(x)).to(next(net.parameters()).device)
            outputs = record(net, batch) if tape else net.spec.named(net(batch))
    finally:
        net.train(training)
    return {name: value.cpu().numpy() for name, value in outputs.items()}
