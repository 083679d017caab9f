"""What several tests need: weights, inputs, the reference's answer, and the error between two arrays."""

from functools import cache

import numpy as np

import weights
from backends import reference
from zoo.model import Model
from zoo.models import MODELS

NAMES = tuple(MODELS)


@cache
def calibrated(model: Model) -> dict[str, np.ndarray]:
    return weights.calibrated(model)


def batch(model: Model, height: int, width: int | None = None, count: int = 1) -> np.ndarray:
    """Uniform noise between -1 and 1."""
    shape = (count, model.in_channels, height, width or height)
    return np.random.default_rng(7).uniform(-1, 1, shape).astype(np.float32)


def expected(model: Model, arrays: dict[str, np.ndarray], x: np.ndarray) -> dict[str, np.ndarray]:
    """Every stage, the logits and the auxiliary logits, from the float64 reference."""
    net = reference.build(model)
    reference.load(net, arrays)
    return reference.predict(net, x, tape=True)


def error(y: np.ndarray, reference: np.ndarray) -> float:
    """Max |y - reference| / max |reference|, the project's measure."""
    assert y.shape == reference.shape
    return float(np.abs(y - reference).max() / np.abs(reference).max())
