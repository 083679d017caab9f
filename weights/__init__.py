"""What a network has learned: checkpoints of every source, the canonical store, initial weights.

Canonical weights are a flat `dict[str, numpy.ndarray]` under spec names, OIHW, float32 (float64 where a file has it).
Importing this imports no framework, and reading a file runs nothing that is in it.
"""

from weights import published
from weights.adapt import adapt, usual_classes
from weights.check import check, restrict
from weights.checkpoints import Checkpoint, convert, open_checkpoint, read, write
from weights.formats import FORMATS
from weights.initial import calibrated, initial
from weights.names import CONVENTIONS, Source
from weights.sources import ALL, SOURCES

__all__ = [
    "ALL",
    "CONVENTIONS",
    "FORMATS",
    "SOURCES",
    "Checkpoint",
    "Source",
    "adapt",
    "calibrated",
    "check",
    "convert",
    "initial",
    "open_checkpoint",
    "published",
    "read",
    "restrict",
    "usual_classes",
    "write",
]
