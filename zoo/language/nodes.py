"""The nodes of the spec language: a network as a value.

Leaves are `Conv` (convolution, normalisation, ReLU: what the papers draw as one box), `Depthwise`, `NormRelu`, `Relu`,
`MaxPool`, `AvgPool`, `AdaptiveAvgPool` and `Head`; combinators are `a >> b`, `concat(a, b)` and `Residual`. All are
frozen dataclasses without arrays: hashable, comparable, cheap to build. A node maps features [N, C, H, W] to features;
a `Head` maps them to logits [N, num_classes]. Numbers of input channels are never written: `trace` infers them, and
the names of all tensors.

`Node` is a closed union. Code that walks it uses `match` and ends in `assert_never`, so that mypy reports every walk
that lacks a new kind of node.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, NoReturn, TypeAlias

from zoo.arguments import integer, within
from zoo.errors import SpecError

ConvPadding: TypeAlias = Literal["half", "valid", "same"]
PoolPadding: TypeAlias = Literal["half", "valid", "same", "ceil"]
"""How a border is padded, for an input of n, a kernel of k, a stride of s (`zoo.language.geometry.border` computes it).

half    k // 2 on both sides: PyTorch's usual `padding=k // 2`
valid   none: a last window that does not fit is dropped
same    TensorFlow's: ceil(n / s) outputs; if the padding is odd, the extra pixel is at the bottom or right
ceil    none before, and after as much as completes the last window: PyTorch's `ceil_mode=True`
"""

Kernel: TypeAlias = "int | tuple[int, int]"
ROW3, COL3, ROW7, COL7 = (1, 3), (3, 1), (1, 7), (7, 1)


def assert_never(value: NoReturn) -> NoReturn:
    """Mark a `match` as complete (`typing.assert_never` is Python 3.11's)."""
    raise AssertionError(f"unhandled kind of node: {value!r}")


class _Chainable:
    def __rshift__(self: Node, after: Node) -> Chain:  # type: ignore[misc]
        """`a >> b`: b takes a's output. Chains are flat: (a >> b) >> c is a >> (b >> c)."""
        if not is_node(after):
            raise SpecError(f"{self} >> {after!r}: expected a node on the right, not {type(after).__name__}")
        return Chain(_links(self) + _links(after))


@dataclass(frozen=True)
class Conv(_Chainable):
    """Convolution, the model's norm (if it has one and `norm`), ReLU (if `act`)."""

    channels: int
    kernel: Kernel = 1
    stride: int = 1
    padding: ConvPadding = "half"
    dilation: int = 1
    bias: bool = False
    norm: bool = True
    act: bool = True

    def __post_init__(self) -> None:
        _set_integer(self, "channels")
        _check_box(self)


@dataclass(frozen=True)
class Depthwise(_Chainable):
    """Convolution of each channel by itself, then norm and ReLU as in `Conv`."""

    kernel: Kernel = 3
    stride: int = 1
    padding: ConvPadding = "half"
    dilation: int = 1
    bias: bool = False
    norm: bool = True
    act: bool = True

    def __post_init__(self) -> None:
        _check_box(self)


@dataclass(frozen=True)
class NormRelu(_Chainable):
    """The model's norm, then ReLU: pre-activation."""


@dataclass(frozen=True)
class Relu(_Chainable):
    """max(x, 0), where it is not part of a convolution's box."""


@dataclass(frozen=True)
class MaxPool(_Chainable):
    """Maximum over each window; padding never wins (it is minus infinity)."""

    kernel: int = 3
    stride: int = 1
    padding: PoolPadding = "half"

    def __post_init__(self) -> None:
        _check_window(self, ("half", "valid", "same", "ceil"))


@dataclass(frozen=True)
class AvgPool(_Chainable):
    """Mean over each window: of the pixels inside the image, or of padded zeros too with `count_include_pad`."""

    kernel: int = 3
    stride: int = 1
    padding: Literal["half", "valid"] = "half"
    count_include_pad: bool = False

    def __post_init__(self) -> None:
        _check_window(self, ("half", "valid"))
        _check_switches(self, "count_include_pad")


@dataclass(frozen=True)
class AdaptiveAvgPool(_Chainable):
    """Mean over `size` x `size` windows; window i of n pixels is [floor(i n / size), ceil((i + 1) n / size))."""

    size: int

    def __post_init__(self) -> None:
        _set_integer(self, "size")


@dataclass(frozen=True)
class Head(_Chainable):
    """Classifier: global average pool (or flatten, C x H x W), a hidden layer if any, dropout, linear.

    The hidden layer ends in a ReLU if `act`.
    """

    dropout: float = 0.0
    hidden: int | None = None
    pool: bool = True
    act: bool = True

    def __post_init__(self) -> None:
        if not within(self.dropout, 0, 1) or self.dropout == 1:
            raise SpecError(f"{self}: dropout is a probability, at least 0 and below 1")
        if self.hidden is not None:
            _set_integer(self, "hidden")
        _check_switches(self, "pool", "act")


@dataclass(frozen=True)
class Chain(_Chainable):
    """Nodes one after another; written `a >> b`. Children are named 0, 1, ..."""

    nodes: tuple[Node, ...]

    def __post_init__(self) -> None:
        _check_nodes("chain", self.nodes, least=1)


@dataclass(frozen=True)
class Concat(_Chainable):
    """Branches side by side, joined along the channels; written `concat(a, b)`. Children are branch0, branch1, ..."""

    branches: tuple[Node, ...]

    def __post_init__(self) -> None:
        _check_nodes("concat", self.branches, least=2)


@dataclass(frozen=True)
class Residual(_Chainable):
    """shortcut(x) + scale * body(x), then ReLU if `act`; without a shortcut, x itself. Children: body, shortcut."""

    body: Node
    shortcut: Node | None = None
    scale: float = 1.0
    act: bool = False

    def __post_init__(self) -> None:
        _check_nodes("residual", (self.body, *(() if self.shortcut is None else (self.shortcut,))), least=1)
        if not within(self.scale, -1e6, 1e6):
            raise SpecError(f"residual: scale must be a number, not {self.scale!r}")
        _check_switches(self, "act")


Box: TypeAlias = Conv | Depthwise
Leaf: TypeAlias = Box | NormRelu | Relu | MaxPool | AvgPool | AdaptiveAvgPool | Head
Combinator: TypeAlias = Chain | Concat | Residual
Node: TypeAlias = Leaf | Combinator


def concat(*branches: Node) -> Concat:
    """Branches over one input, joined along the channels in the order given."""
    return Concat(branches)


def repeat(node: Node, times: int) -> Chain:
    """`times` copies of a node one after another, named 0, 1, ..."""
    return Chain((node,) * times)


def children(node: Combinator) -> list[tuple[str, Node]]:
    """The (name, node) pairs below a combinator: the path components of every framework's modules."""
    match node:
        case Chain(nodes):
            return [(str(i), child) for i, child in enumerate(nodes)]
        case Concat(branches):
            return [(f"branch{i}", child) for i, child in enumerate(branches)]
        case Residual(body, shortcut):
            return [("body", body), *([] if shortcut is None else [("shortcut", shortcut)])]


def transform(node: Node, leaf: Callable[[Leaf], Leaf]) -> Node:
    """The same tree with every leaf replaced."""
    match node:
        case Chain(nodes):
            return Chain(tuple(transform(child, leaf) for child in nodes))
        case Concat(branches):
            return Concat(tuple(transform(child, leaf) for child in branches))
        case Residual(body, shortcut):
            shortcut = None if shortcut is None else transform(shortcut, leaf)
            return replace(node, body=transform(body, leaf), shortcut=shortcut)
        case Conv() | Depthwise() | NormRelu() | Relu() | MaxPool() | AvgPool() | AdaptiveAvgPool() | Head():
            return leaf(node)
    assert_never(node)


def leaves(node: Node) -> list[Leaf]:
    """All leaves, in order."""
    match node:
        case Chain() | Concat() | Residual():
            return [leaf for _, child in children(node) for leaf in leaves(child)]
        case Conv() | Depthwise() | NormRelu() | Relu() | MaxPool() | AvgPool() | AdaptiveAvgPool() | Head():
            return [node]
    assert_never(node)


def is_node(value: object) -> bool:
    """Whether `value` is a node of the language."""
    return isinstance(value, _Chainable)


def _links(node: Node) -> tuple[Node, ...]:
    return node.nodes if isinstance(node, Chain) else (node,)


def _set_integer(node: Leaf, what: str) -> None:
    """Convert a field, a Python or NumPy integer, to an int. Raises SpecError unless it is an integer of at least 1."""
    object.__setattr__(node, what, integer(getattr(node, what), f"{node}: {what}"))


def _check_box(node: Box) -> None:
    _set_integer(node, "dilation")
    _check_window(node, ("half", "valid", "same"))
    _check_switches(node, "bias", "norm", "act")


def _check_window(node: Box | MaxPool | AvgPool, allowed: tuple[str, ...]) -> None:
    kernel: Any = node.kernel
    if isinstance(kernel, tuple) and isinstance(node, Conv | Depthwise):
        if len(kernel) != 2:
            raise SpecError(f"{node}: kernel must be an integer or (height, width), not {kernel}")
        object.__setattr__(node, "kernel", tuple(integer(size, f"{node}: kernel") for size in kernel))
    else:
        _set_integer(node, "kernel")
    _set_integer(node, "stride")
    if node.padding not in allowed:
        raise SpecError(f"{node}: padding must be one of {', '.join(allowed)}")


def _check_switches(node: Node, *names: str) -> None:
    for name in names:
        if not isinstance(getattr(node, name), bool):
            raise SpecError(f"{node}: {name} must be true or false, not {getattr(node, name)!r}")


def _check_nodes(what: str, nodes: tuple[Node, ...], least: int) -> None:
    if not isinstance(nodes, tuple) or len(nodes) < least:
        raise SpecError(f"{what}: expected a tuple of at least {least} nodes, not {nodes!r}")
    for node in nodes:
        if not is_node(node):
            raise SpecError(f"{what}: expected nodes, not {node!r}")
