"""Weights pass through all frameworks, each in its own process, and come back bit for bit."""

import numpy as np
import pytest
from support import FULL, batch, calibrated

from backends import worker
from zoo.models import MODELS

SUITE = ("googlenet",)
"""The others are run nightly."""


@pytest.mark.parametrize(
    "name", [name if name in SUITE else pytest.param(name, marks=pytest.mark.nightly) for name in FULL]
)
def test_from_framework_to_framework(name):
    model, start = MODELS[name], calibrated(MODELS[name])
    x = batch(model, model.size)
    arrays, logits = start, {}
    for step, backend in enumerate(("torch", "paddle", "mindspore", "jax", "torch")):
        result = worker.run(backend, model, arrays, x, dump=True)
        arrays, logits[step] = result.dump, result.outputs["logits"]
        assert (result.memory or 0) < 3e9, f"{backend} took {result.memory / 1e9:.1f} GB"
    assert arrays.keys() == start.keys()
    assert all(arrays[key].tobytes() == array.tobytes() for key, array in start.items())
    assert np.array_equal(logits[0], logits[4])
