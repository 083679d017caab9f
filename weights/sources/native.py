"""Networks of `zoo.build` as each framework's own saver names them: the canonical paths, the framework's tensors."""

from weights.names import Source, Table
from zoo.model import Model
from zoo.models import MODELS
from zoo.nodes import Conv, Depthwise, Head, NormRelu, leaves


def identity(model: Model) -> Table:
    """Every part that has tensors, under its own name."""
    parts = [
        name
        for name, node in model.parts.items()
        if any(isinstance(leaf, Conv | Depthwise | Head | NormRelu) for leaf in leaves(node))
    ]
    return Table(tuple((part, part) for part in parts))


TABLES = {name: identity(model) for name, model in MODELS.items()}

NATIVE: dict[str, Source] = {
    "zoo": Source("zoo", TABLES),
    "torch": Source("torch", TABLES),
    "mindspore": Source("mindspore", TABLES),
    "paddle": Source("paddle", TABLES),
}
