"""The language: composition, equality, and what it refuses."""

import numpy as np
import pytest

from zoo.errors import SpecError
from zoo.language.model import Model, Norm, Preprocess, stages
from zoo.language.nodes import (
    AdaptiveAvgPool,
    AvgPool,
    Chain,
    Concat,
    Conv,
    Head,
    MaxPool,
    Residual,
    concat,
    leaves,
    transform,
)


def model(**changes):
    fields = {"name": "small", "stages": stages(a=Conv(8)), "head": Head(), "preprocess": Preprocess(256)}
    return Model(**fields | changes)


def test_chains_are_flat_and_associative():
    a, b, c = Conv(8), MaxPool(), Conv(16, 3)
    assert (a >> b) >> c == a >> (b >> c) == Chain((a, b, c))


def test_specs_are_values():
    assert concat(Conv(8), Conv(16) >> Conv(8, 3)) == concat(Conv(8), Conv(16) >> Conv(8, 3))
    assert len({Conv(8), Conv(8), Conv(8, 3)}) == 2


def test_transform_reaches_every_leaf_and_keeps_the_tree():
    tree = Conv(8) >> concat(Conv(16), AvgPool() >> Conv(8))
    doubled = transform(tree, lambda leaf: Conv(2 * leaf.channels) if isinstance(leaf, Conv) else leaf)
    assert leaves(doubled) == [Conv(16), Conv(32), AvgPool(), Conv(16)]
    assert isinstance(doubled.nodes[1], Concat)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Conv(0), "channels must be an integer of at least 1, not 0"),
        (lambda: Conv(8.5), "channels must be an integer of at least 1, not 8.5"),
        (lambda: Conv(8, 0), "kernel must be an integer of at least 1, not 0"),
        (lambda: Conv(8, 3, 0), "stride must be an integer of at least 1, not 0"),
        (lambda: Conv(8, 3, padding="ceil"), "padding must be one of half, valid, same"),
        (lambda: MaxPool(padding="full"), "padding must be one of half, valid, same, ceil"),
        (lambda: AvgPool(padding="same"), "padding must be one of half, valid"),
        (lambda: AdaptiveAvgPool(0), "size must be an integer of at least 1, not 0"),
        (lambda: Head(dropout=1.0), "dropout is a probability"),
        (lambda: Head(hidden=0), "hidden must be an integer of at least 1, not 0"),
        (lambda: concat(Conv(8)), "concat: expected a tuple of at least 2 nodes"),
        (lambda: Conv(8) >> 5, "expected a node on the right, not int"),
        (lambda: Conv(8, (3, 3, 3)), r"kernel must be an integer or \(height, width\), not \(3, 3, 3\)"),
        (lambda: MaxPool((3, 3)), r"kernel must be an integer of at least 1, not \(3, 3\)"),
        (lambda: Conv(8, bias=1), "bias must be true or false, not 1"),
        (lambda: Residual(Conv(8), 3), "residual: expected nodes, not 3"),
        (lambda: Residual(Conv(8), scale=float("nan")), "scale must be a number, not nan"),
        (
            lambda: stages(**{"a.b": Conv(8)}),
            "a stage's name must be a Python identifier without a leading '_', not 'a.b'",
        ),
        (lambda: stages(**{"class": Conv(8)}), "a stage's name must be a Python identifier"),
        (lambda: stages(a=8), "a: expected a node, not 8"),
        (lambda: Norm(eps=-1), "eps and decay must be numbers from 0 to 1"),
        (lambda: Preprocess(256, mean=(0.5,)), "mean must be three numbers"),
        (lambda: Preprocess(256, std=(0.5, 0.5, 0)), "std must be three numbers above 0"),
        (lambda: Preprocess(256, interpolation="cubic"), "interpolation must be bilinear or bicubic"),
        (lambda: model(name="../x"), "a model's name must be letters, digits"),
        (lambda: model(size=0), "size must be an integer of at least 1, not 0"),
        (lambda: model(head=Conv(8)), "head must be a Head or None"),
        (lambda: model(stages=()), "a model needs stages"),
        (lambda: model(stages=[Conv(8)]), "stages must be a tuple of Stage"),
        (lambda: model(taps=("b",)), "no stage 'b'; it has a"),
    ],
)
def test_refuses(make, message):
    with pytest.raises(SpecError, match=message):
        make()


def test_numpys_integers_are_plain_ones_in_a_node():
    node = Conv(np.int64(8), (np.int32(3), 3))
    assert node == Conv(8, (3, 3))
    assert {type(value) for value in (node.channels, *node.kernel)} == {int}
