"""PyTorch's compilers, exporters and tracers, and other tools that take a network apart."""

import io
import warnings

import files
import pytest
import torch
from publishers import import_torchvision
from support import GRAPHS, SMALL, batch, calibrated, error
from test_torch import build
from torch import nn
from torch.ao import quantization

import weights
import zoo
from backends.predict import tape
from backends.torch import network as backend
from backends.torch import programs
from zoo.errors import WeightsError
from zoo.language.model import Model, Preprocess, configure, stages
from zoo.language.nodes import Conv
from zoo.models import MODELS

COMPILED = ("googlenet.mindcv", "xception41p")
"""Networks that differ for compilers: SAME padding, sums and pre-activation."""


def variants(name):
    """A narrow network and one that returns features, with the same weights; each with an input."""
    model = configure(MODELS[name], width=0.25, aux=False)
    taps = configure(model, taps=(model.stages[5].name, model.stages[-2].name))
    arrays = calibrated(model)
    return [(build(m, weights.restrict(arrays, m, model)), torch.from_numpy(batch(m, 160))) for m in (model, taps)]


def flat(output):
    return output if isinstance(output, list) else [output]


@pytest.mark.parametrize("how", ["compile", "export"])
@pytest.mark.parametrize(
    "name", [name if name in COMPILED else pytest.param(name, marks=pytest.mark.nightly) for name in GRAPHS]
)
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


def read_program(path, program, monkeypatch):
    """A program that was saved and read back without PyTorch's reader."""
    torch.export.save(program, path)
    monkeypatch.setattr(torch.export, "load", lambda *_: pytest.fail("loaded"))
    return programs.load(path)


def test_a_saved_program_computes_its_borders(tmp_path, monkeypatch):
    """SAME padding, at a size other than that of the export."""
    net, x = variants("googlenet.mindcv")[0]
    dynamic = torch.export.Dim.DYNAMIC
    program = torch.export.export(net, (torch.cat([x, x]),), dynamic_shapes={"x": {0: dynamic, 2: dynamic, 3: dynamic}})
    ours = read_program(tmp_path / "a.pt2", program, monkeypatch)
    other = torch.from_numpy(batch(net.spec, 192, 176, count=3))
    with torch.no_grad():
        assert torch.equal(ours(other), net(other))


def test_a_saved_program_of_core_aten(tmp_path, monkeypatch):
    net, x = zoo.build(SMALL, "torch"), torch.rand(2, 3, 32, 32)
    ours = read_program(tmp_path / "a.pt2", torch.export.export(net, (x,)).run_decompositions(), monkeypatch)
    assert dict(ours.named_parameters()).keys() == dict(net.named_parameters()).keys()
    with torch.no_grad():
        assert torch.equal(ours(x), net(x))


def test_a_saved_program_of_several_outputs(tmp_path, monkeypatch):
    net, x = zoo.build(SMALL, "torch", out_indices=("mixed", "block")), torch.rand(2, 3, 32, 32)
    run = read_program(tmp_path / "a.pt2", torch.export.export(net, (x,)), monkeypatch)
    with torch.no_grad():
        for ours, theirs in zip(run(x), net(x), strict=True):
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    "target",
    ["torch.ops.aten.from_file.default", "torch.serialization.os.system", "_operator.methodcaller", "os.system"],
)
def test_a_saved_program_calls_operations_of_networks_only(tmp_path, target):
    node = {"target": target, "inputs": [], "outputs": [{"as_tensor": {"name": "y"}}]}
    files.write_zip(tmp_path / "a.pt2", files.exported([node]))
    with pytest.raises(WeightsError, match=f"a.pt2: calls {target}, which is not run here"):
        programs.load(tmp_path / "a.pt2")


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
    """SAME padding works with symbolic sizes."""
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
