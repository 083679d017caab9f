"""Converting weights from one flavour of a network to another with the same outputs in inference.

The two specs are walked side by side. Tensors are renamed; where branches are concatenated in another order, the input
channels of the next layers are permuted; an epsilon of batch norm moves into the variances. No weights can make up for
other differences (padding, kernels, dilation, the position of a ReLU): the error then lists them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weights.manifest import SHOWN
from zoo.errors import WeightsError
from zoo.language.diff import partners, show
from zoo.language.model import Model
from zoo.language.nodes import Chain, Concat, Conv, Depthwise, Head, Node, NormRelu, Residual
from zoo.language.rewrites import set_epsilon
from zoo.language.trace import Shape, parameters, trace

Array = NDArray[Any]
Order = NDArray[np.intp]
"""For each channel of the second network's feature map, its index in the first network's."""


def transfer(arrays: Mapping[str, Array], first: Model, second: Model) -> tuple[dict[str, Array], list[str]]:
    """The weights of `first` as weights of `second`, and a line for each thing that was done to them.

    Auxiliary heads, which only training uses, are kept where the second network has the same. Raises WeightsError with
    the reasons when no weights of the second network compute what the first does.
    """
    walk = pair(first, second)
    result = {
        name: arrays[source] if permutation is None else np.ascontiguousarray(arrays[source][permutation])
        for name, (source, permutation) in walk.tensors.items()
    }
    done = [] if not walk.permuted else [f"channels permuted in {walk.permuted} tensors: branches in another order"]
    if first.norm and second.norm and first.norm.eps != second.norm.eps:
        _, result = set_epsilon(replace(second, norm=first.norm), result, second.norm.eps)
        done.append(f"epsilon {first.norm.eps:g} moved into the variances, for {second.norm.eps:g}")
    heads = [aux.name for aux in first.aux if aux not in second.aux]
    if heads:
        done.append(f"auxiliary heads left out: {', '.join(heads)}")
    return result, done


def pair(first: Model, second: Model) -> _Walk:
    """Match the tensors of `second` with those of `first`; needs no arrays. Raises WeightsError as `transfer` does."""
    walk = _Walk(first, second)
    walk.networks()
    if walk.reasons:
        reasons = [_places(where) + text for text, where in walk.reasons.items()]
        more = f"; and {len(reasons) - SHOWN} more (`zoo diff {first.name} {second.name}`)" * (len(reasons) > SHOWN)
        raise WeightsError(
            f"{first.name} cannot become {second.name}, whatever the weights: {'; '.join(reasons[:SHOWN])}{more}. "
            f"Every framework can run {first.name} itself: zoo.build({first.name!r}, ...)"
        )
    return walk


@dataclass
class _Walk:
    """A walk over two networks that matches their tensors.

    tensors   for each tensor's name in the second network, its name in the first and an index that permutes it, or None
    reasons   why weights cannot be converted, and the paths where that is so
    permuted  number of tensors whose input channels are permuted
    """

    first: Model
    second: Model
    tensors: dict[str, tuple[str, Any]] = field(default_factory=dict)
    reasons: dict[str, list[str]] = field(default_factory=dict)
    permuted: int = 0

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """The outputs of the first network's nodes, by path."""
        return trace(self.first).shapes

    def networks(self) -> None:
        """Match the stages in order, the heads, and the auxiliary heads that both networks have."""
        a, b = self.first, self.second
        if (a.norm is None) != (b.norm is None):
            self.refuse("", "one has batch norm, and the other none")
        if len(a.stages) != len(b.stages) or a.head is None or b.head is None:
            self.refuse("", f"they have {len(a.stages)} and {len(b.stages)} stages")
            return
        order: Any = np.arange(a.in_channels)
        orders = {}
        for one, other in zip(a.stages, b.stages, strict=True):
            order = orders[other.name] = self.pair(one.node, other.node, one.name, other.name, order)
        self.pair(a.head, b.head, "head", "head", order)
        for aux in b.aux:
            if aux in a.aux:
                self.pair(aux.node, aux.node, aux.name, aux.name, orders[aux.after])

    def pair(self, a: Node, b: Node, ours: str, theirs: str, order: Order) -> Order:
        """Match the tensors of two nodes with the same input; returns the order of the channels of their output."""
        match a, b:
            case Chain(), Chain() if len(a.nodes) == len(b.nodes):
                for i, (one, other) in enumerate(zip(a.nodes, b.nodes, strict=True)):
                    order = self.pair(one, other, f"{ours}.{i}", f"{theirs}.{i}", order)
                return order
            case Concat(), Concat() if len(a.branches) == len(b.branches):
                return self.concat(a, b, ours, theirs, order)
            case Residual(), Residual() if (a.scale, a.act, a.shortcut is None) == (b.scale, b.act, b.shortcut is None):
                body = self.pair(a.body, b.body, f"{ours}.body", f"{theirs}.body", order)
                straight = order
                if a.shortcut is not None and b.shortcut is not None:
                    straight = self.pair(a.shortcut, b.shortcut, f"{ours}.shortcut", f"{theirs}.shortcut", order)
                if not np.array_equal(body, straight):
                    self.refuse(ours, "the body and the shortcut have their channels in different orders")
                return body
            case Conv(), Conv() if a == b:
                self.box(ours, theirs, "conv.weight", order)
                return np.arange(a.channels)
            case (Depthwise(), Depthwise()) | (NormRelu(), NormRelu()) if a == b:
                self.box(ours, theirs, "", order)
                return order
            case Head(), Head() if replace(a, dropout=0) == replace(b, dropout=0):
                if a.pool or _plain(order):
                    self.box(ours, theirs, "fc.weight" if a.hidden is None else "hidden.weight", order)
                else:
                    self.refuse(ours, "its input is flattened with the channels in another order")
                return order
            case _ if a == b:
                return order
            case _:
                self.refuse(ours, f"{show(a)} here, {show(b)} there")
                return np.arange(self.shapes[ours].channels)

    def refuse(self, where: str, why: str) -> None:
        self.reasons.setdefault(why, []).append(where)

    def concat(self, a: Concat, b: Concat, ours: str, theirs: str, order: Order) -> Order:
        places = partners(a, b)
        parts = {
            i: self.pair(a.branches[i], b.branches[j], f"{ours}.branch{i}", f"{theirs}.branch{j}", order)
            for i, j in sorted(places.items())
        }
        starts = np.cumsum([0, *(len(parts[i]) for i in sorted(parts))])
        return np.concatenate([parts[i] + starts[i] for i in sorted(places, key=lambda i: places[i])])

    def box(self, ours: str, theirs: str, inputs: str, order: Order) -> None:
        """Match the tensors below two paths.

        `inputs` names the tensor whose second axis is the input's channels; without one, the first axis of all tensors
        is.
        """
        for name in parameters(self.second):
            tail = name.removeprefix(f"{theirs}.")
            if tail == name:
                continue
            index = (slice(None), order) if tail == inputs else order if not inputs else None
            self.permuted += index is not None and not _plain(order)
            self.tensors[name] = (f"{ours}.{tail}", None if _plain(order) else index)


def _places(paths: list[str]) -> str:
    """The first path, and how many more there are."""
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return f"{paths[0]}{more}: " if paths[0] else ""


def _plain(order: Order) -> bool:
    """Whether the channels are in the same order as in the first network."""
    return bool(np.array_equal(order, np.arange(len(order))))
