"""Tables of names: a foreign network's own names of operations, by the spec's names."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from backends.observed import Observation
from zoo.errors import InputError
from zoo.language.model import Model
from zoo.language.trace import parameters


def read_names(rename: str | Path | Mapping[str, str], spec: Model) -> dict[str, str]:
    """A table of names: the network's own name by the spec's name of an operation, without ".weight" and the like.

    Raises InputError for a file that is not such a table, and for a name that the spec does not have.
    """
    if isinstance(rename, Mapping):
        where, table = "rename", rename
    else:
        where = str(rename)
        try:
            table = json.loads(Path(rename).read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"{where}: cannot read the table of names: {error.strerror}") from None
        except ValueError as error:
            raise InputError(f"{where}: expected a JSON object of names, but it is not JSON: {error}") from None
    if not isinstance(table, Mapping) or not all(isinstance(name, str) for name in table.values()):
        raise InputError(f'{where}: expected a JSON object {{"spec\'s name": "the network\'s own name"}}')
    known = {name.rpartition(".")[0] for name in parameters(spec)}
    found = {}
    for name, own in table.items():
        operation = name if name in known else name.rpartition(".")[0]
        if operation not in known:
            near = difflib.get_close_matches(name, sorted(known), 1)
            hint = f": did you mean {near[0]}?" if near else ""
            raise InputError(f"{where}: {spec.name} has no operation {name!r}{hint}")
        found[operation] = own
    return found


def with_names(seen: Observation, names: Mapping[str, str], spec: Model) -> Observation:
    """The observation with the operations of a table of names marked.

    Raises InputError for a name that the network does not have, and for an operation of another kind or shape.
    """
    shapes = {name: parameter.shape for name, parameter in parameters(spec).items()}
    operations = list(seen.operations)
    for name, own in names.items():
        fitting = [i for i, o in enumerate(operations) if own in (o.name, *o.names.values())]
        if len(fitting) != 1:
            some = ", ".join(o.name for o in operations[:3])
            raise InputError(
                f"rename: {len(fitting)} operations of the network are called {own!r}, expected one; it has {some}, ..."
            )
        operation = operations[fitting[0]]
        weight = operation.parameters.get("weight")
        shape, wanted = () if weight is None else seen.arrays[weight].shape, shapes[f"{name}.weight"]
        if sorted(shape) != sorted(wanted):  # a transposed kernel is allowed: it is a cause by itself
            raise InputError(
                f"rename: {own!r} cannot be {name!r}: its weight is {list(shape)}, that of the spec {list(wanted)}"
            )
        operations[fitting[0]] = replace(operations[fitting[0]], spec_name=name)
    return replace(seen, operations=operations)
