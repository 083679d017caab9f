"""The framework's engines, and the files that it writes for other programs."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from support import SMALL, batch, calibrated, error, in_one_framework, narrow

import weights
import zoo
from backends import deploys
from backends.engine import EngineOptions, available_threads
from zoo.errors import BackendError, TrainingError, UnavailableError
from zoo.exporting import FORMATS, export
from zoo.frameworks import FRAMEWORKS
from zoo.language.model import Model, Preprocess, configure, stages
from zoo.language.nodes import Conv, Head, MaxPool
from zoo.parity.engines import judge
from zoo.scripts import validate


@pytest.mark.parametrize(
    "name",
    [
        "xception41p",
        pytest.param("inception_v3", marks=pytest.mark.nightly_in("mindspore", "jax")),
        *(pytest.param(name, marks=in_one_framework) for name in ("googlenet.mindcv", "inception_resnet_v1")),
        pytest.param("xception.mindcv", marks=pytest.mark.nightly),
    ],
)
def test_an_engine_equals_the_reference_and_itself(framework, name):
    """Repeated, image by image, and after another input size.

    The networks have pre-activation, heads that need a fixed size, SAME padding and scaled residuals.
    """
    model = narrow(name)
    arrays = calibrated(model)
    with deploys(framework).deploy(model, arrays, EngineOptions()) as engine:
        verdict = judge(engine, model, arrays)
    assert verdict.ok, verdict
    assert verdict.repeated == 0
    assert verdict.other_size is None or verdict.other_size <= 1e-6
    assert engine.seconds.keys() >= {"rewrite", "build"}


def test_feature_maps(framework):
    x = batch(zoo.spec(SMALL), 32)
    maps = zoo.build(SMALL, framework, features_only=True, mode="deploy")(x)
    reference = zoo.build(SMALL, "reference", features_only=True)(x)
    assert [value.shape[1:] for value in maps] == [(32, 8, 8)]
    assert all(error(ours, theirs) <= 1e-5 for ours, theirs in zip(maps, reference, strict=True))


def test_the_network_s_own_weights_are_left_alone(framework):
    """Engines share no memory with the arrays they were made from."""
    model = zoo.spec(SMALL)
    arrays = weights.initial(model, 0)
    x = batch(model, 32)
    engine = deploys(framework).deploy(model, arrays, EngineOptions())
    before = engine(x)
    for array in arrays.values():
        array[...] = 0
    assert np.array_equal(engine(x), before)


def test_bfloat16(framework):
    """On a CPU that has it, in PyTorch and Paddle; its eight bits of mantissa leave an error that float32 does not."""
    model = narrow("googlenet")
    arrays = calibrated(model)
    if framework == "mindspore":
        with pytest.raises(BackendError, match="mindspore: no bf16 on cpu: expected fp32"):
            deploys(framework).deploy(model, arrays, EngineOptions("bf16"))
        return
    try:
        engine = deploys(framework).deploy(model, arrays, EngineOptions("bf16"))
    except UnavailableError:
        pytest.skip("this processor has no bfloat16")
    verdict = judge(engine, model, arrays)
    assert verdict.ok, verdict
    assert verdict.reference > 1e-4


def test_verify(framework):
    engine = zoo.build(SMALL, framework, mode="deploy", verify=True)
    assert engine.spec == configure(zoo.spec(SMALL), aux=False)


def test_the_number_of_threads(framework, monkeypatch):
    """PyTorch restores the process's number; MindSpore keeps the first that it is given, JAX that of its start."""
    count = available_threads() if framework == "jax" else 1
    engine = zoo.build(SMALL, framework, mode="deploy", threads=count)
    x = batch(engine.spec, 32)
    if framework == "torch":
        import torch

        before, seen = torch.get_num_threads(), []
        torch.set_num_threads(2)
        hook = torch.nn.modules.module.register_module_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
        engine(x)
        hook.remove()
        assert set(seen) == {1}
        assert torch.get_num_threads() == 2
        torch.set_num_threads(before)
    if framework == "mindspore":
        zoo.build(SMALL, framework, mode="deploy", threads=1)(x)
        with pytest.raises(BackendError, match="already runs kernels on 1 threads: start another process for 2"):
            zoo.build(SMALL, framework, mode="deploy", threads=2)
    if framework == "jax":
        with pytest.raises(BackendError, match=f"runs on {count} threads: start another process for {count + 1}"):
            zoo.build(SMALL, framework, mode="deploy", threads=count + 1)
    assert engine(x).shape == (1, 10)


def test_one_run_of_validate_evaluates_several_networks_by_engines(framework, tmp_path, capsys):
    for seed in (1, 2):
        weights.write(tmp_path / f"{seed}.safetensors", weights.initial(zoo.spec(SMALL), seed), zoo.spec(SMALL))
    words = f"--model {tmp_path / '1.safetensors'} --dataset digits --num_samples 40 --backend {framework}"
    assert validate.main([*words.split(), "--ckpt_path", *(str(tmp_path / f"{n}.safetensors") for n in (1, 2))]) == 0
    assert capsys.readouterr().out.count("40)") >= 2


READERS = {
    "torch-export": "torch.export.load('net.pt2').module()(torch.from_numpy(x)).detach().numpy()",
    "aotinductor": "torch._inductor.aoti_load_package('net.pt2')(torch.from_numpy(x)).detach().numpy()",
    "mindir": "mindspore.nn.GraphCell(mindspore.load('net.mindir'))(mindspore.Tensor(x)).asnumpy()",
    "paddle": "paddle.jit.load('net')(paddle.to_tensor(x)).numpy()",
    "jax-export": "jax.export.deserialize(bytearray(open('net.jax', 'rb').read())).call(x)",
}


def test_every_format_of_the_frameworks_has_a_reader():
    assert READERS.keys() == {name for name, row in FORMATS.items() if row.backend in FRAMEWORKS}


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.nightly)])
def test_exported_files_run_without_this_project(framework, tmp_path, compiled):
    """Every format that this framework writes; those that need a C++ compiler are tested nightly."""
    for form in (name for name in READERS if FORMATS[name].backend == framework):
        if (form == "aotinductor") == compiled:
            (tmp_path / form).mkdir()
            exported_file_runs(framework, tmp_path / form, form)


def exported_file_runs(framework, tmp_path, form):
    model = replace(zoo.spec(SMALL), aux=())
    arrays = weights.initial(model, 0)
    weights.write(tmp_path / "in.safetensors", arrays, model)
    document = export(tmp_path / "in.safetensors", tmp_path / f"net{FORMATS[form].suffixes[0]}", format=form)
    assert document["files"] == [str(tmp_path / f"net{suffix}") for suffix in FORMATS[form].suffixes]
    x = batch(model, 32, count=3)
    np.save(tmp_path / "x.npy", x)
    (tmp_path / "run.py").write_text(
        f"import {'jax.export' if framework == 'jax' else framework}, numpy as np, os, sys\nx = np.load('x.npy')\n"
        f"np.save('y.npy', {READERS[form]})\n"
        "assert not {'zoo', 'backends', 'weights'} & set(sys.modules)\nos._exit(0)\n"
    )
    subprocess.run([sys.executable, "-P", "run.py"], cwd=tmp_path, check=True, capture_output=True)
    assert error(np.load(tmp_path / "y.npy"), zoo.build(model, "reference")(x)) <= 5e-6
    if form == "torch-export":
        import torch

        files = {"zoo.json": ""}
        torch.export.load(tmp_path / "net.pt2", extra_files=files)
        assert json.loads(files["zoo.json"])["model"] == "small"


def evaluated(capsys, folder, *words):
    """What validate.py reports and predicts on some digits, and the line that says what ran the network."""
    files = f"--batch_size 32 --json {folder / 'f.json'} --predictions {folder / 'p.csv'}".split()
    assert validate.main([*["--dataset", "digits", "--num_samples", "70"], *map(str, words), *files]) == 0
    (figures,) = json.loads((folder / "f.json").read_text())
    return figures, (folder / "p.csv").read_text(), capsys.readouterr().out


def test_validation_runs_an_engine_and_predicts_what_the_module_does(framework, tmp_path, capsys):
    weights.write(tmp_path / "net.safetensors", weights.initial(zoo.spec(SMALL), 3), zoo.spec(SMALL))
    words = ("--model", tmp_path / "net.safetensors", "--backend", framework)
    figures, predictions, said = evaluated(capsys, tmp_path, *words)
    module, same, also_said = evaluated(capsys, tmp_path, *words, "--mode", "1")
    assert predictions.count("\n") == 71
    assert [line.split(",")[:3] for line in predictions.splitlines()] == [
        line.split(",")[:3] for line in same.splitlines()
    ]
    assert figures["summary"]["loss"] == pytest.approx(module["summary"]["loss"], rel=1e-5)
    assert f"{figures['engine']}: " in said
    assert figures["engine"] != module["engine"]
    assert f"{framework} {module['version']}, eager: " in also_said


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("--engine deploy --mode 1", "--mode is for --engine module"),
        ("--mode 1 --dtype bf16", "--dtype bf16 is for --engine deploy"),
        ("--dtype int8", "--dtype int8: give --calibration too"),
        ("--dtype int8 --calibration 8", "no int8 on cpu: expected fp32"),
    ],
)
def test_flags_of_engines_that_do_not_go_together(framework, more, message):
    with pytest.raises((TrainingError, BackendError), match=message):
        validate.main(f"--model {SMALL} --dataset digits --num_samples 8 --backend {framework} {more}".split())


@pytest.mark.parametrize("compiler", ["compile", "aot"])
def test_pytorch_s_compilers(framework, compiler, tmp_path, monkeypatch):
    """AOTInductor's packages are kept on disk: a second engine loads what the first has compiled."""
    if framework != "torch":
        with pytest.raises(BackendError, match=f"{framework}: no compiler '{compiler}': expected none"):
            zoo.build(SMALL, framework, mode="deploy", compiler=compiler)
        return
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    tiny = Model(
        "tiny", stages(stem=Conv(8, 3, stride=2) >> MaxPool(2)), Head(), Preprocess(32), size=32, num_classes=5
    )
    engine = zoo.build(tiny, framework, mode="deploy", compiler=compiler, verify=True)
    assert compiler in engine.description
    packages = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.pt2")}
    assert bool(packages) == (compiler == "aot")
    zoo.build(tiny, framework, mode="deploy", compiler=compiler)(batch(engine.spec, 32))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.pt2")} == packages
