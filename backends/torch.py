"""PyTorch: a spec as an ordinary `nn.Module` whose state_dict keys are the canonical names."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from backends.device import Device
from backends.tape import tape as record
from weights.check import check
from weights.names import CONVENTIONS
from zoo.errors import UnavailableError
from zoo.model import Model, Norm
from zoo.nodes import AdaptiveAvgPool, AvgPool, Chain, Concat, Conv, Head, MaxPool, Node, assert_never, children
from zoo.trace import Op, border, check_input, least_size, pair, parameters, trace

CONVENTION = CONVENTIONS["torch"]


class Network(nn.Module):
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
            self.add_module(name, _module(node, name, ops, model))

    def forward(self, x: Tensor) -> Tensor | list[Tensor] | tuple[Tensor, ...]:
        check_input(self.spec, x.shape, self.least_size[self.training])
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


class ConvNormReLU(nn.Module):
    def __init__(self, node: Conv, channels: int, norm: Norm | None) -> None:
        super().__init__()
        kernel = pair(node.kernel)
        self.conv: nn.Module
        if node.padding == "same":
            self.conv = SameConv2d(channels, node.channels, kernel, node.stride, bias=False)
        else:
            half = (kernel[0] // 2, kernel[1] // 2) if node.padding == "half" else 0
            self.conv = nn.Conv2d(channels, node.channels, kernel, node.stride, half, bias=False)
        self.bn = nn.BatchNorm2d(node.channels, norm.eps, 1 - norm.decay) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


class SameConv2d(nn.Conv2d):
    """TensorFlow's SAME padding, which `nn.Conv2d(padding="same")` has for stride 1 only."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(_pad_same(x, self.kernel_size, self.stride, 0.0))


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


class Classifier(nn.Module):
    def __init__(self, node: Head, features: int, classes: int) -> None:
        super().__init__()
        self.pool = node.pool
        self.hidden = nn.Linear(features, node.hidden) if node.hidden else None
        self.dropout = nn.Dropout(node.dropout)
        self.fc = nn.Linear(node.hidden or features, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = x.mean((2, 3)) if self.pool else x.flatten(1)
        if self.hidden is not None:
            x = F.relu(self.hidden(x))
        return self.fc(self.dropout(x))


def _pad_same(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...], fill: float) -> Tensor:
    top, bottom = border("same", x.shape[2], kernel[0], stride[0])
    left, right = border("same", x.shape[3], kernel[1], stride[1])
    return F.pad(x, (left, right, top, bottom), value=fill)


def _module(node: Node, path: str, ops: Mapping[str, Op], model: Model) -> nn.Module:
    match node:
        case Chain():
            return nn.Sequential(*(_module(child, f"{path}.{name}", ops, model) for name, child in children(node)))
        case Concat():
            return Branches({name: _module(child, f"{path}.{name}", ops, model) for name, child in children(node)})
        case Conv():
            return ConvNormReLU(node, ops[path].inputs.channels, model.norm)
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


def build(model: Model, device: Device | None = None) -> Network:
    """The network in eval mode, on the device, with weights yet to be loaded.

    Raises UnavailableError when there is no such GPU.
    """
    net = Network(model).eval()
    if device is None:
        return net
    gpus = torch.cuda.device_count()
    if device.kind == "gpu" and device.index >= gpus:
        raise UnavailableError(f"torch: no device {device}: this build of torch {version()} sees {gpus} GPUs")
    return net.to(f"cuda:{device.index}" if device.kind == "gpu" else "cpu")


def load(net: Network, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Copy canonical weights in. Raises WeightsError, with the network unchanged, when they do not fit."""
    check(arrays, net.spec)
    state = net.state_dict()
    with torch.no_grad():
        for name in parameters(net.spec):
            state[CONVENTION.rename(name)].copy_(torch.from_numpy(arrays[name]))


def dump(net: Network) -> dict[str, NDArray[np.float32]]:
    """The network's weights as canonical arrays of their own."""
    state = net.state_dict()
    return {name: state[CONVENTION.rename(name)].cpu().numpy().copy() for name in parameters(net.spec)}


def predict(net: Network, x: NDArray[np.float32], tape: bool = False) -> dict[str, NDArray[np.float32]]:
    """Run a batch [N, C, H, W] in eval mode: {"logits": [N, classes]}, or each tap's feature map by stage.

    With `tape`: every stage's output, "logits", and every auxiliary head's logits.
    """
    training = net.training
    net.eval()
    try:
        with torch.inference_mode():
            batch = torch.from_numpy(x).to(next(net.parameters()).device)
            outputs = record(net, batch) if tape else net.spec.named(net(batch))
    finally:
        net.train(training)
    return {name: value.cpu().numpy() for name, value in outputs.items()}
