"""Helpers of several tests: weights, inputs, the reference's outputs, and the error between two arrays."""

import hashlib
import os
import resource
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import weights
from backends.reference import network as reference
from weights.sources import all_sources
from zoo.language.model import Model, configure
from zoo.models import MODELS
from zoo.parity import stored_reference

SMALL = Path(__file__).with_name("small.json")
"""A network that takes a second, with all that a state holds: norm, dropout, an auxiliary head. Its name: small."""

FULL = stored_reference.NAMES
"""Tested at their published width; the others at a quarter of it, and at full width against their publishers."""

OTHERS = tuple(name for name in MODELS if name not in FULL)

CONCEPTS = (
    "bninception",
    "googlenet.paddleclas",
    "inception_resnet_v2.slim",
    "xception.mindcv",
    "xception41p",
    "xception71.paddleclas",
    "xception41.paddleclas_deeplab",
)
"""Networks with features that the full ones lack: biases, late ReLUs, scaled residuals, SAME pools, pre-activation,
other orders, dilation."""


def others(mark: pytest.MarkDecorator = pytest.mark.nightly) -> list[object]:
    """The networks that are tested at a quarter of their width; `mark` marks those that cover nothing new."""
    return [name if name in CONCEPTS else pytest.param(name, marks=mark) for name in OTHERS]


in_one_framework = pytest.mark.nightly_in("mindspore", "paddle", "jax")
"""Marks tests of code that does not depend on the framework: CI runs them in PyTorch, the nightly tests in all."""

GRAPHS = (
    "googlenet",
    "googlenet.mindcv",
    "inception_v3",
    "inception_v4",
    "inception_resnet_v1",
    "xception.mindcv",
    "xception41p",
)
"""Compiled and exported, at a quarter of their width."""


def narrow(name: str) -> Model:
    """A quarter of the published width, auxiliary heads included."""
    return configure(MODELS[name], width=0.25)


@cache
def calibrated(model: Model) -> dict[str, np.ndarray]:
    """`weights.calibrated`, made once for the four processes of `make test`, which gives them a folder to share."""
    if "ZOO_TEST_WEIGHTS" not in os.environ:
        return weights.calibrated(model)
    path = Path(os.environ["ZOO_TEST_WEIGHTS"], f"{hashlib.sha256(repr(model).encode()).hexdigest()}.safetensors")
    if not path.exists():
        weights.write(path, weights.calibrated(model), model)
    return weights.read(path)[0]


def batch(model: Model, height: int, width: int | None = None, count: int = 1) -> np.ndarray:
    """Uniform noise between -1 and 1."""
    shape = (count, model.in_channels, height, width or height)
    return np.random.default_rng(7).uniform(-1, 1, shape).astype(np.float32)


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """Limit files to `size` bytes, which stands for a full disk where no file system can be mounted.

    The limit also applies to pytest's own files, so use it for only a few lines at a time.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def expected(model: Model, arrays: dict[str, np.ndarray], x: np.ndarray) -> dict[str, np.ndarray]:
    """Every stage, the logits and the auxiliary logits, from the float64 reference; computed once, as `calibrated`."""
    if "ZOO_TEST_WEIGHTS" not in os.environ:
        return _expected(model, arrays, x)
    question = hashlib.sha256(repr((model, list(arrays), x.shape, x.dtype)).encode())
    for array in (*arrays.values(), x):
        question.update(np.ascontiguousarray(array).data)
    path = Path(os.environ["ZOO_TEST_WEIGHTS"], f"{question.hexdigest()}.npz")
    if not path.exists():
        answer = _expected(model, arrays, x)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".npz", delete=False) as file:
            np.savez(file, **answer)
        os.replace(file.name, path)
    with np.load(path) as answer:
        return dict(answer)


def _expected(model: Model, arrays: dict[str, np.ndarray], x: np.ndarray) -> dict[str, np.ndarray]:
    net = reference.build(model)
    reference.load(net, arrays)
    return reference.predict(net, x, tape=True)


def error(y: np.ndarray, reference: np.ndarray) -> float:
    """Max |y - reference| / max |reference|, the project's measure."""
    assert y.shape == reference.shape
    return float(np.abs(y - reference).max() / np.abs(reference).max())


SUFFIX = {
    "torch": ".pth",
    "mindspore": ".ckpt",
    "paddle": ".pdparams",
    "jax": ".msgpack",
    "keras": ".weights.h5",
    "zoo": ".safetensors",
}
"""The suffix of the files of each framework, and of canonical ones."""


def logits(model: Model, arrays: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """The reference's logits, auxiliary heads left out."""
    bare = replace(model, aux=())
    return expected(bare, weights.restrict(arrays, bare, model), x)["logits"]


def save(
    folder: Path, source: str, model: Model, arrays: dict[str, np.ndarray] | None = None, name: str = "file"
) -> Path:
    """Write a checkpoint as a source does, with calibrated weights by default."""
    path = folder / f"{name}{SUFFIX[all_sources()[source].framework]}"
    weights.write(path, calibrated(model) if arrays is None else arrays, model, to=source)
    return path
