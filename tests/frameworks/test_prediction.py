"""Prediction and Grad-CAM in a framework."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from support import SMALL, SUFFIX, calibrated, narrow

import weights
import zoo
from backends import load
from backends.reference import network as reference
from zoo.commands import main
from zoo.data.images import sample_photographs
from zoo.language.model import configure
from zoo.language.trace import parameters
from zoo.prediction import grad_cam

NAMES = [f"thing {k}" for k in range(10)]


@pytest.mark.parametrize("mode", ["module", "deploy"])
def test_the_photographs_as_the_reference_classifies_them(framework, tmp_path, mode):
    model = narrow("inception_v3")
    weights.write(tmp_path / "net.safetensors", calibrated(model), model)
    expected = zoo.predict(tmp_path / "net.safetensors", sample_photographs(), backend="reference", mode="module")
    found = zoo.predict(tmp_path / "net.safetensors", sample_photographs(), backend=framework, mode=mode)
    for ours, theirs in zip(found, expected, strict=True):
        assert [top["class"] for top in ours["top"]] == [top["class"] for top in theirs["top"]]
        np.testing.assert_allclose(ours["pred_scores"], theirs["pred_scores"], rtol=0, atol=1e-5)


def test_names_of_classes_go_along_through_this_frameworks_files(framework, tmp_path):
    """From a canonical file to the framework's own, and back."""
    model = configure(zoo.spec(SMALL), num_classes=10, aux=False)
    notes = {"class_names": json.dumps(NAMES)}
    weights.write(tmp_path / "a.safetensors", weights.initial(model), model, notes=notes)
    own = tmp_path / f"b{SUFFIX[framework]}"
    assert main(["convert", str(tmp_path / "a.safetensors"), str(own)]) == 0
    assert main(["convert", str(own), str(tmp_path / "c.safetensors")]) == 0
    image = sample_photographs()[0]
    for file in (own, tmp_path / "c.safetensors"):
        assert zoo.predict(file, image, backend=framework)["pred_class"] in NAMES


def test_gradients_are_those_of_finite_differences(framework):
    """At the first stage, along a random direction; the reference runs the rest of the network in float64."""
    model = configure(zoo.spec(SMALL), aux=False)
    arrays = weights.calibrated(model)
    net = zoo.build(model, framework)
    load(framework, "network").load(net, arrays)
    random = np.random.default_rng(0)
    x = random.normal(size=(2, model.in_channels, model.size, model.size)).astype(np.float32)
    first = model.stages[0].name
    activation, gradient = load(framework, "explain").class_gradient(net, x, first, 3)
    rest = replace(model, stages=model.stages[1:], in_channels=activation.shape[1])
    after = reference_of(rest, {name: arrays[name] for name in parameters(rest)})
    direction = random.normal(size=activation.shape)

    def logit(step):
        return reference.predict(after, activation + step * direction)["logits"][:, 3].sum()

    slope = (logit(1e-6) - logit(-1e-6)) / 2e-6
    assert (gradient * direction).sum() == pytest.approx(slope, rel=1e-4)


def test_the_map_is_the_same_in_every_framework(framework, tmp_path):
    """Against values from the closed form: for the last stage, the weights are the classifier's."""
    model = configure(narrow("inception_v3"), aux=False)
    arrays = weights.restrict(calibrated(narrow("inception_v3")), model, narrow("inception_v3"))
    net = zoo.build(model, framework)
    load(framework, "network").load(net, arrays)
    image = sample_photographs()[1]
    ours = grad_cam(net, image, label=7)
    x = zoo.preprocess(model, image)[None]
    last = reference.predict(reference_of(model, arrays), x, tape=True)[model.stages[-1].name][0]
    expected = (arrays["head.fc.weight"][7][:, None, None] * last).sum(0).clip(0)
    np.testing.assert_allclose(ours, expected / expected.max(), rtol=0, atol=2e-5)


def reference_of(model, arrays):
    net = reference.build(model)
    reference.load(net, arrays)
    return net


def test_the_command_draws(framework, tmp_path, capsys):
    image = tmp_path / "flower.png"
    sample_photographs()[1].save(image)
    picture = tmp_path / "cam.png"
    words = ["predict", str(SMALL), str(image), "--random-weights", "1", "--backend", framework, "--cam", str(picture)]
    assert main([*words, "--cam-class", "3"]) == 0
    with Image.open(picture) as drawn:
        assert drawn.size == (zoo.spec(SMALL).size,) * 2
    assert "the predictions mean nothing" in capsys.readouterr().out
    assert main([*words, "--cam-stage", "nowhere"]) == 2
    assert "no stage 'nowhere'" in capsys.readouterr().err
    assert main([*words, "--cam-class", "1000"]) == 2
