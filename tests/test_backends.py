"""Choosing a backend: what is unknown, missing, broken, or would abort the process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import zoo
from backends import get
from backends.device import Device, parse
from zoo.errors import BackendError, UnavailableError
from zoo.frameworks import FRAMEWORKS, RUNTIMES

ROOT = Path(__file__).parents[1]


def test_requirements_are_those_of_the_extras():
    extras = (ROOT / "pyproject.toml").read_text().splitlines()
    for name, row in FRAMEWORKS.items():
        assert f'{name} = ["{row.requirement}"]' in extras
    for name, row in RUNTIMES.items():
        assert row.requirement == f"inception-zoo[{name}]"
        (line,) = (line for line in extras if line.startswith(f"{name} = ["))
        assert all(f'"{package}>=' in line for package in row.packages)


def test_an_unknown_backend():
    with pytest.raises(
        BackendError,
        match="unknown backend 'tf': expected one of torch, mindspore, paddle, jax, onnx, openvino, reference",
    ):
        zoo.build("googlenet", "tf")


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_missing_framework_gets_the_line_to_install_it(name, monkeypatch):
    monkeypatch.setattr("backends.installed", lambda _: False)
    monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(UnavailableError) as caught:
        get(name)
    assert str(caught.value) == f"{name} is not installed: pip install '{FRAMEWORKS[name].requirement}'"


def test_a_framework_that_does_not_import(tmp_path):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise ImportError('libgomp.so.1: cannot open shared object file')")
    code = "import backends\ntry: backends.get('torch')\nexcept Exception as error: print(repr(error))"
    said = python(code, path=tmp_path).stdout
    reason = "torch is installed but cannot be imported: libgomp.so.1: cannot open shared object file"
    assert said == f"BackendError('{reason}')\n"


def test_mindspore_after_paddle_is_an_error_and_no_abort():
    code = (
        "import paddle, zoo\ntry: zoo.build('googlenet', 'mindspore')\nexcept zoo.BackendError as error: print(error)"
    )
    run = python(code)
    assert run.returncode == 0
    assert run.stdout.startswith("mindspore: this process has imported paddle, after which importing MindSpore")
    assert len(run.stdout.splitlines()) == 1


def test_all_in_one_process_if_mindspore_is_the_first():
    code = """
import zoo
for name in ("mindspore", "paddle", "torch", "jax"):
    print(type(zoo.build("googlenet", name, width=0.25)).__module__)
"""
    names = ("mindspore", "paddle", "torch", "jax")
    assert python(code).stdout.split() == [f"backends.{name}.network" for name in names]


@pytest.mark.parametrize(
    ("name", "device"), [(None, None), ("cpu", Device("cpu")), ("gpu", Device("gpu")), ("gpu:3", Device("gpu", 3))]
)
def test_devices(name, device):
    assert parse(name) == device


@pytest.mark.parametrize("name", ["cuda", "gpu:", "gpu:-1", "cpu:0", ""])
def test_unknown_devices(name):
    with pytest.raises(BackendError, match=f"unknown device '{name}': expected 'cpu', 'gpu' or 'gpu:1'"):
        parse(name)


def python(code, path=ROOT):
    """Run `code` in an interpreter of its own, with `path` before everything else."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(path), str(ROOT)])}
    return subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, env=environment)
