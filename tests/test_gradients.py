"""`zoo parity --gradients` on narrow networks, and that it sees what it is for."""

import json

import pytest

from backends import worker
from zoo.commands import main
from zoo.parity import gradients
from zoo.parity.gradients import LOSS_TOLERANCE, TOLERANCE, compare

KINDS = {"output", "input", "gradient", "statistic"}


@pytest.mark.parametrize(
    "models",
    [
        ("googlenet",),  # and a network with residual blocks in test_outside.py
        pytest.param(
            ("inception_v4", "inception_v3", "inception_resnet_v2", "xception.mindcv", "xception41p"),
            marks=pytest.mark.nightly,
        ),
    ],
    ids=", ".join,
)
def test_every_stage_and_head_trains_alike_in_three_frameworks(tmp_path, capfd, models):
    file = tmp_path / "gradients.json"
    assert main(["parity", *models, "--gradients", "--width", "0.25", "--json", str(file)]) == 0
    report = json.loads(file.read_text())
    assert [result["model"] for result in report["models"]] == list(models)
    for result in report["models"]:
        assert set(result["backends"]) == {"torch", "mindspore", "paddle"}
        for entry in result["backends"].values():
            assert set(entry["worst"]) == KINDS
            assert all(0 < worst["error"] <= TOLERANCE for worst in entry["worst"].values())
            assert entry["loss_error"] <= LOSS_TOLERANCE
    assert models[-1] in capfd.readouterr().out


def test_an_error_of_any_kind_is_found_and_placed(monkeypatch):
    wrong = {
        "output": ("head", "output"),
        "input": ("mixed_3c", "input"),
        "gradient": ("mixed_4b", "gradient/mixed_4b.branch0.conv.weight"),
        "statistic": ("conv2d_1a_7x7", "statistic/conv2d_1a_7x7.bn.var"),
    }
    read, call = gradients.load_file, worker.call

    def spoilt(path):
        arrays = read(path)
        for part, name in wrong.values():
            if path.parent.name == "torch" and path.stem == part:
                arrays[name] = arrays[name] * 1.0001
        return arrays

    def off(task, *rest):
        report = call(task, *rest)
        return {**report, "loss": report["loss"] * 1.0001} if task == "differentiate" else report

    monkeypatch.setattr(gradients, "load_file", spoilt)
    monkeypatch.setattr(worker, "call", off)
    report = compare(["googlenet"], ["torch"], width=0.25, size=96)
    (entry,) = report["models"][0]["backends"].values()
    assert not report["ok"]
    for kind, (part, name) in wrong.items():
        assert entry["worst"][kind]["error"] == pytest.approx(1e-4, rel=0.1)
        assert entry["worst"][kind]["where"] == (name.partition("/")[2] or part)
    assert entry["loss_error"] == pytest.approx(1e-4, rel=0.5)
