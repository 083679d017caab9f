"""Rewrites: from a model and its weights to another model and weights that compute the same function in inference.

Each takes (model, arrays) and gives (model, arrays); arrays that do not change are shared with the input, and those
that do keep their dtype.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias, TypeGuard

import numpy as np
from numpy.typing import NDArray

from zoo.errors import SpecError
from zoo.language.geometry import pair, reach
from zoo.language.model import Model
from zoo.language.nodes import AvgPool, Box, Chain, Concat, Conv, Depthwise, Node, NormRelu, Relu, Residual, children
from zoo.language.trace import trace

Array = NDArray[Any]
Tree: TypeAlias = tuple[Node, dict[str, Array]]
"""A node and its arrays, named relative to it."""
Rule: TypeAlias = Callable[[Node, dict[str, Array]], Tree]


def fold_gammas(model: Model, arrays: Mapping[str, Array]) -> tuple[Model, dict[str, Array]]:
    """Multiply every gamma into the convolution before its batch norm, so that all gammas are 1.

    g (w x - m) / s + b = ((g w) x - g m) / s + b, exact for gammas of either sign. Raises SpecError for a batch norm
    that no convolution comes before (pre-activation) and whose gammas are not 1 already.
    """
    result = dict(arrays)
    for name, gamma in arrays.items():
        if not name.endswith(".bn.weight") or (gamma == 1).all():
            continue
        box = name.removesuffix("bn.weight")
        if f"{box}conv.weight" not in arrays:
            raise SpecError(f"{model.name}: {name} cannot be folded: no convolution comes before it")
        weight = arrays[f"{box}conv.weight"]
        result[f"{box}conv.weight"] = weight * gamma.reshape(-1, *[1] * (weight.ndim - 1))
        result[f"{box}bn.mean"] = arrays[f"{box}bn.mean"] * gamma
        result[name] = np.ones_like(gamma)
    return model, result


def set_epsilon(model: Model, arrays: Mapping[str, Array], eps: float) -> tuple[Model, dict[str, Array]]:
    """Give batch norm another epsilon, and variances that make up for it: var + old = var' + eps.

    Where var' would be negative it becomes 0, and gamma takes the rest: gamma' = gamma sqrt(eps / (var + old)). Raises
    SpecError for a model without batch norm.
    """
    if model.norm is None:
        raise SpecError(f"{model.name}: has no batch norm, so no epsilon")
    result = dict(arrays)
    for name in [name for name in arrays if name.endswith(".bn.var")]:
        box = name.removesuffix("var")
        total = arrays[name].astype(np.float64) + model.norm.eps
        gamma, dtype = arrays[f"{box}weight"], arrays[name].dtype
        result[name] = np.maximum(total - eps, 0).astype(dtype)
        rest = np.where(total < eps, np.sqrt(eps / total), 1)
        result[f"{box}weight"] = (gamma * rest).astype(gamma.dtype)
    return replace(model, norm=replace(model.norm, eps=eps)), result


def for_inference(model: Model, arrays: Mapping[str, Array]) -> tuple[Model, dict[str, Array]]:
    """Leave out what inference does not use: auxiliary heads and dropout."""
    head = None if model.head is None else replace(model.head, dropout=0.0)
    dropped = tuple(f"{aux.name}." for aux in model.aux)
    kept = {name: array for name, array in arrays.items() if not name.startswith(dropped)} if dropped else dict(arrays)
    return replace(model, head=head, aux=()), kept


def fold_norms(model: Model, arrays: Mapping[str, Array]) -> tuple[Model, dict[str, Array]]:
    """Fold each batch norm into the convolution before it, which gets a bias.

    g (w x + c - m) / s + b = (g / s w) x + ((c - m) g / s + b), with s = sqrt(var + eps). A `NormRelu` is folded where
    a convolution without norm and ReLU comes right before it; other `NormRelu` nodes stay.
    """
    if model.norm is None:
        return model, dict(arrays)
    eps = model.norm.eps

    def scaled(box: Box, given: dict[str, Array], norm: Mapping[str, Array]) -> dict[str, Array]:
        """The convolution's weight and bias, with the norm's four vectors folded in."""
        weight = given["conv.weight"]
        gamma, beta, mean, var = (norm[name].astype(np.float64) for name in ("weight", "bias", "mean", "var"))
        scale = gamma / np.sqrt(var + eps)
        bias = beta + ((given["conv.bias"] if box.bias else 0.0) - mean) * scale
        folded = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
        return {"conv.weight": folded.astype(weight.dtype), "conv.bias": bias.astype(weight.dtype)}

    def rule(node: Node, given: dict[str, Array]) -> Tree:
        match node:
            case Conv() | Depthwise() if node.norm:
                return replace(node, norm=False, bias=True), scaled(node, given, below(given, "bn"))
            case Chain(nodes):
                links: list[Tree] = []
                for i, child in enumerate(nodes):
                    own = below(given, str(i))
                    if isinstance(child, NormRelu) and links:
                        before, weights = links[-1]
                        if isinstance(before, Box) and not before.norm and not before.act:
                            box = replace(before, bias=True, act=True)
                            links[-1] = box, scaled(before, weights, below(own, "bn"))
                            continue
                    links.append((child, own))
                return chain(links)
        return node, given

    folded, result = rewrite(model, arrays, rule)
    return (folded if any(name.endswith(".bn.var") for name in result) else replace(folded, norm=None)), result


def fold_scales(model: Model, arrays: Mapping[str, Array]) -> tuple[Model, dict[str, Array]]:
    """Multiply the scale of a `Residual` into the last convolution of its body, if that has neither norm nor ReLU."""

    def rule(node: Node, given: dict[str, Array]) -> Tree:
        if not isinstance(node, Residual) or node.scale == 1:
            return node, given
        last, path = last_link(node.body, "body")
        if not isinstance(last, Box) or last.act or (last.norm and model.norm is not None):
            return node, given
        names = [f"{path}.conv.weight", *([f"{path}.conv.bias"] if last.bias else [])]
        scaled = {name: (given[name] * np.float64(node.scale)).astype(given[name].dtype) for name in names}
        return replace(node, scale=1.0), given | scaled

    return rewrite(model, arrays, rule)


def move_pools(model: Model, arrays: Mapping[str, Array]) -> tuple[Model, dict[str, Array]]:
    """Run a 1x1 convolution that follows an average pool before it, where that leaves fewer channels to pool.

    Both are linear, the convolution over channels and the pool over pixels, so they commute. The mean of a constant is
    the constant, so a bias commutes too, except where the mean counts padded zeros (`count_include_pad`): such pools
    stay where they are. A ReLU goes after the pool. Norms must have been folded.
    """

    def rule(node: Node, given: dict[str, Array]) -> Tree:
        if not isinstance(node, Chain):
            return node, given
        links = [(child, below(given, str(i))) for i, child in enumerate(node.nodes)]
        result: list[Tree] = []
        while links:
            child, own = links.pop(0)
            if isinstance(child, AvgPool) and links:
                after, weights = links[0]
                if movable(after, child, weights, model):
                    links.pop(0)
                    result += [(replace(after, act=False), weights), (child, own)]
                    result += [(Relu(), {})] if after.act else []
                    continue
            result.append((child, own))
        return chain(result)

    return rewrite(model, arrays, rule)


def fold_normalisation(model: Model, arrays: Mapping[str, Array]) -> tuple[Model, dict[str, Array]]:
    """Fold the input's normalisation into the first convolution, so that the network takes pixels from 0 to 1.

    w (x - mean) / std + b = (w / std) x + (b - sum of w mean / std). This would be inexact at a border that the
    convolution pads with zeros, because a zero stands for the mean. Raises SpecError in that case, when the first
    operation is not a convolution, when its batch norm has not been folded, and when there are more input channels than
    means.
    """
    first, how = trace(model).ops[0], model.preprocess
    begin: Node = model.stages[0].node
    while isinstance(begin, Chain):
        begin = begin.nodes[0]
    node = first.node
    if begin is not node or not isinstance(node, Conv):
        raise SpecError(
            f"{model.name}: {first.path}: the network does not begin with a convolution: nothing to fold into"
        )
    if model.in_channels > len(how.mean):
        raise SpecError(f"{model.name}: {model.in_channels} input channels, and a mean for {len(how.mean)}")
    if node.norm and model.norm is not None:
        raise SpecError(f"{model.name}: {first.path}: has a batch norm: fold that first")
    if node.padding != "valid" and max(reach(node)) > 1 and any(how.mean):
        raise SpecError(
            f"{model.name}: {first.path}: pads its border with zeros, not the mean: the mean cannot be folded"
        )
    mean, std = (np.array(values[: model.in_channels]) for values in (how.mean, how.std))
    weight = arrays[f"{first.path}.conv.weight"]
    scaled = weight / std[:, None, None]
    bias = -(scaled * mean[:, None, None]).sum((1, 2, 3))
    if node.bias:
        bias = bias + arrays[f"{first.path}.conv.bias"]

    def add_bias(node: Node, given: dict[str, Array]) -> Tree:
        if given.get("conv.weight") is not weight or not isinstance(node, Conv):
            return node, given
        own = {"conv.weight": scaled.astype(weight.dtype), "conv.bias": bias.astype(weight.dtype)}
        return replace(node, bias=True), own

    rewritten, result = rewrite(model, arrays, add_bias)
    unit = replace(how, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    return replace(rewritten, preprocess=unit), result


def deployable(model: Model, arrays: Mapping[str, Array]) -> tuple[Model, dict[str, Array]]:
    """The network as inference engines run it: with every rewrite that made them faster when it was measured.

    Merging sibling 1x1 convolutions is not among them. In blocks A, B and C of Inception-v4 it made PyTorch 1% slower
    to 7% faster, OpenVINO up to 4% slower and ONNX Runtime up to 20% slower: the merged output has to be sliced again.
    """
    result = for_inference(model, arrays)
    for step in (fold_norms, fold_scales, move_pools):
        result = step(*result)
    return result


def rewrite(model: Model, arrays: Mapping[str, Array], rule: Rule) -> tuple[Model, dict[str, Array]]:
    """Apply `rule` to every node of the stages and auxiliary heads, children first."""
    result = dict(below(arrays, "head", keep=True))

    def apply(name: str, node: Node) -> Node:
        new, own = _apply(node, below(arrays, name), rule)
        result.update({f"{name}.{key}": array for key, array in own.items()})
        return new

    stages = tuple(replace(stage, node=apply(stage.name, stage.node)) for stage in model.stages)
    aux = tuple(replace(aux, node=apply(aux.name, aux.node)) for aux in model.aux)
    return replace(model, stages=stages, aux=aux), result


def _apply(node: Node, arrays: dict[str, Array], rule: Rule) -> Tree:
    if isinstance(node, Chain | Concat | Residual):
        new = {name: _apply(child, below(arrays, name), rule) for name, child in children(node)}
        arrays = {f"{name}.{key}": array for name, (_, own) in new.items() for key, array in own.items()}
        nodes = tuple(child for child, _ in new.values())
        match node:
            case Chain():
                node = Chain(nodes)
            case Concat():
                node = Concat(nodes)
            case Residual():
                node = replace(node, body=nodes[0], shortcut=nodes[1] if len(nodes) > 1 else None)
    return rule(node, arrays)


def below(arrays: Mapping[str, Array], path: str, keep: bool = False) -> dict[str, Array]:
    """The arrays whose names start with `path`, named relative to it (or, with `keep`, as they are)."""
    start = f"{path}."
    return {name if keep else name.removeprefix(start): a for name, a in arrays.items() if name.startswith(start)}


def chain(links: Sequence[Tree]) -> Tree:
    """The links one after another; chains among them are flattened."""
    flat: list[Tree] = []
    for node, arrays in links:
        if isinstance(node, Chain):
            flat += [(child, below(arrays, str(i))) for i, child in enumerate(node.nodes)]
        else:
            flat.append((node, arrays))
    if len(flat) == 1:
        return flat[0]
    named = {f"{i}.{name}": array for i, (_, own) in enumerate(flat) for name, array in own.items()}
    return Chain(tuple(node for node, _ in flat)), named


def last_link(node: Node, path: str) -> tuple[Node, str]:
    """The last node of a chain, and its path."""
    while isinstance(node, Chain):
        path, node = f"{path}.{len(node.nodes) - 1}", node.nodes[-1]
    return node, path


def is_pointwise(node: Node) -> bool:
    """Whether a node is a convolution that maps each pixel to one pixel."""
    return isinstance(node, Conv) and pair(node.kernel) == (1, 1) and node.stride == 1


def movable(after: Node, pool: AvgPool, arrays: Mapping[str, Array], model: Model) -> TypeGuard[Conv]:
    """Whether a convolution may run before the pool that it follows, exactly and with fewer channels to pool."""
    if not isinstance(after, Conv) or not is_pointwise(after) or (after.norm and model.norm is not None):
        return False
    outputs, inputs = arrays["conv.weight"].shape[:2]
    pads_count = pool.count_include_pad and pool.padding != "valid"
    return outputs < inputs and not (pads_count and after.bias)
