"""Networks of `zoo.build` as each framework's own saver names them: the canonical paths, the framework's tensors."""

from weights.names import Source, Table
from zoo.models import MODELS

TABLES = {name: Table(tuple((part, part) for part in model.parts)) for name, model in MODELS.items()}

NATIVE: dict[str, Source] = {
    "zoo": Source("zoo", TABLES),
    "torch": Source("torch", TABLES),
    "mindspore": Source("mindspore", TABLES),
    "paddle": Source("paddle", TABLES),
}
