"""`zoo bench` and `zoo doctor`: what they report, and that a fault is found. The runtimes stand for all backends."""

import csv
import json
import statistics
import sys
from dataclasses import replace

import pytest
from PIL import Image
from support import SMALL

import zoo
from backends.timing import TimedProcess
from weights import published
from zoo import bench, doctor
from zoo.commands import main
from zoo.errors import BackendError, InputError
from zoo.frameworks import RUNTIMES
from zoo.language.model import configure
from zoo.language.trace import trace


def test_every_combination_is_timed_and_what_is_not_there_is_skipped(tmp_path, capsys):
    files = {name: tmp_path / f"out.{name}" for name in ("json", "csv", "md", "png")}
    words = f"bench {SMALL} --backends onnx,openvino --mode deploy --dtype fp32,bf16 --batch 1,3 --rounds 3 --threads 1"
    outputs = f"--json {files['json']} --csv {files['csv']} --markdown {files['md']} --figure {files['png']}"
    assert main([*words.split(), *outputs.split()]) == 0
    printed = capsys.readouterr().out
    document = json.loads(files["json"].read_text())
    found = {(row["backend"], row["dtype"], row["batch"]) for row in document["rows"]}
    assert found >= {("onnx", "fp32", 1), ("onnx", "fp32", 3), ("openvino", "fp32", 1), ("openvino", "fp32", 3)}
    assert {(entry["backend"], entry["dtype"]) for entry in document["skipped"]} >= {("onnx", "bf16")}
    assert "skipped: small, onnx deploy bf16: onnx: no bf16 on cpu: expected fp32 or fp16 or int8" in printed
    macs = trace(zoo.spec(SMALL)).macs
    for row in document["rows"]:
        assert len(row["seconds"]) == 3
        assert row["p50_ms"] == pytest.approx(1000 * statistics.median(row["seconds"]))
        assert row["p10_ms"] <= row["p50_ms"] <= row["p90_ms"]
        assert row["images_per_second"] == pytest.approx(row["batch"] / statistics.median(row["seconds"]))
        rate = 2 * document["macs"]["small"] * row["batch"] / statistics.median(row["seconds"])
        assert row["utilisation"] == pytest.approx(rate / (1e9 * document["ceiling_gflops"]))
        assert row["memory_mb"] > 50
        assert "1 thread" in row["description"]
    assert document["macs"]["small"] < macs  # without its auxiliary head
    assert document["top1"] == {"small": None}
    with files["csv"].open(newline="") as rows:
        assert len(list(csv.DictReader(rows))) == len(document["rows"])
    assert files["md"].read_text().count("| small | ") == len(document["rows"]) / 2
    with Image.open(files["png"]) as drawn:
        assert drawn.size[0] > 600


def test_published_accuracy_is_that_of_the_published_network_only(tmp_path):
    spec = zoo.spec("inception_v4")
    assert published.top1(spec) == 80.144
    assert published.top1(zoo.spec("inception_v4.slim")) is None  # nobody states one
    for variant in ({"num_classes": 10}, {"width": 0.5}):
        assert published.top1(configure(spec, **variant)) is None
    assert published.top1(replace(spec, size=331)) is None


def test_the_figure_has_a_panel_for_accuracy_where_one_is_published(tmp_path):
    row = {"backend": "onnx", "mode": "deploy", "dtype": "fp32", "batch": 1}
    document = {
        "rows": [{**row, "model": name, "p50_ms": ms} for name, ms in (("a", 10.0), ("b", 20.0))],
        **{"macs": {"a": 10**9, "b": 2 * 10**9}, "processor": "a processor", "threads": 2},
    }
    widths = []
    for top1 in ({"a": None, "b": None}, {"a": 70.0, "b": None}):
        bench.figure({**document, "top1": top1}, tmp_path / "x.png")
        with Image.open(tmp_path / "x.png") as drawn:
            widths.append(drawn.size[0])
    assert widths[0] < widths[1]


def test_training_steps():
    document = bench.bench([SMALL], bench.Settings(("torch", "onnx"), ("train",), batches=(4,), rounds=2))
    (row,) = document["rows"]
    assert (row["backend"], row["description"]) == ("torch", "training step, eager")
    assert [entry["reason"] for entry in document["skipped"]] == ["onnx: runs in inference only"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--backends tvm", "unknown backend 'tvm': expected some of torch"),
        ("--mode fast", "unknown mode 'fast': expected some of eager, graph, deploy"),
        ("--dtype fp8", "unknown dtype 'fp8'"),
        ("--batch 1,two", "--batch 1,two: expected numbers"),
        ("--batch 0", "the batch must be"),
        ("--threads 0", "threads must be"),
        ("--train --mode eager", "--train and --mode exclude each other"),
        ("--compiler aot", "--compiler is for torch's engine: add --backends torch"),
        ("--figure none/x.png", "--figure none/x.png: cannot write there"),
        ("--figure x.gif", "--figure x.gif: expected a name that ends in .png or .svg or .pdf"),
        ("--csv .", "--csv .: cannot write there"),
        ("--rounds 0", "rounds must be"),
    ],
)
def test_bad_options(words, message, capsys):
    assert main(["bench", str(SMALL), *words.split()]) == 2
    assert message in capsys.readouterr().err


def test_a_process_that_dies_at_once_is_reported():
    with pytest.raises(BackendError, match=r"broken: its process ended with status 3: going down"):
        TimedProcess("broken", {}, (sys.executable, "-c", "import sys; sys.stderr.write('going down'); sys.exit(3)"))


def test_a_process_that_dies_while_it_is_measured_is_left_out(tmp_path, capsys):
    """The others are measured to the end."""

    def killed():
        process = TimedProcess("dies", {"backend": "ceiling"})
        real = process.time

        def time(batch):
            process.process.kill() if len(calls) == 4 else calls.append(batch)
            return real(batch)

        calls, process.time = [], time
        return process

    settings = bench.Settings(("onnx",), ("deploy",), rounds=5)
    ways = [({"backend": "dies", "mode": "", "dtype": ""}, killed), *bench.configurations(zoo.spec(SMALL), settings)]
    document = bench.measured(zoo.spec(SMALL), ways, settings)
    assert [row["backend"] for row in document["rows"]] == ["onnx"]
    assert len(document["rows"][0]["seconds"]) == 5
    (entry,) = document["skipped"]
    assert entry["backend"] == "dies"
    assert "dies: its process ended with status -9" in entry["reason"]


def test_the_caller_s_folder_is_not_imported_from(tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("raise SystemExit('imported from the caller')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    process = TimedProcess("ceiling", {"backend": "ceiling"})
    assert process.time(1) > 0
    process.close()


def test_an_input_that_the_network_cannot_take():
    with pytest.raises(InputError, match="too small"):
        bench.bench(["inception_v3"], bench.Settings(("onnx",), ("deploy",)), size=20)


def test_the_doctor_s_report(tmp_path, capsys):
    assert main(["doctor", "--backends", "onnx", "--json", str(tmp_path / "d.json")]) == 0
    assert "The ceiling is the rate of a matrix product" in capsys.readouterr().out
    document = json.loads((tmp_path / "d.json").read_text())
    (entry,) = document["backends"]
    assert entry["status"] in ("ok", "slow")
    for probe in ("convolution", "product"):
        assert 0 < entry[probe]["error"] < doctor.TOLERANCE
        assert entry[probe]["gflops"] > 1
    with pytest.raises(BackendError, match="unknown backend 'tvm'"):
        doctor.examine(["tvm"])


def test_the_doctor_finds_what_is_wrong_slow_missing_and_broken(monkeypatch):
    real = doctor._probe

    def status(change):
        monkeypatch.setattr(doctor, "_probe", lambda *words: {**real(*words), **change})
        entry = doctor._examined(RUNTIMES["onnx"], 1e12, 120)
        return entry["status"], entry["advice"]

    assert status({"error": 1e-3}) == ("wrong", "its results differ from NumPy's: report this to its makers")
    assert status({"error": float("nan")})[0] == "wrong"
    assert status({"gflops": 1.0}) == ("slow", "give it more threads: OMP_NUM_THREADS")
    assert status({"gflops": 500.0}) == ("ok", "")
    monkeypatch.setattr(doctor, "installed", lambda package: False)
    assert status({}) == ("not installed", "pip install 'inception-zoo[onnx]'")
    monkeypatch.undo()
    monkeypatch.setattr(doctor.worker, "call", lambda *words: (_ for _ in ()).throw(BackendError("it died")))
    entry = doctor._examined(RUNTIMES["onnx"], 1e12, 120)
    assert (entry["status"], entry["advice"]) == ("broken", "it died")


def test_the_kernel_is_read_from_what_onednn_prints():
    line = "onednn_verbose,v1,primitive,exec,cpu,{},{},forward_inference,src:f32::blocked:acdb,,,,0.5"
    printed = "\n".join((line.format("reorder", "jit:uni"), line.format("convolution", "brg_conv_fwd:avx512_core")))
    assert doctor._kernel(printed) == "brg_conv_fwd:avx512_core"
    assert doctor._kernel("nothing") is None
