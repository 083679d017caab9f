"""`zoo parity --gradients` and `--steps` on narrow networks, with and without faults."""

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import numpy as np
import pytest
from safetensors.numpy import save_file
from support import SMALL

import zoo
from backends import parts, worker
from zoo.commands import main
from zoo.frameworks import FRAMEWORKS
from zoo.language.model import configure
from zoo.models import MODELS
from zoo.parity import steps
from zoo.parity.edits import nodes_of, with_node
from zoo.parity.gradients import compare

SCHEMA = json.loads((Path(__file__).parents[1] / "docs" / "parity.schema.json").read_text())
KINDS = {"output", "input", "gradient", "statistic"}


@pytest.mark.parametrize(
    ("models", "width"),
    [
        ((str(SMALL),), 1),
        pytest.param(
            ("googlenet", "inception_v4", "inception_v3", "inception_resnet_v2", "xception.mindcv", "xception41p"),
            0.25,
            marks=pytest.mark.nightly,
        ),
    ],
    ids=["small", "others"],
)
def test_every_stage_and_head_trains_alike_in_all_frameworks(tmp_path, capfd, models, width):
    file = tmp_path / "gradients.json"
    assert main(["parity", *models, "--gradients", "--width", str(width), "--json", str(file)]) == 0
    report = json.loads(file.read_text())
    jsonschema.validate(report, SCHEMA)
    assert [result["model"] for result in report["models"]] == [zoo.spec(name).name for name in models]
    for result in report["models"]:
        assert set(result["backends"]) == FRAMEWORKS.keys()
        for entry in result["backends"].values():
            assert set(entry["worst"]) == KINDS
            assert all(0 < worst["error"] <= worst["band"] for worst in entry["worst"].values())
            for kind in KINDS - {"statistic"}:  # one of small's means is 0 but for rounding
                assert entry["worst"][kind]["band"] < 1e-4
            assert entry["loss_error"] <= entry["loss_band"] < 1e-3
            assert entry["outside"] == []
    assert zoo.spec(models[-1]).name in capfd.readouterr().out


def test_a_network_without_batch_norm_and_biases():
    """Nothing in it can be shifted so that no input of a ReLU is near 0."""
    report = compare([configure(MODELS["googlenet.mindcv"], aux=False)], ["torch"], width=0.25, size=64)
    (entry,) = report["models"][0]["backends"].values()
    assert entry["ok"]
    assert entry["worst"].keys() == KINDS - {"statistic"}


def test_an_error_of_any_kind_is_found_and_placed(monkeypatch):
    wrong = {
        "output": ("head", "output"),
        "input": ("mixed_3c", "input"),
        "gradient": ("mixed_4b", "gradient/mixed_4b.branch0.conv.weight"),
        "statistic": ("conv2d_1a_7x7", "statistic/conv2d_1a_7x7.bn.var"),
    }
    read, call = parts.load_file, worker.call

    def spoilt(path):
        arrays = read(path)
        for part, name in wrong.values():
            if path.parent.name == "torch" and path.stem == part:
                arrays[name] = arrays[name] * 1.0001
        return arrays

    def off(task, *rest):
        report = call(task, *rest)
        return {**report, "loss": report["loss"] * 1.0001} if "loss" in report and task != "judge" else report

    monkeypatch.setattr(parts, "load_file", spoilt)
    monkeypatch.setattr(worker, "call", off)
    report = compare(["googlenet"], ["torch"], width=0.25, size=96)
    (entry,) = report["models"][0]["backends"].values()
    assert not report["ok"]
    for kind, (part, name) in wrong.items():
        assert entry["worst"][kind]["error"] == pytest.approx(1e-4, rel=0.1)
        assert entry["worst"][kind]["where"] == (name.partition("/")[2] or part)
    assert entry["loss_error"] == pytest.approx(1e-4, rel=0.5)
    assert entry["outside"] == ["conv2d_1a_7x7", "mixed_3c", "mixed_4b", "head"]
    assert entry["operations"]["outside"] == ["conv2d_1a_7x7", "head"]  # the operations of the other stages are right


def test_an_array_that_is_0_is_judged_by_the_size_of_the_others(tmp_path):
    """The gradient of a bias before a batch norm: in float64 1e-17, in float32 1e-8."""
    arrays = {"gradient/a": np.array([3.0, 4.0]), "gradient/b": np.array([1e-17]), "output": np.array([1e-9])}
    for name, b in (("reference", 1e-17), ("right", 1e-8), ("wrong", 1e-2)):
        (tmp_path / name).mkdir()
        save_file({**arrays, "gradient/b": np.array([b])}, tmp_path / name / "stem.safetensors")
    assert parts.errors(tmp_path, "right", "stem") == {"gradient/a": 0, "gradient/b": pytest.approx(2e-3), "output": 0}
    assert parts.errors(tmp_path, "wrong", "stem")["gradient/b"] == pytest.approx(2e3)


def test_where_a_stage_fails_its_operation_is_found(monkeypatch, capsys, tmp_path):
    path = "mixed.branch1.1"
    call = worker.call

    def with_dilation(task, backend, model, *rest):
        if task == "differentiate":
            model = with_node(model, path, replace(nodes_of(model)[path], dilation=2))
        return call(task, backend, model, *rest)

    monkeypatch.setattr(worker, "call", with_dilation)
    files = ["--html", str(tmp_path / "p.html"), "--junit", str(tmp_path / "p.xml")]
    assert main(["parity", str(SMALL), "--gradients", "--backends", "torch", *files]) == 1
    problem = f"outside: mixed; of their operations: {path}"
    assert problem in capsys.readouterr().out
    page = (tmp_path / "p.html").read_text()
    assert "every stage in training: " in page
    assert f"torch: {problem}" in page
    (suite,) = ElementTree.parse(tmp_path / "p.xml").getroot()
    assert (suite.get("name"), suite.get("failures")) == ("small", "1")
    assert suite[0].find("failure").get("message") == problem


def test_steps_agree_in_all_frameworks(tmp_path, capsys):
    file = tmp_path / "steps.json"
    assert main(["parity", str(SMALL), "--steps", "4", "--json", str(file)]) == 0
    jsonschema.validate(json.loads(file.read_text()), SCHEMA)
    (result,) = json.loads(file.read_text())["models"]
    assert len(result["loss"]) == 4
    for backend in FRAMEWORKS:
        entry = result["backends"][backend]
        assert entry["outside"] == []
        assert entry["errors"].keys() == result["bands"].keys() >= {"loss 4", "weights of head", "statistics of block"}
        assert all(0 <= error <= result["bands"][place] < 0.1 for place, error in entry["errors"].items())
        assert entry["errors"]["loss 4"] < 1e-5
    assert "4 training steps" in capsys.readouterr().out


def test_steps_with_another_momentum_of_the_statistics_are_outside_their_band(monkeypatch):
    call = worker.call

    def other(task, backend, model, *rest):
        if task == "train":
            model = replace(model, norm=replace(model.norm, decay=model.norm.decay + 0.001))
        return call(task, backend, model, *rest)

    monkeypatch.setattr(worker, "call", other)
    report = steps.compare([SMALL], 2, ["torch"])
    (entry,) = report["models"][0]["backends"].values()
    stages = [*(stage.name for stage in zoo.spec(SMALL).stages if stage.name != "pool"), "aux"]
    assert not report["ok"]
    assert set(entry["outside"]) <= {f"statistics of {stage}" for stage in stages}
    assert "statistics of stem" in entry["outside"]


def test_steps_find_a_weight_that_is_off(monkeypatch):
    read = steps.load_file

    def spoilt(path):
        arrays = read(path)
        return {**arrays, "head.fc.bias": arrays["head.fc.bias"] * 1.001} if path.stem == "torch" else arrays

    monkeypatch.setattr(steps, "load_file", spoilt)
    (entry,) = steps.compare([SMALL], 2, ["torch"])["models"][0]["backends"].values()
    assert entry["outside"] == ["weights of head"]
