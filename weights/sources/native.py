"""Networks of `zoo.build`, named as each framework's own saver does: canonical paths, the framework's tensor names."""

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
    """The table that keeps every name."""
    parts = dict.fromkeys(name.partition(".")[0] for name in parameters(model))
    return Table(tuple((part, part) for part in parts))


@dataclass(frozen=True)
class Native(Source):
    """A source that has every network, registered or not."""

    tables: Mapping[str, Table] = field(default_factory=dict)

    @property
    def models(self) -> Mapping[str, Table]:
        """The registered networks, which a file may be recognised as."""
        return {name: identity(model) for name, model in models().items()}

    def _table(self, model: Model) -> Table:
        return identity(model)


NATIVE: dict[str, Source] = {name: Native(name) for name in ("zoo", *FRAMEWORKS)}
