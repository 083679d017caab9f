"""`zoo parity --gradients` on narrow networks, and that it sees what it is for."""

import json

import pytest

from backends import worker
from zoo import gradients
from zoo.cli import main
from zoo.gradients import LOSS_TOLERANCE, TOLERANCE, compare

MODELS = ("inception_v4", "inception_v3", "inception_resnet_v2", "googlenet")
KINDS = {"output", "input", "gradient", "statistic"}


def test_every_part_of_four_networks_trains_alike_in_three_frameworks(tmp_path, capfd):
    file = tmp_path / "gradients.json"
    assert main(["parity", *MODELS, "--gradients", "--width", "0.25", "--json", str(file)]) == 0
    report = json.loads(file.read_text())
    assert [result["model"] for result in report["models"]] == list(MODELS)
    for result in report["models"]:
        assert set(result["backends"]) == {"torch", "mindspore", "paddle"}
        for entry in result["backends"].values():
            assert set(entry["worst"]) == KINDS
            assert all(0 < worst["error"] <= TOLERANCE for worst in entry["worst"].values())
            assert entry["loss_error"] <= LOSS_TOLERANCE
    assert "inception_resnet_v2" in capfd.readouterr().out


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_an_error_of_any_kind_is_found_and_placed(monkeypatch, kind):
    real = gradients.load_file

    def spoilt(path):
        arrays = real(path)
        if path.parent.name == "torch" and path.stem == "head":
            for name in [n for n in arrays if n.partition("/")[0] == kind]:
                arrays[name] = arrays[name] * 1.0001
        if path.parent.name == "torch" and path.stem == "conv1" and kind == "statistic":
            arrays["statistic/conv1.bn.var"] = arrays["statistic/conv1.bn.var"] * 1.0001
        return arrays

    monkeypatch.setattr(gradients, "load_file", spoilt)
    report = compare(["googlenet"], ["torch"], width=0.25, size=96)
    assert not report["ok"]
    (entry,) = report["models"][0]["backends"].values()
    assert entry["worst"][kind]["error"] == pytest.approx(1e-4, rel=0.1)
    assert all(entry["worst"][other]["error"] <= TOLERANCE for other in KINDS - {kind})


def test_another_loss_fails(monkeypatch):
    real = worker.call

    def call(task, *rest):
        report = real(task, *rest)
        return {**report, "loss": report["loss"] * 1.001} if task == "differentiate" else report

    monkeypatch.setattr(worker, "call", call)
    assert not compare(["googlenet"], ["torch"], width=0.25, size=96)["ok"]
