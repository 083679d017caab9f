"""PyTorch's exported programs, the .pt2 of torch.export.save: a graph in JSON and tensors as plain bytes.

They are read without PyTorch, and nothing in them is run. `torch.export.load` unpickles example inputs and evaluates
the guards of a program, so that a file may run any code. Source: torch/export/pt2_archive/ and
torch/_export/serde/schema.py (2.13).
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from weights.formats import archive
from weights.formats.tensors import ITEMSIZE, Contents, Mapped, Tensor
from weights.formats.torch import Storage, View
from zoo.errors import WeightsError

SCHEMA = 8
"""The major version of the schema that is read, `SCHEMA_VERSION[0]`."""

DTYPES = {
    1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64",
    6: "float16", 7: "float32", 8: "float64", 12: "bool", 13: "bfloat16",
}  # fmt: skip
"""Types of elements by their number in the schema (`ScalarType`)."""

ZIP, DIRECTORY = b"PK\3\4", 2**12
"""How a zip archive begins, and how many of its last bytes list the members that are written last."""


class Program(NamedTuple):
    """An exported program: its graph, as the schema has it, and its tensors by the names that the graph uses."""

    graph_module: dict[str, Any]
    state: dict[str, Tensor]
    constants: dict[str, Tensor]


def claims(file: Mapped) -> bool:
    """Whether the file is PyTorch's archive for exported programs and compiled packages."""
    return file.bytes[:4] == ZIP and b"/archive_format" in bytes(file.bytes[-DIRECTORY:])


def read(file: Mapped) -> Contents:
    """The program's parameters and buffers, those that a state_dict has. Raises WeightsError as `program` does."""
    return Contents("torch-export", dict(program(file).state))


def program(file: Mapped) -> Program:
    """The program called "model", the only one that torch.export.save writes.

    Raises WeightsError for compiled packages, which hold machine code; for another version of the schema; for tensors
    that are pickled; and where a member is missing or damaged.
    """
    members = archive.members(file)
    prefix = next((name for name in members if name.endswith("/archive_format")), "").removesuffix("archive_format")
    if any(name.startswith(f"{prefix}data/aotinductor/") for name in members):
        raise WeightsError("a package that AOTInductor has compiled: machine code, which is not run here")
    document = _json(members, f"{prefix}models/model.json")
    version = document["schema_version"]["major"]
    if version != SCHEMA:
        raise WeightsError(f"an exported program of schema {version!r}, expected {SCHEMA}: export it by PyTorch 2.13")
    order = ">" if bytes(members.get(f"{prefix}byteorder", b"little")) == b"big" else "<"
    tables = (_tensors(members, f"{prefix}data/{kind}/", f"model_{kind}_config.json", order) for kind in KINDS)
    return Program(document["graph_module"], *tables)


KINDS = ("weights", "constants")
"""Folders of tensors: those in a state_dict, and the others."""


def _tensors(members: dict[str, memoryview], folder: str, config: str, order: str) -> dict[str, Tensor]:
    found = {}
    for name, entry in dict(_json(members, folder + config)["config"]).items():
        meta = entry["tensor_meta"]
        if entry["use_pickle"] or meta is None:
            raise WeightsError(f"{name!r} is pickled, which is not read: expected a plain tensor")
        if meta["dtype"] not in DTYPES:
            raise WeightsError(f"{name!r}: elements of type {meta['dtype']!r}, expected one of {list(DTYPES)}")
        data = members[folder + entry["path_name"]]
        storage = Storage(DTYPES[meta["dtype"]], len(data) // ITEMSIZE[DTYPES[meta["dtype"]]], order)
        storage.data = data
        sizes, strides = (tuple(size["as_int"] for size in meta[key]) for key in ("sizes", "strides"))
        view = View(storage, meta["storage_offset"]["as_int"], sizes, strides)
        found[name] = Tensor(view.shape, storage.dtype, view.read)
    return found


def _json(members: dict[str, memoryview], name: str) -> dict[str, Any]:
    if name not in members:
        raise WeightsError(f"no member {name}: expected a file of torch.export.save, of PyTorch 2.8 or later")
    document = json.loads(bytes(members[name]))
    if not isinstance(document, dict):
        raise WeightsError(f"member {name} is not a JSON object")
    return document
