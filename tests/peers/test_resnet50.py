"""examples/resnet50.py: a network from outside the package is torchvision's, and timm's, in every framework."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from support import error

from backends import worker
from zoo.frameworks import FRAMEWORKS

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "examples"))
from resnet50 import RESNET50  # noqa: E402

import weights  # noqa: E402


@pytest.mark.parametrize("publisher", RESNET50.publishers)
def test_it_is_the_publishers_network(publisher, tmp_path):
    """Their class loads our file, runs it and saves its own, which is recognised and run by the three frameworks."""
    random, given = np.random.default_rng(3), weights.initial(RESNET50)
    for name, array in given.items():
        if name.endswith((".bn.weight", ".bn.var")):
            array[:] = random.uniform(0.75, 1.25, array.shape)
        elif array.ndim == 1:
            array[:] = random.normal(0, 0.1, array.shape)
    weights.write(tmp_path / "ours.pth", given, RESNET50, to=publisher)
    x = np.random.default_rng(5).uniform(-1, 1, (2, 3, 224, 224)).astype(np.float32)
    np.save(tmp_path / "inputs.npy", x)
    command = [sys.executable, "-W", "ignore", ROOT / "tests" / "peers" / "publishers.py", publisher, "resnet50"]
    subprocess.run([*map(str, command), str(tmp_path)], check=True)
    theirs = load_file(tmp_path / "outputs.safetensors")["logits"]
    arrays, about = weights.read(tmp_path / "theirs.pth")
    assert all(np.array_equal(arrays[name], array) for name, array in given.items())
    assert about["model"] == "resnet50"
    assert publisher in about["sources"]
    for framework in FRAMEWORKS:
        ours = worker.run(framework, RESNET50, arrays, x).outputs["logits"]
        assert error(ours, theirs) < 5e-6, framework
