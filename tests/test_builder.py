"""`zoo.build` and `zoo.register` in the reference backend: what names a network, and what a checkpoint decides."""

from dataclasses import replace

import numpy as np
import pytest
from support import batch, calibrated, error, expected

import weights
import zoo
from backends.reference import network as reference
from zoo.errors import BackendError, SpecError
from zoo.language import Conv, Head, MaxPool, Model, Norm, Preprocess, concat, configure, stages
from zoo.models import MODELS

OWN = Model(
    name="own",
    stages=stages(stem=Conv(16, 3, 2), mixed=concat(Conv(8), Conv(8, 3)) >> MaxPool(3, 2)),
    head=Head(),
    preprocess=Preprocess(resize=72, mean=(0.1, 0.2, 0.3)),
    norm=Norm(eps=0.01),
    size=64,
    num_classes=10,
)


def logits(net, x):
    return reference.predict(net, x)["logits"]


@pytest.fixture
def registry(monkeypatch):
    """Undo what a test registers."""
    monkeypatch.setattr("zoo.catalogue._registered", dict(MODELS))


def test_a_model_is_built_as_it_is():
    net = zoo.build(OWN, "reference", seed=3)
    assert net.spec == OWN
    x = batch(OWN, 64)
    assert error(logits(net, x), expected(OWN, weights.initial(OWN, 3), x)["logits"]) == 0


def test_a_variant_of_a_published_network_keeps_what_it_changes():
    model = configure(replace(MODELS["googlenet"], norm=Norm(eps=0.3)), width=0.25, aux=False)
    again = zoo.build(model, "reference", width=0.125, num_classes=5)
    assert again.spec.norm == Norm(eps=0.3)
    assert again.spec.width == 0.125
    assert again.spec.stages[0].node.channels == 8
    assert zoo.build(model, "reference").spec == model


def test_one_auxiliary_head_of_two_stays_one():
    model = configure(replace(MODELS["googlenet"], aux=MODELS["googlenet"].aux[1:]), width=0.25)
    assert zoo.build(model, "reference", aux=True).spec.aux == model.aux


def test_a_checkpoint_alone_names_its_network(tmp_path):
    arrays = calibrated(OWN)
    weights.write(tmp_path / "own.safetensors", arrays, OWN)
    x = batch(OWN, 64)
    wanted = expected(OWN, arrays, x)["logits"]
    path = tmp_path / "own.safetensors"
    for net in (
        zoo.build(checkpoint=path, backend="reference"),
        zoo.build(path, "reference"),
        zoo.build(str(path), backend="reference"),
        zoo.build(OWN, "reference", checkpoint=path),
    ):
        assert net.spec == OWN
        np.testing.assert_array_equal(logits(net, x), wanted)


def test_a_checkpoints_size_and_preprocessing_are_the_networks(tmp_path):
    model = configure(MODELS["inception_v3"], width=0.25, num_classes=4, aux=False)
    model = replace(model, size=107, preprocess=Preprocess(resize=120, mean=(0.2, 0.2, 0.2)))
    weights.write(tmp_path / "w.safetensors", weights.initial(model), model)
    for name in ("inception_v3", None):
        net = zoo.build(name, "reference", checkpoint=tmp_path / "w.safetensors")
        assert (net.spec.size, net.spec.preprocess, net.spec.num_classes) == (107, model.preprocess, 4)
    other = zoo.build("inception_v3", "reference", checkpoint=tmp_path / "w.safetensors", num_classes=9)
    assert (other.spec.size, other.spec.preprocess) == (107, model.preprocess)


def test_a_files_network_with_another_epsilon_becomes_the_named_one(tmp_path):
    """The published network of that name, with weights that give the file's logits."""
    model = configure(replace(MODELS["googlenet"], norm=Norm(eps=2e-3)), width=0.25, aux=False)
    arrays = calibrated(model)
    weights.write(tmp_path / "w.safetensors", arrays, model)
    x = batch(model, 96)
    named = zoo.build("googlenet", "reference", checkpoint=tmp_path / "w.safetensors")
    own = zoo.build(checkpoint=tmp_path / "w.safetensors", backend="reference")
    assert (named.spec.norm.eps, own.spec.norm.eps) == (1e-3, 2e-3)
    assert error(logits(named, x), logits(own, x)) < 1e-6


def test_the_moving_average_of_a_file(tmp_path):
    arrays, average = weights.initial(OWN, 1), weights.initial(OWN, 2)
    import torch

    state = {"state_dict": arrays, "state_dict_ema": average}
    tensors = {key: {name: torch.from_numpy(a) for name, a in held.items()} for key, held in state.items()}
    named = {k: {n.replace("bn.mean", "bn.running_mean").replace("bn.var", "bn.running_var"): t for n, t in v.items()}
             for k, v in tensors.items()}  # fmt: skip
    torch.save(named, tmp_path / "w.pth")
    net = zoo.build(OWN, "reference", checkpoint=tmp_path / "w.pth", ema=True)
    np.testing.assert_array_equal(net.weights["head.fc.weight"], average["head.fc.weight"].astype(np.float64))


def test_a_backbone_without_its_classifier(tmp_path, caplog):
    model = configure(MODELS["inception_v3"], width=0.25, aux=False)
    arrays = weights.initial(model, 4)
    native = weights.SOURCES["timm"].naming(model).write(arrays)
    weights.FORMATS["torch"].write(tmp_path / "w.pth", {k: a for k, a in native.items() if not k.startswith("fc.")}, {})
    with pytest.raises(zoo.WeightsError, match="give num_classes"):
        zoo.build("inception_v3", "reference", checkpoint=tmp_path / "w.pth")
    net = zoo.build("inception_v3", "reference", checkpoint=tmp_path / "w.pth", num_classes=5)
    assert net.spec.num_classes == 5
    assert "5 classes" in caplog.text
    np.testing.assert_array_equal(net.weights["conv2d_1a_3x3.conv.weight"], arrays["conv2d_1a_3x3.conv.weight"])
    features = zoo.build("inception_v3", "reference", checkpoint=tmp_path / "w.pth", out_indices=["mixed_7c"])
    assert features.spec.taps == ("mixed_7c",)


def test_a_registered_model_is_found_by_its_name(registry):
    assert zoo.register(OWN) is OWN
    zoo.register(OWN)  # again: the same
    assert zoo.list_models("ow*") == ["own"]
    assert zoo.info("own")["num_classes"] == 10
    assert zoo.build("own", "reference").spec == OWN


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (replace(OWN, name="googlenet"), "there is another model called 'googlenet': choose another name"),
        (replace(OWN, name="inception_v2"), "there is another model called 'inception_v2'"),
        ("own", "expected a zoo.language.Model, not str"),
    ],
)
def test_what_cannot_be_registered(registry, model, message):
    with pytest.raises(SpecError, match=message):
        zoo.register(model)


@pytest.mark.parametrize(
    ("choices", "kind", "message"),
    [
        ({}, SpecError, "zoo.build: give a model, or a checkpoint that says which model it holds"),
        ({"model": "own", "backend": "reference"}, SpecError, "unknown model 'own': `zoo list` shows all names"),
        ({"model": OWN, "backend": "reference", "train": True}, BackendError, "reference: runs in inference only"),
        ({"model": OWN, "backend": "reference", "aux": True}, SpecError, "own: it has no auxiliary heads"),
        ({"model": OWN, "backend": "reference", "pretrained": True}, Exception, "own: nobody has published weights"),
        ({"backend": "reference", "pretrained": True}, SpecError, "pretrained: expected a model"),
        (
            {"model": replace(OWN, stages=stages(forward=Conv(8))), "backend": "torch"},
            SpecError,
            "own: a stage cannot be called 'forward', which is an attribute of every torch network",
        ),
        ({"model": replace(OWN, head=None), "backend": "torch"}, SpecError, "own: without a head it needs taps"),
    ],
)
def test_what_cannot_be_built(choices, kind, message):
    with pytest.raises(kind, match=message):
        zoo.build(**choices)
