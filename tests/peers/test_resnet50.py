"""examples/resnet50.py: a network from outside the package is torchvision's, and timm's, in every framework."""

import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from support import error

import weights
from backends import worker
from zoo.catalogue import models
from zoo.frameworks import FRAMEWORKS

ROOT = Path(__file__).parents[2]


@pytest.fixture
def model():
    """The example's network, registered for this test only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("zoo.catalogue._registered", dict(models()))
        patch.setattr("weights.sources._registered", dict(weights.all_sources()))
        patch.syspath_prepend(str(ROOT / "examples"))
        yield importlib.import_module("resnet50").RESNET50
        del sys.modules["resnet50"]


@pytest.mark.parametrize("publisher", ["torchvision", pytest.param("timm", marks=pytest.mark.nightly)])
def test_it_is_the_publishers_network(publisher, tmp_path, model):
    """Their class loads our file, runs it and saves its own, which every framework recognises and runs."""
    random, given = np.random.default_rng(3), weights.initial(model)
    for name, array in given.items():
        if name.endswith((".bn.weight", ".bn.var")):
            array[:] = random.uniform(0.75, 1.25, array.shape)
        elif array.ndim == 1:
            array[:] = random.normal(0, 0.1, array.shape)
    weights.write(tmp_path / "ours.pth", given, model, to=publisher)
    x = np.random.default_rng(5).uniform(-1, 1, (2, 3, 96, 96)).astype(np.float32)
    np.save(tmp_path / "inputs.npy", x)
    command = [sys.executable, "-W", "ignore", ROOT / "tests" / "peers" / "publishers.py", publisher, "resnet50"]
    subprocess.run([*map(str, command), str(tmp_path)], check=True)
    theirs = load_file(tmp_path / "outputs.safetensors")["logits"]
    arrays, about = weights.read(tmp_path / "theirs.pth")
    assert all(np.array_equal(arrays[name], array) for name, array in given.items())
    assert about["model"] == "resnet50"
    assert publisher in about["sources"]
    for framework in FRAMEWORKS:
        ours = worker.run(framework, model, arrays, x).outputs["logits"]
        assert error(ours, theirs) < 5e-6, framework
