"""PyTorch: build a Model as an ordinary `nn.Module` whose module paths are the spec's names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.ao.nn.quantized import FloatFunctional
from torch.nn import functional as F

from backends.assemble import Kit, assemble
from backends.device import Device, require
from backends.predict import float32
from backends.predict import tape as record
from backends.torch.classifier import Classifier
from backends.torch.timm_interface import TimmInterface
from weights.manifest import check
from zoo.frameworks import FRAMEWORKS
from zoo.language.geometry import border, pair, reach
from zoo.language.model import Model, Norm
from zoo.language.nodes import AdaptiveAvgPool, AvgPool, Box, MaxPool, Residual
from zoo.language.trace import parameters

CONVENTION = FRAMEWORKS["torch"].convention


class Network(TimmInterface):
    """A network whose stages, head and auxiliary heads are attributes under their spec names.

    It maps images [N, C, H, W] to logits [N, classes]. In training mode, a network with auxiliary heads returns
    (logits, *auxiliary logits). A network whose spec has taps returns the list of their feature maps instead.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.describe(model)
        for name, module in assemble(model, KIT, self).items():  # raises for a stage named like an attribute above
            self.add_module(name, module)
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


def _check_input(net: Network, inputs: tuple[Any, ...]) -> None:
    """Raise InputError, before the forward pass, for a batch that the network cannot take.

    This is a forward pre-hook that skips tracers, which replace sizes by symbols: a check in `forward` would fail
    under torch.fx and become a constant under torch.jit.trace.
    """
    if inputs and type(inputs[0]) is Tensor and not torch.compiler.is_compiling() and not torch._C._get_tracing_state():
        net.check_input(tuple(inputs[0].shape), net.training)


class ConvNormAct(nn.Module):
    """Convolution, batch norm, ReLU: one box of the papers' figures.

    The ReLU is a module and not in place, so that tools that hook modules find it, and so that a hook on `bn` sees the
    values before the ReLU.
    """

    def __init__(self, node: Box, inputs: int, outputs: int, groups: int, norm: Norm | None) -> None:
        super().__init__()
        kernel, window = pair(node.kernel), reach(node)
        half = (window[0] // 2, window[1] // 2) if node.padding == "half" else (0, 0)
        convolution = SameConv2d if node.padding == "same" and max(window) > 1 else nn.Conv2d  # 1x1 needs no padding
        self.conv = convolution(inputs, outputs, kernel, node.stride, half, node.dilation, groups, bias=node.bias)
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
    """Convolution with TensorFlow's SAME padding; `nn.Conv2d(padding="same")` requires stride 1."""

    def forward(self, x: Tensor) -> Tensor:
        window = tuple((k - 1) * d + 1 for k, d in zip(self.kernel_size, self.dilation, strict=True))
        return super().forward(_pad_same(x, window, self.stride, 0.0))


class SameMaxPool2d(nn.MaxPool2d):
    """Max pooling with TensorFlow's SAME padding."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(_pad_same(x, pair(self.kernel_size), pair(self.stride), -torch.inf))


class Branches(nn.Module):
    """Runs its branches on the same input and concatenates their outputs along the channels.

    `concat` is where torch.ao's eager-mode quantisation observes the concatenation; until then it is torch.cat.
    """

    def __init__(self, branches: dict[str, nn.Module]) -> None:
        super().__init__()
        self.names = tuple(branches)
        for name, branch in branches.items():
            self.add_module(name, branch)
        self.concat = FloatFunctional()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.concat.cat([getattr(self, name)(x) for name in self.names], 1)
        return y


class Sum(nn.Module):
    """shortcut(x) + scale * body(x), then ReLU if the node has one.

    `sum` is where torch.ao's eager-mode quantisation observes the addition; until then it is a plain +.
    """

    def __init__(self, node: Residual, branches: dict[str, nn.Module]) -> None:
        super().__init__()
        self.body = branches["body"]
        self.shortcut = branches.get("shortcut", nn.Identity())
        self.scale = node.scale
        self.act = nn.ReLU() if node.act else nn.Identity()
        self.sum = FloatFunctional()

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        y = y if self.scale == 1 else self.sum.mul_scalar(y, self.scale)
        y = self.act(self.sum.add(self.shortcut(x), y))
        return y


def _norm(channels: int, norm: Norm | None) -> nn.Module:
    return nn.BatchNorm2d(channels, norm.eps, 1 - norm.decay) if norm else nn.Identity()


def _pad_same(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...], fill: float) -> Tensor:
    """Pad for SAME. `border` computes with the sizes without comparing them, so that tracers can keep them symbolic."""
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


def version() -> str:
    return str(torch.__version__)


def gpus() -> int:
    """The number of GPUs that PyTorch sees."""
    return torch.cuda.device_count()


def build(model: Model, device: Device | None = None) -> Network:
    """The network in eval mode, on the device. Its weights are undefined until `load`.

    Raises UnavailableError when there is no such GPU.
    """
    if device is not None:
        require(device, "torch", version(), gpus)
    with torch.device("meta"):  # PyTorch would draw random weights, which takes longer than all the rest
        net = Network(model).eval()
    place = torch.device(f"cuda:{device.index}" if device is not None and device.kind == "gpu" else "cpu")
    net._apply(lambda meta: torch.empty(meta.shape, dtype=meta.dtype, device=place))  # `to_empty` takes twice as long
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            cast(Tensor, module.num_batches_tracked).zero_()  # the only tensor that `load` does not write
    return net


def load(net: Network, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Copy canonical weights into the network.

    Raises WeightsError, leaving the network unchanged, when they do not fit.
    """
    check(arrays, net.spec)
    state = net.state_dict()
    with torch.no_grad():
        for name in parameters(net.spec):
            state[CONVENTION.rename(name)].copy_(torch.from_numpy(np.asarray(arrays[name], np.float32)))


def dump(net: Network) -> dict[str, NDArray[np.float32]]:
    """Copies of the network's weights as canonical arrays."""
    state = net.state_dict()
    return {name: state[CONVENTION.rename(name)].cpu().numpy().copy() for name in parameters(net.spec)}


@contextmanager
def modes_kept(net: nn.Module) -> Iterator[None]:
    """On exit, put every module back into the mode, training or eval, that it was in."""
    modes = [(module, module.training) for module in net.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def train(net: Network) -> None:
    """Put the network into training mode."""
    net.train()


def predict(net: Network, x: NDArray[np.float32], tape: bool = False) -> dict[str, NDArray[np.float32]]:
    """Run a batch [N, C, H, W] in eval mode: {"logits": [N, classes]}, or each tap's feature map by stage name.

    With `tape`: every stage's output, "logits", and every auxiliary head's logits.
    """
    with modes_kept(net), torch.inference_mode():
        net.eval()
        batch = torch.from_numpy(float32(x)).to(next(net.parameters()).device)
        outputs = record(net, batch) if tape else net.spec.named(net(batch))
    return {name: value.cpu().numpy() for name, value in outputs.items()}
