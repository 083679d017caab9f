"""Aligning what a network computed with a spec, and finding where the two differ.

The spec is run on the observed network's own values. Every convolution, linear layer and batch norm gets the observed
input, its output is compared with the observed output, and the observed output is passed on. So each operation is
judged by itself. What lies between two of them (ReLUs, pools, concatenations, sums) is judged by the input that it
makes for the next one. Operations are matched by their inputs, the shapes of their weights and the order of execution:
names do not matter.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from backends.observed import Observation, Operation, digest
from zoo.language.geometry import border, reach
from zoo.language.interpreter import Interpreter, batch_norm
from zoo.language.model import Model
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
from zoo.language.trace import trace
from zoo.parity.bands import FLOOR, band_of, error, unit

Array = NDArray[Any]

Kind = Literal["input", "conv", "linear", "norm", "output", "weight", "missing", "extra", "statistic"]

MANY, SURE = 6, 8
"""If an operation is outside the band that one run measures, the band of `MANY` runs decides, unless the error is more
than `SURE` times the first band."""

PASSING = FLOOR * unit("fp32")
"""Largest error of what lies between two products: pools and sums of float32 values, each rounded once or twice."""


@dataclass(frozen=True)
class Beyond:
    """What a network does that no spec can express.

    epsilons       of the batch norms that have another epsilon than the model's, by path
    softmax        whether its output is the softmax of the logits
    feature_scale  the factor by which features are multiplied before the classifier
    """

    epsilons: Mapping[str, float] = field(default_factory=dict)
    softmax: bool = False
    feature_scale: float = 1.0

    def __or__(self, other: Beyond) -> Beyond:
        """The effects of both together."""
        return Beyond(
            {**self.epsilons, **other.epsilons},
            self.softmax or other.softmax,
            self.feature_scale * other.feature_scale,
        )


NOTHING = Beyond()


@dataclass(frozen=True)
class Finding:
    """A difference between the spec and the observed network.

    path     of the spec
    kind     what differs: the "input" of an operation; the output of a "conv", "linear" layer or "norm", given the
             observed input; the network's "output"; a "weight" that is not the checkpoint's; an operation that is
             "missing" from the network, or "extra"; a "statistic" of batch norm after a training step
    error    max |observed - expected| / max |expected|
    band     the largest error that rounding explains
    name     the network's own name of the operation
    between  paths of the spec that have changed the value since the last observed operation
    detail   further facts, in words
    """

    path: str
    kind: Kind
    error: float
    band: float
    name: str = ""
    between: tuple[str, ...] = ()
    detail: str = ""

    def document(self) -> dict[str, Any]:
        """As JSON. An infinite error (another shape, or values that are not finite) becomes None."""
        return {**asdict(self), "between": list(self.between), "error": self.error if np.isfinite(self.error) else None}


@dataclass
class Alignment:
    """What was found, in order of execution.

    matched   the operation of each path of the spec that has one ("....conv", "....bn", "....fc", "....hidden")
    arrays    canonical weights: the observed network's own, or the given ones
    errors    the error and the band, by path, of the comparison whose error is the largest share of its band
    checked   number of operations and inputs that were compared
    expected  the right input of each operation whose input differs, by path
    stages    the input of each stage, made from the observed values, by the stage's name
    """

    findings: list[Finding] = field(default_factory=list)
    matched: dict[str, Operation] = field(default_factory=dict)
    arrays: dict[str, Array] = field(default_factory=dict)
    errors: dict[str, tuple[float, float]] = field(default_factory=dict)
    checked: int = 0
    expected: dict[str, Array] = field(default_factory=dict)
    stages: dict[str, Array] = field(default_factory=dict)

    @property
    def first(self) -> Finding | None:
        return self.findings[0] if self.findings else None

    def note(self, path: str, error: float, band: float) -> None:
        """Record a comparison."""
        self.checked += 1
        known = self.errors.get(path)
        if known is None or not error * known[1] <= known[0] * band:
            self.errors[path] = (error, band)


def align(
    model: Model,
    seen: Observation,
    inputs: Array,
    arrays: Mapping[str, Array] | None = None,
    *,
    matched: Mapping[str, Operation] | None = None,
    products: bool = True,
    beyond: Beyond = NOTHING,
    weights_within: float = 0.0,
    begin: tuple[str, Array] | None = None,
    until: str | None = None,
) -> Alignment:
    """Compare an observed network with a spec.

    model           without auxiliary heads
    inputs          the batch that the network was run on, [N, C, H, W]
    arrays          canonical weights that it should have; None: its own are taken
    matched         operations by path, from an earlier alignment; None: they are matched now
    products        compare convolutions and linear layers too; if False, only what lies between them, much faster
    beyond          what the network does that no spec can express
    weights_within  the largest error of weights against `arrays` that is not reported
    begin           the stage to begin with, or "head", and its input; None: the first stage, with `inputs`
    until           the path of the last operation to compare; None: all
    """
    walk = _Walk(model, seen, arrays, matched, products, beyond, weights_within, until)
    with contextlib.suppress(_Reached):
        walk.begin(*(begin or (model.stages[0].name, inputs.astype(np.float64))))
    return walk.result


class _Reached(Exception):
    """The last operation to compare has been compared."""


class _Walk(Interpreter):
    def __init__(
        self,
        model: Model,
        seen: Observation,
        arrays: Mapping[str, Array] | None,
        matched: Mapping[str, Operation] | None,
        products: bool,
        beyond: Beyond,
        weights_within: float,
        until: str | None,
    ) -> None:
        super().__init__(model, None if arrays is None else {n: a.astype(np.float64) for n, a in arrays.items()})
        self.seen, self.given, self.known, self.products = seen, arrays, matched, products
        self.beyond, self.weights_within, self.until = beyond, weights_within, until
        self.result = Alignment(matched=dict(matched or {}))
        self.named = {operation.spec_name: operation for operation in seen.operations if operation.spec_name}
        self.left = [operation for operation in seen.operations if not operation.spec_name]
        self.pending: dict[int, tuple[Array, tuple[str, ...]]] = {}
        self.entering: tuple[str, ...] = ()
        self.shapes = trace(model).parameters
        self.following = _following(model)

    def begin(self, first: str, value: Array) -> None:
        names = [*(stage.name for stage in self.spec.stages), "head"]
        for stage in self.spec.stages[names.index(first) :]:
            self.result.stages[stage.name] = value
            value = self.run(stage.node, stage.name, value)
        if self.spec.head is not None:
            self.result.stages["head"] = value
            value = self.run(self.spec.head, "head", value)
            if self.beyond.softmax:
                powers = np.exp(value - value.max(1, keepdims=True))
                value = self._made(powers / powers.sum(1, keepdims=True), (value,), "head")
            self._compare("head", "output", value, self.seen.output, PASSING)
        products = [operation for operation in self.left if operation.kind != "norm"]
        if products and self.known is None:
            some = ", ".join(operation.name or operation.kind for operation in products[:3])
            detail = f"{len(products)} operations of the network are not in the spec: {some}"
            self.result.findings.append(Finding("", "extra", np.inf, 0.0, products[0].name, (), detail))
        self.result.arrays = {name: array.astype(np.float32) for name, array in self.weights.items()}

    # Which nodes have changed a value since the last observed operation.

    def run(self, node: Node, path: str, x: Array) -> Array:
        y = self._run(node, path, x)
        if path == self.until and path != "head":
            raise _Reached
        return y

    def _run(self, node: Node, path: str, x: Array) -> Array:
        match node:
            case Concat():
                parts = [self.run(child, f"{path}.{name}", x) for name, child in children(node)]
                return self._made(np.concatenate(parts, 1), parts, path)
            case Residual():
                straight = x if node.shortcut is None else self.run(node.shortcut, f"{path}.shortcut", x)
                body = self.run(node.body, f"{path}.body", x)
                y = straight + node.scale * body
                return self._made(np.maximum(y, 0) if node.act else y, (straight, body), path)
            case Chain():
                return super().run(node, path, x)
            case Head():
                self.entering = (*self._between(x), path)  # for its linear layers, which get arrays made from x
                return self._made(super().run(node, path, x), (), path)
            case Conv() | Depthwise() | NormRelu():
                return self._made(super().run(node, path, x), (), path)
            case Relu() | MaxPool() | AvgPool() | AdaptiveAvgPool():
                return self._made(super().run(node, path, x), (x,), path)
        assert_never(node)

    def _made(self, y: Array, parents: Sequence[Array], path: str) -> Array:
        before = [at for parent in parents for at in self._between(parent)]
        self.pending[id(y)] = (y, tuple(dict.fromkeys((*before, path))))  # keep the array, so that its id stays its own
        return y

    def _between(self, x: Array) -> tuple[str, ...]:
        return self.pending[id(x)][1] if id(x) in self.pending else self.entering

    # The observed operations.

    def convolve(self, node: Box, path: str, x: Array) -> Array:
        name = f"{path}.conv"
        operation = self._operation(name, "conv", x, node)
        if operation is None:
            return self._missing(name, lambda: super(_Walk, self).convolve(node, path, x))
        x = self._arrived(path, operation, x, node)
        self._weigh(path, name, operation, ("weight", "bias") if node.bias else ("weight",))
        observed = self.seen.arrays[operation.y].astype(np.float64)
        if not self._fits(observed, node, path, x):
            expected = super().convolve(node, path, x)
            self._compare(path, "conv", expected, observed, 0.0, operation)
            return expected
        if self.products:
            expected = super().convolve(node, path, x)
            limit = self._band(lambda net: net.convolve(node, path, x), path, expected, observed)
            self._compare(path, "conv", expected, observed, limit, operation)
        return observed

    def _fits(self, observed: Array, node: Box, path: str, x: Array) -> bool:
        """Whether an observed output has the shape that the spec's convolution gives."""
        channels = len(self.weights[f"{path}.conv.weight"])
        sides = [
            (n + sum(border(node.padding, n, k, node.stride)) - k) // node.stride + 1
            for n, k in zip(x.shape[2:], reach(node), strict=True)
        ]
        return observed.shape == (len(x), channels, *sides)

    def linear(self, path: str, x: Array) -> Array:
        x = x * self.beyond.feature_scale if path == "head.fc" else x
        operation = self._operation(path, "linear", x, None)
        if operation is None:
            return self._missing(path, lambda: super(_Walk, self).linear(path, x))
        x = self._arrived(path, operation, x, None)
        self._weigh(path, path, operation, ("weight", "bias"))
        observed = self.seen.arrays[operation.y].astype(np.float64)
        if self.products:
            expected = super().linear(path, x)
            limit = self._band(lambda net: net.linear(path, x), path, expected, observed)
            self._compare(path, "linear", expected, observed, limit, operation)
        return observed

    def normalise(self, path: str, x: Array) -> Array:
        if self.spec.norm is None:
            return x
        name = f"{path}.bn"
        operation = self._operation(name, "norm", x, None)
        if operation is None:
            if f"{name}.var" not in self.weights:  # the network has no norm here: use the identity
                channels = np.ones(x.shape[1])
                roles = {"weight": channels * np.sqrt(1 + self.spec.norm.eps), "bias": 0 * channels}
                roles |= {"mean": 0 * channels, "var": channels}
                self.weights |= {f"{name}.{role}": array for role, array in roles.items()}
            return super().normalise(path, x)
        x = self._arrived(path, operation, x, None)
        self._weigh(path, name, operation, ("weight", "bias", "mean", "var"))
        norm = replace(self.spec.norm, eps=self.beyond.epsilons.get(path, self.spec.norm.eps))
        expected = batch_norm(x, self.weights, name, norm)
        observed = self.seen.arrays[operation.y].astype(np.float64)
        if operation.settings.get("act") == "relu":  # a ReLU hides negative values: the expected ones go on
            self._compare(path, "norm", np.maximum(expected, 0), observed, PASSING, operation)
            return np.where(observed > 0, observed, np.minimum(expected, 0))
        limit = PASSING
        if not error(observed, expected) <= PASSING and norm == self.spec.norm:  # cancellation rounds more
            limit = self._band(lambda net: net.normalise(path, x), path, expected, observed)
        self._compare(path, "norm", expected, observed, limit, operation)
        return observed

    def _operation(self, name: str, kind: str, x: Array, node: Box | None) -> Operation | None:
        """The observed operation of a name of the spec."""
        if self.known is not None:
            return self.known.get(name)
        if name in self.named:
            self.result.matched[name] = self.named[name]
            return self.named[name]
        of_kind = [operation for operation in self.left if operation.kind == kind]
        if kind == "norm":
            fitting = [operation for operation in of_kind if self._arrives(operation, x, node)]
        else:
            shape = self.shapes[f"{name}.weight"].shape
            fitting = [operation for operation in of_kind if self._shape(operation) == shape]
            turned = [operation for operation in of_kind if self._shape(operation) == (*shape[:-2], *shape[:-3:-1])]
            same = [operation for operation in fitting if self._arrives(operation, x, node)]
            exact = [operation for operation in same or fitting if self._has_given_weight(operation, name)]
            if len(same) > 1 and not exact:
                same = [operation for operation in same if self._goes_on_as(operation, name)] or same
            fitting = exact or same or [o for o in turned if self._arrives(o, x, node)] or fitting or turned
            if not exact and not same:  # none has this input: take, of the next two, the one whose input is nearer
                fitting = sorted(fitting[:2], key=lambda o: _nearest(self.seen.arrays[o.x], x, node)[0])
        if not fitting:
            return None
        self.left.remove(fitting[0])
        self.result.matched[name] = fitting[0]
        return fitting[0]

    def _shape(self, operation: Operation) -> tuple[int, ...]:
        return self.seen.arrays[operation.parameters["weight"]].shape

    def _arrives(self, operation: Operation, x: Array, node: Box | None) -> bool:
        return _nearest(self.seen.arrays[operation.x], x, node)[0] <= PASSING

    def _goes_on_as(self, operation: Operation, name: str) -> bool:
        """Whether the convolution after an operation (and its norm and ReLU, if any) has the shape that the spec wants.

        This tells apart the first convolutions of branches, which have the same input and often the same shape.
        """
        norms = [o for o in self.seen.operations if o.kind == "norm" and o.x == operation.y]
        y = (norms[0] if norms else operation).y
        keys = {y, digest(np.maximum(self.seen.arrays[y], 0))}
        shapes = [self._shape(o) for o in self.seen.operations if o.x in keys and o.kind == "conv"]
        wanted = self.following.get(name)
        return wanted in shapes if wanted else not shapes

    def _has_given_weight(self, operation: Operation, name: str) -> bool:
        if self.given is None or f"{name}.weight" not in self.given:
            return False
        return np.array_equal(self.seen.arrays[operation.parameters["weight"]], self.given[f"{name}.weight"])

    def _arrived(self, path: str, operation: Operation, x: Array, node: Box | None) -> Array:
        """Compare an operation's input; returns the observed input, without padding that the network has added."""
        found, value = _nearest(self.seen.arrays[operation.x], x, node)
        self.result.note(path, found, PASSING)
        if not found <= PASSING:
            between = self._between(x)
            self.result.expected[path] = x
            self.result.findings.append(Finding(path, "input", found, PASSING, operation.name, between))
        return value

    def _weigh(self, path: str, name: str, operation: Operation, roles: tuple[str, ...]) -> None:
        """Take the operation's parameters, or compare them with those given."""
        for role in roles:
            key = f"{name}.{role}"
            shape = self.shapes[key].shape
            observed = self.seen.arrays.get(operation.parameters.get(role, ""))
            if observed is None:  # no bias, a norm without gamma
                observed = np.full(shape, role in ("weight", "var"), np.float32)
            if self.given is None:
                turned = observed.ndim == 4 and observed.shape != shape
                self.weights[key] = (observed.swapaxes(2, 3) if turned else observed).astype(np.float64)
            elif observed.shape == shape:
                found = error(observed, self.given[key])
                if found > self.weights_within:
                    self.weights[key] = observed.astype(np.float64)  # go on with it, to judge what follows
                    if self.known is None:
                        own = operation.names.get(role, operation.name)
                        detail = f"{key} is not the checkpoint's"
                        limit = self.weights_within
                        self.result.findings.append(Finding(path, "weight", found, limit, own, (), detail))

    def _band(self, compute: Callable[[Interpreter], Array], path: str, expected: Array, observed: Array) -> float:
        """The band of one operation: from one run, or from `MANY` runs before an error near it is reported."""
        limit = band_of(compute, self.spec, self._local(path), expected, runs=1)
        if error(observed, expected) <= limit or error(observed, expected) > SURE * limit:
            return limit
        return band_of(compute, self.spec, self._local(path), expected, runs=MANY)

    def _local(self, path: str) -> dict[str, Array]:
        return {name: array for name, array in self.weights.items() if name.startswith(f"{path}.")}

    def _compare(
        self, path: str, kind: Kind, expected: Array, observed: Array, limit: float, operation: Operation | None = None
    ) -> None:
        found = error(observed, expected)
        self.result.note(path, found, limit)
        if not found <= limit:
            name = operation.name if operation else ""
            detail = "" if operation is None else ", ".join(f"{k} {v}" for k, v in operation.settings.items())
            between = self._between(expected) if kind == "output" else (path,)
            self.result.findings.append(Finding(path, kind, found, limit, name, between, detail))

    def _missing(self, name: str, compute: Callable[[], Array]) -> Array:
        if self.known is None:
            shape = self.shapes[f"{name}.weight"].shape
            detail = f"the network has no operation with a weight of {' x '.join(map(str, shape))} left for it"
            self.result.findings.append(Finding(name.rpartition(".")[0], "missing", np.inf, 0.0, "", (), detail))
        for key, parameter in self.shapes.items():
            if key.startswith(f"{name}."):
                self.weights.setdefault(key, np.zeros(parameter.shape))
        return compute()


def _following(model: Model) -> dict[str, tuple[int, ...]]:
    """By the name of a convolution, the shape of the weight of the convolution that comes right after it."""
    ops = trace(model).ops
    found = {}
    for op, after in itertools.pairwise(ops):
        chain, _, place = op.path.rpartition(".")
        if place.isdigit() and after.path == f"{chain}.{int(place) + 1}" and isinstance(after.node, Conv | Depthwise):
            found[f"{op.path}.conv"] = after.parameters[0].shape
    return found


def _nearest(observed: NDArray[np.float32], x: Array, node: Box | None) -> tuple[float, Array]:
    """The error of an observed input, and that input as float64, without padding that the network has added."""
    value = observed.astype(np.float64)
    if value.shape != x.shape and node is not None and value.ndim == 4 and value.shape[:2] == x.shape[:2]:
        pads = [border(node.padding, n, k, node.stride) for n, k in zip(x.shape[2:], reach(node), strict=True)]
        if tuple(n + sum(pad) for n, pad in zip(x.shape[2:], pads, strict=True)) == value.shape[2:]:
            (top, _), (left, _) = pads
            value = value[:, :, top : top + x.shape[2], left : left + x.shape[3]]
    if value.shape != x.shape:
        return np.inf, x
    return error(value, x), value
