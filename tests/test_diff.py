"""What `zoo diff` finds between flavours: the differences measured between the publishers, and no others."""

import json
from dataclasses import replace

import pytest

import zoo
from weights.flavours import pair
from zoo.commands import main
from zoo.errors import SpecError, WeightsError
from zoo.language.diff import differences, same_network, show
from zoo.language.model import Norm, configure
from zoo.language.nodes import AvgPool, Conv, Relu, Residual, concat
from zoo.models import ALIASES, MODELS
from zoo.parity.pairs import compare

INFERENCE = {
    "eps",
    "count_include_pad",
    "kernel",
    "branch order",
    "padding",
    "dilation",
    "act",
    "operation",
    "operations",
}


def found(first, second):
    """How often each kind of difference that changes inference is found."""
    counts = {}
    for difference in differences(MODELS[first], MODELS[second]):
        if difference.what in INFERENCE:
            counts[difference.what] = counts.get(difference.what, 0) + 1
    return counts


@pytest.mark.parametrize(
    ("first", "second", "counts"),
    [
        ("inception_v3", "inception_v3.mindcv", {"count_include_pad": 9}),
        ("inception_v3", "inception_v3.paddleclas", {"eps": 1}),
        ("inception_v3.mindcv", "inception_v3.keras", {}),
        ("xception", "xception.mindcv", {"padding": 4}),
        ("xception", "xception.keras", {"padding": 4, "eps": 1}),
        ("xception41", "xception41.paddleclas_deeplab", {"dilation": 3}),
        ("inception_v4", "inception_v4.slim", {}),
        ("inception_v4", "inception_v4.paddleclas", {"eps": 1, "kernel": 36, "branch order": 16}),
        ("googlenet", "googlenet.slim", {"padding": 5}),
        ("googlenet", "googlenet.paddleclas", {"eps": 1, "act": 60, "padding": 4, "kernel": 10, "operation": 13}),
        ("xception41", "xception41p", {"eps": 1, "act": 7, "operation": 76}),
    ],
)
def test_the_published_flavours(first, second, counts):
    assert found(first, second) == counts
    assert same_network(MODELS[first], MODELS[second]) == (not counts)


def test_nothing_differs_from_itself():
    for model in MODELS.values():
        assert differences(model, model) == []
        assert same_network(model, model)


def test_training_settings_do_not_make_another_network():
    model = MODELS["googlenet"]
    other = configure(model, drop_rate=0.9, aux=False)
    assert same_network(model, other)
    assert {d.what for d in differences(model, other)} == {"dropout", "part"}
    assert not same_network(model, replace(model, norm=Norm(eps=1e-5)))


def test_logits_of_the_same_weights_differ():
    assert not same_network(MODELS["googlenet"], configure(MODELS["googlenet"], num_classes=10))
    document = compare("googlenet", "googlenet.slim")
    assert document["weights_fit"]
    assert not document["same_network"]
    assert 1e-3 < document["max_rel_difference"] < 1
    assert compare("inception_v4", "inception_v4.paddleclas")["max_rel_difference"] is None


def test_on_the_command_line(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["diff", "xception", "xception.mindcv", "--no-run"]) == 0
    out = capsys.readouterr().out
    assert "4 places: block1.body.5, block2.body.6, block3.body.6, ..." in out
    assert "different networks" in out
    assert main(["diff", "inception_v3.keras", "inception_v3.mindcv", "--no-run", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["same_network"]
    assert main(["diff", "inception_v3", "inception_v9"]) == 2


@pytest.mark.parametrize(
    ("first", "second", "exact"),
    [
        ("inception_v4", "inception_v4.mindcv", [True, True]),
        ("inception_v4", "inception_v4.slim", [True, True]),
        ("inception_v4", "inception_v4.paddleclas", [False, False]),
        ("xception", "xception.mindcv", [False, False]),
    ],
)
def test_exact_conversions(first, second, exact, capsys):
    document = compare(first, second, run=False)
    assert [row["exact"] for row in document["conversions"]] == exact
    assert all(row["exact"] == (row["why"] == "") for row in document["conversions"])
    assert main(["diff", first, second, "--no-run"]) == 0
    out = capsys.readouterr().out
    assert (f"exactly from {first} to {second}" in out, "No conversion" in out) == (exact[0], not exact[0])


def test_nodes_are_shown_as_they_are_written():
    assert show(Conv(64, (1, 7), stride=2) >> Relu()) == "Conv(64, kernel=(1, 7), stride=2) >> Relu()"
    node = Residual(concat(AvgPool(), Conv(8)), Conv(8, norm=False), scale=0.5)
    assert show(node) == "Residual(concat(AvgPool(), Conv(8)), shortcut=Conv(8, norm=False), scale=0.5)"


def test_aliases_are_the_publishers_names():
    assert zoo.spec("inception_v2") is MODELS["bninception"]
    assert zoo.spec("inception_v3.torchvision") is MODELS["inception_v3"]
    assert zoo.spec("inception_v4.timm") is MODELS["inception_v4"]
    assert zoo.spec("legacy_xception") is MODELS["xception"]
    assert "inception_v4.mindcv" in MODELS, "the same network, but with a decay and preprocessing of its own"
    assert zoo.list_models("inception_v2") == ["bninception"]
    assert zoo.list_models("inception*.timm") == ["inception_resnet_v2", "inception_v4"]
    assert not ALIASES.keys() & MODELS.keys()
    assert zoo.info("inception_v2")["model"] == "bninception"
    with pytest.raises(SpecError, match="did you mean"):
        zoo.spec("inception_v4.tim")


def test_nothing_is_cut_from_the_table(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for names in (("bninception", "inception_v4"), ("inception_resnet_v1", "inception_resnet_v2")):
        assert main(["diff", *names, "--no-run"]) == 0
        assert "\u2026" not in capsys.readouterr().out
    assert main(["diff", "inception_v2", "bninception", "--no-run"]) == 0
    assert "inception_v2 is bninception." in capsys.readouterr().out


def test_networks_of_other_widths_are_refused_at_once():
    """A past fault: each block multiplied the length of the order of channels."""
    with pytest.raises(WeightsError, match="cannot become inception_v4"):
        pair(configure(MODELS["inception_v4"], width=0.25), MODELS["inception_v4"])
