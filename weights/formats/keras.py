"""Keras's files: .weights.h5 and .keras (a zip archive around one) of Keras 3, and the .h5 of all versions before.

All become "layer/variable". Layers that nobody named are counted through a session, "conv2d_7", and files are loaded by
position: here the count begins anew, so that the same network has the same names (saving_lib.py and
legacy_h5_format.py of 3.15).
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from weights.formats import archive
from weights.formats.tensors import ITEMSIZE, Array, Contents, Mapped, Tensor
from zoo.errors import WeightsError

VARIABLES = {
    "conv2d": ("kernel", "bias"),
    "dense": ("kernel", "bias"),
    "separable_conv2d": ("depthwise_kernel", "pointwise_kernel"),
    "batch_normalization": ("gamma", "beta", "moving_mean", "moving_variance"),
}
"""What Keras 3 numbers from 0, by kind of layer; without a scale or center, the rest moves up."""

COUNTED = re.compile(r"(conv2d|batch_normalization|dense|separable_conv2d)(?:_(\d+))?")
MOST_GROUPS = 20_000


class Window(io.RawIOBase):
    """Bytes of a file, as a file."""

    def __init__(self, data: memoryview) -> None:
        self.data, self.at = data, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self.at = max(0, offset + (0, self.at, len(self.data))[whence])
        return self.at

    def tell(self) -> int:
        return self.at

    def readinto(self, buffer: Any) -> int:
        part = self.data[self.at : self.at + len(buffer)]
        buffer[: len(part)] = part
        self.at += len(part)
        return len(part)


def read_archive(file: Mapped) -> Contents:
    """The tensors of a .keras file."""
    members = archive.members(file)
    if "model.weights.h5" not in members:
        raise WeightsError("a zip archive without PyTorch's data.pkl or Keras's model.weights.h5")
    return Contents("keras-zip", _read(Window(members["model.weights.h5"]), len(file))[1])


def read(file: Mapped) -> Contents:
    """The tensors of an .h5 file, of either layout."""
    return Contents(*_read(file.path, len(file)))


def write(path: Path, arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """A .weights.h5 that Keras 3's load_weights takes: layers counted by kind, in the order of `arrays`."""
    count: dict[str, int] = {}
    with h5py.File(path, "w") as file:
        for layer, variables in _layers(arrays).items():
            kind = _kind(variables)
            number = count[kind] = count.get(kind, -1) + 1
            group = file.create_group(f"layers/{kind}{f'_{number}' if number else ''}/vars")
            group.attrs["name"] = layer
            for i, name in enumerate(sorted(variables, key=VARIABLES[kind].index)):
                group.create_dataset(str(i), data=np.ascontiguousarray(variables[name]))


def write_legacy(path: Path, arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """An .h5 of weights alone that load_weights of every Keras takes: layers in the order of `arrays`."""
    layers = _layers(arrays)
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.encode() for layer in layers]
        file.attrs["backend"], file.attrs["keras_version"] = "tensorflow", "3.0.0"
        for layer, variables in layers.items():
            names = sorted(variables, key=VARIABLES[_kind(variables)].index)
            group = file.create_group(layer)
            group.attrs["weight_names"] = [f"{layer}/{name}:0".encode() for name in names]
            for name in names:
                group.create_dataset(f"{layer}/{name}:0", data=np.ascontiguousarray(variables[name]))


def _layers(arrays: Mapping[str, Array]) -> dict[str, dict[str, Array]]:
    layers: dict[str, dict[str, Array]] = {}
    for key, array in arrays.items():
        layer, _, variable = key.rpartition("/")
        layers.setdefault(layer, {})[variable] = array
    return layers


def _kind(variables: Mapping[str, Array]) -> str:
    if "kernel" in variables:
        return "dense" if variables["kernel"].ndim == 2 else "conv2d"
    return "separable_conv2d" if "depthwise_kernel" in variables else "batch_normalization"


def _read(source: Path | Window, size: int) -> tuple[str, dict[str, Tensor]]:
    """The name of the layout, and the tensors."""
    try:
        file = h5py.File(source, "r")
        layout = "keras" if isinstance(file.get("layers", getlink=True), h5py.HardLink) else "keras-legacy"
        layers = dict(_current(file) if layout == "keras" else _legacy(file))
        tree = {
            f"{layer}/{name}": _tensor(dataset, size)
            for layer, variables in _renumbered(layers).items()
            for name, dataset in variables.items()
        }
    except WeightsError:
        raise
    except Exception as error:  # HDF5's errors come as whatever Python exception is nearest
        raise WeightsError(f"not a readable HDF5 file: {error}") from None
    return layout, tree


def _current(file: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Keras 3: layers/conv2d_3/vars/0, the layer's name an attribute of `vars`."""
    groups = _group(file, "layers")
    for key in _keys(groups):
        variables = _group(_group(groups, key), "vars")
        kind = re.sub(r"_\d+$", "", key)
        numbers = _keys(variables)
        if not numbers:
            continue
        if kind not in VARIABLES or "name" not in variables.attrs:
            raise WeightsError(f"layer {key} is of no kind that these networks have, or has no name")
        names = VARIABLES[kind]
        names = names[1:] if kind == "batch_normalization" and len(numbers) == len(names) - 1 else names
        found = {name: _dataset(variables, str(i)) for i, name in enumerate(names[: len(numbers)])}
        yield str(variables.attrs["name"]), found


def _legacy(file: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Before: a group a layer, named; "weight_names" are paths within it, as conv2d/kernel:0."""
    root = _group(file, "model_weights") if "model_weights" in file else file
    for layer in _texts(root.attrs, "layer_names"):
        group = _group(root, layer)
        names = _texts(group.attrs, "weight_names")
        if names:
            yield layer, {path.rpartition("/")[2].partition(":")[0]: _dataset(group, path) for path in names}


def _texts(attributes: Any, name: str) -> list[str]:
    """An attribute that is a list of texts; Keras cuts long ones into name0, name1, ..."""
    parts = (
        [name] if name in attributes else [f"{name}{i}" for i in range(len(attributes)) if f"{name}{i}" in attributes]
    )
    if not parts:
        raise WeightsError(f"an HDF5 file without {name!r}: not one of Keras's")
    values = [value for part in parts for value in np.asarray(attributes[part]).ravel().tolist()]
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]


def _keys(group: Any) -> list[str]:
    if len(group) > MOST_GROUPS:
        raise WeightsError(f"a group of {len(group)} members")
    return list(group)


def _group(parent: Any, path: str) -> Any:
    return _member(parent, path, h5py.Group)


def _dataset(parent: Any, path: str) -> Any:
    return _member(parent, path, h5py.Dataset)


def _member(parent: Any, path: str, kind: type) -> Any:
    """A group or dataset of this very file: links to other files are not followed."""
    for name in path.split("/"):
        if not isinstance(parent, h5py.Group) or not isinstance(parent.get(name, getlink=True), h5py.HardLink):
            raise WeightsError(f"{path!r} is missing, or elsewhere")
        parent = parent[name]
    if not isinstance(parent, kind):
        raise WeightsError(f"{path!r} is no {kind.__name__.lower()}")
    return parent


def _tensor(dataset: Any, size: int) -> Tensor:
    dtype = dataset.dtype.name
    if dataset.external or dataset.is_virtual or dtype not in ITEMSIZE or dataset.shape is None:
        raise WeightsError(f"{dataset.name!r} is no plain array of numbers within this file")
    tensor = Tensor(tuple(dataset.shape), dtype, partial(_elements, dataset))
    if tensor.nbytes > size:
        raise WeightsError(f"{dataset.name!r} would take {tensor.nbytes:,} bytes, and the file has {size:,}")
    return tensor


def _elements(dataset: Any) -> Array:
    try:
        return np.asarray(dataset[()])
    except Exception as error:  # as above
        raise WeightsError(f"{dataset.name!r} cannot be read: {error}") from None


def _renumbered(layers: dict[str, Any]) -> dict[str, Any]:
    """Layers that a session counted, counted from 0: conv2d, conv2d_1, ..."""
    counted: dict[str, list[int]] = {}
    for layer in layers:
        if match := COUNTED.fullmatch(layer):
            counted.setdefault(match[1], []).append(int(match[2] or 0))
    places = {kind: {n: i for i, n in enumerate(sorted(numbers))} for kind, numbers in counted.items()}

    def renumber(layer: str) -> str:
        match = COUNTED.fullmatch(layer)
        place = places[match[1]][int(match[2] or 0)] if match else 0
        return f"{match[1]}{f'_{place}' if place else ''}" if match else layer

    return {renumber(layer): variables for layer, variables in layers.items()}
