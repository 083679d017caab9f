"""From each source and flavour to each other, or the reason why not."""

import json
from dataclasses import replace

import numpy as np
import pytest
from support import SUFFIX, batch, calibrated, error, logits, narrow, save

import weights
from weights import SOURCES
from weights.flavours import transfer
from zoo.commands import main
from zoo.errors import WeightsError
from zoo.language.diff import same_network
from zoo.language.model import Norm, Preprocess, configure
from zoo.language.nodes import AvgPool, Conv, Depthwise, Head, MaxPool, NormRelu, Relu, Residual, concat
from zoo.language.trace import least_size
from zoo.models import MODELS
from zoo.models.inception_v4 import join

PAIRS = [
    (first, second, model)
    for first in SOURCES
    for second in SOURCES
    for model in SOURCES[first].models
    if first != second and any(name.partition(".")[0] == model.partition(".")[0] for name in SOURCES[second].models)
]


def convertible(name, other):
    """What the published comparisons say, apart from the code under test: the pairs that differ in epsilon alone."""
    return same_network(MODELS[name], MODELS[other]) or {name, other} in (
        {"inception_v3", "inception_v3.paddleclas"},
        {"xception.mindcv", "xception.keras"},
    )


def targets(second, name):
    """The second source's networks of the same architecture that the weights can become."""
    return [
        other
        for other in SOURCES[second].models
        if other.partition(".")[0] == name.partition(".")[0] and convertible(name, other)
    ]


DAILY = {(first, second, bool(targets(second, name))): (first, second, name) for first, second, name in PAIRS}.values()
"""For each pair of sources, one network that can become the second's and one that cannot; the others run nightly."""


@pytest.mark.parametrize(
    ("first", "second", "name"),
    [pair if pair in DAILY else pytest.param(*pair, marks=pytest.mark.nightly) for pair in PAIRS],
)
def test_from_each_source_to_each_other(tmp_path, first, second, name):
    """The same bits where only names change, the same logits where arithmetic is needed, or a reason."""
    model = narrow(name)
    start = save(tmp_path, first, model, name="first")
    possible = targets(second, name)
    out = tmp_path / f"second{SUFFIX[SOURCES[second].framework]}"
    if not possible:
        with pytest.raises(WeightsError, match=f"{second} has no network with the outputs of {name}: {name} cannot"):
            weights.convert(start, out, to=second)
        assert not out.exists()
        return
    weights.convert(start, out, to=second)
    moved, about = weights.read(out)
    assert about["model"] in possible
    other = configure(MODELS[about["model"]], width=0.25, aux=bool(about["aux"]))
    x = batch(model, max(least_size(replace(m, aux=())) for m in (model, other)))
    assert error(logits(other, moved, x), logits(model, calibrated(model), x)) < 1e-6
    if exact(first, name) and exact(second, about["model"]) and MODELS[name].norm.eps == other.norm.eps:
        weights.convert(out, tmp_path / f"back{start.suffix}", model=name, to=first)
        home, _ = weights.read(tmp_path / f"back{start.suffix}", model=name)
        assert home
        assert all(home[key].tobytes() == calibrated(model)[key].tobytes() for key in home)


def exact(source, name):
    table = SOURCES[source].models[name]
    return not table.scale and not table.without


def shuffled(name, *, figures):
    """A network of every kind of node, whose concatenation begins or ends with the pool branch."""
    block = join(AvgPool() >> Conv(24), Conv(8), Conv(16) >> concat(Conv(8, (1, 3)), Conv(16, (3, 1))), figures=figures)
    stages = MODELS["inception_v4"].stages[:3]
    nodes = [
        block,
        MaxPool(3, 2) >> Depthwise(3) >> block,
        NormRelu() >> Residual(Relu() >> Conv(24, 3, 2), Conv(24, 1, 2)),
        block,
    ]
    made = tuple(replace(stages[0], name=f"stage{i}", node=node) for i, node in enumerate(nodes))
    return replace(MODELS["inception_v4"], name=name, stages=(*stages, *made), head=Head(hidden=12), num_classes=5)


def test_branches_in_another_order():
    first, second = shuffled("first", figures=False), shuffled("second", figures=True)
    arrays = weights.calibrated(first)
    moved, done = transfer(arrays, first, second)
    weights.check(moved, second)
    assert done == ["channels permuted in 15 tensors: branches in another order"]
    x = batch(first, 75)
    assert error(logits(second, moved, x), logits(first, arrays, x)) < 1e-12
    home, _ = transfer(moved, second, first)
    assert all(np.array_equal(home[key], array) for key, array in arrays.items())


def test_an_identity_shortcut_whose_channels_are_in_another_order():
    def model(figures):
        block = join(AvgPool() >> Conv(8), Conv(16), figures=figures)
        made = (replace(MODELS["inception_v4"].stages[0], name="block", node=block >> Residual(Conv(24))),)
        return replace(MODELS["inception_v4"], name=str(figures), stages=made)

    with pytest.raises(
        WeightsError, match=r"block\.1: the body and the shortcut have their channels in different orders"
    ):
        transfer(weights.initial(model(True)), model(True), model(False))


@pytest.mark.parametrize(("old", "new"), [(1e-3, 1e-5), (1e-5, 1e-3)])
def test_an_epsilon_moves_even_where_the_variance_is_smaller(old, new):
    first = replace(narrow("inception_v3"), aux=(), norm=Norm(eps=old))
    second = replace(first, name="other", norm=Norm(eps=new))
    arrays = dict(calibrated(replace(narrow("inception_v3"), aux=())))
    name = "conv2d_2a_3x3.bn.var"
    arrays[name] = np.where(np.arange(8) % 2, arrays[name], 1e-7).astype(np.float32)
    moved, done = transfer(arrays, first, second)
    assert done == [f"epsilon {old:g} moved into the variances, for {new:g}"]
    assert all((moved[key] >= 0).all() for key in moved if key.endswith(".var"))
    x = batch(first, 99)
    assert error(logits(second, moved, x), logits(first, arrays, x)) < 1e-6


def test_gammas_go_into_convolutions(tmp_path):
    """Keras's Inception-v3 has no gammas. Those folded here have either sign, or are 0."""
    model = replace(narrow("inception_v3.mindcv"), aux=())
    arrays = dict(calibrated(model))
    arrays["mixed_5b.branch0.bn.weight"] = np.linspace(-1, 1, 16).astype(np.float32)
    arrays["mixed_5b.branch1.0.bn.weight"] = np.zeros_like(arrays["mixed_5b.branch1.0.bn.weight"])
    path = save(tmp_path, "keras", model, arrays)
    moved, about = weights.read(path)
    assert about["model"] == "inception_v3.keras"
    assert all((moved[key] == 1).all() for key in moved if key.endswith("bn.weight"))
    x = batch(model, 99)
    assert error(logits(model, moved, x), logits(model, arrays, x)) < 1e-6


REFUSED = [
    ("inception_v3", "inception_v3.mindcv", r"mixed_5b\.branch3\.0 and 8 more: AvgPool\(count_include_pad=True"),
    ("inception_v4", "inception_v4.paddleclas", r"mixed_4a\.branch1\.1: Conv\(16, kernel=\(1, 7\)\) here, Conv\(16"),
    ("xception41", "xception41.paddleclas_deeplab", r"block13\.0 and 2 more: .*dilation=2"),
    ("xception", "xception.mindcv", r"MaxPool\(stride=2\) here, MaxPool\(stride=2, padding=same\) there"),
    ("googlenet", "googlenet.slim", r"conv2d_1a_7x7: Conv\(16, kernel=7, stride=2\) here, .*padding=same\) there"),
    ("googlenet", "googlenet.mindcv", r"one has batch norm, and the other none"),
    ("googlenet.mindcv", "googlenet.paddleclas", r"Conv\(16, kernel=7, stride=2, padding=same\) here"),
    ("xception41", "xception41p", r"here, .* there"),
    ("xception65", "xception71", r"they have 23 and 25 stages"),
    ("inception_v3", "inception_v4", r"they have 18 and 22 stages"),
]  # fmt: skip


@pytest.mark.parametrize(("first", "second", "reason"), REFUSED)
def test_networks_that_no_weights_make_equal(tmp_path, first, second, reason):
    path = save(tmp_path, "zoo", narrow(first), weights.initial(narrow(first)))
    with pytest.raises(
        WeightsError, match=f"{first} cannot become {second}, whatever the weights: .*{reason}"
    ) as caught:
        weights.read(path, model=second)
    assert str(caught.value).endswith(f"Every framework can run {first} itself: zoo.build('{first}', ...)")


@pytest.mark.parametrize(
    ("name", "other"), [("inception_v3.mindcv", "inception_v3.keras"), ("inception_v4", "inception_v4.slim")]
)
def test_preprocessing_is_kept_when_the_model_is_renamed(tmp_path, name, other):
    own = Preprocess(resize=333, mean=(0.1, 0.2, 0.3))
    model = replace(narrow(name), aux=(), preprocess=own, size=224)
    weights.write(tmp_path / "w.safetensors", weights.restrict(calibrated(narrow(name)), model, narrow(name)), model)
    opened = weights.open_checkpoint(tmp_path / "w.safetensors", model=other)
    assert (opened.model.name, opened.model.preprocess) == (other, own)
    assert weights.open_checkpoint(tmp_path / "w.safetensors").model.size == 224


def test_a_background_class(tmp_path):
    model = configure(MODELS["inception_v4"], num_classes=1001, width=0.25)
    arrays = weights.initial(model)
    path = save(tmp_path, "cadene", model, arrays)
    assert weights.open_checkpoint(path).document()["num_classes"] == 1001
    report = weights.convert(path, tmp_path / "out.pth", to="timm", num_classes=1000)
    assert report["operations"] == ["the first of 1001 classes, background, left out"]
    moved, about = weights.read(tmp_path / "out.pth")
    assert about["num_classes"] == 1000
    np.testing.assert_array_equal(moved["head.fc.weight"], arrays["head.fc.weight"][1:])
    np.testing.assert_array_equal(moved["head.fc.bias"], arrays["head.fc.bias"][1:])


def test_preprocessing_goes_with_the_weights(tmp_path):
    """Keras's Xception, as mindcv's network, is still fed as Keras feeds it."""
    path = save(tmp_path, "keras", narrow("xception.keras"))
    assert MODELS["xception.mindcv"].preprocess != MODELS["xception.keras"].preprocess
    _, about = weights.read(path, model="xception.mindcv")
    assert (about["model"], about["converted_from"]) == ("xception.mindcv", "xception.keras")
    assert about["operations"] == ["epsilon 0.001 moved into the variances, for 1e-05"]
    weights.convert(path, tmp_path / "x.safetensors", model="xception.mindcv")
    opened = weights.open_checkpoint(tmp_path / "x.safetensors")
    assert opened.model.name == "xception.mindcv"
    assert opened.model.preprocess == MODELS["xception.keras"].preprocess


@pytest.mark.parametrize(
    ("out", "choices", "message"),
    [
        (
            "o.onnx",
            {},
            r"o.onnx: its suffix is not that of a format that can be written: expected one of (?!.*\.keras)",
        ),
        ("o.keras", {}, "only Keras can write: write a .weights.h5"),
        ("o.weights.h5", {}, "unknown source 'keras'|keras has no network with the outputs of googlenet: it publishes"),
        ("o.pth", {"to": "mindcv"}, r"mindcv keeps weights in .ckpt, .safetensors files"),
        ("o.pth", {"to": "onnx"}, "unknown source 'onnx': expected one of cadene, keras"),
        ("o.pth", {"source": "onnx"}, "unknown source 'onnx': expected one of cadene, keras"),
        ("o.pth", {"source": "mindcv"}, "do not have the names of a network of mindcv"),
        ("o.pth", {"format": "zip"}, "unknown format 'zip': expected one of safetensors"),
        ("o.ckpt", {"to": "mindcv"}, "mindcv has no network with the outputs of googlenet: googlenet cannot become"),
        ("o.pth", {"to": "timm"}, "timm has no network with the outputs of googlenet: it publishes inception_v3,"),
        ("none/o.pth", {}, "cannot write the weights: No such file or directory"),
    ],
)
def test_conversions_that_cannot_be(tmp_path, out, choices, message):
    path = save(tmp_path, "torchvision", narrow("googlenet"))
    with pytest.raises(WeightsError, match=message):
        weights.convert(path, tmp_path / out, **choices)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_file_is_not_converted_onto_itself(tmp_path):
    """The publisher could not open it any more, and the original would be lost."""
    path = save(tmp_path, "timm", narrow("inception_v4"))
    before = path.read_bytes()
    with pytest.raises(WeightsError, match=r"file\.pth: is the file that is converted: choose another name"):
        weights.convert(path, path, to="zhulf")
    assert path.read_bytes() == before


def test_write_takes_a_name(tmp_path):
    arrays = calibrated(narrow("inception_v4"))
    weights.write(tmp_path / "w.pth", arrays, "inception_v4", to="timm")
    assert weights.open_checkpoint(tmp_path / "w.pth").model == narrow("inception_v4")


@pytest.mark.parametrize("to", [None, "zhulf"])
def test_the_commands(tmp_path, capsys, to):
    path = save(tmp_path, "timm", narrow("inception_v4"))
    out = tmp_path / ("o.pth" if to else "o.safetensors")
    assert main(["convert", str(path), str(out), *(["--to", to] if to else [])]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"{path}: inception_v4, torch, of cadene or timm"
    assert said[-1] == f"{out}: written as {to or 'canonical weights'}"
    assert main(["inspect", str(out), "--json", "-"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert (about["model"], about["width"]) == ("inception_v4", 0.25)
    assert about["metadata"].get("source") == (None if to else "cadene or timm")
    assert main(["inspect", str(out)]) == 0
    shown = dict(line.strip().split("  ", 1) for line in capsys.readouterr().out.splitlines()[1:])
    assert shown["model"].strip() == "inception_v4"
    assert shown["preprocessing"].strip().startswith("not in the file; assumed, as timm's: shorter side resized to 341")


def test_the_command_asks_which_flavour(tmp_path, capsys):
    path = save(tmp_path, "paddle", narrow("xception.keras"))
    assert main(["inspect", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "cannot be told from the names alone: give --model" in shown
    assert "xception.mindcv                 unlike xception: padding same, not half" in shown
    assert main(["convert", str(path), str(tmp_path / "o.pth")]) == 2
    assert "Say which it is: --model" in capsys.readouterr().err
    assert main(["convert", str(path), str(tmp_path / "o.pth"), "--model", "xception.keras"]) == 0
