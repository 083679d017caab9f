"""Users' own networks in the framework under test: planted faults are detected, placed, named and proved."""

from dataclasses import replace

import numpy as np
import pytest
from faults import narrow, noise, scored, verdict
from support import SMALL, calibrated, in_one_framework

import weights
import zoo
from backends import load
from zoo.commands import main
from zoo.errors import BackendError
from zoo.exporting import export
from zoo.language.model import configure
from zoo.language.trace import trace
from zoo.parity import assert_same, compare_network
from zoo.parity.alignment import align
from zoo.parity.foreign import framework_of


@pytest.mark.parametrize("name", [SMALL, pytest.param("inception_v3", marks=pytest.mark.nightly)])
def test_every_planted_fault_is_detected_placed_named_and_proved(framework, name):
    found = list(scored(framework, (name,), 0))
    assert len(found) >= 6
    assert [(fault.cause, fault.path, score) for _, fault, score in found if not all(score.values())] == []


@pytest.mark.parametrize(
    "name",
    ["googlenet.mindcv", *(pytest.param(name, marks=in_one_framework) for name in ("inception_v4", "xception41"))],
)
def test_a_network_without_a_fault_raises_no_alarm(framework, name):
    model = narrow(name)
    document = verdict(framework, model, model, calibrated(model), None, noise(model, 3))
    assert document["ok"], document["first"]
    assert 0 < document["max_rel_error"] <= document["band"] < 2e-5


def test_every_operation_is_seen(framework):
    model = configure(zoo.spec(SMALL), aux=False)
    net, x = zoo.build(model, framework), noise(model, 0)
    seen = load(framework, "observe").observe(net, x)
    assert [operation.kind for operation in seen.operations].count("conv") == 7
    assert [operation.kind for operation in seen.operations].count("norm") == 7
    assert seen.operations[-1].kind == "linear"
    found = align(model, seen, x)
    assert found.matched.keys() >= {"stem.0.conv", "mixed.branch1.1.bn", "block.body.0.conv", "head.fc"}
    assert found.arrays.keys() == trace(model).parameters.keys()


def test_assert_same_names_the_cause_and_leaves_the_network_as_it_was(framework, backend):
    model = zoo.spec(SMALL)
    net = zoo.build(model, framework)
    backend.train(net)
    before = {name: array.tobytes() for name, array in backend.dump(net).items()}
    assert_same(net, model)
    assert net.training
    assert {name: array.tobytes() for name, array in backend.dump(net).items()} == before
    other = zoo.from_json(zoo.to_json(model).replace('"scale": 0.5', '"scale": 0.7'))
    with pytest.raises(AssertionError, match=r"(?s)is not small.*residual_scale, at block: scale=0\.5 where the spec"):
        assert_same(net, other)
    document = compare_network(net, model, arrays={**backend.dump(net), "head.fc.bias": np.ones(10, np.float32)})
    assert (document["cause"], document["first"]["path"], document["proved"]) == ("weight", "head.fc", True)


def saved(framework, net, x, path):
    """Write a network as the framework's own tools do; returns the file."""
    if framework == "torch":
        import torch

        torch.jit.trace(net, torch.from_numpy(x)).save(str(path.with_suffix(".pt")))
        return path.with_suffix(".pt")
    if framework == "paddle":
        import paddle

        shape = [None, *x.shape[1:]]
        paddle.jit.save(net, str(path), input_spec=[paddle.static.InputSpec(shape, "float32")])
        return path.with_suffix(".json")
    import mindspore

    mindspore.export(net, mindspore.Tensor(x), file_name=str(path), file_format="MINDIR")
    return path.with_suffix(".mindir")


def test_a_file_of_the_framework(framework, backend, tmp_path, capsys):
    """A network saved by the framework, with a fault; with its own weights, and with those of a checkpoint."""
    if framework == "jax":
        pytest.skip("JAX's exported programs do not show their operations")
    model = configure(zoo.spec(SMALL), aux=False)
    other = zoo.from_json(zoo.to_json(model).replace('"scale": 0.5', '"scale": 0.7'))
    arrays, x = calibrated(model), noise(model, 0)
    weights.write(tmp_path / "net.safetensors", arrays, model)
    for spec, name in ((model, "same"), (other, "other")):
        net = zoo.build(spec, framework, seed=5)
        file = saved(framework, net, x, tmp_path / name)
        for words in ([], ["--checkpoint", str(tmp_path / "net.safetensors")]):
            status = main(["parity", str(SMALL), "--against", str(file), *words])
            out = capsys.readouterr().out
            assert status == (name == "other"), out
            if name == "other":
                assert "Cause: residual_scale, at block: scale=0.7 where the spec has 0.5." in out
                assert "no difference is left" in out
            else:
                assert "31 operations and inputs compared" in out


def test_a_file_made_for_deployment(framework, tmp_path, capsys):
    """What `zoo export` writes has batch norm folded into the convolutions."""
    suffix = {"torch": ".onnx", "paddle": ".json", "mindspore": ".mindir", "jax": ".jax"}[framework]
    export(SMALL, tmp_path / f"net{suffix}")
    words = ["parity", str(SMALL), "--against", str(tmp_path / f"net{suffix}")]
    if framework == "jax":
        assert main(words) == 2
        assert "JAX's files do not show a network's operations: give package.module:function" in capsys.readouterr().err
        return
    assert main(words) == 0
    assert "17 operations and inputs compared" in capsys.readouterr().out


def test_what_training_does_differently(framework, backend):
    """Decay and momentum confused; the network's statistics are as they were before."""
    model = zoo.spec(SMALL)
    other = replace(model, norm=replace(model.norm, decay=0.1))
    net = zoo.build(other, framework)
    before = {name: array.tobytes() for name, array in backend.dump(net).items()}
    assert compare_network(net, model)["ok"], "inference does not show it"
    document = compare_network(net, model, training=True)
    assert not document["ok"]
    assert (document["cause"], document["proved"], document["left"]) == ("bn_momentum", True, [])
    assert "decay=0.1 of the running statistics where the spec has 0.9: decay and momentum" in document["change"]
    assert {name: array.tobytes() for name, array in backend.dump(net).items()} == before
    with pytest.raises(AssertionError, match=r"batch norm in training of stem\.0.*running mean"):
        assert_same(net, model, training=True)
    assert_same(zoo.build(model, framework), model, training=True)


def test_what_is_no_network(framework):
    load(framework, "observe")
    with pytest.raises(BackendError, match=r"expected a torch\.nn\.Module, .* or flax\.nnx\.Module, not object"):
        framework_of(object())


def test_a_network_without_logits_is_refused(framework):
    with pytest.raises(BackendError, match=r"network to return logits \[1, classes\], not \[1, 32, 8, 8\]"):
        compare_network(zoo.build(SMALL, framework, features_only=True), SMALL)


def test_what_a_network_raises_is_reported(framework):
    net = zoo.build(SMALL, framework, in_channels=1)
    with pytest.raises(BackendError, match="the network failed: InputError: small: expected a batch of shape"):
        compare_network(net, SMALL)
