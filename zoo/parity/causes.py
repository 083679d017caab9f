"""The catalogue of causes: changes to a spec, or to its input, that make it the network that was observed.

A candidate is proved by applying it and aligning again: the difference must vanish, without making another. Names are
those of docs/parity.md; the differences between published implementations that they describe are in docs/peers.md.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from backends.observed import Observation, Operation
from zoo.errors import SpecError
from zoo.language.model import Model, Norm
from zoo.language.nodes import (
    AdaptiveAvgPool,
    AvgPool,
    Chain,
    Concat,
    Conv,
    Depthwise,
    Head,
    Leaf,
    MaxPool,
    Node,
    NormRelu,
    Relu,
    Residual,
    assert_never,
    transform,
)
from zoo.language.trace import trace
from zoo.parity.alignment import NOTHING, Alignment, Beyond, Finding, align
from zoo.parity.edits import layers, layers_before, moved, nodes_of, with_layer_twice, with_node, without_layer

Array = NDArray[Any]

SCALES = (1.0, 0.1, 0.17, 0.2, 0.3)
"""Scales of residual branches in published Inception-ResNets; others are fitted."""

EPSILONS = (1e-3, 1e-5, 1e-4, 1e-6, 2e-5, 1e-2)
"""Usual epsilons of batch norm, tried after those that the network states itself."""

NEWTON_STEPS = 8

POOL_PADDINGS = ("half", "valid", "same", "ceil")

Change: TypeAlias = tuple[str, str, Node]
"""A cause, the change in words, and the node to put in place of another."""


@dataclass(frozen=True)
class Candidate:
    """A cause and the change that it stands for.

    cause     a name of the catalogue
    where     paths of the spec that change; "input" or "batch norm" for a change that is not at one place
    text      the change in words
    model     the spec with the change
    inputs    the images as the network changes them before its first operation; None: unchanged
    beyond    what the network does that no spec can express
    moved     the old prefix of paths by the new one, where the change renames paths; operations are then matched anew
    first     changes that were made before this one and are part of it
    """

    cause: str
    where: tuple[str, ...]
    text: str
    model: Model
    inputs: Array | None = None
    beyond: Beyond = NOTHING
    moved: Mapping[str, str] | None = None
    first: tuple[Candidate, ...] = ()


@dataclass(frozen=True)
class Case:
    """A network that was observed, and what it is compared with.

    model           the spec, perhaps changed already
    seen            what the network has computed
    inputs          the batch that it was run on
    given           the weights that it should have; None: its own
    found           their alignment
    beyond          what the network does that no spec can express
    weights_within  the largest error of weights against `given` that is not reported
    """

    model: Model
    seen: Observation
    inputs: Array
    given: Mapping[str, Array] | None
    found: Alignment
    beyond: Beyond = NOTHING
    weights_within: float = 0.0

    def apply(
        self,
        candidate: Candidate,
        products: bool = True,
        begin: tuple[str, Array] | None = None,
        until: str | None = None,
    ) -> Case:
        """The case with a change made; the other arguments are those of `align`. Raises SpecError for invalid specs."""
        needed = trace(candidate.model).parameters
        given = None if self.given is None else moved(self.given, candidate.moved or {})
        case = replace(
            self,
            model=candidate.model,
            inputs=self.inputs if candidate.inputs is None else candidate.inputs,
            given=None if given is None else {name: _turned(given, name, needed[name].shape) for name in needed},
            beyond=self.beyond | candidate.beyond,
        )
        with_norm = (candidate.model.norm is None) != (self.model.norm is None)
        if candidate.moved is not None or with_norm:  # operations were matched in the wrong order, or not at all
            return case.aligned(None, products, None, until)
        return case.aligned(self.found.matched, products, begin, until)

    def aligned(
        self,
        matched: Mapping[str, Operation] | None = None,
        products: bool = True,
        begin: tuple[str, Array] | None = None,
        until: str | None = None,
    ) -> Case:
        """The case, aligned again; without `matched`, operations are matched anew."""
        found = align(
            self.model,
            self.seen,
            self.inputs,
            self.given,
            matched=matched,
            products=products,
            beyond=self.beyond,
            weights_within=self.weights_within,
            begin=begin,
            until=until,
        )
        return replace(self, found=found)


def prove(case: Case, finding: Finding) -> Candidate | None:
    """The change that makes a finding vanish and after which the next one comes as late as possible; None if none does.

    Of changes after which the next difference is at the same operation, the one that leaves the fewest differences is
    chosen. A change to one node is also tried at all nodes that are equal to it.
    """
    products = finding.kind in ("conv", "linear")
    best, reached = None, _progress(case.model, (finding,))
    for candidate in _candidates(case, finding):
        if not _vanishes(case, candidate, finding):
            continue
        if finding.kind == "missing" and candidate.moved is None:
            return candidate
        for wider in (candidate, _everywhere(case.model, candidate)):
            if wider is not None:
                progress = _progress(wider.model, case.apply(wider, products).found.findings)
                if progress > reached:
                    best, reached = wider, progress
        certain = finding.kind in ("conv", "linear", "norm") and candidate.moved is None
        if best is not None and (reached[0] == np.inf or certain):
            break
    return best


def _progress(model: Model, findings: Sequence[Finding]) -> tuple[float, int]:
    """The place of the first finding in order of execution (infinite if there is none), and minus their number."""
    places = {op.path: place for place, op in enumerate(trace(model).ops)}
    first = min((places.get(finding.path, places["head"]) for finding in findings), default=np.inf)
    return first, -len(findings)


def _vanishes(case: Case, candidate: Candidate, finding: Finding) -> bool:
    """Whether a finding is gone after a change; only the part from the changed stage to the finding is run."""
    products = finding.kind in ("conv", "linear")
    try:
        if finding.kind == "missing" and candidate.moved is None:
            findings = replace(case, model=candidate.model).aligned(products=False).found.findings
        else:
            findings = case.apply(candidate, products, _start(case, candidate), finding.path).found.findings
    except (SpecError, ValueError):  # ValueError: shapes that do not fit
        return False
    return not any((other.path, other.kind) == (finding.path, finding.kind) for other in findings)


def _start(case: Case, candidate: Candidate) -> tuple[str, Array] | None:
    """The first stage that a candidate changes, and the stage's input; None where it changes more than stages."""
    stages = [*(stage.name for stage in case.model.stages), "head"]
    where = [path for each in (*candidate.first, candidate) for path in each.where]
    changed = [at for at in (path.partition(".")[0] for path in where) if at in stages]
    if not changed or candidate.inputs is not None:
        return None
    first = min(changed, key=stages.index)
    return first, case.found.stages[first]


def _candidates(case: Case, finding: Finding) -> Iterator[Candidate]:
    """What could explain a finding, the likeliest first."""
    between = finding.kind in ("input", "output")
    if finding.kind == "norm" or between:
        yield from _epsilons(case, finding)
    if finding.kind == "input" and finding.path == trace(case.model).ops[0].path:
        yield from _inputs(case, finding)
    if finding.kind == "output":
        yield Candidate("softmax", ("head",), "a softmax follows the logits", case.model, beyond=Beyond(softmax=True))
    if finding.kind == "missing":
        yield from _classes(case) if finding.path == "head" else _kernels(case, finding)
        yield from _layers(case, finding)
        return
    if between and case.model.norm is None:
        yield from _norms(case)
    if finding.kind == "input" and finding.path == "head.fc":
        yield from _feature_scales(case, finding)
    nodes = nodes_of(case.model)
    if finding.kind == "conv" and isinstance(getattr(nodes[finding.path], "kernel", None), tuple):
        yield from _layers(case, finding)  # of a pair 1 x 7, 7 x 1 the network may have only one
    if finding.kind == "input" and np.isinf(finding.error):  # of another shape: the network may have padded it itself
        for cause, text, changed in _product(nodes[finding.path]):
            yield Candidate(cause, (finding.path,), text, with_node(case.model, finding.path, changed))
    together: dict[tuple[str, str], list[tuple[str, Node]]] = {}
    for path in reversed(finding.between or (finding.path,)):
        if path in nodes:
            node = nodes[path]
            changes = _between(node) if between else _product(node)
            if between and isinstance(node, Residual):
                changes = itertools.chain(changes, _fitted(case, finding, path, node))
            for cause, text, changed in changes:
                together.setdefault((cause, text), []).append((path, changed))
                yield Candidate(cause, (path,), text, with_node(case.model, path, changed))
            if between and isinstance(node, Concat):
                yield from _orders(case.model, path, node)
    for (cause, text), places in together.items():
        if len(places) > 1:  # several branches of a concatenation
            model = functools.reduce(lambda model, place: with_node(model, *place), places, case.model)
            yield Candidate(cause, tuple(path for path, _ in places), text, model)
    if between:
        yield from _kernels(case, finding)
        yield from _layers(case, finding)
    single = [(cause, text, path, node) for (cause, text), places in together.items() for path, node in places]
    for one, two in itertools.combinations(single if between else (), 2):
        if one[2] != two[2]:
            first = Candidate(one[0], (one[2],), one[1], with_node(case.model, one[2], one[3]))
            yield Candidate(two[0], (two[2],), two[1], with_node(first.model, two[2], two[3]), first=(first,))


def _orders(model: Model, path: str, node: Concat) -> Iterator[Candidate]:
    """The branches of a concatenation in other orders."""
    for order in itertools.permutations(range(len(node.branches))):
        if list(order) != sorted(order):
            text = f"the branches in the order {', '.join(f'branch{i}' for i in order)}"
            changed = Concat(tuple(node.branches[i] for i in order))
            new = {f"{path}.branch{now}": f"{path}.branch{old}" for now, old in enumerate(order)}
            yield Candidate("branch_order", (path,), text, with_node(model, path, changed), moved=new)


def _layers(case: Case, finding: Finding) -> Iterator[Candidate]:
    """One layer left out, or repeated."""
    here = dict.fromkeys(layer for path in (finding.path, *finding.between) for layer in layers(case.model, path))
    behind = dict.fromkeys(layer for path in finding.between for layer in layers(case.model, path))
    behind |= dict.fromkeys(layers_before(case.model, finding.path))
    for cause, text, change, places in (
        ("missing_layer", "the network does not have it", without_layer, here),
        ("repeated_layer", "the network has another one after it", with_layer_twice, behind),
    ):
        for path in places:
            with contextlib.suppress(SpecError):  # not every layer can be left out
                model, new = change(case.model, path)
                yield Candidate(cause, (path,), text, model, moved=new)


def _feature_scales(case: Case, finding: Finding) -> Iterator[Candidate]:
    """Features multiplied by a constant: dropout that scales in inference instead of in training."""
    observed = case.seen.arrays[case.found.matched[finding.path].x].astype(np.float64)
    expected = case.found.expected[finding.path]
    if observed.shape == expected.shape and expected.any():
        scale = float(f"{float((observed * expected).sum() / (expected**2).sum()):.4g}")
        text = f"features multiplied by {scale:g} before the classifier: dropout that scales in inference"
        yield Candidate("dropout_scale", ("head",), text, case.model, beyond=Beyond(feature_scale=scale))


def _classes(case: Case) -> Iterator[Candidate]:
    """Another number of classes: that of a linear layer that has not been matched."""
    left = [o for o in case.seen.operations if o.kind == "linear" and o not in case.found.matched.values()]
    for operation in left:
        classes = len(case.seen.arrays[operation.parameters["weight"]])
        cause = "background_class" if classes == case.model.num_classes + 1 else "num_classes"
        text = f"{classes} classes where the spec has {case.model.num_classes}"
        yield Candidate(cause, ("head",), text, replace(case.model, num_classes=classes))


def _kernels(case: Case, finding: Finding) -> Iterator[Candidate]:
    """Other kernel sizes: those of convolutions that have not been matched and have the same channels."""
    node = nodes_of(case.model).get(finding.path)
    if not isinstance(node, Conv | Depthwise):
        return
    wanted = trace(case.model).parameters[f"{finding.path}.conv.weight"].shape
    for operation in case.seen.operations:
        shape = case.seen.arrays[operation.parameters["weight"]].shape if "weight" in operation.parameters else ()
        if operation.kind == "conv" and operation not in case.found.matched.values() and shape[:2] == wanted[:2]:
            height, width = shape[2:]
            text = f"a kernel of {height} x {width} where the spec has {wanted[2]} x {wanted[3]}"
            changed = replace(node, kernel=height if height == width else (height, width))
            model = with_node(case.model, finding.path, changed)
            # If it is not missing, another layer's convolution was matched in its place: match all operations anew.
            new: dict[str, str] | None = None if finding.kind == "missing" else {}
            yield Candidate("kernel", (finding.path,), text, model, moved=new)


def _norms(case: Case) -> Iterator[Candidate]:
    """Batch norm in place of the biases of convolutions, in a network whose spec has none."""
    stated = [operation.settings["eps"] for operation in case.seen.operations if operation.kind == "norm"]
    if not stated:
        return

    def without_bias(leaf: Leaf) -> Leaf:
        return replace(leaf, bias=False) if isinstance(leaf, Conv | Depthwise) else leaf

    eps = float(f"{stated[0]:.4g}")
    stages = tuple(replace(stage, node=transform(stage.node, without_bias)) for stage in case.model.stages)
    text = f"batch norm (eps={eps:g}) after every convolution where the spec has a bias"
    yield Candidate("norm", ("batch norm",), text, replace(case.model, stages=stages, norm=Norm(eps)))


def _turned(arrays: Mapping[str, Array], name: str, shape: tuple[int, ...]) -> Array:
    """A given array, or what a changed spec needs in its place: the transposed kernel, or a norm without effect."""
    if name in arrays and arrays[name].shape == shape:
        return arrays[name]
    if name in arrays and arrays[name].ndim == 4 and arrays[name].swapaxes(2, 3).shape == shape:
        return arrays[name].swapaxes(2, 3)
    return np.full(shape, name.endswith(("bn.weight", "bn.var")), np.float32)


def _everywhere(model: Model, candidate: Candidate) -> Candidate | None:
    """The same change at every node that equals the changed one; None where there is no other."""
    nodes = nodes_of(model)
    if len(candidate.where) != 1 or candidate.where[0] not in nodes or candidate.moved is not None or candidate.first:
        return None
    (at,) = candidate.where
    changed = nodes_of(candidate.model)[at]
    same = tuple(path for path, node in nodes.items() if node == nodes[at])
    if len(same) == 1:
        return None
    result = model
    for path in same:
        result = with_node(result, path, changed)
    return replace(candidate, where=same, model=result)


def _epsilons(case: Case, finding: Finding) -> Iterator[Candidate]:
    """Other epsilons, for all batch norms and for one: those that the network itself states, then the usual ones."""
    norm = case.model.norm
    if norm is None:
        return
    stated = [operation.settings["eps"] for operation in case.seen.operations if "eps" in operation.settings]
    for eps in dict.fromkeys((*(float(f"{eps:.4g}") for eps in stated), *EPSILONS)):
        text = f"eps={eps:g} where the spec has {norm.eps:g}"
        if eps != norm.eps:
            yield Candidate("eps", ("batch norm",), text, replace(case.model, norm=replace(norm, eps=eps)))
        if finding.kind == "norm" and eps != case.beyond.epsilons.get(finding.path, norm.eps):
            yield Candidate("eps", (finding.path,), text, case.model, beyond=Beyond({finding.path: eps}))


def _inputs(case: Case, finding: Finding) -> Iterator[Candidate]:
    """Another order of the channels, or a scale and a shift for each of them."""
    operation = case.found.matched.get(f"{finding.path}.conv")
    observed = None if operation is None else case.seen.arrays[operation.x].astype(np.float64)
    if observed is None or observed.shape != case.inputs.shape:
        return
    turned = case.inputs[:, ::-1]
    text = "the network reverses the channels (RGB, BGR)"
    yield Candidate("channel_order", ("input",), text, case.model, turned)
    for source, order in ((case.inputs, ""), (turned, " of the channels in reverse")):
        fits = [np.polyfit(source[:, c].ravel(), observed[:, c].ravel(), 1) for c in range(source.shape[1])]
        scale, shift = np.array(fits).T
        made = source * scale[:, None, None] + shift[:, None, None]
        text = f"the network first computes {_list(scale)} x + {_list(shift)}{order}"
        yield Candidate("normalisation", ("input",), text, case.model, made)


def _list(values: Array) -> str:
    return f"[{', '.join(f'{value:.4g}' for value in values)}]"


def _fitted(case: Case, finding: Finding, path: str, node: Residual) -> Iterator[Change]:
    """The scale of a residual branch, by Newton's method on the input that was observed.

    Where a ReLU follows, its zeros carry no information and are left out; elsewhere the input is linear in the scale.
    """
    matched = case.found.matched
    operation = matched.get(f"{finding.path}.conv") or matched.get(finding.path)
    if operation is None:
        return
    observed = case.seen.arrays[operation.x].astype(np.float64)

    def arriving(scale: float) -> Array | None:
        model = with_node(case.model, path, replace(node, scale=scale))
        candidate = Candidate("", (path,), "", model)
        return case.apply(candidate, False, _start(case, candidate), finding.path).found.expected.get(finding.path)

    scale, step = node.scale, 1e-3
    for _ in range(NEWTON_STEPS):
        here, there = arriving(scale), arriving(scale + step)
        if here is None or there is None or here.shape != observed.shape:
            break
        kept = (observed > 0) & (here > 0) if observed.min() >= 0 else np.ones(observed.shape, bool)
        slope = ((there - here) / step)[kept]
        if not slope.any():
            return
        scale += float(slope @ (observed - here)[kept] / (slope @ slope))
    for rounded in dict.fromkeys((round(scale, 3), float(f"{scale:.6g}"), scale)):
        yield "residual_scale", f"scale={rounded:g} where the spec has {node.scale:g}", replace(node, scale=rounded)


def _product(node: Node) -> Iterator[Change]:
    """Other ways to run a convolution."""
    if not isinstance(node, Conv | Depthwise):
        return
    yield from _windows(node)
    if isinstance(node.kernel, tuple):
        height, width = node.kernel
        text = f"a kernel of {width} x {height} where the spec has {height} x {width}"
        yield "kernel_order", text, replace(node, kernel=(width, height))


def _between(node: Node) -> Iterator[Change]:
    """Other ways to do what follows a convolution: ReLUs, pools, sums, concatenations."""
    match node:
        case Conv() | Depthwise() | Residual():
            cause = "missing_relu" if node.act else "extra_relu"
            yield cause, f"{'no' if node.act else 'a'} ReLU at its end", replace(node, act=not node.act)
            if isinstance(node, Residual):
                for scale in SCALES:
                    if scale != node.scale:
                        text = f"scale={scale:g} where the spec has {node.scale:g}"
                        yield "residual_scale", text, replace(node, scale=scale)
        case MaxPool():
            average: Literal["half", "valid"] = "half" if node.padding == "half" else "valid"
            for counted in (False, True):
                text = f"average pooling, count_include_pad={counted}, where the spec has the maximum"
                yield "pool_kind", text, AvgPool(node.kernel, node.stride, average, counted)
            yield from _windows(node)
        case AvgPool():
            counted = not node.count_include_pad
            if node.padding == "half":
                text = f"count_include_pad={counted} where the spec has {node.count_include_pad}"
                yield "count_include_pad", text, replace(node, count_include_pad=counted)
            text = "the maximum where the spec has average pooling"
            yield "pool_kind", text, MaxPool(node.kernel, node.stride, node.padding)
            yield from _windows(node)
        case Head(hidden=int()):
            cause = "missing_relu" if node.act else "extra_relu"
            yield cause, f"{'no' if node.act else 'a'} ReLU after the hidden layer", replace(node, act=not node.act)
        case Head() | NormRelu() | Relu() | AdaptiveAvgPool() | Chain() | Concat():
            return
        case _:
            assert_never(node)


def _windows(node: Conv | Depthwise | MaxPool | AvgPool) -> Iterator[Change]:
    """Other paddings, dilations and strides."""
    paddings: tuple[Any, ...] = {MaxPool: POOL_PADDINGS, AvgPool: POOL_PADDINGS[:2]}.get(type(node), POOL_PADDINGS[:3])
    for padding in paddings:
        if padding != node.padding:
            text = f"padding {padding!r} where the spec has {node.padding!r}"
            yield "padding", text, replace(node, padding=padding)
    if isinstance(node, Conv | Depthwise):
        for dilation in (1, 2, 4):
            if dilation != node.dilation:
                text = f"dilation={dilation} where the spec has {node.dilation}"
                yield "dilation", text, replace(node, dilation=dilation)
    for stride in (1, 2):
        if stride != node.stride:
            yield "stride", f"stride={stride} where the spec has {node.stride}", replace(node, stride=stride)
