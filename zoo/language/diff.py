"""What differs between two networks, operation by operation, from their specs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, fields, replace
from difflib import SequenceMatcher
from typing import Any, NamedTuple

from zoo.language.model import Model, Preprocess
from zoo.language.nodes import Chain, Concat, Node, Residual


class Difference(NamedTuple):
    """`what` differs at the path `where`: `first` in one network, `second` in the other."""

    where: str
    what: str
    first: str
    second: str


def same_network(a: Model, b: Model) -> bool:
    """Whether both compute the same function of the same weights in inference, auxiliary heads apart."""

    def inference(model: Model) -> Model:
        head = replace(model.head, dropout=0.0) if model.head else None
        norm = replace(model.norm, decay=0.0) if model.norm else None
        neutral = replace(model, name="x", publishers=(), paper="", size=1, width=1.0, preprocess=Preprocess(resize=1))
        return replace(neutral, head=head, norm=norm, aux=())

    return inference(a) == inference(b)


def differences(a: Model, b: Model) -> list[Difference]:
    """All differences between two models, in order of execution."""
    return [*_settings(a, b), *_stages(a, b)]


def grouped(rows: list[Difference]) -> dict[tuple[str, str, str], list[str]]:
    """The places of equal differences, by (what, first, second)."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for where, *difference in rows:
        what, first, second = difference
        groups.setdefault((what, first, second), []).append(where)
    return groups


def matters(difference: Difference) -> bool:
    """Whether a difference changes the outputs in inference, for the same input tensor."""
    return difference.where not in ("preprocess", "input") and difference.what not in ("decay", "dropout")


def _settings(a: Model, b: Model) -> Iterator[Difference]:
    yield from _mappings("network", *({"num_classes": m.num_classes, "in_channels": m.in_channels} for m in (a, b)))
    norms = [asdict(model.norm) if model.norm else {"batch norm": "none"} for model in (a, b)]
    yield from _mappings("batch norm", *norms)
    yield from _mappings("input", {"size": a.size}, {"size": b.size})
    yield from _mappings("preprocess", asdict(a.preprocess), asdict(b.preprocess))


def _stages(a: Model, b: Model) -> Iterator[Difference]:
    ours, theirs = a.parts, b.parts
    for name in [*ours, *(name for name in theirs if name not in ours)]:
        if name not in theirs or name not in ours:
            parts = [show(parts[name]) if name in parts else "absent" for parts in (ours, theirs)]
            yield Difference(name, "part", *parts)
        else:
            yield from _nodes(name, ours[name], theirs[name])


def _nodes(path: str, a: Node, b: Node) -> Iterator[Difference]:
    match a, b:
        case _ if a == b:
            return
        case Concat(), Concat() if len(a.branches) == len(b.branches):
            yield from _branches(path, a, b)
        case (Chain(), _) | (_, Chain()):
            yield from _chains(path, a, b)
        case Residual(), Residual() if (a.shortcut is None) == (b.shortcut is None):
            yield from _mappings(path, {"scale": a.scale, "act": a.act}, {"scale": b.scale, "act": b.act})
            yield from _nodes(f"{path}.body", a.body, b.body)
            if a.shortcut is not None and b.shortcut is not None:
                yield from _nodes(f"{path}.shortcut", a.shortcut, b.shortcut)
        case _ if type(a) is type(b) and not isinstance(a, Concat | Residual):
            yield from _mappings(path, asdict(a), asdict(b))
        case _:
            yield Difference(path, "operation", show(a), show(b))


def _chains(path: str, a: Node, b: Node) -> Iterator[Difference]:
    """Match nodes of the same kind in order; the others are reported as absent from one of the two chains.

    A node that is not a chain counts as a chain of one. A node that only the second chain has is called `path.+k`,
    where k is its position there.
    """
    ours, theirs = (node.nodes if isinstance(node, Chain) else (node,) for node in (a, b))
    paths = [f"{path}.{i}" if isinstance(a, Chain) else path for i in range(len(ours))]
    node_types = [[type(node).__name__ for node in nodes] for nodes in (ours, theirs)]
    for step, i, end, j, stop in SequenceMatcher(None, node_types[0], node_types[1], autojunk=False).get_opcodes():
        if step == "equal":
            for k in range(end - i):
                yield from _nodes(paths[i + k], ours[i + k], theirs[j + k])
            continue
        for k in range(i, end):
            yield Difference(paths[k], "operation", show(ours[k]), "absent")
        for k in range(j, stop):
            yield Difference(f"{path}.+{k}", "operation", "absent", show(theirs[k]))


def _branches(path: str, a: Concat, b: Concat) -> Iterator[Difference]:
    places = partners(a, b)
    if any(i != j for i, j in places.items()):
        order = sorted(places, key=lambda i: places[i])
        names = [", ".join(f"branch{i}" for i in these) for these in (sorted(places), order)]
        yield Difference(path, "branch order", *names)
    for i, j in places.items():
        yield from _nodes(f"{path}.branch{i}", a.branches[i], b.branches[j])


def partners(a: Concat, b: Concat) -> dict[int, int]:
    """The branch of `b` that corresponds to each branch of `a`; both have the same number.

    Equal branches are matched wherever they are; the others in order.
    """
    free = list(range(len(b.branches)))
    places = {}
    for i, branch in enumerate(a.branches):
        match = next((j for j in free if b.branches[j] == branch), None)
        if match is not None:
            places[i] = match
            free.remove(match)
    for i in range(len(a.branches)):
        if i not in places:
            places[i] = free.pop(0)
    return places


def _mappings(where: str, a: dict[str, Any], b: dict[str, Any]) -> Iterator[Difference]:
    for key in [*a, *(key for key in b if key not in a)]:
        if a.get(key) != b.get(key):
            yield Difference(where, key, str(a.get(key, "")), str(b.get(key, "")))


def show(node: Node) -> str:
    """A node as code, without the defaults."""
    match node:
        case Chain(nodes):
            return " >> ".join(show(child) for child in nodes)
        case Concat(branches):
            return f"concat({', '.join(show(child) for child in branches)})"
    given: list[str] = []
    for field in fields(node):
        value = getattr(node, field.name)
        if value != field.default:
            text = show(value) if field.name in ("body", "shortcut") else str(value)
            positional = not given and field.name in ("channels", "kernel", "size", "body")
            given.append(text if positional else f"{field.name}={text}")
    return f"{type(node).__name__}({', '.join(given)})"
