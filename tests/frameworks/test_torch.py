"""What only PyTorch can show: its compilers, its optimizer, float64, and the publishers' own classes."""

import numpy as np
import pytest
import torch
from publishers import import_torchvision
from support import CONCEPTS, FULL, GRAPHS, OTHERS, batch, calibrated, error, expected, narrow
from torch import nn

import weights
import zoo
from backends.predict import tape
from backends.torch import network as backend
from weights import SOURCES
from zoo.language.geometry import receptive_fields
from zoo.language.model import configure
from zoo.language.nodes import AdaptiveAvgPool, AvgPool, Conv, Depthwise, MaxPool, NormRelu, Relu, Residual, leaves
from zoo.language.trace import trace
from zoo.models import MODELS


def build(model, arrays=None):
    net = backend.build(model)
    backend.load(net, calibrated(model) if arrays is None else arrays)
    return net


def variants(name):
    """A narrow network and its features, with one set of weights, and an input."""
    model = configure(MODELS[name], width=0.25, aux=False)
    taps = configure(model, taps=(model.stages[5].name, model.stages[-2].name))
    arrays = calibrated(model)
    return [(build(m, weights.restrict(arrays, m, model)), torch.from_numpy(batch(m, 160))) for m in (model, taps)]


def flat(output):
    return output if isinstance(output, list) else [output]


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("how", ["compile", "export"])
def test_compilers_take_the_network_whole(name, how):
    for net, x in variants(name):
        torch._dynamo.reset()
        if how == "compile":
            run = torch.compile(net, fullgraph=True, backend="eager")
        else:
            run = torch.export.export(net, (x,)).module()
        with torch.no_grad():
            for ours, theirs in zip(flat(net(x)), flat(run(x)), strict=True):
                assert error(theirs.numpy(), ours.numpy()) <= 1e-6


def test_export_with_the_batch_left_open():
    net, x = variants("googlenet")[0]
    program = torch.export.export(net, (torch.cat([x, x]),), dynamic_shapes={"x": {0: torch.export.Dim("batch")}})
    larger = torch.from_numpy(batch(net.spec, 160, count=5))
    with torch.no_grad():
        assert error(program.module()(larger).numpy(), net(larger).numpy()) <= 1e-6


@pytest.mark.parametrize("name", FULL + OTHERS)
def test_the_reference_is_right_in_float64(name):
    """The same code in torch float64: every stage and head, to 1e-12."""
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
    """Odd and even sizes; what no published model uses yet must be right too."""
    published = MODELS["googlenet"]
    model = type(published)("one", zoo.language.model.stages(node=node), None, published.preprocess, size=16)
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


@pytest.mark.parametrize(("name", "width"), [(name, 1) for name in FULL] + [(name, 0.25) for name in CONCEPTS])
def test_one_fine_tuning_step(name, width):
    net = zoo.build(name, "torch", num_classes=10, aux=bool(MODELS[name].aux), width=width).train()
    before = {key: p.detach().clone() for key, p in net.named_parameters()}
    # a large step: where a depthwise convolution and its norm follow a norm, the gradient of a gamma all but cancels
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
    """Every weight and input positive, so that nothing cancels: how far one value's gradient spreads."""
    whole = configure(MODELS[name], width=0.25, aux=False)
    model = configure(whole, taps=(stage,))
    arrays = {key: np.abs(array) for key, array in weights.initial(model).items()}
    x = torch.rand(1, 3, 299, 299, requires_grad=True)
    feature = build(model, arrays)(x)[0]
    feature[0, :, feature.shape[2] // 2, feature.shape[3] // 2].sum().backward()
    rows, columns = (np.flatnonzero(x.grad.abs().sum(axes).numpy()) for axes in ((0, 1, 3), (0, 1, 2)))
    expected = receptive_fields(whole)[stage]
    if any(isinstance(leaf, MaxPool) for s in model.stages for leaf in leaves(s.node)):
        assert expected / 2 < max(np.ptp(rows), np.ptp(columns)) + 1 <= expected  # a maximum passes one gradient on
    else:
        assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (expected, expected)


# The publishers' own classes


def timm_model(name, **options):
    import_torchvision()
    import timm

    return timm.create_model(name, **options)


PEERS = [
    ("timm", "inception_v4", lambda: timm_model("inception_v4"), ()),
    ("timm", "inception_v3", lambda: timm_model("inception_v3", aux_logits=True), ("aux",)),
    (
        "torchvision",
        "inception_v3",
        lambda: import_torchvision().inception_v3(weights=None, init_weights=False, dropout=0.0),
        ("aux",),
    ),
    (
        "torchvision",
        "googlenet",
        lambda: import_torchvision().googlenet(weights=None, init_weights=False, dropout=0.0, dropout_aux=0.0),
        ("aux2", "aux1"),
    ),
]


def peer(source, name, make):
    """The publisher's network with our calibrated weights, through its own strict loader."""
    net = make()
    state = {
        key: torch.from_numpy(np.ascontiguousarray(a))
        for key, a in SOURCES[source].naming(MODELS[name]).write(calibrated(MODELS[name])).items()
    }
    state |= {key: value for key, value in net.state_dict().items() if key.endswith("num_batches_tracked")}
    net.load_state_dict(state, strict=True)
    return net.eval()


@pytest.mark.parametrize(
    ("source", "name", "make", "aux"), PEERS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_equals_the_publishers_network(source, name, make, aux):
    theirs, ours = peer(source, name, make), build(MODELS[name])
    size = MODELS[name].size
    for height, width in ((size, size), (331, 299)):
        x = torch.from_numpy(batch(MODELS[name], height, width, count=2))
        with torch.no_grad():
            output = theirs(x)
            output = output[0] if isinstance(output, tuple) else output
            assert error(ours(x).numpy(), output.numpy()) <= 1e-6


@pytest.mark.parametrize(
    ("source", "name", "make", "aux"), PEERS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_equals_the_publishers_network_in_training(source, name, make, aux):
    """Batch statistics, auxiliary outputs (ours in order of depth), and the running statistics they leave behind."""
    theirs, ours = peer(source, name, make).train(), build(MODELS[name]).train()
    for module in ours.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    x = torch.from_numpy(batch(MODELS[name], MODELS[name].size, count=2))
    with torch.no_grad():
        theirs, trained = theirs(x), theirs.state_dict()
        output = ours(x)
    if not aux:
        theirs, output = (theirs,), (output,)
    order = [0, *(1 + [a.name for a in MODELS[name].aux].index(a) for a in aux)]
    for value, index in zip(theirs, order, strict=True):
        assert error(output[index].numpy(), value.numpy()) <= 1e-6
    statistics = SOURCES[source].naming(MODELS[name]).read({key: value.numpy() for key, value in trained.items()})
    for key, array in backend.dump(ours).items():
        assert error(array, statistics[key]) <= 1e-6, key


@pytest.mark.parametrize(
    ("source", "name", "make", "aux"), PEERS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_the_publishers_tensors_are_read_back_bit_for_bit(source, name, make, aux):
    state = {key: value.numpy() for key, value in peer(source, name, make).state_dict().items()}
    again = SOURCES[source].naming(MODELS[name]).read(state)
    assert all(np.array_equal(again[key], array) for key, array in calibrated(MODELS[name]).items())


def test_flavours_of_one_name_are_different_networks():
    """The same weights; only whether average pools count the padding differs."""
    x = batch(MODELS["inception_v3"], 299)
    arrays = calibrated(MODELS["inception_v3"])
    one, other = (
        backend.predict(build(MODELS[name], arrays), x)["logits"] for name in ("inception_v3", "inception_v3.mindcv")
    )
    assert error(one, other) > 1e-2
