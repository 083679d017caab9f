"""What only PyTorch can show: its compilers and tools, devices, float64, and the publishers' own classes."""

import io
import warnings
from importlib import import_module

import numpy as np
import pytest
import torch
from publishers import import_torchvision
from support import CONCEPTS, FULL, GRAPHS, OTHERS, batch, calibrated, error, expected, narrow
from torch import nn
from torch.ao import quantization
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import weights
import zoo
from backends.predict import tape
from backends.torch import engines
from backends.torch import network as backend
from backends.torch import training as torch_training
from backends.training import trainer
from weights import SOURCES
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
from zoo.training.optimizers import SLOTS, Optimizer
from zoo.training.plan import Plan, groups


def build(model, arrays=None):
    net = backend.build(model)
    backend.load(net, calibrated(model) if arrays is None else arrays)
    return net


def variants(name):
    """A narrow network and one that returns features, with the same weights; each with an input."""
    model = configure(MODELS[name], width=0.25, aux=False)
    taps = configure(model, taps=(model.stages[5].name, model.stages[-2].name))
    arrays = calibrated(model)
    return [(build(m, weights.restrict(arrays, m, model)), torch.from_numpy(batch(m, 160))) for m in (model, taps)]


def flat(output):
    return output if isinstance(output, list) else [output]


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("how", ["compile", "export"])
def test_compilers_accept_the_network_without_graph_breaks(name, how):
    for net, x in variants(name):
        torch._dynamo.reset()
        if how == "compile":
            run = torch.compile(net, fullgraph=True, backend="eager")
        else:
            run = torch.export.export(net, (x,)).module()
        with torch.no_grad():
            for ours, theirs in zip(flat(net(x)), flat(run(x)), strict=True):
                assert error(theirs.numpy(), ours.numpy()) <= 1e-6


def test_export_with_a_dynamic_batch_size():
    net, x = variants("googlenet")[0]
    program = torch.export.export(net, (torch.cat([x, x]),), dynamic_shapes={"x": {0: torch.export.Dim("batch")}})
    larger = torch.from_numpy(batch(net.spec, 160, count=5))
    with torch.no_grad():
        assert error(program.module()(larger).numpy(), net(larger).numpy()) <= 1e-6


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


# As other tools see our networks


SAME_BORDERS = ("googlenet.mindcv", "googlenet.slim", "xception.keras", "xception.mindcv")
"""Networks whose padding depends on the input size."""

TRACED = (
    *SAME_BORDERS,
    "googlenet",
    "bninception",
    "inception_v3",
    "inception_v4",
    "inception_resnet_v1",
    "xception41p",
)
"""One network of each family at least."""


def traceable(name):
    """A narrow network; an input to trace it with; an input of another size, odd where the network accepts it."""
    model = configure(MODELS[name], width=0.25, aux=False)
    other = (192, 256) if name == "bninception" else (171, 190)
    net = build(model, weights.initial(model))
    return net, torch.from_numpy(batch(model, 160)), torch.from_numpy(batch(model, *other))


@pytest.mark.parametrize("name", TRACED)
@torch.no_grad()
def test_symbolic_trace_finds_every_relu_as_a_module(name):
    """Tools such as captum change the gradients of ReLU modules, and miss functions."""
    net, _, other = traceable(name)
    traced = torch.fx.symbolic_trace(net)
    assert error(traced(other).numpy(), net(other).numpy()) <= 1e-6
    operations = [node for node in traced.graph.nodes if node.op.startswith("call_")]
    assert not [node for node in operations if node.op != "call_module" and "relu" in str(node.target).lower()]
    assert any(isinstance(traced.get_submodule(node.target), nn.ReLU) for node in operations if "act" in str(node))


@pytest.mark.parametrize("name", TRACED)
@torch.no_grad()
def test_jit_trace_is_right_at_another_size(name):
    net, x, other = traceable(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error", torch.jit.TracerWarning)
        traced = torch.jit.trace(net, x, check_trace=False)
    assert error(traced(other).numpy(), net(other).numpy()) <= 1e-6


@torch.no_grad()
def test_symbolic_trace_of_a_strided_1x1_with_same_padding():
    model = Model("one", stages(node=Conv(4, 1, 2, "same")), None, Preprocess(16), size=16, taps=("node",))
    net = build(model, weights.initial(model))
    x = torch.from_numpy(batch(model, 15, 18))
    assert torch.equal(torch.fx.symbolic_trace(net)(x)[0], net(x)[0])


@pytest.mark.parametrize("name", TRACED)
@torch.no_grad()
def test_torchvision_extracts_features(name):
    import_torchvision()
    from torchvision.models.feature_extraction import create_feature_extractor

    net, x, _ = traceable(name)
    extracted = create_feature_extractor(net, {net.spec.stages[-2].name: "feature", "head": "logits"})(x)
    assert torch.equal(extracted["feature"], tape(net, x)[net.spec.stages[-2].name])
    assert torch.equal(extracted["logits"], net(x))


@pytest.mark.parametrize("name", ["googlenet.mindcv", "xception.keras"])
def test_export_with_dynamic_sizes(name):
    """Symbolic sizes go through the padding of SAME borders."""
    net, x, _ = traceable(name)
    x = torch.from_numpy(batch(net.spec, 160, 160, 2))
    sizes = {
        0: torch.export.Dim("n", max=8),
        2: torch.export.Dim("h", min=96, max=320),
        3: torch.export.Dim("w", min=96, max=320),
    }
    exported = torch.export.export(net, (x,), dynamic_shapes=(sizes,)).module()
    for height, width, count in ((171, 190, 3), (128, 131, 2)):
        other = torch.from_numpy(batch(net.spec, height, width, count))
        with torch.no_grad():
            assert error(exported(other).numpy(), net(other).numpy()) <= 1e-6, (height, width)


@pytest.mark.parametrize("name", SAME_BORDERS)
def test_onnx_with_dynamic_sizes(name):
    import onnxruntime

    net, x, _ = traceable(name)
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            net, (x,), file, dynamo=False, input_names=["x"], dynamic_axes={"x": {0: "n", 2: "height", 3: "width"}}
        )
    session = onnxruntime.InferenceSession(file.getvalue())
    for height, width, count in ((160, 160, 1), (171, 190, 2), (128, 131, 1), (201, 150, 1)):
        x = batch(net.spec, height, width, count)
        with torch.no_grad():
            assert error(session.run(None, {"x": x})[0], net(torch.from_numpy(x)).numpy()) <= 5e-6, (height, width)


@pytest.mark.parametrize("name", ["inception_v3", "inception_resnet_v1", "xception41p"])
@torch.no_grad()
def test_hooks_on_batch_norm_see_values_before_the_relu(name):
    net, x, _ = traceable(name)
    seen = {}
    for path, module in net.named_modules():
        if isinstance(module, backend.ConvNormAct | backend.PreActivation):
            module.bn.register_forward_hook(lambda _, inputs, y, path=path: seen.update({path: (inputs[0], y)}))
    net(x)
    for path, (before, after) in seen.items():
        assert torch.equal(after, net.get_submodule(f"{path}.bn")(before)), path
        assert after.min() < 0, path


@pytest.mark.parametrize("name", ["inception_v4", "googlenet.mindcv"])
def test_timm_finds_the_preprocessing(name):
    import_torchvision()
    import timm.data

    net = zoo.build(name, "torch", width=0.25, num_classes=7)
    config = timm.data.resolve_data_config(model=net)
    preprocess, size = net.spec.preprocess, net.spec.size
    assert (config["input_size"], config["interpolation"]) == ((3, size, size), preprocess.interpolation)
    assert (config["mean"], config["std"]) == (preprocess.mean, preprocess.std)
    resize, crop = timm.data.create_transform(**config).transforms[:2]
    assert (resize.size, tuple(crop.size)) == (preprocess.resize, (size, size))
    assert (net.num_classes, net.get_classifier()) == (7, net.head.fc)
    assert net.num_features == net.head.fc.in_features


@torch.no_grad()
def test_eager_mode_quantisation_of_a_residual_network():
    net, x, _ = traceable("inception_resnet_v1")
    expected = net(x).numpy()
    boxes = [path for path, module in net.named_modules() if isinstance(module, backend.ConvNormAct)]
    fused = [[f"{path}.{name}" for name in ("conv", "bn", "act")] for path in boxes]
    present = [[path for path in paths if not isinstance(net.get_submodule(path), nn.Identity)] for paths in fused]
    net = quantization.fuse_modules(net, [paths for paths in present if len(paths) > 1])
    net = quantization.QuantWrapper(net)
    net.qconfig = quantization.get_default_qconfig("fbgemm")
    quantization.prepare(net, inplace=True)
    net(x)
    quantization.convert(net, inplace=True)
    assert error(net(x).numpy(), expected) < 0.05


@pytest.mark.parametrize("name", ["spec", "num_classes", "forward", "get_classifier"])
def test_a_stage_cannot_have_an_attributes_name(name):
    model = MODELS["googlenet"]
    with pytest.raises(SpecError, match=f"a stage cannot be called '{name}'"):
        backend.build(Model("one", stages(**{name: Conv(4)}), model.head, model.preprocess, size=16))


# Devices, without a GPU


class OneDevice(TorchDispatchMode):
    """Refuses what a GPU refuses: an operation on tensors of several devices, but for copies.

    Tensors without dimensions may be on the CPU, except for fused optimizers.
    """

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        tensors = [t for t in tree_leaves((arguments, options)) if isinstance(t, torch.Tensor)]
        devices = {t.device.type for t in tensors if t.dim() or "_fused_" in str(operation)}
        assert len(devices) < 2 or operation is torch.ops.aten.copy_.default, (operation, devices)
        if operation is torch.ops.aten._fused_sgd_.default:  # works in place, and does not exist for `meta`
            return None
        return operation(*arguments, **(options or {}))


@pytest.fixture
def one_device(monkeypatch):
    """A network on the `meta` device, in place of a GPU. Reading values from it fails, except by `cpu()`."""
    monkeypatch.setattr(torch.Tensor, "cpu", lambda t: torch.zeros(t.shape, dtype=t.dtype))
    monkeypatch.setattr(import_module("torch.optim.sgd"), "_device_dtype_check_for_fused", lambda parameter: None)
    net = backend.build(configure(MODELS["googlenet"], width=0.25, num_classes=10)).to("meta")
    with OneDevice():
        yield net


IMAGES = np.zeros((4, 3, 224, 224), np.float32)
TARGETS = np.eye(4, 10, dtype=np.float32)


@pytest.mark.parametrize("name", SLOTS)
def test_a_step_stays_on_the_device_and_does_not_wait_for_it(one_device, name):
    plan = Plan(Optimizer(name), groups(one_device.spec, 0.1), ema=0.9, loss_scale=8.0, aux_factor=0.3)
    training = trainer("torch", one_device, plan)
    training.restore(training.state())
    assert training.step(IMAGES, TARGETS, 0.1).device.type == "meta"
    assert all(p.device.type == "meta" for p in training.parameters)


def test_other_paths_that_take_a_device(one_device):
    model = one_device.spec
    training = trainer("torch", one_device, Plan(Optimizer(), groups(model)))
    stage = model.stages[0].name
    shape = tape(one_device, torch.zeros(IMAGES.shape, device="meta"))[stage].shape
    results = training.differentiate(stage, IMAGES, np.zeros(shape, np.float32))
    assert results["input"].shape == IMAGES.shape
    for _ in range(2):
        training.feed({name: np.zeros(p.shape, np.float32) for name, p in training.tensors.items()})
    assert {p.grad.device.type for p in training.parameters} == {"meta"}
    assert backend.predict(one_device, IMAGES)["logits"].shape == (4, 10)
    assert engines.classifier(one_device)(IMAGES).shape == (4, 10)
    backend.load(one_device, weights.initial(model))
    assert list(backend.dump(one_device)) == list(weights.initial(model))


def test_a_gpu_gets_arrays_through_pinned_memory(monkeypatch):
    """A copy from other memory waits for all earlier work of the GPU."""
    calls = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda t: calls.append("pin_memory") or t)
    monkeypatch.setattr(torch.Tensor, "to", lambda t, *where, **how: calls.append((where, how)) or t)
    gpu = torch.device("cuda", 1)
    torch_training.Masked(gpu).set(np.ones(3, np.float32))
    assert calls == ["pin_memory", ((gpu,), {"non_blocking": True})]


# What a trainer leaves behind


def settings(net):
    return (
        {path: (id(module), module.training) for path, module in net.named_modules()},
        {path: parameter.requires_grad for path, parameter in net.named_parameters()},
    )


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("training_mode", [False, True])
def test_a_trainer_leaves_the_network_as_it_was(monkeypatch, graph, training_mode):
    """Only weights and statistics that the plan trains change; modes, `requires_grad` and dropout do not."""
    compiler = torch.compile
    monkeypatch.setattr(torch, "compile", lambda net: compiler(net, backend="eager"))
    model = Model(
        "small", stages(stem=Conv(8, 3), body=Conv(8, 3)), Head(dropout=0.5), Preprocess(48), size=48, num_classes=10
    )
    net = build(model, weights.initial(model)).train(training_mode)
    net.body.bn.eval()
    net.body.conv.weight.requires_grad_(False)
    before, arrays = settings(net), backend.dump(net)
    training = trainer("torch", net, Plan(Optimizer(), groups(model, freeze=["stem"]), graph=graph))
    x = batch(model, 48, count=4)
    training.step(x, TARGETS, 0.1)
    training.differentiate("body", np.ones((4, 8, 48, 48), np.float32), np.ones((4, 8, 48, 48), np.float32))
    backend.predict(net, x)
    engines.classifier(net)(x)
    assert settings(net) == before
    changed = {name for name, array in backend.dump(net).items() if not np.array_equal(array, arrays[name])}
    assert changed == {name for name in arrays if not name.startswith("stem.")}
    net.train()
    first, second = (net(torch.from_numpy(x[:3])) for _ in range(2))
    assert isinstance(net.head.dropout, nn.Dropout)
    assert not torch.equal(first, second)


def test_a_trainer_drops_gradients_of_its_callers():
    model = configure(MODELS["inception_v3"], width=0.25, num_classes=10, aux=False, drop_rate=0.0)
    x = batch(model, 96, count=4)
    nets = [build(model, weights.initial(model)) for _ in range(2)]
    nets[0](torch.from_numpy(x)).sum().backward()
    for net in nets:
        trainer("torch", net, Plan(Optimizer("sgd"), groups(model))).step(x, TARGETS, 0.1)
    first, second = map(backend.dump, nets)
    assert all(np.array_equal(first[name], second[name]) for name in first)


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
    """The outputs in training mode, auxiliary ones included (ours by depth), and the new running statistics."""
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
def test_reads_the_publishers_tensors_bit_for_bit(source, name, make, aux):
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
