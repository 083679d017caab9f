"""The published networks: their figures, from the spec alone, and their variants."""

import pytest

import zoo
from zoo.builder import resolve_taps
from zoo.errors import SpecError
from zoo.model import configure, options
from zoo.models import MODELS
from zoo.trace import parameters, trace

FIGURES = [
    # name, parameters, with auxiliary heads, MACs: facts measured on the publishers' classes
    ("googlenet", 6_624_904, 13_004_888, 1_498_376_192),
    ("googlenet.mindcv", 6_991_272, 13_370_744, 1_582_671_872),
    ("inception_v3", 23_834_568, 27_161_264, 5_713_216_096),
    ("inception_v3.mindcv", 23_834_568, 27_161_264, 5_713_216_096),
    ("inception_v4", 42_679_816, 42_679_816, 12_253_974_624),
]


@pytest.mark.parametrize(("name", "count", "with_aux", "macs"), FIGURES)
def test_figures(name, count, with_aux, macs):
    figures = zoo.info(name)
    assert figures["parameters"] == count
    assert figures["parameters_with_aux"] == with_aux
    assert figures["macs"] == macs
    assert sum(stage["macs"] for stage in figures["stages"]) < macs


def test_the_table_is_complete():
    assert [row[0] for row in FIGURES] == zoo.list_models() == sorted(MODELS)


def test_info_at_another_size():
    assert zoo.info("inception_v4", 331)["stages"][-1]["height"] == 9
    with pytest.raises(SpecError, match="size must be at least 75 pixels, not 74"):
        zoo.info("inception_v4", 74)


def test_list_models_takes_a_pattern():
    assert zoo.list_models("inception_v3*") == ["inception_v3", "inception_v3.mindcv"]


def test_an_unknown_model_gets_near_names():
    with pytest.raises(SpecError, match="unknown model 'inceptionv4': did you mean inception_v4"):
        zoo.spec("inceptionv4")


def test_width_rounds_every_channel_to_a_multiple_of_8():
    narrow = trace(configure(MODELS["googlenet"], width=0.3))
    assert all(op.outputs.channels % 8 == 0 for op in narrow.ops if op.path.split(".")[-1] not in ("head", "2"))
    assert narrow.stages["mixed_3b"].channels == 16 + 40 + 8 + 8
    assert configure(MODELS["googlenet"], width=1.0) == MODELS["googlenet"]


def test_classes_reach_every_classifier():
    schema = parameters(configure(MODELS["googlenet"], num_classes=7, in_channels=1))
    assert [schema[f"{head}.fc.weight"].shape[0] for head in ("head", "aux1.2", "aux2.2")] == [7, 7, 7]
    assert schema["conv2d_1a_7x7.conv.weight"].shape == (64, 1, 7, 7)


def test_taps_cut_the_network_after_the_last():
    model = configure(MODELS["inception_v3"], taps=("mixed_6e", "mixed_5d", "mixed_5d"))
    assert model.taps == ("mixed_5d", "mixed_6e")
    assert model.stages[-1].name == "mixed_6e"
    assert model.head is None
    assert model.aux == ()


def test_out_indices():
    model = MODELS["inception_v3"]
    assert resolve_taps(model, None) == ("conv2d_2b_3x3", "conv2d_4a_3x3", "mixed_5d", "mixed_6e", "mixed_7c")
    assert resolve_taps(model, (0, -1, "mixed_6a")) == ("conv2d_2b_3x3", "mixed_7c", "mixed_6a")


@pytest.mark.parametrize("index", [5, -6, "mixed_9z", 1.0])
def test_out_indices_out_of_range(index):
    with pytest.raises(SpecError, match=rf"out_indices has {index!r}: expected -5 to 4 .* mixed_7c"):
        resolve_taps(MODELS["inception_v3"], (index,))


def test_out_indices_empty():
    with pytest.raises(SpecError, match="out_indices is empty"):
        resolve_taps(MODELS["inception_v3"], ())


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"num_classes": 0}, "num_classes must be an integer of at least 1, not 0"),
        ({"num_classes": 2.5}, "num_classes must be an integer of at least 1, not 2.5"),
        ({"in_channels": -1}, "in_channels must be an integer of at least 1, not -1"),
        ({"width": 0}, "width must be above 0"),
        ({"width": float("nan")}, "width must be above 0"),
        ({"drop_rate": 1.5}, "drop_rate must be at least 0 and below 1, not 1.5"),
    ],
)
def test_options_out_of_range(choices, message):
    with pytest.raises(SpecError, match=message):
        configure(MODELS["googlenet"], **choices)


@pytest.mark.parametrize(
    "choices",
    [
        {"num_classes": 10, "in_channels": 1, "width": 0.25, "drop_rate": 0.5},
        {"aux": False},
        {"taps": ("mixed_4b",)},
    ],
)
def test_options_make_the_variant_again(choices):
    model = configure(MODELS["googlenet"], **choices)
    again = options(model)
    assert configure(MODELS[again.pop("name")], **again) == model
