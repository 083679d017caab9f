"""Networks of `zoo.build` as each framework's own saver names them: the canonical paths, the framework's tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from weights.names import Source, Table
from zoo.catalogue import models
from zoo.frameworks import FRAMEWORKS
from zoo.language.model import Model
from zoo.language.trace import parameters


@lru_cache(maxsize=256)
def identity(model: Model) -> Table:
    """Every part that has tensors, under its own name."""
    parts = dict.fromkeys(name.partition(".")[0] for name in parameters(model))
    return Table(tuple((part, part) for part in parts))


@dataclass(frozen=True)
class Native(Source):
    """Names any network, registered or not."""

    tables: Mapping[str, Table] = field(default_factory=dict)

    @property
    def models(self) -> Mapping[str, Table]:
        """The registered networks, which a file may be recognised as."""
        return {name: identity(model) for name, model in models().items()}

    def _table(self, model: Model) -> Table:
        return identity(model)


NATIVE: dict[str, Source] = {name: Native(name) for name in ("zoo", *FRAMEWORKS)}
