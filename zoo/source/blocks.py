"""The classes and calls that make a network, for any framework.

A block, a concatenation or a residual sum at the top of a stage, becomes a class. Blocks that differ only in numbers of
channels share a class, whose arguments are the numbers that differ.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from zoo.language.blocks import BLOCKS, Block, camel
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
from zoo.language.trace import Trace, trace
from zoo.models import MODELS
from zoo.source.render import Argument, Call, Named, Width, several

INPUTS = "inputs"
"""The key of a block's number of input channels."""

PLACE = ""
"""The function of a placeholder, for a block whose class is not known yet; its argument is the block's path."""


@dataclass
class Instance:
    """A block at its place: the call that makes it from inside its class, and the numbers of its channels by key."""

    path: str
    block: Block
    inside: Call
    numbers: dict[str, int]


@dataclass(frozen=True)
class BlockClass:
    """A class.

    name       of the class
    about      what the block is, or ""
    stages     the stages that it is used in, in words
    inside     the call of the base class's constructor: `Concat(...)`, `Residual(...)` or a sequence
    arguments  names of the constructor's arguments, all of them numbers of channels
    names      what stands for each key in `inside`: an argument or a number
    """

    name: str
    about: str
    stages: str
    inside: Call
    arguments: tuple[str, ...]
    names: dict[str, str]


@dataclass
class Parts:
    """What a network is made of.

    classes  of blocks, in the order of their first use
    stages   for each stage the call that makes it
    heads    for each auxiliary head, and for the head, the call that makes it
    """

    classes: list[BlockClass] = field(default_factory=list)
    stages: dict[str, Argument] = field(default_factory=dict)
    heads: dict[str, Argument] = field(default_factory=dict)


def parts(model: Model) -> Parts:
    """The classes and calls of a network."""
    return _Writer(model, trace(model)).write()


class _Writer:
    def __init__(self, model: Model, traced: Trace) -> None:
        self.model, self.traced = model, traced
        self.published = MODELS.get(model.name, model).parts
        self.features = {op.path: op.parameters for op in traced.ops if isinstance(op.node, Head)}
        self.instances: dict[str, Instance] = {}

    def write(self) -> Parts:
        made, channels = Parts(), self.model.in_channels
        after = {}
        for stage in self.model.stages:
            made.stages[stage.name] = self.stage(stage.node, stage.name, channels)
            after[stage.name] = channels = self.traced.stages[stage.name].channels
        for aux in self.model.aux:
            made.heads[aux.name] = self.top(aux.node, aux.name, after[aux.after])
        if self.model.head is not None:
            made.heads["head"] = self.top(self.model.head, "head", channels)
        calls = {}
        for group in self.groups():
            block_class = _merge(group, {each.name for each in made.classes})
            made.classes.append(block_class)
            for instance in group:
                calls[instance.path] = _instance_call(block_class, instance)
        made.stages = {name: _placed(call, calls) for name, call in made.stages.items()}
        return made

    def groups(self) -> Iterator[list[Instance]]:
        """Instances that share a class: they have the same name, and differ only in numbers of channels."""
        alike: dict[tuple[Block, Call], list[Instance]] = defaultdict(list)
        for instance in self.instances.values():
            alike[instance.block, instance.inside].append(instance)
        yield from alike.values()

    def stage(self, node: Node, path: str, channels: int) -> Argument:
        """A stage: a block, a sequence of blocks and layers, or a layer."""
        if self.is_block(node, path):
            return self.instance(node, path, channels)
        if not isinstance(node, Chain):
            return self.top(node, path, channels)
        items: list[Argument] = []
        for child, group in groupby(children(node), key=lambda pair: pair[1]):
            places = [f"{path}.{name}" for name, _ in group]
            while places:
                outputs = self.traced.shapes[places[0]].channels
                alike = len(places) if isinstance(child, Residual) and outputs == channels else 1
                made = self.stage(child, places[0], channels)
                items.append(made if alike == 1 else Call("repeat", (made, str(alike))))
                channels, places = outputs, places[alike:]
        return Call("Sequential", tuple(items))

    def is_block(self, node: Node, path: str) -> bool:
        return isinstance(node, Concat | Residual) or self.named(path) is not None

    def named(self, path: str) -> Block | None:
        """The block of the published network at this place."""
        name, *steps = path.split(".")
        node: Node | None = self.published.get(name)
        for step in steps:
            node = dict(children(node)).get(step) if isinstance(node, Chain | Concat | Residual) else None
        return BLOCKS.get(node) if node is not None else None

    def instance(self, node: Node, path: str, channels: int) -> Call:
        numbers = {INPUTS: channels}
        inside, _ = self.expression(node, path, "", Width((INPUTS,)), numbers)
        assert isinstance(inside, Call)
        block = self.named(path) or Block(camel(path.partition(".")[0]), "")
        self.instances[path] = Instance(path, block, inside, numbers)
        return Call(PLACE, (path,))

    def top(self, node: Node, path: str, channels: int) -> Argument:
        """The call of a node outside of any block: all its numbers are written out."""
        numbers = {INPUTS: channels}
        call, _ = self.expression(node, path, "", Width((INPUTS,)), numbers)
        return _written(call, {key: str(number) for key, number in numbers.items()})

    def expression(
        self, node: Node, path: str, key: str, inputs: Width, numbers: dict[str, int]
    ) -> tuple[Argument, Width]:
        """The call that makes a node, and its number of output channels."""
        match node:
            case Chain():
                calls = []
                for name, child in children(node):
                    call, inputs = self.expression(child, f"{path}.{name}", _join(key, name), inputs, numbers)
                    calls.append(call)
                return Call("Sequential", tuple(calls)), inputs
            case Concat():
                branches = [
                    self.expression(child, f"{path}.{name}", _join(key, name), inputs, numbers)
                    for name, child in children(node)
                ]
                outputs = Width(tuple(name for _, width in branches for name in width.keys))
                return Call("Concat", tuple(call for call, _ in branches)), outputs
            case Residual(body, shortcut, scale, act):
                call, outputs = self.expression(body, f"{path}.body", _join(key, "body"), inputs, numbers)
                more: list[Argument] = []
                if shortcut is not None:
                    straight, _ = self.expression(shortcut, f"{path}.shortcut", _join(key, "shortcut"), inputs, numbers)
                    assert not isinstance(straight, Named)
                    more.append(Named("shortcut", straight))
                more += [Named("scale", repr(scale))] * (scale != 1) + [Named("act", "True")] * act
                return Call("Residual", (call, *more)), outputs
            case Conv():
                numbers[key] = node.channels
                outputs = Width((key,))
                return Call("Conv", (inputs, outputs, *_box(node, 1))), outputs
            case Depthwise():
                return Call("Depthwise", (inputs, *_box(node, 3))), inputs
            case NormRelu():
                return Call("NormRelu", (inputs,)), inputs
            case Relu():
                return Call("ReLU"), inputs
            case MaxPool():
                return Call("MaxPool", tuple(_pool(node))), inputs
            case AvgPool(count_include_pad=counted):
                return Call("AvgPool", (*_pool(node), *[Named("count_include_pad", "True")] * counted)), inputs
            case AdaptiveAvgPool(size):
                return Call("AdaptiveAvgPool", (str(size),)), inputs
            case Head():
                features = self.features[path][0].shape[1]
                return Call("Classifier", (str(features), "num_classes", *_head(node))), inputs
        assert_never(node)


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def _box(node: Box, usual: int) -> Iterator[Argument]:
    """The arguments of a convolution after its channels."""
    plain = node.kernel == usual and node.stride == 1
    if not plain:
        yield str(node.kernel)
    if node.stride != 1:
        yield str(node.stride)
    if node.padding != "half":
        yield Named("padding", f'"{node.padding}"')
    if node.dilation != 1:
        yield Named("dilation", str(node.dilation))
    for keyword, value, default in (("bias", node.bias, False), ("norm", node.norm, True), ("act", node.act, True)):
        if value != default:
            yield Named(keyword, str(value))


def _pool(node: MaxPool | AvgPool) -> Iterator[Argument]:
    yield str(node.kernel)
    if node.stride != 1:
        yield str(node.stride)
    if node.padding != "half":
        yield Named("padding", f'"{node.padding}"')


def _head(node: Head) -> Iterator[Argument]:
    if node.hidden is not None:
        yield Named("hidden", str(node.hidden))
        if not node.act:
            yield Named("act", "False")
    if node.dropout:
        yield Named("dropout", repr(node.dropout))
    if not node.pool:
        yield Named("pool", "False")


def _merge(group: Sequence[Instance], taken: set[str]) -> BlockClass:
    """The class of blocks that differ only in numbers of channels."""
    first = group[0]
    values = {key: tuple(instance.numbers[key] for instance in group) for key in first.numbers}
    arguments: dict[tuple[int, ...], str] = {}
    names: dict[str, str] = {}
    differing = {value for value in values.values() if len(set(value)) > 1}
    for key, value in values.items():
        if value not in differing:
            names[key] = str(value[0])
            continue
        if value not in arguments:
            arguments[value] = key if key == INPUTS else _argument(key, arguments.values(), len(differing) == 2)
        names[key] = arguments[value]
    suffixes = "BCDEFGHIJKLMNOPQRSTUVWXYZ" if first.block.name[-1].isdigit() else range(2, len(taken) + 3)
    names_free = (f"{first.block.name}{suffix}" for suffix in ("", *suffixes))
    name = next(name for name in names_free if name not in taken)
    stages = list(dict.fromkeys(instance.path.partition(".")[0] for instance in group))
    about = first.block.about.partition(";")[0].rstrip(".")
    return BlockClass(name, about, several(stages), first.inside, tuple(arguments.values()), names)


def _argument(key: str, taken: Iterable[str], only: bool) -> str:
    """The name of a constructor's argument: its convolution's place, or "channels" if it is the `only` one."""
    steps = key.split(".")
    while len(steps) > 1 and steps[0].isdigit():
        del steps[0]
    return "channels" if only and "channels" not in taken else "_".join(steps)


def _instance_call(block_class: BlockClass, instance: Instance) -> Call:
    numbers = {block_class.names[key]: number for key, number in instance.numbers.items()}
    return Call(block_class.name, tuple(str(numbers[argument]) for argument in block_class.arguments))


def _placed(argument: Argument, calls: dict[str, Call]) -> Argument:
    """The call, with placeholders replaced by the calls of their blocks."""
    if isinstance(argument, Call) and argument.function == PLACE:
        (path,) = argument.arguments
        assert isinstance(path, str)
        return calls[path]
    if isinstance(argument, Call):
        return Call(argument.function, tuple(_placed(each, calls) for each in argument.arguments))
    return argument


def _written(argument: Argument, names: dict[str, str]) -> Argument:
    """The call with numbers in place of keys."""
    match argument:
        case str():
            return argument
        case Width():
            return argument.text(names)
        case Named(keyword, value):
            inner = _written(value, names)
            assert not isinstance(inner, Named)
            return Named(keyword, inner)
        case Call(function, arguments):
            return Call(function, tuple(_written(each, names) for each in arguments))
