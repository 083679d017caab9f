"""PyTorch: a spec as an ordinary `nn.Module` whose state_dict keys are the canonical names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.ao.nn.quantized import FloatFunctional
from torch.nn import functional as F

from backends.assemble import Kit, assemble
from backends.device import Device
from backends.predict import float32
from backends.predict import tape as record
from weights.manifest import check
from zoo.errors import UnavailableError
from zoo.frameworks import FRAMEWORKS
from zoo.language.geometry import border, pair, reach
from zoo.language.model import Model, Norm
from zoo.language.nodes import AdaptiveAvgPool, AvgPool, Box, Head, MaxPool, Residual
from zoo.language.trace import InputCheck, parameters, trace

CONVENTION = FRAMEWORKS["torch"].convention


class Network(nn.Module):
    """Stages, head and auxiliary heads under their spec names.

    Takes [N, C, H, W]; returns logits [N, classes], in training (logits, *aux) if there are auxiliary heads, or the
    list of feature maps if the spec has taps. `pretrained_cfg`, `num_classes` and `num_features` are timm's.
    """

    head: nn.Module

    def __init__(self, model: Model) -> None:
        super().__init__()
        modules = assemble(model, KIT, self)
        self.spec = model
        self.check_input = InputCheck(model)
        for name, module in modules.items():
            self.add_module(name, module)
        self.num_classes = model.num_classes
        self.num_features = trace(model).stages[model.stages[-1].name].channels
        self.pretrained_cfg = _timm_config(model)
        self.register_forward_pre_hook(_check_input)

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

    def get_classifier(self) -> nn.Module:
        """The last linear layer, as timm's networks give it."""
        return self.head.get_submodule("fc")


def _check_input(net: Network, inputs: tuple[Any, ...]) -> None:
    """A forward pre-hook, which tracers do not see: they make sizes symbolic."""
    if inputs and type(inputs[0]) is Tensor and not torch.compiler.is_compiling() and not torch._C._get_tracing_state():
        net.check_input(tuple(inputs[0].shape), net.training)


class ConvNormAct(nn.Module):
    """Convolution, batch norm, ReLU: a box of the papers' figures."""

    def __init__(self, node: Box, inputs: int, outputs: int, groups: int, norm: Norm | None) -> None:
        super().__init__()
        kernel, window = pair(node.kernel), reach(node)
        half = (window[0] // 2, window[1] // 2) if node.padding == "half" else (0, 0)
        kind = SameConv2d if node.padding == "same" else nn.Conv2d
        self.conv = kind(inputs, outputs, kernel, node.stride, half, node.dilation, groups, bias=node.bias)
        self.bn = _norm(outputs, norm) if node.norm else nn.Identity()
        self.act = nn.ReLU() if node.act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(self.bn(self.conv(x)))
        return y


class PreActivation(nn.Module):
    """Batch norm, ReLU."""

    def __init__(self, channels: int, norm: Norm | None) -> None:
        super().__init__()
        self.bn = _norm(channels, norm)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(self.bn(x))
        return y


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
    """shortcut(x) + scale * body(x), then ReLU if the node has one."""

    def __init__(self, node: Residual, branches: dict[str, nn.Module]) -> None:
        super().__init__()
        self.body = branches["body"]
        self.shortcut = branches.get("shortcut", nn.Identity())
        self.scale = node.scale
        self.act = nn.ReLU() if node.act else nn.Identity()
        self.sum = FloatFunctional()  # a plain + unless it is quantised

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        y = y if self.scale == 1 else self.sum.mul_scalar(y, self.scale)
        y = self.act(self.sum.add(self.shortcut(x), y))
        return y


class Classifier(nn.Module):
    """Global average pool or flatten, a hidden layer if any, dropout, linear."""

    def __init__(self, node: Head, features: int, classes: int) -> None:
        super().__init__()
        self.pool = node.pool
        self.hidden = nn.Linear(features, node.hidden) if node.hidden else nn.Identity()
        self.act = nn.ReLU() if node.hidden and node.act else nn.Identity()
        self.dropout = nn.Dropout(node.dropout)
        self.fc = nn.Linear(node.hidden or features, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = x.mean((2, 3)) if self.pool else x.flatten(1)
        y: Tensor = self.fc(self.dropout(self.act(self.hidden(x))))
        return y


def _norm(channels: int, norm: Norm | None) -> nn.Module:
    return nn.BatchNorm2d(channels, norm.eps, 1 - norm.decay) if norm else nn.Identity()


def _pad_same(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...], fill: float) -> Tensor:
    top, bottom = border("same", x.shape[2], kernel[0], stride[0])
    left, right = border("same", x.shape[3], kernel[1], stride[1])
    return F.pad(x, (left, right, top, bottom), value=fill)


def _max_pool(node: MaxPool) -> nn.Module:
    if node.padding == "same":
        return SameMaxPool2d(node.kernel, node.stride)
    half = node.kernel // 2 if node.padding == "half" else 0
    return nn.MaxPool2d(node.kernel, node.stride, half, ceil_mode=node.padding == "ceil")


def _avg_pool(node: AvgPool) -> nn.Module:
    half = node.kernel // 2 if node.padding == "half" else 0
    return nn.AvgPool2d(node.kernel, node.stride, half, count_include_pad=node.count_include_pad)


def _adaptive_avg_pool(node: AdaptiveAvgPool) -> nn.Module:
    return nn.AdaptiveAvgPool2d(node.size)


def _chain(modules: Sequence[nn.Module]) -> nn.Module:
    return nn.Sequential(*modules)


KIT: Kit[nn.Module] = Kit(
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


def _timm_config(model: Model) -> dict[str, Any]:
    """How the network is fed, as timm's `resolve_data_config` reads it."""
    how, first = model.preprocess, trace(model).first_conv
    return {
        "input_size": (model.in_channels, model.size, model.size),
        "num_classes": model.num_classes,
        "interpolation": how.interpolation,
        "crop_pct": model.size / how.resize,
        "mean": how.mean[: model.in_channels],
        "std": how.std[: model.in_channels],
        "first_conv": f"{first.path}.conv" if first else "",
        "classifier": "head.fc",
    }


def version() -> str:
    return str(torch.__version__)


def gpus() -> int:
    """The number of GPUs that PyTorch sees."""
    return torch.cuda.device_count()


def build(model: Model, device: Device | None = None) -> Network:
    """The network in eval mode, on the device, its weights not yet loaded.

    Raises UnavailableError when there is no such GPU.
    """
    net = Network(model).eval()
    if device is None:
        return net
    if device.kind == "gpu" and device.index >= gpus():
        raise UnavailableError(f"torch: no device {device}: this build of torch {version()} sees {gpus()} GPUs")
    return net.to(f"cuda:{device.index}" if device.kind == "gpu" else "cpu")


def load(net: Network, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Copy canonical weights in. Raises WeightsError, leaving the network unchanged, when they do not fit."""
    check(arrays, net.spec)
    state = net.state_dict()
    with torch.no_grad():
        for name in parameters(net.spec):
            state[CONVENTION.rename(name)].copy_(torch.from_numpy(np.asarray(arrays[name], np.float32)))


def dump(net: Network) -> dict[str, NDArray[np.float32]]:
    """Copies of the network's weights as canonical arrays."""
    state = net.state_dict()
    return {name: state[CONVENTION.rename(name)].cpu().numpy().copy() for name in parameters(net.spec)}


def train(net: Network) -> None:
    """Put the network into training mode."""
    net.train()


def predict(net: Network, x: NDArray[np.float32], tape: bool = False) -> dict[str, NDArray[np.float32]]:
    """Run a batch [N, C, H, W] in eval mode: {"logits": [N, classes]}, or each tap's feature map by stage name.

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
