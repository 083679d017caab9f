"""A pytest plugin: the fixture `parity`, with which another project checks its own networks.

def test_my_network(parity):
    parity(build_my_network(), "inception_v3")
"""

from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.fixture(scope="session")
def parity() -> Callable[..., None]:
    """`zoo.parity.assert_same`: fails the test, with the place and the cause, unless a network is that of a spec."""
    from zoo.parity import assert_same

    return assert_same
