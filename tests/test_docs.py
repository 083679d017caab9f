"""The pages that show how to add something are run: their files written, their commands executed, in order."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support import batch, calibrated, error, expected, narrow

import backends
import zoo
from backends import get
from zoo import frameworks
from zoo.language.model import configure
from zoo.models import MODELS

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```(python|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page):
    """The page's blocks in order: ("python", file name, text) and ("console", command, expected output)."""
    for kind, text in BLOCK.findall((ROOT / "docs" / page).read_text()):
        if kind == "python":
            yield "python", text.splitlines()[0].removeprefix("# "), text
        else:
            for command in text.split("$ ")[1:]:
                line, _, output = command.partition("\n")
                yield "console", line, output


def run(command, folder):
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "ignore",
        "TERM": "dumb",
    }
    return subprocess.run(command, shell=True, capture_output=True, text=True, cwd=folder, env=environment)


def follow(page, folder):
    """Write the page's files and run its commands, which must succeed and print what it shows; gives their number."""
    for script in ("train.py", "validate.py"):
        (folder / script).symlink_to(ROOT / script)
    commands = 0
    for kind, name, text in blocks(page):
        if kind == "python":
            (folder / name).write_text(text)
            continue
        done = run(name, folder)
        assert done.returncode == 0, f"{name}: {done.stderr}"
        assert text.strip() in done.stdout
        commands += 1
    return commands


def test_add_a_model(tmp_path):
    assert follow("add_a_model.md", tmp_path) == 14


@pytest.fixture
def arrays(tmp_path, monkeypatch):
    """The page's framework, as if its folder lay in backends/ and its row in FRAMEWORKS."""
    monkeypatch.setattr(frameworks, "FRAMEWORKS", frameworks.FRAMEWORKS)
    before = dict(frameworks.FRAMEWORKS), dict(frameworks.CONVENTIONS)
    for kind, name, text in blocks("add_a_framework.md"):
        assert kind == "python"
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(backends, "__path__", [*backends.__path__, str(tmp_path / "backends")])
    monkeypatch.setattr(backends, "BACKENDS", (*backends.BACKENDS, "arrays"))
    monkeypatch.setattr(backends, "_import_framework", lambda name: None)
    exec(compile((tmp_path / "row.py").read_text(), "row.py", "exec"), {})
    yield tmp_path
    for table, rows in zip((frameworks.FRAMEWORKS, frameworks.CONVENTIONS), before, strict=True):
        table.clear()
        table.update(rows)
    for name in [name for name in sys.modules if name.startswith("backends.arrays")]:
        del sys.modules[name]


@pytest.mark.parametrize(
    "name", ["googlenet", "inception_v4", "inception_resnet_v2", "xception.mindcv", "xception41p", "bninception"]
)
def test_add_a_framework(arrays, name):
    """Its networks equal the reference, and their weights come back to the bit."""
    model = replace(narrow(name), aux=())
    weights, x = calibrated(model), batch(model, 128)
    net = get("arrays").build(model)
    get("arrays").load(net, weights)
    reference = expected(model, weights, x)
    for stage, value in get("arrays").predict(net, x, tape=True).items():
        assert value.dtype == np.float32
        assert error(value, reference[stage]) < 1e-5, stage
    again = get("arrays").dump(net)
    assert all(again[key].tobytes() == array.tobytes() for key, array in weights.items())


def test_a_new_framework_is_built_by_its_name(arrays, capsys):
    exec(compile((arrays / "use.py").read_text(), "use.py", "exec"), {})
    assert capsys.readouterr().out == "(1, 1000)\n"
    net = zoo.build("googlenet", "arrays", width=0.25, out_indices=["mixed_4b"])
    assert list(get("arrays").predict(net, batch(configure(MODELS["googlenet"]), 64))) == ["mixed_4b"]
    with pytest.raises(zoo.BackendError, match="backend arrays runs networks only: it has no training"):
        backends.load("arrays", "training")


def test_deploying(tmp_path):
    assert follow("deploying.md", tmp_path) == 6
