"""A Model as a JSON document, written and read back without loss: for worker processes and checkpoints.

A value is an object of its fields; fields at their default are left out. A node's kind is in "op". The document has
the version of its format; docs/model.schema.json is the schema, made by `schema`.
"""

from __future__ import annotations

import json
from dataclasses import MISSING, fields
from typing import Any

from zoo.errors import SpecError
from zoo.language.model import Aux, Model, Norm, Preprocess, Stage
from zoo.language.nodes import (
    AdaptiveAvgPool,
    AvgPool,
    Chain,
    Concat,
    Conv,
    Depthwise,
    Head,
    MaxPool,
    NormRelu,
    Relu,
    Residual,
)

FORMAT, VERSION = "inception-zoo model", 1
LARGEST = 1 << 24
"""The most characters that a document may have; the published networks' have up to 20,000."""

OPS: dict[str, Any] = {
    "conv": Conv,
    "depthwise": Depthwise,
    "norm_relu": NormRelu,
    "relu": Relu,
    "max_pool": MaxPool,
    "avg_pool": AvgPool,
    "adaptive_avg_pool": AdaptiveAvgPool,
    "head": Head,
    "chain": Chain,
    "concat": Concat,
    "residual": Residual,
}
NAMES = {kind: op for op, kind in OPS.items()}

NODES = ("node", "body", "shortcut", "head", "nodes", "branches")
"""Fields that hold a node, or several."""

PARTS: dict[str, Any] = {"stages": Stage, "aux": Aux, "norm": Norm, "preprocess": Preprocess}
"""A Model's fields that hold a part of it, or several."""


def to_json(model: Model, indent: int | None = None) -> str:
    """A model as a JSON document, which `from_json` reads; on several lines if `indent` is given (see `json.dumps`)."""
    return json.dumps({"format": FORMAT, "version": VERSION, **_write(model)}, indent=indent)


def from_json(text: str | bytes) -> Model:
    """The model in a JSON document of `to_json`. Raises SpecError, with the place, for an invalid document."""
    if len(text) > LARGEST:
        raise SpecError(f"the document has {len(text):,} characters: expected a model, at most {LARGEST:,}")
    try:
        value = json.loads(text)
        if not isinstance(value, dict) or value.pop("format", None) != FORMAT:
            raise SpecError(f'the document is not a model: expected an object with "format": "{FORMAT}"')
        if (version := value.pop("version", None)) != VERSION:
            raise SpecError(f"version: expected {VERSION}, not {version!r}: a newer zoo may have written it")
        model: Model = _read(Model, value, "")
        return model
    except RecursionError:
        raise SpecError("the document is nested too deeply") from None
    except ValueError as error:
        raise SpecError(f"the document is not JSON: {error}") from None


def _write(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_write(item) for item in value]
    if type(value) not in (*NAMES, *PARTS.values(), Model):
        return value
    document = {"op": NAMES[type(value)]} if type(value) in NAMES else {}
    for field in fields(value):
        if (given := getattr(value, field.name)) != field.default:
            document[field.name] = _write(given)
    return document


def _read(kind: Any, value: Any, where: str) -> Any:
    """`value` as an instance of a dataclass, whose constructor checks it."""
    if not isinstance(value, dict):
        raise SpecError(f"{where or 'the document'}: expected an object, not {_short(value)}")
    known = {field.name: field for field in fields(kind)}
    for name in value:
        if name not in known:
            takes = ", ".join(known) or "no fields"
            raise SpecError(f"{_below(where, name)}: unknown field: {kind.__name__} has {takes}")
    for name, field in known.items():
        if name not in value and field.default is MISSING:
            raise SpecError(f"{_below(where, name)}: missing: {kind.__name__} needs it")
    given = {name: _field(kind, name, item, _below(where, name)) for name, item in value.items()}
    try:
        return kind(**given)
    except SpecError as error:
        raise SpecError(f"{where}: {error}" if where else str(error)) from None


def _field(kind: Any, name: str, value: Any, where: str) -> Any:
    """The value of a field of `kind`: nodes and parts are read, lists become tuples, plain values stay."""
    if isinstance(value, list):
        return tuple(_field(kind, name, item, f"{where}[{i}]") for i, item in enumerate(value))
    if value is None or (name not in NODES and (kind is not Model or name not in PARTS)):
        return value
    return _node(value, where) if name in NODES else _read(PARTS[name], value, where)


def _node(value: Any, where: str) -> Any:
    op = value.get("op") if isinstance(value, dict) else None
    if not isinstance(op, str) or op not in OPS:
        raise SpecError(f'{where}: expected a node, an object with "op" one of {", ".join(OPS)}, not {_short(value)}')
    return _read(OPS[op], {name: item for name, item in value.items() if name != "op"}, where)


def _below(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


_POSITIVE = {"type": "integer", "minimum": 1}
_PAIR = {"type": "array", "items": _POSITIVE, "minItems": 2, "maxItems": 2}
_THREE = {"type": "array", "items": {"type": "number"}, "minItems": 3, "maxItems": 3}
_NULL = {"type": "null"}
_SCHEMAS: dict[str, dict[str, Any]] = {
    "int": _POSITIVE,
    "int | None": {"anyOf": [_POSITIVE, _NULL]},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "str": {"type": "string"},
    "tuple[str, ...]": {"type": "array", "items": {"type": "string"}},
    "tuple[float, float, float]": _THREE,
    "Kernel": {"anyOf": [_POSITIVE, _PAIR]},
    "ConvPadding": {"enum": ["half", "valid", "same"]},
    "PoolPadding": {"enum": ["half", "valid", "same", "ceil"]},
    "Literal['half', 'valid']": {"enum": ["half", "valid"]},
    "Literal['bilinear', 'bicubic', 'torch_bilinear', 'tf1_bilinear']": {
        "enum": ["bilinear", "bicubic", "torch_bilinear", "tf1_bilinear"]
    },
    "Literal['crop', 'stretch']": {"enum": ["crop", "stretch"]},
    "Literal['RGB', 'BGR']": {"enum": ["RGB", "BGR"]},
    "Node": {"$ref": "#/$defs/node"},
    "Node | None": {"anyOf": [{"$ref": "#/$defs/node"}, _NULL]},
    "tuple[Node, ...]": {"type": "array", "items": {"$ref": "#/$defs/node"}},
    "Head | None": {"anyOf": [{"$ref": "#/$defs/head"}, _NULL]},
    "Norm | None": {"anyOf": [{"$ref": "#/$defs/norm"}, _NULL]},
    "Preprocess": {"$ref": "#/$defs/preprocess"},
    "tuple[Stage, ...]": {"type": "array", "items": {"$ref": "#/$defs/stage"}, "minItems": 1},
    "tuple[Aux, ...]": {"type": "array", "items": {"$ref": "#/$defs/aux"}},
}
"""The JSON Schema of a field, by its type as the source writes it."""


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a document."""
    parts = {"stage": Stage, "aux": Aux, "norm": Norm, "preprocess": Preprocess}
    definitions = {op: _object(kind, {"op": {"const": op}}) for op, kind in OPS.items()}
    definitions |= {name: _object(kind, {}) for name, kind in parts.items()}
    definitions["node"] = {"oneOf": [{"$ref": f"#/$defs/{op}"} for op in OPS]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"{FORMAT}, version {VERSION}",
        **_object(Model, {"format": {"const": FORMAT}, "version": {"const": VERSION}}),
        "$defs": definitions,
    }


def _object(kind: Any, constants: dict[str, Any]) -> dict[str, Any]:
    properties = dict(constants)
    for field in fields(kind):
        properties[field.name] = dict(_SCHEMAS[str(field.type)])
        if field.default is not MISSING:
            properties[field.name]["default"] = _write(field.default)
    return {
        "type": "object",
        "description": " ".join(kind.__doc__.partition("\n\n")[0].split()),
        "properties": properties,
        "required": [*constants, *(field.name for field in fields(kind) if field.default is MISSING)],
        "additionalProperties": False,
    }
