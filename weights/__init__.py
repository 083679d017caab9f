"""What a network has learned: the canonical store, the names of every framework and publisher, initial weights.

Canonical weights are a flat `dict[str, numpy.ndarray]` under spec names, OIHW, float32. Importing this imports no
framework.
"""

from weights.check import check, restrict
from weights.initial import calibrated, initial
from weights.names import CONVENTIONS, Source
from weights.sources import SOURCES
from weights.store import read, read_for, read_metadata, write

__all__ = [
    "CONVENTIONS",
    "SOURCES",
    "Source",
    "calibrated",
    "check",
    "initial",
    "read",
    "read_for",
    "read_metadata",
    "restrict",
    "write",
]
