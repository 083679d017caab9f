"""The reference itself: each kind of node against loops written out by hand."""

import itertools

import numpy as np
import pytest
from support import FULL, calibrated, narrow, others

import zoo
from backends.reference import network as reference
from zoo.errors import InputError
from zoo.language.geometry import levels, reductions
from zoo.language.interpreter import Interpreter
from zoo.language.model import Model, Norm, Preprocess, configure, stages
from zoo.language.nodes import (
    AdaptiveAvgPool,
    AvgPool,
    Conv,
    Depthwise,
    Head,
    MaxPool,
    NormRelu,
    Relu,
    Residual,
    concat,
)
from zoo.language.trace import parameters, trace
from zoo.models import MODELS

CLASSES = 3


def run(node, x, norm=None):
    """The node as a one-stage network: its weights, its output."""
    model = Model(
        name="one",
        stages=stages(node=node),
        head=None,
        preprocess=Preprocess(resize=x.shape[2]),
        norm=norm,
        size=x.shape[2],
        in_channels=x.shape[1],
        num_classes=CLASSES,
    )
    random = np.random.default_rng(1)
    net = reference.build(model)
    net.weights = {p.name: random.uniform(0.5, 1.5, p.shape) for p in parameters(model).values()}
    y = net.run(node, "node", x)
    assert y.shape[1:] == tuple(trace(model, *x.shape[2:]).stages["node"])[: y.ndim - 1]
    return net.weights, y


def image(height=7, width=6, channels=2, count=2):
    return np.random.default_rng(0).normal(size=(count, channels, height, width))


def window(x, i, j, kernel, stride, padding, dilation=1):
    """The pixels of one window that lie inside the image, as (row in the window, column in it, value)."""
    spans = [(k - 1) * dilation + 1 for k in kernel]
    tops = {
        "valid": (0, 0),
        "ceil": (0, 0),
        "half": (spans[0] // 2, spans[1] // 2),
        "same": tuple(max((-(-n // stride) - 1) * stride + k - n, 0) // 2 for n, k in zip(x.shape, spans, strict=True)),
    }[padding]
    for a, b in itertools.product(range(kernel[0]), range(kernel[1])):
        row, column = i * stride + a * dilation - tops[0], j * stride + b * dilation - tops[1]
        if 0 <= row < x.shape[0] and 0 <= column < x.shape[1]:
            yield a, b, x[row, column]


CONVOLUTIONS = [
    Conv(4),
    Conv(4, 3),
    Conv(4, (1, 3)),
    Conv(4, (3, 1)),
    Conv(4, 3, 2, "valid"),
    Conv(4, 5, 2, "same"),
    Conv(4, 4, 2, "same"),
    Conv(4, 7, 2),
    Conv(4, 3, dilation=2),
    Conv(4, 3, 2, "same", dilation=2),
    Conv(4, 3, bias=True),
    Conv(4, 3, act=False),
    Conv(4, 3, norm=False),
    Depthwise(),
    Depthwise(3, 2, "same"),
    Depthwise(3, dilation=2, bias=True, act=False),
]


@pytest.mark.parametrize("node", CONVOLUTIONS, ids=str)
@pytest.mark.parametrize("norm", [None, Norm(eps=0.1)], ids=["plain", "norm"])
def test_conv(node, norm):
    x = image(9, 8)
    weights, y = run(node, x, norm)
    weight = weights["node.conv.weight"]
    depthwise = isinstance(node, Depthwise)
    for n, o, i, j in itertools.product(*map(range, y.shape)):
        total = weights["node.conv.bias"][o] if node.bias else 0.0
        for c in [o] if depthwise else range(x.shape[1]):
            for a, b, value in window(x[n, c], i, j, weight.shape[2:], node.stride, node.padding, node.dilation):
                total += weight[o, 0 if depthwise else c, a, b] * value
        if norm and node.norm:
            total = normalised(weights, o, total, norm)
        assert y[n, o, i, j] == pytest.approx(max(total, 0.0) if node.act else total, abs=1e-12)


def normalised(weights, channel, value, norm):
    gamma, beta, mean, var = (weights[f"node.bn.{t}"][channel] for t in ("weight", "bias", "mean", "var"))
    return gamma * (value - mean) / (var + norm.eps) ** 0.5 + beta


def test_norm_relu():
    x = image()
    weights, y = run(NormRelu(), x, Norm(eps=0.1))
    for n, c, i, j in itertools.product(*map(range, y.shape)):
        expected = max(normalised(weights, c, x[n, c, i, j], Norm(eps=0.1)), 0.0)
        assert y[n, c, i, j] == pytest.approx(expected, abs=1e-12)


def test_relu():
    x = image()
    _, y = run(Relu(), x)
    assert all(out == max(value, 0.0) for out, value in zip(y.flat, x.flat, strict=True))


@pytest.mark.parametrize("act", [True, False])
@pytest.mark.parametrize("shortcut", [None, Conv(2, norm=False, act=False)])
def test_residual(act, shortcut):
    x = image()
    weights, y = run(Residual(Conv(2, norm=False, act=False), shortcut, scale=0.3, act=act), x)
    for n, o, i, j in itertools.product(*map(range, y.shape)):
        pixel = x[n, :, i, j]
        straight = pixel[o] if shortcut is None else weights["node.shortcut.conv.weight"][o, :, 0, 0] @ pixel
        total = straight + 0.3 * (weights["node.body.conv.weight"][o, :, 0, 0] @ pixel)
        assert y[n, o, i, j] == pytest.approx(max(total, 0.0) if act else total, abs=1e-12)


MAX_POOLS = [MaxPool(), MaxPool(3, 2, "valid"), MaxPool(3, 2, "same"), MaxPool(3, 2, "ceil"), MaxPool(2, 2, "ceil")]


@pytest.mark.parametrize("node", MAX_POOLS, ids=str)
@pytest.mark.parametrize("size", [(7, 6), (8, 9)])
def test_max_pool(node, size):
    x = image(*size) - 5
    _, y = run(node, x)
    for n, c, i, j in itertools.product(*map(range, y.shape)):
        kernel = (node.kernel, node.kernel)
        inside = [value for _, _, value in window(x[n, c], i, j, kernel, node.stride, node.padding)]
        assert y[n, c, i, j] == max(inside)


AVG_POOLS = [AvgPool(), AvgPool(count_include_pad=True), AvgPool(5, 3, "valid"), AvgPool(3, 2, count_include_pad=True)]


@pytest.mark.parametrize("node", AVG_POOLS, ids=str)
def test_avg_pool(node):
    x = image(8, 9)
    _, y = run(node, x)
    for n, c, i, j in itertools.product(*map(range, y.shape)):
        kernel = (node.kernel, node.kernel)
        inside = [value for _, _, value in window(x[n, c], i, j, kernel, node.stride, node.padding)]
        count = node.kernel**2 if node.count_include_pad else len(inside)
        assert y[n, c, i, j] == pytest.approx(sum(inside) / count, abs=1e-12)


def test_adaptive_avg_pool_windows_overlap_as_published():
    """14 pixels to 4: windows [0, 4), [3, 7), [7, 11), [10, 14)."""
    x = image(14, 14)
    _, y = run(AdaptiveAvgPool(4), x)
    edges = [(0, 4), (3, 7), (7, 11), (10, 14)]
    for i, j in itertools.product(range(4), range(4)):
        mean = x[:, :, slice(*edges[i]), slice(*edges[j])].mean((2, 3))
        np.testing.assert_allclose(y[:, :, i, j], mean, atol=1e-12)


@pytest.mark.parametrize(
    "node", [Head(), Head(hidden=5, pool=False), Head(hidden=5, act=False), Head(pool=False)], ids=str
)
def test_head(node):
    x = image(3, 3)
    weights, y = run(node, x)
    for n in range(len(x)):
        features = [float(np.mean(channel)) for channel in x[n]] if node.pool else [float(v) for v in x[n].flat]
        layers = ["node.hidden", "node.fc"] if node.hidden else ["node.fc"]
        for layer in layers:
            weight, bias = weights[f"{layer}.weight"], weights[f"{layer}.bias"]
            features = [
                sum(w * f for w, f in zip(row, features, strict=True)) + b for row, b in zip(weight, bias, strict=True)
            ]
            if layer == "node.hidden" and node.act:
                features = [max(f, 0.0) for f in features]
        assert y[n] == pytest.approx(features, abs=1e-12)


def test_chain_and_concat():
    x = image()
    weights, y = run(Conv(4) >> concat(MaxPool(), Conv(5, 3)), x)
    net = Interpreter(MODELS["googlenet.mindcv"])
    net.weights = weights
    first = net.run(Conv(4), "node.0", x)
    np.testing.assert_array_equal(y[:, :4], net.run(MaxPool(), "", first))
    np.testing.assert_array_equal(y[:, 4:], net.run(Conv(5, 3), "node.1.branch1", first))


@pytest.mark.parametrize("name", [*FULL, *others()])
def test_calibrated_weights_keep_activations_alive(name):
    """Units fire, magnitudes stay near 1, and two unlike images get unlike logits, through all the depth."""
    model = narrow(name)
    net = reference.build(model)
    reference.load(net, calibrated(model))
    random = np.random.default_rng(3)
    smooth = np.kron(random.uniform(-1, 1, (2, 3, 8, 8)), np.ones((40, 40)))[:, :, : model.size, : model.size]
    for stage, values in reference.predict(net, smooth.astype(np.float32), tape=True).items():
        assert 0.05 < values.std() < 50, stage
        assert (values > 0).mean() > 0.2, stage
    logits = net(smooth)
    assert np.abs(logits[0] - logits[1]).max() > 0.02 * np.abs(logits).max()


def test_calibrated_statistics_are_not_trivial():
    arrays = calibrated(configure(MODELS["inception_v4"], width=0.25))
    statistics = np.concatenate([array for name, array in arrays.items() if name.endswith((".bn.mean", ".bn.var"))])
    gammas = np.concatenate([array for name, array in arrays.items() if name.endswith(".bn.weight")])
    assert len(np.unique(statistics)) > 0.99 * len(statistics)
    assert 0.75 <= gammas.min() < 0.8 < 1.2 < gammas.max() <= 1.25


def test_input_is_checked():
    net = reference.build(MODELS["inception_v4"])
    with pytest.raises(InputError, match="74 x 80 pixels is too small: at least 75 x 75, natively 299 x 299"):
        net(np.zeros((1, 3, 74, 80)))
    with pytest.raises(InputError, match=r"expected a batch of shape \[N, 3, height, width\], not \[1, 1, 80, 80\]"):
        net(np.zeros((1, 1, 80, 80)))


@pytest.mark.parametrize("name", MODELS)
def test_feature_maps_of_every_network(name):
    """The last stage at each reduction, from 2 to 32; the shapes are those in the spec."""
    model = configure(MODELS[name], width=0.25)
    net = zoo.build(name, "reference", width=0.25, features_only=True)
    maps = net(np.zeros((1, 3, model.size, model.size)))
    shapes = trace(model).stages
    assert [value.shape[1:] for value in maps] == [tuple(shapes[stage]) for stage in levels(model)]
    assert [reductions(model)[stage] for stage in levels(model)] == [2, 4, 8, 16, 32]
