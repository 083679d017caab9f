"""The file that `zoo source` prints."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby

from zoo.errors import SpecError
from zoo.language.blocks import camel
from zoo.language.model import Model
from zoo.language.nodes import AvgPool, Conv, Depthwise, Leaf, MaxPool, leaves
from zoo.language.trace import trace
from zoo.source.blocks import BlockClass, Parts, parts
from zoo.source.dialect import Dialect, Uses, dialect_of
from zoo.source.layers import layers
from zoo.source.render import WIDTH, Argument, Call, Named, call, lines, signature

LONG = 5
"""At least so many equal stages, one after another, are made by a loop."""


def source(model: Model, framework: str) -> str:
    """The text of one Python file that builds the network in a framework, and needs nothing but the framework.

    model      the network; its auxiliary heads and taps are kept
    framework  "torch", "mindspore", "paddle" or "jax", which need not be installed

    The modules have the names of the spec, so that the file loads the weights that `zoo convert --to FRAMEWORK` writes.
    Raises SpecError for a network that has neither a head nor taps.
    """
    if model.head is None and not model.taps:
        raise SpecError(f"{model.name}: without a head it needs taps: the stages whose outputs it returns")
    dialect = dialect_of(framework)
    made = parts(model)
    uses = _uses(model, made)
    texts = [_docstring(model, framework, dialect), "\n".join(dialect.imports(uses))]
    texts += ["\n".join(constants)] if (constants := list(_constants(uses, made))) else []
    body = [*layers(uses, dialect), *(_class(each, dialect) for each in made.classes), _network(model, made, dialect)]
    body.append(_load(model, framework, dialect))
    return "\n\n".join(texts) + "\n\n\n" + "\n\n\n".join(body) + "\n"


def _uses(model: Model, made: Parts) -> Uses:
    calls = [
        *(found for each in made.classes for found in _calls(each.inside)),
        *(found for each in (*made.stages.values(), *made.heads.values()) for found in _calls(each)),
    ]
    found: list[Leaf] = [leaf for part in model.parts.values() for leaf in leaves(part)]
    pools = [leaf for leaf in found if isinstance(leaf, MaxPool | AvgPool)]
    keywords = {name: _keywords([each for each in calls if each.function in names]) for name, names in KINDS.items()}
    return Uses(
        functions=frozenset(each.function for each in calls),
        **keywords,
        max_pools=frozenset(pool.padding for pool in pools if isinstance(pool, MaxPool)),
        avg_pools=frozenset(
            "equal" if pool.padding == "half" and pool.stride == pool.kernel % 2 == 1 else pool.padding
            for pool in pools
            if isinstance(pool, AvgPool)
        ),
        same=any(leaf.padding == "same" and leaf.kernel != 1 for leaf in found if isinstance(leaf, Conv | Depthwise)),
        norm=(model.norm.eps, model.norm.decay) if model.norm else None,
        counted=frozenset(pool.count_include_pad for pool in pools if isinstance(pool, AvgPool)),
    )


KINDS = {"conv": ("Conv", "Depthwise"), "residual": ("Residual",), "classifier": ("Classifier",)}


def _calls(argument: Argument) -> Iterator[Call]:
    if isinstance(argument, Named):
        yield from _calls(argument.value)
    if isinstance(argument, Call):
        yield argument
        for each in argument.arguments:
            yield from _calls(each)


def _keywords(calls: Sequence[Call]) -> frozenset[str]:
    return frozenset(each.keyword for found in calls for each in found.arguments if isinstance(each, Named))


def _docstring(model: Model, framework: str, dialect: Dialect) -> str:
    main = trace(model)
    images = f"[N, {model.in_channels}, {model.size}, {model.size}]: {model.preprocess.describe(model.size)}."
    file = f"net{dialect.suffix}"
    return "\n".join(
        [
            f'"""{model.name} ({model.paper}) in {framework}: {main.trainable:,} parameters.',
            "",
            *textwrap.wrap(f"Images {images}", WIDTH),
            "",
            f'    net = load("{file}")  # zoo convert FILE {file} --to {framework}',
            '"""',
        ]
    )


def _constants(uses: Uses, made: Parts) -> Iterator[str]:
    if uses.norm:
        yield f"EPS, DECAY = {uses.norm[0]!r}, {uses.norm[1]!r}  # of batch norm"
    for names in _runs(made.stages):
        if len(names) > 1:
            yield f"{_constant(names)} = {_sequence(names)}"


def _renamed(argument: Argument, dialect: Dialect) -> Argument:
    """The call with the framework's own names."""
    if isinstance(argument, Named):
        value = _renamed(argument.value, dialect)
        assert not isinstance(value, Named)
        return Named(argument.keyword, value)
    if not isinstance(argument, Call):
        return argument
    if argument.function == "repeat":
        each, count = (_renamed(value, dialect) for value in argument.arguments)
        return f"*({call(each, {})} for _ in range({call(count, {})}))"
    arguments = tuple(_renamed(each, dialect) for each in argument.arguments)
    return Call(dialect.names.get(argument.function, argument.function), arguments)


def _class(block: BlockClass, dialect: Dialect) -> str:
    inside = _renamed(block.inside, dialect)
    assert isinstance(inside, Call)
    constructor = Call("super().__init__", inside.arguments)
    return "\n".join(
        [
            f"class {block.name}({inside.function}):",
            *_about(block),
            "",
            *signature([f"{name}: int" for name in block.arguments]),
            *lines(constructor, block.names, "", indent=8),
        ]
    )


def _about(block: BlockClass) -> list[str]:
    """The docstring of a block."""
    text = f"{block.about}: {block.stages}." if block.about else f"{block.stages}."
    if len(text) + 10 <= WIDTH:
        return [f'    """{text[0].upper()}{text[1:]}"""']
    about = textwrap.wrap(f'"""{block.about}.', WIDTH, initial_indent="    ", subsequent_indent="    ")
    return [*about, "", f"    {block.stages}.", '    """']


def _network(model: Model, made: Parts, dialect: Dialect) -> str:
    name = camel(model.name)
    classes = f", num_classes: int = {model.num_classes}" if model.head is not None or model.aux else ""
    text = [
        f"class {name}({dialect.module}):",
        f'    """{_returns(model)}"""',
        "",
        f"    def __init__(self{classes}) -> None:",
        "        super().__init__()",
    ]
    for group in _runs(made.stages):
        text += _made(group, made.stages[group[0]], dialect)
    for head, argument in made.heads.items():
        text += lines(_renamed(argument, dialect), {}, f"self.{head} = ", indent=8)
    text += [f"        {line}" for line in dialect.ready]
    return "\n".join([*text, "", *_forward(model, made, dialect)])


def _returns(model: Model) -> str:
    if model.taps:
        return f"Maps images to feature maps: {', '.join(model.taps)}."
    if model.aux:
        return "Maps images to logits; in training to (logits, *auxiliary logits)."
    return "Maps images to logits."


def _runs(stages: dict[str, Argument]) -> Iterator[list[str]]:
    """The stages' names; at least `LONG` equal stages, one after another, are together in a list."""
    for _, group in groupby(stages.items(), key=lambda item: item[1]):
        names = [name for name, _ in group]
        yield from [names] if len(names) >= LONG else [[name] for name in names]


def _made(names: list[str], argument: Argument, dialect: Dialect) -> list[str]:
    renamed = _renamed(argument, dialect)
    if len(names) == 1:
        return lines(renamed, {}, f"self.{names[0]} = ", indent=8)
    return [f"        for name in {_constant(names)}:", f"            {dialect.add.format(call(renamed, {}))}"]


def _constant(names: list[str]) -> str:
    """The constant's name for a tuple of names: "MIXED_6" for mixed_6b to mixed_6h."""
    first, last = names[0], names[-1]
    return first[: next(i for i in range(len(first)) if first[i] != last[i])].rstrip("_").upper()


def _sequence(names: list[str]) -> str:
    """Names as an expression: numbered ones by a range."""
    stem = names[0].rstrip("0123456789")
    numbers = [name.removeprefix(stem) for name in names]
    if all(number.isdigit() for number in numbers) and int(numbers[-1]) - int(numbers[0]) == len(names) - 1:
        return f'tuple(f"{stem}{{i}}" for i in range({numbers[0]}, {int(numbers[-1]) + 1}))'
    stem = names[0][:-1]
    if all(name[:-1] == stem for name in names):
        return f'tuple(f"{stem}{{letter}}" for letter in "{"".join(name[-1] for name in names)}")'
    return "(" + ", ".join(f'"{name}"' for name in names) + ")"


def _forward(model: Model, made: Parts, dialect: Dialect) -> Iterator[str]:
    returns = "list[Tensor]" if model.taps else "Tensor | tuple[Tensor, ...]" if model.aux else "Tensor"
    yield f"    def {dialect.forward}(self, x: Tensor) -> {returns}:"
    yield from (f"        {line}" for line in dialect.enter)
    for group in _runs(made.stages):
        tapped = [name for name in group if name in model.taps]
        followed = [aux for aux in model.aux if aux.after in group]
        if len(group) == 1 or tapped or followed:
            for name in group:
                yield (
                    f"        x = self.{name}(x)" if name not in model.taps else f"        x = {name} = self.{name}(x)"
                )
                for aux in followed:
                    if aux.after == name:
                        yield f"        {aux.name} = self.{aux.name}(x) if {dialect.training} else None"
        else:
            yield f"        for name in {_constant(group)}:"
            yield "            x = getattr(self, name)(x)"
    if model.taps:
        yield f"        return [{', '.join(dialect.leave.format(name) for name in model.taps)}]"
        return
    if not model.aux:
        yield "        return self.head(x)"
        return
    yield "        x = self.head(x)"
    yield f"        return (x, {', '.join(aux.name for aux in model.aux)}) if {dialect.training} else x"


def _load(model: Model, framework: str, dialect: Dialect) -> str:
    name = camel(model.name)
    classes = ", num_classes" if model.head is not None or model.aux else ""
    argument = f"{classes}: int = {model.num_classes}" if classes else ""
    given = "num_classes" if classes else ""
    return (
        f"def load(path: str{argument}) -> {name}:\n"
        f'    """Build the network in eval mode, with weights of `zoo convert --to {framework}`."""\n'
        f"    net = {name}({given})\n" + "\n".join(f"    {line}" for line in dialect.load)
    )
