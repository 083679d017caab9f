"""A network and a source from another package get everything that the built-in ones get, by their names alone.

The package in tests/outside is installed, by pip, into a folder that the commands below have on their path.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from zoo.frameworks import FRAMEWORKS
from zoo.models import MODELS

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder where the package is installed."""
    folder = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--target", str(folder)]
    subprocess.run([*pip, *offline, str(_copy(folder))], check=True, capture_output=True, text=True)
    return folder


def _copy(folder):
    """The sources, where building may write."""
    import shutil

    return shutil.copytree(ROOT / "tests" / "outside", folder.with_name(f"{folder.name}-source"))


@pytest.fixture(scope="module")
def run(site, tmp_path_factory):
    """Runs a command with the package installed; returns what it printed."""
    folder = tmp_path_factory.mktemp("run")

    def run(*words, status=0):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(ROOT)]), "TERM": "dumb"}
        command = [sys.executable, "-W", "ignore", *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder)
        assert done.returncode == status, done.stderr
        return done.stdout

    run.folder = folder
    return run


def zoo(run, *words):
    return json.loads(run("-m", "zoo", *words, "--json", "-"))


def test_it_is_listed_and_described(run):
    assert [row["model"] for row in zoo(run, "list", "outs*")] == ["outside"]
    figures = zoo(run, "info", "outside")
    assert (figures["size"], figures["num_classes"]) == (32, 10)
    assert figures["norm"] == {"eps": 3e-4, "decay": 0.95}
    assert [stage["name"] for stage in figures["stages"]] == ["stem", "mixed", "block"]


def test_three_frameworks_run_it_alike(run):
    report = zoo(run, "parity", "outside", "--layers")
    backends = report["models"][0]["backends"]
    assert set(backends) == set(FRAMEWORKS)
    assert all(entry["max_rel_error"] < 5e-6 for entry in backends.values()), backends
    assert report["ok"]


@pytest.mark.nightly  # tests/test_gradients.py trains networks that are not built-in
def test_three_frameworks_train_it_alike(run):
    report = zoo(run, "parity", "outside", "--gradients")
    assert set(report["models"][0]["backends"]) == set(FRAMEWORKS)
    assert report["ok"], report


def test_it_is_trained_resumed_elsewhere_and_converted(run):
    flags = ["--model", "outside", "--dataset", "digits", "--ckpt_save_dir", "ckpt", "--batch_size", "64"]
    flags += ["--num_samples", "256", "--lr", "0.01", "--opt", "momentum", "--val_while_train", "--mode", "1"]
    run(ROOT / "train.py", *flags, "--epoch_size", "1", "--backend", "torch")
    resumed = run(ROOT / "train.py", *flags, "--epoch_size", "2", "--backend", "mindspore", "--resume")
    assert "Epoch: [2/2]" in resumed
    checkpoint = run.folder / "ckpt" / "outside-2_4.ckpt"
    judged = run(ROOT / "validate.py", *flags[:4], "--ckpt_path", checkpoint, "--backend", "paddle")
    assert "Top_1_Accuracy" in judged
    to = zoo(run, "convert", checkpoint, "theirs.pth", "--to", "outside")
    assert to["to"] == "outside"
    about = zoo(run, "inspect", "theirs.pth")
    assert (about["model"], about["sources"]) == ("outside", ["outside"])
    zoo(run, "convert", "theirs.pth", "ours.safetensors")
    code = (
        "import weights, numpy as np, sys\n"
        "a, b = (weights.read(path)[0] for path in sys.argv[1:])\n"
        "print(all(a[name].tobytes() == b[name].tobytes() for name in a), len(a))"
    )
    assert run("-c", code, checkpoint, "ours.safetensors").split()[0] == "True"


def test_its_files_build_it_where_the_package_is_not_installed(run, tmp_path):
    """The file says which network it holds."""
    zoo(run, "convert", run.folder / "ckpt" / "outside-2_4.ckpt", tmp_path / "own.safetensors")
    import zoo as library
    from backends.reference import network

    net = library.build(checkpoint=tmp_path / "own.safetensors", backend="reference")
    assert (net.spec.name, net.spec.norm.eps) == ("outside", 3e-4)
    x = np.zeros((1, 3, 32, 32), np.float32)
    assert network.predict(net, x)["logits"].shape == (1, 10)


def test_an_entry_point_that_fails_is_left_out_with_a_warning(tmp_path):
    info = tmp_path / "broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[inception_zoo.models]\nbroken = nowhere:MODEL\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    code = "import zoo; print(len(zoo.list_models()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == str(len(MODELS))
    assert done.stderr.strip() == (
        "entry point broken = nowhere:MODEL: left out: ModuleNotFoundError: No module named 'nowhere'"
    )
