"""Keras's applications (Apache-2.0): variables as "layer/variable", names as of 3.15 in a fresh session.

Inception-v3 and Inception-ResNet-v2 leave most layers unnamed: Keras numbers them as they are made, which is the order
of our trace, and their batch norms have no gamma.
"""

from collections import Counter
from collections.abc import Iterable, Iterator

from weights.formats.keras import kind_of
from weights.names import Naming, Row, Source, Table
from zoo.language.nodes import (
    AdaptiveAvgPool,
    AvgPool,
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
)
from zoo.language.trace import Parameter, parameters, trace
from zoo.models import MODELS


def numbered(paths: Iterable[str]) -> tuple[Row, ...]:
    """conv2d, batch_normalization; conv2d_1, batch_normalization_1; ... for boxes in the order they are made."""
    return tuple(
        (f"{{conv2d,batch_normalization}}{f'_{i}' if i else ''}", f"{path}.{{conv,bn}}") for i, path in enumerate(paths)
    )


def unnamed(model: str, named: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The boxes of a model whose layers Keras numbers: with a norm, and not `named`."""
    ops = trace(MODELS[model]).ops
    return tuple(op.path for op in ops if isinstance(op.node, Conv) and op.node.norm and op.path not in named)


INCEPTION_RESNET_V2 = (
    *numbered(unnamed("inception_resnet_v2", named=("conv2d_7b_1x1",))),
    ("block35_{1..10}_conv", "block35.{0..9}.body.1.conv"),
    ("block17_{1..20}_conv", "block17.{0..19}.body.1.conv"),
    ("block8_{1..10}_conv", "block8.{0..9}.body.1.conv"),
    ("conv_7b{,_bn}", "conv2d_7b_1x1.{conv,bn}"),
)

XCEPTION = (
    ("block1_conv{1,2}{,_bn}", "conv{1,2}.{conv,bn}"),
    *numbered(f"block{i}.shortcut" for i in (1, 2, 3, 12)),
    ("block2_sepconv{1,2}/depthwise_kernel", "block1.body.{0,3}.conv.weight"),
    ("block2_sepconv{1,2}/pointwise_kernel", "block1.body.{1,4}.conv.weight"),
    ("block2_sepconv{1,2}_bn", "block1.body.{1,4}.bn"),
    ("block{3,4,13}_sepconv{1,2}/depthwise_kernel", "block{2,3,12}.body.{1,4}.conv.weight"),
    ("block{3,4,13}_sepconv{1,2}/pointwise_kernel", "block{2,3,12}.body.{2,5}.conv.weight"),
    ("block{3,4,13}_sepconv{1,2}_bn", "block{2,3,12}.body.{2,5}.bn"),
    ("block{5..12}_sepconv{1..3}/depthwise_kernel", "block{4..11}.body.{1,4,7}.conv.weight"),
    ("block{5..12}_sepconv{1..3}/pointwise_kernel", "block{4..11}.body.{2,5,8}.conv.weight"),
    ("block{5..12}_sepconv{1..3}_bn", "block{4..11}.body.{2,5,8}.bn"),
    ("block14_sepconv{1,2}/depthwise_kernel", "conv{3,4}.0.conv.weight"),
    ("block14_sepconv{1,2}/pointwise_kernel", "conv{3,4}.1.conv.weight"),
    ("block14_sepconv{1,2}_bn", "conv{3,4}.1.bn"),
)


def table(model: str, rows: tuple[Row, ...], without: tuple[str, ...] = ()) -> Table:
    """A table whose layers are in Keras's order: furthest from the output first, branches as they are concatenated."""
    keys = Naming("keras", Table(rows, without=without), MODELS[model]).keys
    found: list[tuple[int, str]] = []
    after = 0
    for name, node in reversed(MODELS[model].parts.items()):
        ahead = list(layers(node, name, after))
        after = max(depth for depth, _ in ahead)
        found = [entry for entry in ahead if entry[1] in keys] + found
    order = [keys[tensor].rpartition("/")[0] for _, tensor in sorted(found, key=lambda entry: -entry[0])]
    return Table(rows, without=without, order=tuple(order))


def positions(model: str, named: Table) -> Table:
    """The same tensors in files without layer names (.weights.h5 of Keras before 3.6): layers are counted by kind."""
    keys = Naming("keras", named, MODELS[model]).keys
    variables: dict[str, dict[str, Parameter]] = {}
    for name, key in keys.items():
        layer, _, variable = key.rpartition("/")
        variables.setdefault(layer, {})[variable] = parameters(MODELS[model])[name]
    counted: Counter[str] = Counter()
    place: dict[str, str] = {}
    for layer in named.order:
        kind = kind_of(variables[layer])
        place[layer] = f"{kind}_{counted[kind]}" if counted[kind] else kind
        counted[kind] += 1
    rows = ((key, name) for name, key in keys.items())
    moved = tuple((f"{place[key.rpartition('/')[0]]}/{key.rpartition('/')[2]}", name) for key, name in rows)
    return Table(moved, without=named.without, order=tuple(place[layer] for layer in named.order))


def layers(node: Node, path: str, after: int) -> Iterator[tuple[int, str]]:
    """Each of Keras's layers as its distance from the output and one of its tensors, or "" if it has none.

    `after` is the distance of the layer that follows. A depthwise and a pointwise convolution are one layer; a norm, an
    activation, an addition are one each.
    """
    match node:
        case Chain(nodes):
            for i, child in reversed(list(enumerate(nodes))):
                ahead = list(layers(child, f"{path}.{i}", after))
                after = max(depth for depth, _ in ahead)
                yield from ahead
        case Concat(branches):
            yield after + 1, ""
            for i, branch in enumerate(branches):
                yield from layers(branch, f"{path}.branch{i}", after + 1)
        case Residual(body, shortcut, _, act):
            after += 2 if act else 1
            yield after, ""
            yield from layers(body, f"{path}.body", after)
            if shortcut is not None:
                yield from layers(shortcut, f"{path}.shortcut", after)
        case Conv(norm=norm, act=act):
            yield after + act + norm + 1, f"{path}.conv.weight"
            yield after + act + 1, f"{path}.bn.bias"
        case Head():
            yield after + 1, f"{path}.fc.weight"
            yield after + 2, ""
        case Depthwise():
            yield after, ""
        case NormRelu():
            yield after + 1, ""
            yield after + 2, ""
        case Relu() | MaxPool() | AvgPool() | AdaptiveAvgPool():
            yield after + 1, ""
        case _:
            assert_never(node)


HEAD = (("predictions", "head.fc"),)
GAMMA = (".bn.weight",)

KERAS = Source(
    "keras",
    {
        "inception_v3.keras": table("inception_v3.keras", numbered(unnamed("inception_v3.keras")) + HEAD, GAMMA),
        "inception_resnet_v2": table("inception_resnet_v2", INCEPTION_RESNET_V2 + HEAD, GAMMA),
        "xception.keras": table("xception.keras", XCEPTION + HEAD),
    },
)

KERAS_POSITIONS = Source("keras", {model: positions(model, named) for model, named in KERAS.tables.items()})
