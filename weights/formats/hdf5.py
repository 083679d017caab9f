"""Find the tensors in Keras's HDF5 files: `python hdf5.py FILE START LENGTH` prints where they are, as a line of JSON.

A damaged index can make libhdf5 loop for ever or fill the memory. It therefore runs in a separate process with limited
memory and time, and only reports where each tensor's bytes are; the parent process maps the file and reads them. Links
to other files, data kept in other files, compression and non-numeric types are refused.
"""

import io
import json
import os
import re
import sys
from collections.abc import Iterator
from itertools import takewhile
from typing import Any

MEMORY, SECONDS = 64 << 20, 3
"""Limits for reading the index: bytes beyond the file's own size, and seconds of processor time."""

MOST_MEMBERS = 20_000
VARIABLES = {
    "conv2d": ("kernel", "bias"),
    "dense": ("kernel", "bias"),
    "separable_conv2d": ("depthwise_kernel", "pointwise_kernel"),
    "batch_normalization": ("gamma", "beta", "moving_mean", "moving_variance"),
}
"""The variables of each kind of layer, in the order in which Keras 3 numbers them; without gamma, beta is number 0."""

NESTED = "save that model alone: model.get_layer(NAME).save_weights('inner.weights.h5')"


class Window(io.RawIOBase):
    """A part of a file, as a file."""

    def __init__(self, path: str, start: int, length: int) -> None:
        self.file, self.start, self.length, self.at = open(path, "rb", buffering=0), start, length, 0  # noqa: SIM115

    def seek(self, offset: int, whence: int = 0) -> int:
        self.at = max(0, offset + (0, self.at, self.length)[whence])
        return self.at

    def tell(self) -> int:
        return self.at

    def readinto(self, buffer: Any) -> int:
        self.file.seek(self.start + self.at)
        part = self.file.read(max(0, min(len(buffer), self.length - self.at)))
        buffer[: len(part)] = part
        self.at += len(part)
        return len(part)


def index(path: str, start: int, length: int) -> dict[str, Any]:
    """The layout, and for each tensor its layer, variable, type, shape, and offset from the start of the HDF5 file.

    Raises ValueError where the file is not one of Keras's, and whatever h5py raises where it is damaged.
    """
    import h5py

    file = h5py.File(Window(path, start, length) if start else path, "r")
    layout = "keras" if isinstance(file.get("layers", getlink=True), h5py.HardLink) else "keras-legacy"
    layers = _current(file) if layout == "keras" else _legacy(file)
    tensors = [(layer, name, *_place(dataset)) for layer, variables in layers for name, dataset in variables.items()]
    return {"layout": layout, "tensors": tensors}


def _current(file: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Keras 3: layers/conv2d_3/vars/0, from 3.6 with the layer's name as an attribute of `vars`."""
    import h5py

    groups = _member(file, "layers", "Group")
    for key in _keys(groups):
        group = _member(groups, key, "Group")
        if isinstance(group.get("layers", getlink=True), h5py.HardLink):
            raise ValueError(f"layer {key} is a nested model, {NESTED}")
        variables = _member(group, "vars", "Group")
        kind = re.sub(r"_\d+$", "", key)
        numbers = _keys(variables)
        if not numbers:
            continue
        if kind not in VARIABLES:
            raise ValueError(f"layer {key} is of a kind that these networks do not have")
        names = VARIABLES[kind]
        names = names[1:] if kind == "batch_normalization" and len(numbers) == len(names) - 1 else names
        found = {name: _member(variables, str(i), "Dataset") for i, name in enumerate(names[: len(numbers)])}
        yield str(variables.attrs.get("name", key)), found


def _legacy(file: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Earlier versions: a group for each layer; "weight_names" are paths within it, as conv2d/kernel:0."""
    root = _member(file, "model_weights", "Group") if "model_weights" in file else file
    for layer in _texts(root.attrs, "layer_names"):
        group = _member(root, layer, "Group")
        found: dict[str, Any] = {}
        for path in _texts(group.attrs, "weight_names"):
            name = path.rpartition("/")[2].partition(":")[0]
            if name in found:
                raise ValueError(f"layer {layer} has two variables {name!r}; if it is a nested model, {NESTED}")
            found[name] = _member(group, path, "Dataset")
        if found:
            yield layer, found


def _texts(attributes: Any, name: str) -> list[str]:
    """An attribute that is a list of texts; Keras cuts long ones into name0, name1, ..."""
    numbered = (f"{name}{i}" for i in range(MOST_MEMBERS))
    parts = [name] if name in attributes else list(takewhile(attributes.__contains__, numbered))
    if not parts:
        raise ValueError(f"an HDF5 file without {name!r}: not one of Keras's")
    values = [value for part in parts for value in attributes[part].ravel().tolist()]
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]


def _keys(group: Any) -> list[str]:
    if len(group) > MOST_MEMBERS:
        raise ValueError(f"a group of {len(group)} members")
    return list(group)


def _member(parent: Any, path: str, kind: str) -> Any:
    """A group or dataset that is in this file itself."""
    import h5py

    for name in path.split("/"):
        if not isinstance(parent, h5py.Group) or not isinstance(parent.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"{path!r} is missing, or elsewhere")
        parent = parent[name]
    if type(parent).__name__ != kind:
        raise ValueError(f"{path!r} is not a {kind.lower()}")
    return parent


def _place(dataset: Any) -> tuple[str, str, list[int], int]:
    """Type, byte order, shape and offset of a dataset that is contiguous in the file."""
    dtype = dataset.dtype
    if dataset.external or dataset.is_virtual or dtype.kind not in "fiub" or dataset.shape is None:
        raise ValueError(f"{dataset.name!r} is not a plain array of numbers within this file")
    offset = dataset.id.get_offset()
    if offset is None:
        raise ValueError(f"{dataset.name!r} is compressed, in chunks or empty, which Keras's are not")
    return dtype.name, ">" if dtype.byteorder == ">" else "<", list(dataset.shape), offset


def confine(size: int) -> None:
    """Limit this process's memory and time; only on Linux, which has /proc and enforces such limits."""
    if not os.path.exists("/proc/self/statm"):
        return
    import resource

    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY + size, now + MEMORY + size))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main(path: str, start: int, length: int) -> None:
    try:
        answer = index(path, start, length)
    except Exception as error:  # h5py turns HDF5's errors into various Python exceptions
        answer = {"error": " ".join(str(error).split()) or type(error).__name__}
    print(json.dumps(answer))


if __name__ == "__main__":
    # modules in this folder have the frameworks' names
    sys.path[:] = [path for path in sys.path if os.path.abspath(path) != os.path.dirname(os.path.abspath(__file__))]
    import h5py  # noqa: F401  # before memory is confined

    confine(int(sys.argv[3]))
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
