"""Judging frameworks, engines and foreign networks by the float64 reference; and comparing two networks."""

from zoo.parity.foreign import against, assert_same, compare_network
from zoo.parity.logits import Settings, compare

__all__ = ["Settings", "against", "assert_same", "compare", "compare_network"]
