"""The language: composition, equality, and what it refuses."""

import pytest

from zoo.errors import SpecError
from zoo.language.nodes import AdaptiveAvgPool, AvgPool, Chain, Concat, Conv, Head, MaxPool, concat, leaves, transform


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
        (lambda: Conv(0), "channels must be at least 1"),
        (lambda: Conv(8, 0), "kernel must be at least 1"),
        (lambda: Conv(8, 3, 0), "stride must be at least 1"),
        (lambda: Conv(8, 3, padding="ceil"), "padding must be one of half, valid, same"),
        (lambda: MaxPool(padding="full"), "padding must be one of half, valid, same, ceil"),
        (lambda: AvgPool(padding="same"), "padding must be one of half, valid"),
        (lambda: AdaptiveAvgPool(0), "size must be at least 1"),
        (lambda: Head(dropout=1.0), "dropout is a probability"),
        (lambda: Head(hidden=0), "hidden must be at least 1"),
        (lambda: concat(Conv(8)), "at least 2 branches, not 1"),
    ],
)
def test_refuses(make, message):
    with pytest.raises(SpecError, match=message):
        make()
