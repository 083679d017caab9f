"""The walk: names, shapes, and its errors, on small specs."""

import pytest

from zoo.errors import SpecError
from zoo.language.geometry import border, levels, reductions
from zoo.language.model import Aux, Model, Norm, Preprocess, configure, stages
from zoo.language.nodes import AvgPool, Conv, Head, MaxPool, concat
from zoo.language.trace import Shape, least_size, parameters, trace
from zoo.models import MODELS


def small(**changes):
    arguments = {
        "name": "small",
        "stages": stages(
            stem=Conv(8, 3, 2, "valid"),
            block=concat(Conv(8), Conv(16) >> concat(Conv(8, (1, 3)), Conv(8, (3, 1))), AvgPool() >> Conv(8)),
        ),
        "head": Head(),
        "preprocess": Preprocess(resize=40),
        "size": 33,
        "num_classes": 10,
    }
    return Model(**(arguments | changes))


def test_names_come_from_structure():
    names = [name for name in parameters(small()) if name.endswith("weight") and ".bn." not in name]
    assert names == [
        "stem.conv.weight",
        "block.branch0.conv.weight",
        "block.branch1.0.conv.weight",
        "block.branch1.1.branch0.conv.weight",
        "block.branch1.1.branch1.conv.weight",
        "block.branch2.1.conv.weight",
        "head.fc.weight",
    ]


def test_shapes_parameters_and_macs_of_a_network_counted_by_hand():
    traced = trace(small())
    assert traced.stages == {"stem": Shape(8, 16, 16), "block": Shape(32, 16, 16)}
    schema = traced.parameters
    assert schema["block.branch1.1.branch0.conv.weight"].shape == (8, 16, 1, 3)
    assert schema["head.fc.weight"].shape == (10, 32)
    convolutions = 8 * 3 * 9 + 8 * 8 + 16 * 8 + 2 * 8 * 16 * 3 + 8 * 8
    assert traced.macs == convolutions * 16 * 16 + 32 * 10
    assert traced.trainable == convolutions + 2 * (8 + 8 + 16 + 8 + 8 + 8) + 32 * 10 + 10
    assert traced.buffers == 2 * (8 + 8 + 16 + 8 + 8 + 8)


def test_without_norm_there_are_no_statistics():
    assert not [name for name in parameters(small(norm=None)) if ".bn." in name]


@pytest.mark.parametrize(
    ("padding", "n", "kernel", "stride", "outputs", "before"),
    [
        ("half", 224, 7, 2, 112, 3),
        ("valid", 299, 3, 2, 149, 0),
        ("same", 224, 7, 2, 112, 2),
        ("same", 57, 3, 2, 29, 1),
        ("same", 56, 3, 1, 56, 1),
        ("same", 14, 2, 2, 7, 0),
        ("ceil", 112, 3, 2, 56, 0),
        ("ceil", 57, 3, 2, 28, 0),
        ("ceil", 7, 2, 2, 4, 0),
    ],
)
def test_borders(padding, n, kernel, stride, outputs, before):
    pads = border(padding, n, kernel, stride)
    assert pads[0] == before
    assert (n + sum(pads) - kernel) // stride + 1 == outputs


def test_branches_that_do_not_fit_are_named():
    model = small(stages=stages(odd=concat(Conv(8), MaxPool(3, 2, "valid"))))
    with pytest.raises(SpecError, match="odd: branches differ in height x width: branch0 33x33, branch1 16x16"):
        trace(model)


def test_an_input_that_is_too_small_names_the_operation():
    with pytest.raises(SpecError, match=r"stem: input 3 x 2 x 2 is smaller than the kernel of Conv"):
        trace(small(), 2)


def test_least_size_is_the_last_that_passes():
    for name, least in [("googlenet", 15), ("inception_v3", 75), ("inception_v4", 75)]:
        model = configure(MODELS[name], aux=False)
        assert least_size(model) == least
        trace(model, least)
        with pytest.raises(SpecError):
            trace(model, least - 1)


def test_auxiliary_heads_ask_for_more_in_training_only():
    model = MODELS["inception_v3"]
    assert least_size(configure(model, aux=False)) == 75
    assert least_size(model) == 299


def test_a_flattening_head_is_for_the_native_size():
    with pytest.raises(SpecError, match=r"aux1.2.hidden.weight: 3200 features .* 2048 at the native 224"):
        trace(MODELS["googlenet.mindcv"], 288)


def test_levels_end_at_each_reduction():
    assert levels(MODELS["inception_v3"]) == ["conv2d_2b_3x3", "conv2d_4a_3x3", "mixed_5d", "mixed_6e", "mixed_7c"]
    assert list(reductions(MODELS["inception_v4"]).values())[-1] == 32


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages": stages(head=Conv(8))}, "two parts share a name: head, head"),
        ({"aux": (Aux("aux", "nowhere", Head()),)}, "no stage 'nowhere'; it has stem, block"),
        ({"taps": ("nowhere",)}, "no stage 'nowhere'; it has stem, block"),
    ],
)
def test_models_that_cannot_be(changes, message):
    with pytest.raises(SpecError, match=message):
        small(**changes)


def test_norm_is_part_of_the_value():
    assert small() != small(norm=Norm(eps=1e-5))
