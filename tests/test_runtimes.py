"""ONNX Runtime and OpenVINO: the ONNX graph of every network, and both as backends."""

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image
from support import FULL, SMALL, batch, calibrated, error, expected, narrow, others

import weights
import zoo
from backends import deploys, get
from backends.engine import EngineOptions
from backends.onnx_graph import checked, graph
from zoo.errors import BackendError, InputError, SpecError, TrainingError, WeightsError
from zoo.exporting import export
from zoo.language.document import from_json, to_json
from zoo.language.model import Model, Preprocess, stages
from zoo.language.nodes import AdaptiveAvgPool, AvgPool, Conv, Depthwise, Head, MaxPool
from zoo.language.rewrites import deployable
from zoo.models import MODELS
from zoo.parity.engines import judge, verify
from zoo.scripts import train, validate

RUNTIMES = ("onnx", "openvino")
LOGITS, FEATURES = 5e-6, 1e-5


def run(proto, x):
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip((output.name for output in session.get_outputs()), session.run(None, {"images": x}), strict=True))


@pytest.mark.parametrize("name", [*FULL, *others()])
def test_every_network_s_graph_is_valid_and_equals_the_reference(name):
    """Unchanged, at the native size with all stages and heads; and rewritten, for any size and number of images."""
    model = narrow(name)
    arrays, x = calibrated(model), batch(model, model.size, count=2)
    reference = expected(model, arrays, x)
    proto = checked(graph(model, arrays, outputs=tuple(reference)))
    found = run(proto, x)
    assert list(found) == list(reference)
    for output, value in reference.items():
        assert error(found[output], value) <= (LOGITS if output in ("logits", "aux1") else FEATURES), output
    names = {tensor.name for tensor in proto.graph.initializer}
    assert set(arrays) <= names
    rewritten, folded = deployable(model, arrays)
    x = batch(model, 192, 256)
    logits = expected(replace(model, aux=()), weights.restrict(arrays, replace(model, aux=()), model), x)["logits"]
    assert error(run(checked(graph(rewritten, folded, dynamic_size=True)), x)["logits"], logits) <= LOGITS


def test_average_pools_are_padded_alike_on_all_sides():
    proto = graph(narrow("inception_v3"), calibrated(narrow("inception_v3")))
    pads = [
        a.ints for node in proto.graph.node if node.op_type == "AveragePool" for a in node.attribute if a.name == "pads"
    ]
    assert pads
    assert all(list(p[:2]) == list(p[2:]) for p in pads)


@pytest.mark.parametrize("size", [1, 3, 4, 7])
def test_adaptive_pools(size):
    model = Model(
        "tiny", stages(stem=Conv(4, 3), pool=AdaptiveAvgPool(size)), Head(pool=False), Preprocess(12), size=12
    )
    arrays, x = weights.initial(model, 0), batch(model, 12)
    reference = expected(model, arrays, x)
    found = run(checked(graph(model, arrays, outputs=("pool", "logits"))), x)
    assert all(error(found[name], reference[name]) <= LOGITS for name in found)
    with pytest.raises(SpecError, match=r"(pool: an adaptive pool|head: a classifier without global pooling) needs a"):
        graph(model, arrays, dynamic_size=True)


@pytest.mark.parametrize("n", [15, 16, 17])
def test_same_padding_of_an_open_size(n):
    model = Model(
        "tiny",
        stages(stem=Conv(4, 3, 2, "same"), pool=MaxPool(3, 2, "same"), wide=Depthwise(3, 1, "same", dilation=2)),
        Head(),
        Preprocess(16),
        size=16,
    )
    arrays, x = weights.initial(model, 0), batch(model, n)
    found = run(checked(graph(model, arrays, dynamic_size=True)), x)
    assert error(found["logits"], expected(model, arrays, x)["logits"]) <= LOGITS


def test_float16():
    model = narrow("googlenet")
    arrays, x = calibrated(model), batch(model, model.size)
    proto = checked(graph(model, arrays, dtype="fp16"))
    kinds = {tensor.data_type for tensor in proto.graph.initializer}
    assert onnx.TensorProto.FLOAT not in kinds
    assert onnx.TensorProto.FLOAT16 in kinds
    found = run(proto, x)["logits"]
    assert found.dtype == np.float32
    assert 1e-5 < error(found, expected(model, arrays, x)["logits"]) < 2e-2


def test_an_output_that_is_not_there():
    with pytest.raises(SpecError, match="no output 'mixed_9z': it has "):
        graph(narrow("googlenet"), calibrated(narrow("googlenet")), outputs=("mixed_9z",))


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", ["inception_v3", "googlenet.mindcv", "inception_resnet_v2.slim", "xception41p"])
def test_a_runtime_runs_a_network_as_any_backend_does(runtime, name):
    model = narrow(name)
    arrays, x = calibrated(model), batch(model, model.size, count=2)
    backend = get(runtime)
    net = backend.build(model)
    with pytest.raises(BackendError, match="no weights have been loaded"):
        backend.predict(net, x)
    backend.load(net, arrays)
    assert all(np.array_equal(array, arrays[key]) for key, array in backend.dump(net).items())
    reference = expected(model, arrays, x)
    assert error(backend.predict(net, x)["logits"], reference["logits"]) <= LOGITS
    tape = backend.predict(net, x, tape=True)
    assert list(tape) == list(reference)
    for stage, value in reference.items():
        assert error(tape[stage], value) <= FEATURES, stage
    with pytest.raises(InputError, match="expected a batch of shape"):
        net(x[:, :1])
    with pytest.raises(WeightsError, match="missing"):
        backend.load(net, {})
    with pytest.raises(BackendError, match="inference only"):
        zoo.build(name, runtime, width=0.25, train=True)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_feature_maps(runtime):
    x = batch(MODELS["inception_v4"], 128)
    maps = zoo.build("inception_v4", runtime, width=0.25, features_only=True)(x)
    reference = zoo.build("inception_v4", "reference", width=0.25, features_only=True)(x)
    assert len(maps) == 5
    assert all(error(ours, theirs) <= FEATURES for ours, theirs in zip(maps, reference, strict=True))


@pytest.mark.parametrize(("runtime", "dtype"), [("onnx", "fp32"), ("onnx", "fp16"), ("openvino", "fp32")])
@pytest.mark.parametrize("name", ["inception_v4", "googlenet.mindcv"])
def test_engines(runtime, dtype, name):
    model = narrow(name)
    weights_of = calibrated(model)
    engine = deploys(runtime).deploy(model, weights_of, EngineOptions(dtype))
    verdict = judge(engine, model, weights_of)
    assert verdict.ok, verdict
    assert verdict.repeated == 0
    assert dtype in engine.description
    if dtype == "fp16":
        assert verdict.reference > 1e-5


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_int8_needs_calibration_and_is_near(runtime):
    model = zoo.spec(SMALL)
    x = batch(model, model.size, count=16)
    with pytest.raises(BackendError, match="int8: give calibration"):
        zoo.build(SMALL, runtime, mode="deploy", dtype="int8")
    engine = zoo.build(SMALL, runtime, mode="deploy", dtype="int8", calibration=x)
    reference = zoo.build(SMALL, "reference")(x)
    assert 1e-5 < error(engine(x), reference) < 0.1
    with pytest.raises(BackendError, match="judged by its accuracy on data"):
        judge(engine, model, weights.initial(model, 0))


def test_an_engine_is_safe_from_threads_and_closes():
    """Calls run one after another: a runtime's request is not made for several at once."""
    engine = zoo.build(SMALL, "openvino", mode="deploy", threads=1)
    x = batch(engine.spec, 32, count=4)
    alone, found, inside, real = engine(x), [], [], engine._run

    def run(images):
        assert not inside
        inside.append(True)
        time.sleep(0.01)
        outputs = real(images)
        inside.clear()
        return outputs

    engine._run = run
    threads = [threading.Thread(target=lambda: found.append(engine(x))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert all(np.array_equal(y, alone) for y in found)
    with engine:
        pass
    with pytest.raises(BackendError, match="small: this engine is closed"):
        engine(x)
    engine.close()


def test_an_engine_that_is_wrong_is_found():
    """A verdict that cannot fail proves nothing."""
    engine = zoo.build(SMALL, "onnx", mode="deploy")
    model, arrays = engine.spec, weights.initial(engine.spec, 0)
    assert verify(engine, model, arrays).ok
    real, calls = engine._run, []

    def unsteady(x):
        calls.append(x)
        return [output * (1 + 1e-4 * (len(calls) == 3)) for output in real(x)]

    engine._run = unsteady
    with pytest.raises(BackendError, match=r"wrong or unsteady: .*repeated="):
        verify(engine, model, arrays)
    engine._run = lambda x: [output + 1e-4 for output in real(x)]
    with pytest.raises(BackendError, match="wrong or unsteady"):
        verify(engine, model, arrays)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "fast"}, "mode: expected 'module' or 'deploy', not 'fast'"),
        ({"dtype": "bf16"}, "are for engines: add mode='deploy'"),
        ({"mode": "deploy", "dtype": "fp8"}, "unknown dtype 'fp8': expected one of fp32"),
        ({"mode": "deploy", "dtype": "bf16"}, "onnx: no bf16 on cpu: expected fp32 or fp16 or int8"),
        ({"mode": "deploy", "compiler": "xla"}, "onnx: no compiler 'xla': expected none"),
        ({"mode": "deploy", "train": True}, "an engine runs in inference only"),
        ({"mode": "deploy", "threads": 0}, "threads"),
        ({"calibration": np.zeros((1, 3, 32, 32), np.float32)}, "are for engines: add mode='deploy'"),
        ({"mode": "deploy", "calibration": np.zeros((1, 3, 32, 32), np.float32)}, "calibration is for int8, not fp32"),
        ({"mode": "deploy", "dtype": "int8", "calibration": np.zeros((1, 1, 32, 32), np.float32)}, "expected a batch"),
    ],
)
def test_options_of_engines_that_cannot_be(options, message):
    with pytest.raises((SpecError, BackendError, InputError), match=message):
        zoo.build(SMALL, "onnx", **options)


def test_the_number_of_threads_is_that_of_the_environment(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3,2")
    assert EngineOptions().thread_count == 3
    assert EngineOptions(threads=5).thread_count == 5
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert EngineOptions().thread_count == len(os.sched_getaffinity(0))


def test_exported_files_run_without_this_project(tmp_path):
    """ONNX and OpenVINO; the frameworks' own files are tested in tests/frameworks/test_engines.py."""
    model = zoo.spec(SMALL)
    arrays = weights.initial(model, 0)
    weights.write(tmp_path / "net.safetensors", arrays, model, licence="CC0")
    x = batch(model, 40, count=3)
    np.save(tmp_path / "x.npy", x)
    document = export(tmp_path / "net.safetensors", tmp_path / "net.onnx", dynamic_size=True)
    assert document["files"] == [str(tmp_path / "net.onnx")]
    export(tmp_path / "net.safetensors", tmp_path / "net.xml", dynamic_size=True)
    (tmp_path / "run.py").write_text(
        "import numpy as np, onnxruntime, openvino, sys\n"
        "x = np.load('x.npy')\n"
        "np.save('onnx.npy', onnxruntime.InferenceSession('net.onnx').run(None, {'images': x})[0])\n"
        "compiled = openvino.Core().compile_model('net.xml', 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'})\n"
        "np.save('openvino.npy', compiled(x)[0])\n"
        "assert not {'zoo', 'backends', 'weights'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-P", "run.py"], cwd=tmp_path, check=True)
    reference = zoo.build(SMALL, "reference")(x)
    for name in ("onnx", "openvino"):
        assert error(np.load(tmp_path / f"{name}.npy"), reference) <= LOGITS
    properties = {item.key: item.value for item in onnx.load(tmp_path / "net.onnx").metadata_props}
    assert from_json(properties["spec"]) == model
    assert properties["licence"] == "CC0"
    assert json.loads(properties["preprocess"])["crop"] == 32


def test_a_file_for_another_size_states_the_preprocessing_of_that_size(tmp_path):
    model = zoo.spec(SMALL)
    how = export(model, tmp_path / "net.onnx", size=2 * model.size)["preprocess"]
    assert (how["crop"], how["resize"]) == (2 * model.size, 2 * model.preprocess.resize)


@pytest.mark.parametrize(
    ("out", "options", "message"),
    [
        ("net.tflite", {}, r"net.tflite: expected a suffix that says the format: \.onnx \(ONNX\)"),
        ("net.onnx", {"format": "mindir"}, r"expected a suffix of mindir: \.mindir"),
        ("net.onnx", {"format": "tf"}, "unknown format 'tf'"),
        ("none/net.onnx", {}, "no such folder"),
        ("net.onnx", {"size": 0}, "the size must be"),
        ("net.onnx", {"size": 64, "dynamic_size": True}, "exclude each other"),
    ],
)
def test_exports_that_are_refused_leave_nothing(tmp_path, out, options, message):
    with pytest.raises((WeightsError, SpecError, InputError), match=message):
        export(SMALL, tmp_path / out, **options)
    assert list(tmp_path.iterdir()) == []


def test_an_export_replaces_neither_its_source_nor_a_folder_and_leaves_no_half(tmp_path, monkeypatch):
    model = zoo.spec(SMALL)
    weights.write(tmp_path / "net.bin", weights.initial(model, 0), model, to="torch")
    Path(tmp_path / "net.json").write_text(to_json(model))
    (tmp_path / "folder.xml").mkdir()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    for source, out in (("net.bin", "net.xml"), ("net.json", "net.json")):
        with pytest.raises(WeightsError, match="is the file that is being exported: choose another name"):
            export(model, tmp_path / out, checkpoint=tmp_path / "net.bin") if source == "net.bin" else export(
                tmp_path / source, tmp_path / out
            )
    with pytest.raises(WeightsError, match="it is a folder"):
        export(model, tmp_path / "folder.xml")

    def half(model, arrays, path, options):
        path.with_suffix(".bin").write_bytes(b"weights")
        raise RuntimeError("out of ideas\nat line 7")

    monkeypatch.setattr("backends.openvino.exports.export", half)
    with pytest.raises(
        BackendError, match=r"^OpenVINO's intermediate representation: cannot export small: out of ideas$"
    ):
        export(model, tmp_path / "new.xml")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_networks_that_need_a_fixed_size_are_not_exported_for_any(tmp_path):
    for pool, head in ((AdaptiveAvgPool(3), Head()), (AvgPool(), Head(pool=False))):
        model = Model("fixed", stages(stem=Conv(4, 3), pool=pool), head, Preprocess(12), size=12)
        with pytest.raises(SpecError, match="needs a fixed input size"):
            export(model, tmp_path / "net.pt2", dynamic_size=True)


def test_validation_in_int8_with_a_folder_of_images(tmp_path, capsys):
    weights.write(tmp_path / "net.safetensors", weights.initial(zoo.spec(SMALL), 3), zoo.spec(SMALL))
    (tmp_path / "images").mkdir()
    words = (
        f"--model {tmp_path / 'net.safetensors'} --dataset digits --num_samples 50 --backend onnx --dtype int8".split()
    )
    for wrong, message in (
        ("0", "--calibration 0: expected a folder"),
        ("nowhere", "--calibration nowhere: no such folder"),
    ):
        with pytest.raises(TrainingError, match=message):
            validate.main([*words, "--calibration", wrong])
    with pytest.raises(InputError, match=r"images: no images in this folder: expected files that end in \.jpg"):
        validate.main([*words, "--calibration", str(tmp_path / "images")])
    for k in range(3):
        Image.new("RGB", (40, 40), (80 * k, 20, 200 - 60 * k)).save(tmp_path / "images" / f"{k}.png")
    assert validate.main([*words, "--calibration", str(tmp_path / "images"), "--json", str(tmp_path / "f.json")]) == 0
    (figures,) = json.loads((tmp_path / "f.json").read_text())
    assert figures["images"] == 50
    assert "int8" in figures["engine"]


def test_runtimes_do_not_train():
    with pytest.raises(TrainingError, match="--backend onnx: runs in inference only: train with torch or mindspore"):
        train.main(f"--model {SMALL} --dataset digits --backend onnx".split())
    with pytest.raises(TrainingError, match="--distribute: onnx runs in one process"):
        validate.main(f"--model {SMALL} --dataset digits --backend onnx --distribute".split())
