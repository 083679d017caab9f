"""What the reference computes for the two sample photographs and seed 0, stored in the package.

With it, a machine that has only one framework and a GPU is judged by the same numbers as every other. Logits are stored
as they are, feature maps as fingerprints. They are valid for exactly the inputs and weights that they were computed
from; others are refused. `make reference` computes them again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

import weights
from zoo.errors import InputError
from zoo.language.diff import same_network
from zoo.language.interpreter import Interpreter
from zoo.language.model import Model
from zoo.language.trace import parameters
from zoo.models import MODELS
from zoo.parity.bands import RUNS, Rounded, band, error

NAMES = ("googlenet", "googlenet.mindcv", "inception_v3", "inception_v3.mindcv", "inception_v4")
FILE = Path(__file__).with_name("stored_reference.safetensors")
BUCKET_BITS = 6
BUCKETS = 1 << BUCKET_BITS
Array = NDArray[Any]


def fingerprint(values: Array) -> Array:
    """`BUCKETS` sums of the values, and their norm: float64 [BUCKETS + 1].

    Each value is added to one of the sums, with a sign; a hash of its position decides both. The norm of the difference
    between two such sums estimates the norm of the difference between the values, to 9% (one standard deviation):
    Charikar, Chen and Farach-Colton 2002, https://doi.org/10.1007/3-540-45465-9_59.
    """
    flat = np.ascontiguousarray(values, np.float64).ravel()
    hashed = _hash(len(flat))
    signed = np.where(hashed & np.uint64(1), flat, -flat)
    sums = np.bincount((hashed >> np.uint64(64 - BUCKET_BITS)).astype(np.int64), signed, BUCKETS)
    return np.append(sums, np.linalg.norm(flat))


def _hash(count: int) -> NDArray[np.uint64]:
    """64 bits for each number from 0 to count - 1: the finaliser of SplitMix64 (Steele, Lea and Flood 2014)."""
    z = (np.arange(count, dtype=np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    hashed: NDArray[np.uint64] = z ^ (z >> np.uint64(31))
    return hashed


def distance(values: Array, stored: Array) -> float:
    """About |values - reference| / |reference| (Frobenius), from the fingerprint of the reference.

    Infinite where a value is not finite.
    """
    if not np.isfinite(values).all():
        return float("inf")
    off = fingerprint(values)[:-1] - stored[:-1]
    return float(np.linalg.norm(off) / (stored[-1] or 1.0))


@dataclass(frozen=True)
class Stored:
    """What is stored for one model.

    logits        of the network and of its auxiliary heads, float64 [2, classes], by name
    fingerprints  of the stages' outputs, by name
    bands         the largest error of each of these that rounding explains, by name
    """

    logits: dict[str, Array]
    fingerprints: dict[str, Array]
    bands: dict[str, float]

    def error(self, name: str, values: Array) -> float:
        """The error of logits, max |y - reference| / max |reference|, or of a stage by its fingerprint."""
        if name in self.logits:
            return error(values, self.logits[name])
        return distance(values, self.fingerprints[name])


def lookup(model: Model, inputs: Array, arrays: Mapping[str, Array]) -> Stored:
    """What is stored for a model. Raises InputError when nothing is stored for it with these inputs and weights."""
    tensors = load_file(FILE)
    again = "leave the stored reference out to have it computed"
    if f"{model.name}/logits" not in tensors:
        raise InputError(f"{model.name}: no reference is stored for it; {again}")
    published = MODELS[model.name]
    if not same_network(model, published):
        raise InputError(f"{model.name}: the stored reference is for the published network of that name; {again}")
    if not np.array_equal(tensors[f"{model.name}/inputs"], _digest(inputs)):
        raise InputError(
            f"{model.name}: the stored reference is for the two sample photographs at {model.size} pixels; {again}"
        )
    magnitudes = dict(zip(parameters(published), tensors[f"{model.name}/weights"], strict=True))
    given = {name: _magnitude(array) for name, array in arrays.items()}
    if not given.keys() <= magnitudes.keys() or not all(
        np.isclose(value, magnitudes[name], rtol=1e-5, atol=0) for name, value in given.items()
    ):
        raise InputError(f"{model.name}: the stored reference is for seed 0's weights at full width; {again}")
    stages = [stage.name for stage in published.stages]
    heads = ["logits", *(aux.name for aux in published.aux)]
    return Stored(
        {name: tensors[f"{model.name}/{name}"] for name in heads},
        dict(zip(stages, tensors[f"{model.name}/fingerprints"], strict=True)),
        dict(zip((*stages, *heads), map(float, tensors[f"{model.name}/bands"]), strict=True)),
    )


def _digest(inputs: Array) -> Array:
    return np.frombuffer(hashlib.sha256(inputs.tobytes()).digest(), np.uint8)


def _magnitude(array: Array) -> float:
    """The mean magnitude of a tensor. A digest would not do: calibration may differ in a last bit between machines."""
    return float(np.abs(array).mean(dtype=np.float64))


def compute(model: Model, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """What is stored for one published network, auxiliary heads included, and its weights."""
    from zoo.data.images import preprocess, sample_photographs

    inputs = np.stack([preprocess(model, photograph) for photograph in sample_photographs()])
    tape = Interpreter(model, {name: array.astype(np.float64) for name, array in arrays.items()}).tape(inputs)
    stages = [stage.name for stage in model.stages]
    heads = {name: values for name, values in tape.items() if name not in stages}
    fingerprints = {name: fingerprint(tape[name]) for name in stages}
    stored = Stored(heads, fingerprints, {})
    runs = [Rounded(model, arrays, "fp32", np.random.default_rng([0, run])).tape(inputs) for run in range(RUNS)]
    return {
        **{f"{model.name}/{name}": logits for name, logits in heads.items()},
        f"{model.name}/fingerprints": np.stack(list(fingerprints.values())),
        f"{model.name}/bands": np.array([band([stored.error(name, run[name]) for run in runs]) for name in tape]),
        f"{model.name}/inputs": _digest(inputs),
        f"{model.name}/weights": np.array([_magnitude(arrays[name]) for name in parameters(model)]),
    }


def write() -> None:
    """Rewrite `FILE`: `make reference`, after a change to a network of `NAMES`."""
    tensors: dict[str, Array] = {}
    for name in NAMES:
        tensors |= compute(MODELS[name], weights.calibrated(MODELS[name]))
    save_file(tensors, FILE)
