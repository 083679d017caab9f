"""Judging frameworks by the float64 reference: logits, layers, gradients; and comparing two networks."""

from zoo.parity.logits import Settings, compare

__all__ = ["Settings", "compare"]
