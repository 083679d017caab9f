"""`zoo parity` on narrow networks: its document, its verdicts, and what makes it fail."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support import SMALL, calibrated

import weights
import zoo
from backends import jobs, worker
from zoo.commands import main
from zoo.data.images import preprocess, sample_photographs
from zoo.errors import BackendError, InputError, SpecError, UnavailableError, WeightsError
from zoo.frameworks import FRAMEWORKS
from zoo.language.model import configure
from zoo.models import MODELS
from zoo.parity import logits, stored_reference
from zoo.parity.logits import (
    Settings,
    compare,
    free_memory,
    margins,
    ranking,
    relative_error,
    top,
    workers_at_once,
)

TORCH = Settings(backends=("torch",))


def test_all_frameworks_and_two_models(tmp_path, capfd):
    """As a user runs it: exit status, table and JSON."""
    file = tmp_path / "parity.json"
    status = main(["parity", "googlenet", "googlenet.mindcv", "--width", "0.25", "--layers", "--json", str(file)])
    out, err = capfd.readouterr()
    report = json.loads(file.read_text())
    assert status == 0
    assert report["ok"]
    assert report["tolerance"] == max(result["bands"]["logits"] for result in report["models"])
    for result in report["models"]:
        model = configure(MODELS[result["model"]], width=0.25)
        assert result["input"]["shape"] == [2, 3, model.size, model.size]
        assert set(result["backends"]) == FRAMEWORKS.keys()
        for entry in result["backends"].values():
            assert 0 < entry["max_rel_error"] <= result["bands"]["logits"] < 5e-6
            assert entry["operations"]["compared"] > 100
            assert (entry["operations"]["outside"], entry["operations"]["first"]) == (0, None)
            assert entry["ok"]
            assert entry["top1_agrees"]
            assert entry["top5_agrees"]
            assert set(entry["seconds"]) == {"import", "build", "load", "run"}
            names = [*(s.name for s in model.stages), "logits", *(a.name for a in model.aux)]
            assert list(entry["layers"]) == list(result["bands"]) == names
    for word in (
        "googlenet.mindcv",
        "mindspore 2.8",
        "paddle 3",
        "torch 2",
        "jax 0",
        "top-5",
        "rounding explains",
        "operations and inputs compared, 0 outside",
        "random, seed 0",
        "mixed_5c",
    ):
        assert word in out
    assert "googlenet: reference" in err


def wrong(change):
    """A worker that returns wrong logits."""
    run = worker.run

    def spoilt(backend, *arguments, **options):
        result = run(backend, *arguments, **options)
        if backend != "reference":
            result.outputs["logits"] = change(result.outputs["logits"])
        return result

    return spoilt


@pytest.mark.parametrize(
    ("change", "between", "top1"),
    [
        (lambda y: y * np.float32(1 + 1e-5), (5e-6, 2e-5), True),
        (lambda y: np.roll(y, 1, axis=1), (0.1, 2), False),
        (lambda y: y + np.float32("nan"), None, None),
    ],
)
def test_a_network_that_is_not_the_same_is_found_out(monkeypatch, capfd, change, between, top1):
    monkeypatch.setattr(worker, "run", wrong(change))
    assert main(["parity", "googlenet", "--width", "0.25", "--backends", "torch", "--json", "-"]) == 1
    report = json.loads(capfd.readouterr().out)
    entry = report["models"][0]["backends"]["torch"]
    assert not report["ok"]
    assert not entry["ok"]
    error = entry["max_rel_error"]
    assert error is None if between is None else between[0] < error < between[1]
    assert top1 is None or entry["top1_agrees"] == top1


def test_a_stage_that_is_wrong_fails_though_the_logits_are_right(monkeypatch):
    run = worker.run

    def spoilt(backend, *arguments, **options):
        result = run(backend, *arguments, **options)
        if backend == "torch":
            result.outputs["mixed_4b"] *= 1.001
        return result

    monkeypatch.setattr(worker, "run", spoilt)
    report = compare(["googlenet"], Settings(backends=("torch",), layers=True), width=0.25)
    assert not report["ok"]
    assert report["models"][0]["backends"]["torch"]["layers"]["mixed_4b"] > 1e-4


def test_a_reference_that_fails_fails_its_model_only(monkeypatch):
    run = worker.run

    def some(backend, model, *arguments, **options):
        if backend == "reference" and model.name == "googlenet":
            raise BackendError("reference: its worker did not finish within 1 s: boom")
        return run(backend, model, *arguments, **options)

    monkeypatch.setattr(worker, "run", some)
    report = compare(["googlenet", "googlenet.slim"], TORCH, width=0.25)
    assert not report["ok"]
    assert report["models"][0]["backends"] == {}
    assert "did not finish" in report["models"][0]["reference"]["error"]
    assert report["models"][1]["backends"]["torch"]["ok"]


def test_missing_and_failing_backends_are_told_and_the_others_still_report(monkeypatch, capfd):
    run = worker.run

    def some(backend, *arguments, **options):
        if backend == "mindspore":
            raise UnavailableError("mindspore is not installed: pip install 'mindspore>=2.8,<2.9'")
        if backend == "paddle":
            raise BackendError("paddle: its worker died of SIGSEGV: boom")
        return run(backend, *arguments, **options)

    monkeypatch.setattr(worker, "run", some)
    assert main(["parity", "googlenet", "--width", "0.25"]) == 1
    out = capfd.readouterr().out
    assert "googlenet, mindspore: mindspore is not installed: pip install 'mindspore>=2.8,<2.9'" in out
    assert "googlenet, paddle: paddle: its worker died of SIGSEGV: boom" in out
    skipped = compare(["googlenet"], Settings(backends=("torch", "mindspore")), width=0.25)
    assert skipped["ok"]
    assert "not installed" in skipped["models"][0]["backends"]["mindspore"]["skipped"]
    assert not compare(["googlenet"], Settings(backends=("mindspore",)), width=0.25)["ok"], "nothing was proved"


@pytest.mark.parametrize("flags", [[], ["--gradients"]])
def test_a_framework_that_is_installed_and_broken_is_a_failure(tmp_path, monkeypatch, capfd, flags):
    (tmp_path / "paddle").mkdir()
    (tmp_path / "paddle" / "__init__.py").write_text("raise ImportError('libmkl is missing')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    status = main(["parity", str(SMALL), "--backends", "torch,paddle", *flags])
    assert status == 1
    assert "paddle is installed but cannot be imported: libmkl is missing" in capfd.readouterr().out


OWN = """
from zoo.language import Conv, Head, MaxPool, Model, Preprocess, concat, stages
NET = Model(
    name="own",
    stages=stages(stem=Conv(16, 3, 2), mixed=concat(Conv(8), Conv(8, 3)) >> MaxPool(3, 2)),
    head=Head(),
    preprocess=Preprocess(resize=72),
    size=64,
    in_channels=1,
    num_classes=10,
)
"""


def test_a_network_of_ones_own_however_it_is_named(tmp_path, monkeypatch, capfd):
    """A Model, package.module:NAME, a document, a checkpoint; grey images too."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(OWN)
    model = zoo.spec("mine:NET")
    (tmp_path / "own.json").write_text(zoo.to_json(model))
    arrays = weights.initial(model, 3)
    weights.write("own.safetensors", arrays, model)
    for name in ("mine:NET", "own.json", "own.safetensors"):
        assert main(["parity", name, "--backends", "torch", "--json", "-"]) == 0
        result = json.loads(capfd.readouterr().out)["models"][0]
        assert result["model"] == "own"
        assert result["input"]["shape"] == [2, 1, 64, 64]
        assert (result["weights"] == name) == (name == "own.safetensors")
    assert compare([model], TORCH)["ok"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "mine:OTHER",
            "mine:OTHER: expected package.module:NAME of a Model, but module 'mine' has no attribute 'OTHER'",
        ),
        ("nowhere:NET", "nowhere:NET: expected package.module:NAME of a Model, but No module named 'nowhere'"),
        ("broken:NET", "broken:NET: expected package.module:NAME of a Model, but '(' was never closed"),
        ("fails:NET", "fails:NET: expected package.module:NAME of a Model, but no such layer (fails.py, line 2)"),
        ("mine:Conv", "mine:Conv: expected a zoo.language.Model, not type"),
        ("none.json", "none.json: cannot read the model: No such file or directory"),
        ("empty.json", "empty.json: the document is not JSON"),
    ],
)
def test_names_that_name_no_network(tmp_path, monkeypatch, capfd, name, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(OWN)
    (tmp_path / "broken.py").write_text("NET = (")
    (tmp_path / "fails.py").write_text("NET = 1\nraise TypeError('no such layer')\n")
    (tmp_path / "empty.json").write_text("")
    for command in (["info", name], ["parity", name], ["diff", "googlenet", name]):
        assert main(command) == 2
        assert message in capfd.readouterr().err


def test_the_stored_logits_are_not_for_a_variant():
    """Another epsilon, the same weights and inputs: it has other logits."""
    model = configure(MODELS["inception_v3"], aux=False)
    other = replace(model, norm=replace(model.norm, eps=0.1))
    inputs = np.stack([preprocess(model, photograph) for photograph in sample_photographs()])
    arrays = weights.restrict(calibrated(MODELS["inception_v3"]), model, MODELS["inception_v3"])
    with pytest.raises(InputError, match="the stored reference is for the published network"):
        stored_reference.lookup(other, inputs, arrays)


def test_a_machine_without_gpu_skips(capfd):
    document = compare(["googlenet"], Settings(backends=("torch",), device="gpu:99"), width=0.25)
    assert 0 < document["tolerance"] < 1e-5
    assert "no device gpu:99" in document["models"][0]["backends"]["torch"]["skipped"]


def test_a_checkpoint_and_images_of_ones_own(tmp_path):
    model = configure(MODELS["googlenet"], width=0.25, num_classes=10)
    weights.write(tmp_path / "w.safetensors", calibrated(model), model)
    sample_photographs()[1].save(tmp_path / "flower.png")
    own = {"checkpoint": tmp_path / "w.safetensors", "images": [tmp_path / "flower.png"]}
    report = compare(["googlenet"], TORCH, **own, size=160, batch=3)
    assert report["ok"]
    assert report["models"][0]["input"] == {"images": [str(tmp_path / "flower.png")], "shape": [3, 3, 160, 160]}
    assert report["models"][0]["weights"] == str(tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=r"w.safetensors: googlenet cannot become googlenet.slim"):
        compare(["googlenet.slim"], TORCH, **own)


def test_a_folder_of_images_and_the_margin_of_rankings(tmp_path, capfd):
    """More images than a batch; the same first class for all, whose leads are far above what rounding changes."""
    folder = tmp_path / "images" / "deep"
    folder.mkdir(parents=True)
    for number in range(jobs.BATCH + 2):
        left = 10 * number
        sample_photographs()[number % 2].crop((left, 0, left + 250, 250)).save(folder / f"{number:02}.PNG")
    file = tmp_path / "parity.json"
    words = ["googlenet", "--width", "0.25", "--size", "96", "--backends", "torch", "--repeat", "2"]
    assert main(["parity", *words, "--image", str(tmp_path / "images"), "--json", str(file)]) == 0
    (result,) = json.loads(file.read_text())["models"]
    assert result["input"]["images"] == [str(folder / f"{number:02}.PNG") for number in range(jobs.BATCH + 2)]
    assert result["backends"]["torch"]["top1"] == {"same": 18, "images": 18, "flipped_up_to": None}
    assert 2 * result["bands"]["logits"] < result["reference"]["margin"] < 1
    out = capfd.readouterr().out
    assert "googlenet, torch: the same first class for 18 of 18 images." in out
    assert "and 15 more, preprocessed" in out
    with pytest.raises(InputError, match="layers are compared on at most 16 images, not 18"):
        compare(["googlenet"], Settings(layers=True), images=[tmp_path / "images"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: no images in this folder: expected files that end in \.jpg"):
        compare(["googlenet"], TORCH, images=[tmp_path / "empty"])


def test_a_ranking_that_differs_is_counted_and_its_margin_told():
    reference = np.array([[1.0, 0.9, 0.0], [0.0, 0.4, 2.0]])
    assert margins(reference) == pytest.approx([0.05, 0.8])
    assert ranking(reference[:, [1, 0, 2]], reference) == {
        "same": 1,
        "images": 2,
        "flipped_up_to": pytest.approx(0.05),
    }


def test_engines_in_bfloat16_are_judged_by_its_band(tmp_path, capfd):
    """What a backend does not have is skipped; bfloat16 in the band of float32 would fail."""
    file = tmp_path / "parity.json"
    words = ["googlenet", "--width", "0.25", "--mode", "deploy", "--dtype", "bf16", "--backends", "torch,openvino,onnx"]
    status = main(["parity", *words, "--json", str(file)])
    document = json.loads(file.read_text())
    (result,) = document["models"]
    assert (document["mode"], document["dtype"]) == ("deploy", "bf16")
    assert "no bf16 on cpu" in result["backends"]["onnx"]["skipped"]
    processor = Path("/proc/cpuinfo")
    if processor.exists() and not re.search("avx512|amx|bf16", processor.read_text()):
        assert "no bfloat16" in result["backends"]["torch"]["skipped"]
        assert "no bfloat16" in result["backends"]["openvino"]["skipped"]
        assert status == 1
        assert "No framework was compared, so nothing was proved." in capfd.readouterr().out
        pytest.skip("this processor has no bfloat16")
    assert status == 0
    for backend in ("torch", "openvino"):
        assert 1e-3 < result["backends"][backend]["max_rel_error"] <= result["bands"]["logits"] < 0.2
    assert "each backend's engine, in bf16" in capfd.readouterr().out
    assert main(["parity", *words[:5], "--backends", "torch,openvino,onnx"]) == 0


def test_workers_run_side_by_side_as_far_as_memory_allows(monkeypatch):
    monkeypatch.setattr(logits, "available_threads", lambda: 4)
    monkeypatch.setattr(logits, "free_memory", lambda: 7e9)
    assert workers_at_once(4, None) == 2
    assert workers_at_once(1, "cpu") == 1
    assert workers_at_once(4, "gpu:0") == 1
    monkeypatch.setattr(logits, "free_memory", lambda: 1e9)
    assert workers_at_once(4, None) == 1
    monkeypatch.undo()
    assert free_memory() > 1e8


@pytest.mark.parametrize(
    "name",
    [
        name if name in ("googlenet", "inception_v3") else pytest.param(name, marks=pytest.mark.nightly)
        for name in stored_reference.NAMES
    ],
)
def test_the_stored_reference_is_what_the_reference_computes(name):
    model = MODELS[name]
    inputs = np.stack([preprocess(model, photograph) for photograph in sample_photographs()])
    arrays = calibrated(model)
    again = stored_reference.compute(model, arrays)
    stored = stored_reference.lookup(model, inputs, arrays)
    assert stored.logits["logits"].shape == (2, 1000)
    assert stored.logits.keys() == {"logits", *(aux.name for aux in model.aux)}
    for head, values in stored.logits.items():
        assert relative_error(values, again[f"{name}/{head}"]) < 1e-6
    for one, other in zip(stored.fingerprints.values(), again[f"{name}/fingerprints"], strict=True):
        assert np.linalg.norm(one - other) < 1e-6 * one[-1]
    assert [*stored.bands.values()] == pytest.approx(again[f"{name}/bands"].tolist(), rel=0.5)
    with pytest.raises(InputError, match="the stored reference is for the two sample photographs"):
        stored_reference.lookup(model, inputs[::-1], arrays)
    with pytest.raises(InputError, match="the stored reference is for seed 0's weights"):
        stored_reference.lookup(model, inputs, weights.initial(model))


def test_judging_by_the_stored_reference(monkeypatch):
    settings = Settings(backends=("torch",), stored_reference=True, layers=True)
    report = compare(["googlenet"], settings)
    assert report["ok"]
    (result,) = report["models"]
    assert result["reference"]["stored"] is True
    layers = result["backends"]["torch"]["layers"]
    assert list(layers) == [
        *(stage.name for stage in MODELS["googlenet"].stages),
        "logits",
        *(aux.name for aux in MODELS["googlenet"].aux),
    ]
    assert all(0 < error <= result["bands"][name] < 1e-4 for name, error in layers.items())
    run = worker.run

    def spoilt(*arguments, **options):
        result = run(*arguments, **options)
        return replace(result, outputs={**result.outputs, "mixed_4b": result.outputs["mixed_4b"] * np.float32(1.0001)})

    monkeypatch.setattr(worker, "run", spoilt)
    report = compare(["googlenet"], settings)
    assert not report["ok"]
    assert report["models"][0]["backends"]["torch"]["layers"]["mixed_4b"] == pytest.approx(1e-4, rel=0.5)


def test_fingerprints_estimate_the_norm_of_a_difference():
    random = np.random.default_rng(0)
    reference = random.standard_normal((2, 24, 35, 35))
    ratios = []
    for _ in range(50):
        off = 1e-5 * random.standard_normal(reference.shape) * random.uniform(0, 1, (1, 24, 1, 1))
        exact = np.linalg.norm(off) / np.linalg.norm(reference)
        ratios.append(stored_reference.distance(reference + off, stored_reference.fingerprint(reference)) / exact)
    assert 0.6 < min(ratios) < max(ratios) < 1.4
    assert np.mean(ratios) == pytest.approx(1, abs=0.05)
    assert stored_reference.distance(reference[:, ::-1], stored_reference.fingerprint(reference)) > 1
    assert stored_reference.distance(reference * np.inf, stored_reference.fingerprint(reference)) == np.inf


@pytest.mark.parametrize(
    ("run", "kind", "message"),
    [
        (lambda: compare(["googlnet"], TORCH), SpecError, "unknown model 'googlnet': did you mean googlenet"),
        (lambda: Settings(backends=("torch", "tf")), BackendError, "unknown backend 'tf'"),
        (lambda: Settings(backends=()), BackendError, "no backend"),
        (lambda: Settings(mode="graph"), SpecError, "mode: expected 'module' or 'deploy', not 'graph'"),
        (lambda: Settings(dtype="bf16"), SpecError, "dtype bf16 is for engines: add mode='deploy'"),
        (lambda: Settings(dtype="int8", mode="deploy"), BackendError, "int8 is judged by validate.py"),
        (lambda: Settings(layers=True, mode="deploy"), SpecError, "an engine has no stages to judge"),
        (lambda: compare(["googlenet"], TORCH, size=14), InputError, "at least 15 x 15"),
        (
            lambda: compare(["googlenet"], TORCH, batch=0),
            SpecError,
            "the batch must be an integer of at least 1, not 0",
        ),
        (lambda: compare(["googlenet"] * 2, TORCH, checkpoint="w"), SpecError, "one checkpoint goes with one model"),
        (lambda: Settings(device="tpu"), BackendError, "unknown device 'tpu'"),
        (lambda: Settings(timeout=0), InputError, "timeout"),
        (lambda: Settings(timeout=float("nan")), InputError, "timeout"),
        (lambda: Settings(tolerance=-1), InputError, "tolerance"),
        (lambda: Settings(tolerance=float("inf")), InputError, "tolerance"),
        (lambda: compare(["googlenet"], TORCH, size=0), SpecError, "the size must be an integer of at least 1, not 0"),
        (
            lambda: compare(["googlenet"], TORCH, seed=-1),
            SpecError,
            "the seed must be an integer of at least 0, not -1",
        ),
    ],
)
def test_bad_input(run, kind, message):
    with pytest.raises(kind, match=message):
        run()


def test_the_measure():
    assert relative_error(np.array([1.0, 2.0]), np.array([1.0, 4.0])) == 0.5
    assert relative_error(np.array([0.0, np.nan]), np.array([1.0, 4.0])) is None
    np.testing.assert_array_equal(top(np.array([[0.1, 0.9, 0.5]]), 2), [[1, 2]])
