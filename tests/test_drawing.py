"""Networks drawn in HTML: `zoo.drawing`."""

from collections import Counter
from xml.etree import ElementTree

import pytest
from support import SMALL

import zoo
from zoo.drawing import Mark, draw, label
from zoo.language.model import configure
from zoo.language.nodes import AdaptiveAvgPool, AvgPool, Conv, Depthwise, MaxPool, NormRelu, Relu
from zoo.language.trace import trace

NETWORKS = ("googlenet", "inception_v4", "inception_resnet_v2", "xception41p", SMALL)


def drawing(model, marks=None, size=None):
    """The parsed HTML: it is well-formed XML, too."""
    return ElementTree.fromstring(draw(model, marks or {}, size))


def boxes(root):
    """(path, box) of every operation, in order."""
    return [(box.find("div/p/code").text, box) for box in root.iter("details")]


def words(box):
    return " ".join("".join(box.find("summary").itertext()).split())


def stage(root, name):
    """The column of a stage."""
    return next(section for section in root.iter("section") if section.find("h4").text.strip() == name).find("div")


@pytest.mark.parametrize("name", NETWORKS, ids=str)
def test_every_operation_is_drawn_once(name):
    model = zoo.spec(name)
    drawn = Counter(path for path, _ in boxes(drawing(model)))
    assert max(drawn.values()) == 1
    assert {op.path for op in trace(model).ops} <= set(drawn)


@pytest.mark.parametrize(
    ("leaf", "text"),
    [
        (Conv(64), "1x1, 64"),
        (Conv(96, 3, 2, "valid"), "3x3/2 V, 96"),
        (Conv(64, (1, 7), act=False), "1x7, 64 linear"),
        (Conv(8, 3, dilation=2), "3x3 dilation 2, 8"),
        (Depthwise(3, 2, "same"), "depthwise 3x3/2 same"),
        (MaxPool(3, 2, "ceil"), "max pool 3x3/2 ceil"),
        (AvgPool(), "avg pool 3x3"),
        (AdaptiveAvgPool(4), "avg pool to 4x4"),
        (NormRelu(), "norm, ReLU"),
        (Relu(), "ReLU"),
    ],
)
def test_labels_are_short(leaf, text):
    assert label(leaf) == text


def test_branches_are_columns_that_end_in_a_concatenation():
    split, end = stage(drawing(zoo.spec("inception_v4")), "mixed_5b")
    columns = [[words(box) for _, box in boxes(column)] for column in split]
    assert columns == [
        ["1x1, 96"],
        ["1x1, 64", "3x3, 96"],
        ["1x1, 64", "3x3, 96", "3x3, 96"],
        ["avg pool 3x3", "1x1, 96"],
    ]
    assert words(end) == "concat"
    assert "mixed_5b output 384 x 35 x 35" in "".join(end.itertext())


def test_a_shortcut_is_beside_its_block():
    block = list(stage(drawing(zoo.spec("inception_resnet_v2")), "block8"))
    assert len(block) == 20
    (shortcut, body), end, (_, last), last_end = *block[:2], *block[-2:]
    assert len(shortcut) == 0
    assert [column.text for column in body.findall("div")[-1:]] == ["times 0.2"]
    assert [words(box) for _, box in boxes(body)][-2:] == ["concat", "1x1, 2080 linear"]
    assert (words(end), words(last_end)) == ("+, ReLU", "+")
    assert [column.get("class") for column in last] == ["split", "op neutral", "op neutral"]
    shortcut, _ = next(iter(stage(drawing(zoo.spec("xception41")), "block1")))
    assert [words(box) for _, box in boxes(shortcut)] == ["1x1/2, 128 linear"]


def test_marks_are_those_of_the_caller():
    marks = {"mixed.branch1.1": Mark("far", "out <", "<ul><li>1e-2</li></ul>"), "head.fc": Mark("near", "", "")}
    found = dict(boxes(drawing(zoo.spec(SMALL), marks)))
    box = found.pop("mixed.branch1.1")
    assert (box.get("class"), words(box), box.find("div/ul/li").text) == ("op far", "3x3, 16 out <", "1e-2")
    assert found.pop("head.fc").get("class") == "op near"
    assert {box.get("class") for box in found.values()} == {"op neutral"}


def test_shapes_are_those_of_the_input():
    model = configure(zoo.spec("inception_v4"), width=0.25)
    found = dict(boxes(drawing(model, size=139)))
    assert "output 384 x 3 x 3" in "".join(found["mixed_7d"].itertext())
    assert "output 1000 x 1 x 1" in "".join(found["head.fc"].itertext())


def test_auxiliary_heads_follow_the_stage_that_they_read():
    root = drawing(zoo.spec("googlenet"))
    names = [section.find("h4").text.strip() for section in root.iter("section")]
    assert names[names.index("mixed_4b") + 1] == "aux1"
    assert names[-1] == "head"
    labels = [words(box) for _, box in boxes(stage(root, "aux1"))]
    assert labels == ["avg pool to 4x4", "1x1, 128", "linear, 1024, ReLU", "linear, 1000", "logits"]
