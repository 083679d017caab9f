"""Weights: checkpoints of every source, canonical files, initial weights, published weights.

Canonical weights are a flat `dict[str, numpy.ndarray]` under spec names, OIHW, float32 (float64 where a file has it).
Importing this package imports no framework, and reading a file runs nothing that the file contains.
"""

from weights import published, remote
from weights.adapt import adapt, usual_classes
from weights.checkpoints import Checkpoint, is_checkpoint, open_checkpoint, read, resolve
from weights.formats import FORMATS
from weights.initial import calibrated, initial
from weights.manifest import check, restrict
from weights.names import Source, Table
from weights.sources import SOURCES, all_sources, register
from weights.writing import convert, write

__all__ = [
    "FORMATS",
    "SOURCES",
    "Checkpoint",
    "Source",
    "Table",
    "adapt",
    "all_sources",
    "calibrated",
    "check",
    "convert",
    "initial",
    "is_checkpoint",
    "open_checkpoint",
    "published",
    "read",
    "register",
    "remote",
    "resolve",
    "restrict",
    "usual_classes",
    "write",
]
