"""Build a framework's modules from a model: a walk over the spec that calls the framework's constructors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from zoo.errors import SpecError
from zoo.language.model import Model, Norm
from zoo.language.nodes import (
    AdaptiveAvgPool,
    AvgPool,
    Box,
    Chain,
    Concat,
    Conv,
    Depthwise,
    Head,
    MaxPool,
    Node,
    NormRelu,
    Relu,
    Residual,
    assert_never,
    children,
)
from zoo.language.trace import Op, trace

Module = TypeVar("Module")


@dataclass(frozen=True)
class Kit(Generic[Module]):
    """A framework's constructors; everything else about a network is decided before they are called.

    box                convolution, norm and ReLU, from a `Conv` or `Depthwise`, the numbers of input channels, output
                       channels and groups, and the model's norm
    norm_relu          pre-activation, from the number of channels and the norm
    relu               a ReLU
    max_pool, ...      pools, each from its node
    classifier         from a `Head`, the number of features and the number of classes
    chain              modules one after another
    concat             modules side by side, by name, joined along the channels
    residual           from its node and its children by name, "body" and, if there is one, "shortcut"
    """

    box: Callable[[Box, int, int, int, Norm | None], Module]
    norm_relu: Callable[[int, Norm | None], Module]
    relu: Callable[[], Module]
    max_pool: Callable[[MaxPool], Module]
    avg_pool: Callable[[AvgPool], Module]
    adaptive_avg_pool: Callable[[AdaptiveAvgPool], Module]
    classifier: Callable[[Head, int, int], Module]
    chain: Callable[[Sequence[Module]], Module]
    concat: Callable[[dict[str, Module]], Module]
    residual: Callable[[Residual, dict[str, Module]], Module]


def assemble(model: Model, kit: Kit[Module], network: Any) -> dict[str, Module]:
    """The modules of `model` by name: its stages, its head, its auxiliary heads.

    `network` is the module whose attributes they will become. Raises SpecError when it already has an attribute of the
    same name, and for a model with neither a head nor taps.
    """
    if model.head is None and not model.taps:
        raise SpecError(f"{model.name}: without a head it needs taps: the stages whose outputs it returns")
    ops = {op.path: op for op in trace(model).ops}
    framework = type(network).__module__.split(".")[1]
    for name in model.parts:
        if hasattr(network, name):
            raise SpecError(
                f"{model.name}: a stage cannot be called {name!r}, which is an attribute of every {framework} network"
            )
    return {name: _module(node, name, ops, model, kit) for name, node in model.parts.items()}


def _module(node: Node, path: str, ops: Mapping[str, Op], model: Model, kit: Kit[Module]) -> Module:
    match node:
        case Chain() | Concat() | Residual():
            below = {name: _module(child, f"{path}.{name}", ops, model, kit) for name, child in children(node)}
            match node:
                case Chain():
                    return kit.chain(list(below.values()))
                case Concat():
                    return kit.concat(below)
                case Residual():
                    return kit.residual(node, below)
        case Conv() | Depthwise():
            op = ops[path]
            return kit.box(node, op.inputs.channels, op.outputs.channels, op.groups, model.norm)
        case NormRelu():
            return kit.norm_relu(ops[path].inputs.channels, model.norm)
        case Relu():
            return kit.relu()
        case MaxPool():
            return kit.max_pool(node)
        case AvgPool():
            return kit.avg_pool(node)
        case AdaptiveAvgPool():
            return kit.adaptive_avg_pool(node)
        case Head():
            shape = ops[path].inputs
            return kit.classifier(node, shape.channels if node.pool else shape.size, model.num_classes)
    assert_never(node)
