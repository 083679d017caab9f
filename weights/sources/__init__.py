"""The publishers whose names are known, one file each; the names of `zoo.build`'s networks; and registering more."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points

from weights.names import Source
from weights.sources.cadene import CADENE
from weights.sources.fid import PYTORCH_FID, TORCH_FIDELITY
from weights.sources.keras import KERAS, KERAS_POSITIONS
from weights.sources.mindcv import MINDCV
from weights.sources.mmpretrain import MMPRETRAIN
from weights.sources.native import NATIVE
from weights.sources.paddleclas import PADDLECLAS
from weights.sources.timm import TIMM
from weights.sources.torchvision import TORCHVISION
from weights.sources.zhulf import ZHULF
from zoo.errors import WeightsError
from zoo.frameworks import CONVENTIONS

SOURCES: dict[str, Source] = {
    "cadene": CADENE,
    "keras": KERAS,
    "mindcv": MINDCV,
    "mmpretrain": MMPRETRAIN,
    "paddleclas": PADDLECLAS,
    "pytorch_fid": PYTORCH_FID,
    "timm": TIMM,
    "torch_fidelity": TORCH_FIDELITY,
    "torchvision": TORCHVISION,
    "zhulf": ZHULF,
}
"""The publishers of the built-in networks."""

ENTRY_POINTS = "inception_zoo.sources"
"""The group of entry points by which other packages add sources, each a `weights.Source` under the point's name."""

logger = logging.getLogger("zoo")
_registered: dict[str, Source] = SOURCES | {"keras<3.6": KERAS_POSITIONS} | NATIVE


def register(name: str, source: Source) -> Source:
    """Add a source under a name, so that its files are recognised, read and written; returns it.

    Its tables are for networks that are registered under the same names (`zoo.register`). A source cannot be replaced,
    but tables for further networks may be added to one. Raises WeightsError for an unknown framework, and for a name or
    a table that exists already.
    """
    if not isinstance(source, Source) or source.framework not in CONVENTIONS:
        raise WeightsError(f"weights.register: {name!r}: expected a weights.Source of {', '.join(CONVENTIONS)}")
    known = _registered.get(name)
    if known is None:
        _registered[name] = source
    elif known != source:
        twice = sorted(known.models.keys() & source.models.keys())
        if name in NATIVE or known.framework != source.framework or twice:
            raise WeightsError(
                f"weights.register: there is another source called {name!r}"
                + (f" with a table for {', '.join(twice)}" if twice else "")
                + ": choose another name"
            )
        _registered[name] = Source(known.framework, {**known.models, **source.models})
    return _registered[name]


def all_sources() -> Mapping[str, Source]:
    """All sources: publishers, with their current and earlier names, and the names of `zoo.build`'s networks.

    "zoo" is canonical; "torch" and so on are the names with which that framework saves a network of `zoo.build`.
    """
    _load_entry_points()
    return _registered


@cache
def _load_entry_points() -> None:
    for point in entry_points(group=ENTRY_POINTS):
        try:
            register(point.name, point.load())
        except Exception as error:  # another package's fault must not stop this one
            logger.warning(
                "entry point %s = %s: left out: %s: %s", point.name, point.value, type(error).__name__, error
            )
