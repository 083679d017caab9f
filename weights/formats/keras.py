"""Keras's files: .weights.h5 and .keras (a zip archive with one inside) of Keras 3, and the .h5 of earlier versions.

Tensors are called "layer/variable". Keras numbers unnamed layers through a whole session, as conv2d_7, and loads files
by position. Here the numbers start from 0 in each file, so that the same network always has the same names. Source:
saving_lib.py and legacy_h5_format.py of 3.15.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from weights.formats import archive, hdf5
from weights.formats.hdf5 import VARIABLES
from weights.formats.tensors import Array, Contents, Mapped, Tensor, from_buffer
from zoo.errors import WeightsError

COUNTED = re.compile(r"(conv2d|batch_normalization|dense|separable_conv2d)(?:_(\d{1,9}))?")
PATIENCE = 20
"""Seconds to wait for the process that reads an index; enough for a busy machine."""


def read_archive(file: Mapped) -> Contents:
    """The tensors of a .keras file."""
    members = archive.members(file)
    if "model.weights.h5" not in members:
        raise WeightsError("a zip archive without PyTorch's data.pkl or Keras's model.weights.h5")
    data = members["model.weights.h5"]
    return Contents("keras-zip", _read(file, data, _start(file, data))[1])


def read(file: Mapped) -> Contents:
    """The tensors of an .h5 file, of either layout."""
    return Contents(*_read(file, file.bytes, 0))


def write(path: Path, arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """A .weights.h5 that Keras 3's load_weights takes: layers counted by kind, in the order of `arrays`."""
    import h5py

    count: dict[str, int] = {}
    with h5py.File(path, "w") as file:
        file.create_group("vars")  # Keras before 3.6 looks for the network's own variables
        for layer, variables in _layers(arrays).items():
            kind = kind_of(variables)
            number = count[kind] = count.get(kind, -1) + 1
            group = file.create_group(f"layers/{kind}{f'_{number}' if number else ''}/vars")
            group.attrs["name"] = layer
            for i, name in enumerate(sorted(variables, key=VARIABLES[kind].index)):
                group.create_dataset(str(i), data=np.ascontiguousarray(variables[name]))


def write_legacy(path: Path, arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """An .h5 of weights alone that load_weights of every Keras takes: layers in the order of `arrays`."""
    import h5py

    layers = _layers(arrays)
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.encode() for layer in layers]
        file.attrs["backend"], file.attrs["keras_version"] = "tensorflow", "3.0.0"
        for layer, variables in layers.items():
            names = sorted(variables, key=VARIABLES[kind_of(variables)].index)
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


def kind_of(variables: Mapping[str, Any]) -> str:
    """Keras's name for the kind of layer that has these variables."""
    if "kernel" in variables:
        return "dense" if len(variables["kernel"].shape) == 2 else "conv2d"
    return "separable_conv2d" if "depthwise_kernel" in variables else "batch_normalization"


def _start(file: Mapped, data: memoryview) -> int:
    """The offset in the file at which a view of it begins."""
    whole, part = (np.frombuffer(view, np.uint8).ctypes.data for view in (file.bytes, data))
    return int(part - whole)


def _read(file: Mapped, data: memoryview, start: int) -> tuple[str, dict[str, Tensor]]:
    """The layout's name, and the tensors."""
    found = _index(file.path, start, len(data))
    names = _renumbered([str(layer) for layer, *_ in found["tensors"]])
    tensors: dict[str, Tensor] = {}
    for layer, variable, dtype, order, shape, offset in found["tensors"]:
        key = f"{names[layer]}/{variable}"
        size = int(np.prod(shape, dtype=object)) * np.dtype(dtype).itemsize
        if key in tensors:
            raise WeightsError(f"{key!r} is there twice")
        if not 0 <= offset <= offset + size <= len(data):
            raise WeightsError(
                f"{key!r} would take {size:,} bytes from byte {offset:,}, and the file has {len(data):,}"
            )
        try:
            tensors[key] = from_buffer(data[offset : offset + size], dtype, tuple(shape), order)
        except ValueError as error:
            raise WeightsError(f"{key!r}: {error}") from None
    return found["layout"], tensors


def _index(path: Path, start: int, length: int) -> Any:
    """The output of hdf5.py, in a separate process. Raises WeightsError with its error, or the signal that ended it."""
    command = [sys.executable, hdf5.__file__, str(path.absolute()), str(start), str(length)]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, env=environment)
        answer = json.loads(run.stdout) if run.returncode == 0 else {"error": _end(run)}
    except subprocess.TimeoutExpired:
        answer = {"error": f"its index takes more than {PATIENCE} s to read"}
    if "error" in answer:
        raise WeightsError(f"not a readable HDF5 file of Keras's: {answer['error'][:300]}")
    return answer


def _end(run: subprocess.CompletedProcess[str]) -> str:
    if run.returncode < 0:
        return f"reading its index ended in {signal.Signals(-run.returncode).name}"
    return (run.stderr.strip().splitlines() or ["reading its index failed"])[-1]


def _renumbered(layers: list[str]) -> dict[str, str]:
    """New names for layers that Keras numbered, counted from 0: conv2d, conv2d_1, ..."""
    counted: dict[str, set[int]] = {}
    for layer in layers:
        if match := COUNTED.fullmatch(layer):
            counted.setdefault(match[1], set()).add(int(match[2] or 0))
    places = {kind: {n: i for i, n in enumerate(sorted(numbers))} for kind, numbers in counted.items()}

    def renumber(layer: str) -> str:
        match = COUNTED.fullmatch(layer)
        place = places[match[1]][int(match[2] or 0)] if match else 0
        return f"{match[1]}{f'_{place}' if place else ''}" if match else layer

    return {layer: renumber(layer) for layer in layers}
