"""What only PyTorch can show: the reference in float64, what hooks and gradients reach, names of modules."""

import numpy as np
import pytest
import torch
from support import CONCEPTS, FULL, OTHERS, batch, calibrated, error, expected, narrow
from torch import nn

import weights
import zoo
from backends.predict import tape
from backends.torch import double, kinks
from backends.torch import network as backend
from zoo.errors import SpecError
from zoo.language.geometry import receptive_fields
from zoo.language.model import Model, Preprocess, configure, stages
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
    leaves,
)
from zoo.language.trace import trace
from zoo.models import MODELS


def build(model, arrays=None):
    net = backend.build(model)
    backend.load(net, calibrated(model) if arrays is None else arrays)
    return net


@pytest.mark.parametrize("name", FULL + OTHERS)
def test_the_reference_is_right_in_float64(name):
    """Against our network in float64: every stage and head, to 1e-12."""
    model = MODELS[name] if name in FULL else narrow(name)
    x = batch(model, model.size)
    reference = expected(model, calibrated(model), x)
    net = build(model).double()
    with torch.no_grad():
        for stage, value in tape(net, torch.from_numpy(x).double()).items():
            assert error(value.numpy(), reference[stage]) <= 1e-12, stage


BORDERS = ("half", "valid", "same")
NODES = [
    *(Conv(4, kernel, stride, border) for kernel in (1, 3, (1, 7), 5) for stride in (1, 2) for border in BORDERS),
    *(MaxPool(3, stride, border) for stride in (1, 2) for border in (*BORDERS, "ceil")),
    *(MaxPool(2, 2, border) for border in ("valid", "same", "ceil")),
    *(AvgPool(3, stride, border, count) for stride in (1, 2) for border in BORDERS[:2] for count in (True, False)),
    *(AdaptiveAvgPool(size) for size in (1, 4, 5)),
    *(Conv(4, 3, stride, border, dilation=2) for stride in (1, 2) for border in BORDERS),
    *(Conv(4, 3, bias=True, norm=norm, act=act) for norm in (True, False) for act in (True, False)),
    *(Depthwise(3, stride, border, dilation) for stride in (1, 2) for border in BORDERS for dilation in (1, 2)),
    Depthwise(5, bias=True, norm=False, act=False),
    NormRelu(),
    Conv(4, act=False) >> Relu(),
    *(Residual(Conv(3, 3, act=False), scale=scale, act=act) for scale in (1.0, 0.17) for act in (True, False)),
    Residual(Relu() >> Conv(5, 3, 2, act=False), Conv(5, 1, 2, norm=False, act=False), act=True),
]


@pytest.mark.parametrize("node", NODES, ids=str)
def test_each_kind_of_node_in_float64(node):
    """At odd and even sizes, including settings that no published model uses."""
    preprocess = MODELS["googlenet"].preprocess
    model = Model("one", stages(node=node), None, preprocess, size=16, taps=("node",))
    for height, width in ((13, 16), (16, 17)):
        arrays = weights.initial(model)
        x = batch(model, height, width)
        net = build(model, arrays).double()
        with torch.no_grad():
            value = tape(net, torch.from_numpy(x).double())["node"].numpy()
        assert error(value, expected(model, arrays, x)["node"]) <= 1e-12


@pytest.mark.parametrize("name", MODELS)
def test_macs_and_parameters_equal_what_hooks_count(name):
    net = backend.build(MODELS[name])
    counted = []

    def count(module, inputs, output):
        positions = output.numel() // output.shape[1]
        counted.append(module.weight[0].numel() * output.shape[1] * positions)

    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    with torch.no_grad():
        tape(net, torch.zeros(1, 3, net.spec.size, net.spec.size))
    assert sum(counted) == trace(net.spec).macs
    assert sum(p.numel() for p in net.parameters()) == zoo.info(name)["parameters_with_aux"]


@pytest.mark.parametrize(
    ("name", "width"),
    [pytest.param("inception_v4", 1, marks=pytest.mark.nightly), *((name, 0.25) for name in (*FULL, *CONCEPTS))],
)
def test_one_fine_tuning_step(name, width):
    net = zoo.build(name, "torch", num_classes=10, aux=bool(MODELS[name].aux), width=width).train()
    before = {key: p.detach().clone() for key, p in net.named_parameters()}
    # a large step: where a depthwise convolution and its norm follow a norm, the gradient of a gamma nearly vanishes
    optimizer = torch.optim.SGD(net.parameters(), lr=10, momentum=0.9)
    logits = net(torch.from_numpy(batch(net.spec, net.spec.size, count=4)))
    outputs = logits if isinstance(logits, tuple) else (logits,)
    assert len(outputs) == 1 + len(net.spec.aux)
    sum(nn.functional.cross_entropy(output, torch.tensor([1, 3, 5, 7])) for output in outputs).backward()
    optimizer.step()
    for key, parameter in net.named_parameters():
        assert torch.isfinite(parameter.grad).all(), key
        assert parameter.grad.abs().max() > 0, key
        assert not torch.equal(parameter, before[key]), key


def test_module_paths_are_the_specs_names():
    net = zoo.build("inception_v4", "torch", width=0.25)
    assert isinstance(net.mixed_7b.branch2[3].branch1.conv, nn.Conv2d)
    assert "mixed_7b.branch2.3.branch1.bn.running_mean" in net.state_dict()


@pytest.mark.parametrize(
    ("name", "stage"), [("googlenet", "mixed_4b"), ("inception_v4", "mixed_5b"), ("xception41", "block3")]
)
def test_receptive_fields_equal_what_gradients_reach(name, stage):
    """How far the gradient of one value spreads, with positive weights and inputs so that nothing cancels."""
    narrowed = configure(MODELS[name], width=0.25, aux=False)
    model = configure(narrowed, taps=(stage,))
    arrays = {key: np.abs(array) for key, array in weights.initial(model).items()}
    x = torch.rand(1, 3, 299, 299, requires_grad=True)
    feature = build(model, arrays)(x)[0]
    feature[0, :, feature.shape[2] // 2, feature.shape[3] // 2].sum().backward()
    rows, columns = (np.flatnonzero(x.grad.abs().sum(axes).numpy()) for axes in ((0, 1, 3), (0, 1, 2)))
    expected = receptive_fields(narrowed)[stage]
    if any(isinstance(leaf, MaxPool) for s in model.stages for leaf in leaves(s.node)):
        # a max pool passes the gradient to one of its inputs only
        assert expected / 2 < max(np.ptp(rows), np.ptp(columns)) + 1 <= expected
    else:
        assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (expected, expected)


@pytest.mark.parametrize("name", ["num_classes", "forward", "get_classifier"])
def test_a_stage_cannot_have_a_name_of_timms_interface(name):
    model = MODELS["googlenet"]
    with pytest.raises(SpecError, match=f"a stage cannot be called '{name}'"):
        backend.build(Model("one", stages(**{name: Conv(4)}), model.head, model.preprocess, size=16))


@pytest.mark.parametrize("name", ["googlenet", "inception_resnet_v2", "xception.mindcv", "xception41", "xception41p"])
def test_inputs_of_relus_are_moved_away_from_0(name):
    """In training, wherever a ReLU stands: behind a batch norm, a convolution or a sum."""
    model = configure(MODELS[name], width=0.25, aux=False)
    arrays = weights.initial(model)
    net = double.double(model, arrays)
    x = double.tensor(batch(model, 96, count=2))
    recorded = double.inputs(net, list(model.parts), lambda: net(x))
    inputs = {part: given for part, (given, _) in recorded.items()}
    shifted = kinks.shift_biases(model, arrays, inputs)
    assert smallest(model, arrays, inputs) < 3e-5
    assert smallest(model, shifted, inputs) > 10 * smallest(model, arrays, inputs)


@pytest.mark.parametrize(
    ("padding", "size", "before"), [("valid", 10, 0), ("half", 10, 1), ("ceil", 10, 0), ("same", 9, 1)]
)
def test_what_biases_cannot_move_is_moved_by_inputs(padding, size, before):
    """ReLUs behind a convolution without a bias, and windows of a max pool whose largest values are nearly equal."""
    stage = Conv(4, norm=False) >> MaxPool(3, 2, padding)
    model = Model("one", stages(stage=stage), Head(), Preprocess(size), norm=None, size=size)
    arrays = weights.initial(model)
    x = np.random.default_rng(0).standard_normal((2, 3, size, size)).astype(np.float32)
    x[0, :, 4, 4] = 9
    x[0, :, 4, 5] = np.nextafter(x[0, :, 4, 4], np.float32(np.inf))  # a window's largest values
    kernel = arrays["stage.0.conv.weight"][0, :, 0, 0]
    x[1, :, 3, 3] -= (x[1, :, 3, 3] @ kernel) / (kernel @ kernel) * kernel  # the first channel is 0 but for rounding
    net = double.double(model, arrays).train()
    moved = kinks.move_input(net, "stage", x)
    assert 0 < error(moved, x) < 1e-4
    for given, clear in ((x, False), (moved, True)):
        z = np.einsum("oi,nihw->nohw", arrays["stage.0.conv.weight"][:, :, 0, 0].astype(np.float64), given)
        y = net.get_submodule("stage")(double.tensor(given)).numpy(force=True)
        leads = []
        for i, j in np.ndindex(y.shape[2:]):
            rows, columns = (slice(max(2 * k - before, 0), 2 * k - before + 3) for k in (i, j))
            window = np.sort(np.maximum(z[:, :, rows, columns], 0).reshape(2, 4, -1), -1)
            assert np.allclose(window[..., -1], y[:, :, i, j])
            leads.append(window[..., -1] - window[..., -2])
        after_relu = np.array(leads)
        scales = np.sqrt(np.square(z).mean()), np.sqrt(np.square(np.maximum(z, 0)).mean())
        assert (np.abs(z).min() >= kinks.MARGIN * scales[0]) == clear
        assert (after_relu[after_relu > 0].min() >= kinks.MARGIN * scales[1]) == clear


def smallest(model, arrays, inputs):
    """The smallest magnitude of a ReLU's input in training, except for zeros and inputs of a stage."""
    net, found = double.double(model, arrays).train(), []
    for module in net.modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_pre_hook(lambda _, given: found.append(given[0].detach().abs()))
    for part, x in inputs.items():
        before = len(found)
        net.get_submodule(part)(double.tensor(x))
        found[before:] = [values for values in found[before:] if not same(values, x)]
    return min(float(values[values > 0].min()) for values in found)


def same(values, x):
    return values.shape == x.shape and np.allclose(values.numpy(), np.abs(x))
