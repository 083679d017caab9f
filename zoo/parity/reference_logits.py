"""The reference's logits for the two sample photographs and seed 0, kept in the package.

With them, a machine that has one framework and a GPU is judged by the same numbers as every other. They hold for
exactly the inputs and weights they were computed from; others are refused. `python -m zoo.parity.reference_logits`
computes them again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from zoo.errors import InputError
from zoo.language.diff import same_network
from zoo.language.interpreter import Interpreter
from zoo.language.model import Model, configure
from zoo.models import MODELS
from zoo.parity.bands import bands

NAMES = ("googlenet", "googlenet.mindcv", "inception_v3", "inception_v3.mindcv", "inception_v4")
FILE = Path(__file__).with_name("reference_logits.safetensors")
Array = NDArray[Any]


def lookup(model: Model, inputs: Array, arrays: Mapping[str, Array]) -> tuple[Array, float]:
    """The stored logits [N, classes], float64, and their band (`zoo.parity.bands`).

    Raises InputError when these inputs or weights are not theirs.
    """
    tensors = load_file(FILE)
    again = "leave the stored reference out to have it computed"
    if f"{model.name}.logits" not in tensors:
        raise InputError(f"{model.name}: no logits are stored for it; {again}")
    if not same_network(model, MODELS[model.name]):
        raise InputError(f"{model.name}: the stored logits are for the published network of that name; {again}")
    if not np.array_equal(tensors[f"{model.name}.inputs"], _digest(inputs)):
        raise InputError(
            f"{model.name}: the stored logits are for the two sample photographs at {model.size} pixels; {again}"
        )
    stored, given = tensors[f"{model.name}.weights"], _fingerprint(arrays)
    if stored.shape != given.shape or not np.allclose(stored, given, rtol=1e-5, atol=0):
        raise InputError(f"{model.name}: the stored logits are for seed 0's weights at full width; {again}")
    return tensors[f"{model.name}.logits"], float(tensors[f"{model.name}.band"])


def _digest(inputs: Array) -> Array:
    return np.frombuffer(hashlib.sha256(inputs.tobytes()).digest(), np.uint8)


def _fingerprint(arrays: Mapping[str, Array]) -> Array:
    """The mean magnitude of every tensor: calibration may differ in a last bit between machines, so no digest."""
    return np.array([np.abs(arrays[name]).mean(dtype=np.float64) for name in sorted(arrays)])


def compute(model: Model, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """What is kept for one model and its weights."""
    from zoo.data.images import preprocess, sample_photographs

    inputs = np.stack([preprocess(model, photograph) for photograph in sample_photographs()])
    net = Interpreter(model, {name: array.astype(np.float64) for name, array in arrays.items()})
    logits = net.tape(inputs)["logits"]
    return {
        f"{model.name}.logits": logits,
        f"{model.name}.band": np.array(bands(model, arrays, inputs, {"logits": logits})["logits"]),
        f"{model.name}.inputs": _digest(inputs),
        f"{model.name}.weights": _fingerprint(arrays),
    }


if __name__ == "__main__":
    import weights

    tensors: dict[str, Array] = {}
    for published in (configure(MODELS[name], aux=False) for name in NAMES):
        tensors |= compute(published, weights.calibrated(published))
    save_file(tensors, FILE)
    print(f"{FILE}: {len(NAMES)} models, {FILE.stat().st_size:,} bytes")
