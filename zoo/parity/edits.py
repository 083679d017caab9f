"""Changes to a spec at a path: replacing a node, removing a layer, repeating a layer."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from zoo.errors import SpecError
from zoo.language.model import Model
from zoo.language.nodes import Chain, Concat, Head, Node, Residual, children
from zoo.language.trace import trace


def nodes_of(model: Model) -> dict[str, Node]:
    """Every node of the spec by path."""
    found: dict[str, Node] = {}

    def visit(node: Node, path: str) -> None:
        found[path] = node
        if isinstance(node, Chain | Concat | Residual):
            for name, child in children(node):
                visit(child, f"{path}.{name}")

    for name, node in model.parts.items():
        visit(node, name)
    return found


def with_node(model: Model, path: str, changed: Node) -> Model:
    """The model with the node at a path replaced by `changed`."""

    def put(node: Node, at: str) -> Node:
        if at == path:
            return changed
        if not isinstance(node, Chain | Concat | Residual) or not path.startswith(f"{at}."):
            return node
        below = {name: put(child, f"{at}.{name}") for name, child in children(node)}
        match node:
            case Chain():
                return Chain(tuple(below.values()))
            case Concat():
                return Concat(tuple(below.values()))
            case Residual():
                return replace(node, body=below["body"], shortcut=below.get("shortcut"))

    head = None if model.head is None else put(model.head, "head")
    assert head is None or isinstance(head, Head)
    stages = tuple(replace(stage, node=put(stage.node, stage.name)) for stage in model.stages)
    return replace(model, head=head, stages=stages)


def layers(model: Model, path: str) -> Iterator[str]:
    """The layers that a path is in, the innermost first: items of chains, and its stage.

    Each is followed by the equal layers directly before it: if a network has one of several equal layers too few, or
    one too many, it does not show which.
    """
    nodes = nodes_of(model)
    while path:
        before = _before(model, nodes, path)
        if before is not None:
            equal = [nodes[other] == nodes[path] for other in before]
            yield from (path, *before[: [*equal, False].index(False)])
        path = path.rpartition(".")[0]


def layers_before(model: Model, path: str) -> Iterator[str]:
    """The layers directly before those that a path is in, each followed by the equal layers directly before it."""
    nodes = nodes_of(model)
    for layer in layers(model, path):
        for last in (_before(model, nodes, layer) or [])[:1]:
            yield from (other for other in layers(model, last) if other.rpartition(".")[0] == last.rpartition(".")[0])


def _before(model: Model, nodes: Mapping[str, Node], path: str) -> list[str] | None:
    """The layers before a layer, the nearest first; None where the path is not that of a layer."""
    parent, _, name = path.rpartition(".")
    if parent and isinstance(nodes.get(parent), Chain):
        return [f"{parent}.{i}" for i in reversed(range(int(name)))]
    stages = [stage.name for stage in model.stages]
    return stages[: stages.index(path)][::-1] if path in stages else None


def without_layer(model: Model, path: str) -> tuple[Model, dict[str, str]]:
    """The model without a layer, and the old prefixes of paths by the new ones, where they differ.

    Raises SpecError where the result is not a valid network, or changes the shapes of other layers' weights.
    """
    parent, _, name = path.rpartition(".")
    if not parent:
        stages = tuple(stage for stage in model.stages if stage.name != path)
        return _checked(model, replace(model, stages=stages), {})
    items, place = _chain(model, parent), int(name)
    new = {f"{parent}.{i}": f"{parent}.{i + 1}" for i in range(place, len(items) - 1)}
    return _checked(model, with_node(model, parent, Chain((*items[:place], *items[place + 1 :]))), new)


def with_layer_twice(model: Model, path: str) -> tuple[Model, dict[str, str]]:
    """The model with a layer twice in a row, and the old prefixes of paths by the new ones.

    Raises SpecError where the result is not a valid network, or changes the shapes of other layers' weights.
    """
    parent, _, name = path.rpartition(".")
    if not parent:
        place = [stage.name for stage in model.stages].index(path)
        again = next(f"{path}_{i}" for i in itertools.count(2) if f"{path}_{i}" not in model.parts)
        second = replace(model.stages[place], name=again)
        stages = (*model.stages[: place + 1], second, *model.stages[place + 1 :])
        return _checked(model, replace(model, stages=stages), {again: path})
    items, place = _chain(model, parent), int(name)
    new = {f"{parent}.{i}": f"{parent}.{i - 1}" for i in range(place + 1, len(items) + 1)}
    return _checked(model, with_node(model, parent, Chain((*items[: place + 1], *items[place:]))), new)


def _checked(before: Model, after: Model, new: dict[str, str]) -> tuple[Model, dict[str, str]]:
    shapes = moved({name: parameter.shape for name, parameter in trace(before).parameters.items()}, new)
    for name, parameter in trace(after).parameters.items():
        if parameter.shape != shapes[name]:
            raise SpecError(f"{before.name}: {name} would have the shape {parameter.shape}, not {shapes[name]}")
    return after, new


def _chain(model: Model, path: str) -> tuple[Node, ...]:
    node = nodes_of(model)[path]
    assert isinstance(node, Chain)
    return node.nodes


def moved(of: Mapping[str, Any], new: Mapping[str, str]) -> dict[str, Any]:
    """The values of a mapping from paths, under their new paths; `new` has the old prefix for each new prefix."""
    result = {name: value for name, value in of.items() if not any(_below(name, prefix) for prefix in new)}
    for after, before in new.items():
        result |= {after + name.removeprefix(before): value for name, value in of.items() if _below(name, before)}
    return result


def _below(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")
