"""What a run prints and leaves behind: mindcv's lines, result.log over interruptions, TensorBoard, the figure."""

import io
import re
import subprocess
import sys

import numpy as np
import pytest

from zoo.errors import TrainingError
from zoo.training import report
from zoo.training.metrics import Tally
from zoo.training.report import COLUMNS, Epoch, Reporter, validation_table


def run(folder, epochs=range(1, 4), steps=5, validated=True, **options):
    """A run of three epochs, of which `epochs` are done now."""
    options = {"mode": "none", "log_interval": 2, "start_epoch": epochs.start - 1, **options}
    with Reporter(folder, "googlenet", 3, steps, **options) as reporter:
        for epoch in epochs:
            for step in range(1, steps + 1):
                reporter.step(epoch, step, 1 / epoch, 0.01 * step, 32)
            accuracies = (50.0 + epoch, 80.0 + epoch, 0.5) if validated else (None, None, None)
            reporter.epoch(epoch, 1 / epoch, *accuracies, 12.0, 3.5)
    return reporter


def rows(folder):
    return [line.split() for line in (folder / "result.log").read_text().splitlines()]


def test_lines_are_mindcvs(tmp_path, capsys):
    run(tmp_path, mode="log")
    lines = capsys.readouterr().out.splitlines()
    pattern = r"Epoch: \[(\d+)/3\], batch: \[(\d+)/5\], loss: (\d\.\d{6}), lr: (\d\.\d{6}), time: \d+\.\d{6}s"
    found = [match.groups() for match in map(re.compile(pattern).fullmatch, lines) if match]
    assert [row[:2] for row in found] == [(str(e), str(s)) for e in (1, 2, 3) for s in (1, 2, 4, 5)]
    assert found[-1] == ("3", "5", "0.333333", "0.050000")
    assert (
        "Epoch: [2/3], loss: 0.500000, Top_1_Accuracy: 52.0000%, Top_5_Accuracy: 82.0000%, train: 12.00s, val: 3.50s"
        in lines
    )
    assert len(lines) == 15


@pytest.mark.parametrize(
    ("mode", "terminal", "chosen"), [("auto", True, "bar"), ("auto", False, "log"), ("log", True, "log")]
)
def test_a_bar_on_a_terminal_and_lines_elsewhere(monkeypatch, tmp_path, mode, terminal, chosen):
    stream = io.StringIO()
    stream.isatty = lambda: terminal
    monkeypatch.setattr(sys, "stdout", stream)
    assert Reporter(tmp_path, "m", 1, 1, mode=mode).mode == chosen


def test_the_bar(monkeypatch, tmp_path):
    stream = io.StringIO()
    stream.isatty = lambda: True
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(sys, "stdout", stream)
    with Reporter(tmp_path, "m", 2, 2, start_epoch=1) as reporter:
        reporter.step(2, 1, 0.25, 0.01, 32)
        (task,) = reporter._bars.tasks
        assert (task.completed, task.total, task.description) == (3, 4, "Epoch 2/2")
        assert re.fullmatch(r"loss 0\.2500  lr 1\.00e-02  [\d,]+ images/s", task.fields["figures"])
        reporter.message("[a/b] above the bar")
        reporter.step(2, 2, 0.25, 0.01, 32)
    assert "[a/b] above the bar" in stream.getvalue()
    assert "100%" in stream.getvalue()
    assert "batch:" not in stream.getvalue()
    assert reporter._bars.finished
    assert sys.stdout is stream


def test_nothing_is_printed_or_written_where_none_is_wanted(capfd):
    run(None, tensorboard=True)
    assert capfd.readouterr() == ("", "")


def test_result_log(tmp_path):
    run(tmp_path / "new" / "folder")
    assert rows(tmp_path / "new" / "folder") == [
        list(COLUMNS),
        ["1", "1.000000", "51.0000%", "81.0000%", "12.00", "3.50", "15.50"],
        ["2", "0.500000", "52.0000%", "82.0000%", "12.00", "3.50", "15.50"],
        ["3", "0.333333", "53.0000%", "83.0000%", "12.00", "3.50", "15.50"],
    ]
    lines = (tmp_path / "new" / "folder" / "result.log").read_text().splitlines()
    assert {line.index(word) for line, word in zip(lines, ("Top_5", "81", "82", "83"), strict=True)} == {60}


def test_epochs_that_were_not_validated(tmp_path, capsys):
    run(tmp_path, validated=False, mode="log")
    assert rows(tmp_path)[1] == ["1", "1.000000", "-", "-", "12.00", "3.50", "15.50"]
    out = capsys.readouterr().out
    assert "Accuracy" not in out
    assert "train: 12.00s\n" in out
    assert "val:" not in out
    assert (tmp_path / "curves.png").exists()


def test_a_resumed_run_replaces_the_epochs_it_does_again(tmp_path):
    run(tmp_path)
    first = rows(tmp_path)
    with (tmp_path / "result.log").open("a") as file:
        file.write("3     0.2  cut sh")
    reporter = run(tmp_path, epochs=range(2, 4), validated=False)
    assert rows(tmp_path)[:2] == first[:2]
    assert [row[:3] for row in rows(tmp_path)[2:]] == [["2", "0.500000", "-"], ["3", "0.333333", "-"]]
    assert [epoch.number for epoch in reporter.history] == [1, 2, 3]
    assert reporter.history[0].top1 == 51


def test_a_new_run_begins_a_new_log(tmp_path):
    run(tmp_path)
    run(tmp_path, epochs=range(1, 2))
    assert [row[0] for row in rows(tmp_path)] == ["Epoch", "1"]


@pytest.mark.parametrize(
    "epoch", [Epoch(7, 0.25, 99.5, None, None, 1.25, 0.5), Epoch(1, 3.0, None, None, None, 2.0, 0.0)]
)
def test_a_row_reads_back(epoch):
    assert Epoch.parse(epoch.line()) == epoch


def test_an_error_closes_everything_and_draws_nothing(tmp_path, monkeypatch):
    closed = []
    writer = type("Writer", (), {"add_scalar": lambda *_: None, "close": lambda self: closed.append(self)})()
    monkeypatch.setattr(report, "_writer", lambda *_: writer)

    def interrupted(error):
        with Reporter(tmp_path, "m", 2, 1, mode="bar", tensorboard=True) as reporter:
            reporter.epoch(1, 0.5, None, None, None, 1.0, 0.0)
            raise error

    with pytest.raises(ZeroDivisionError):
        interrupted(ZeroDivisionError())
    assert closed == [writer]
    assert not (tmp_path / "curves.png").exists()
    with pytest.raises(KeyboardInterrupt):
        interrupted(KeyboardInterrupt())
    assert (tmp_path / "curves.png").exists()
    assert [row[0] for row in rows(tmp_path)] == ["Epoch", "1"]


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match=r"file/result\.log: cannot write the results there: "):
        run(tmp_path / "file")


def test_tensorboard(tmp_path):
    """In a process of its own: importing tensorboardX imports protobuf, for good."""
    script = f"""
import sys
sys.path.insert(0, {str(__import__("pathlib").Path(__file__).parent)!r})
from pathlib import Path
from test_report import run
run(Path({str(tmp_path)!r}), tensorboard=True)
from tensorboardX.proto.event_pb2 import Event
(path,) = Path({str(tmp_path)!r}, "tensorboard").iterdir()
data = path.read_bytes()
while data:
    length = int.from_bytes(data[:8], "little")
    for value in Event.FromString(data[12:12 + length]).summary.value:
        print(value.tag, Event.FromString(data[12:12 + length]).step, value.simple_value)
    data = data[16 + length:]
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    scalars = {(tag, int(step)): float(value) for tag, step, value in map(str.split, done.stdout.splitlines())}
    assert {tag for tag, _ in scalars} == {
        "train/loss", "train/lr", "images_per_second", "val/top1", "val/top5", "val/loss",
    }  # fmt: skip
    assert {step for tag, step in scalars if tag == "train/loss"} == {1, 2, 4, 5, 6, 7, 9, 10, 11, 12, 14, 15}
    assert scalars["val/top1", 15] == 53
    assert scalars["train/lr", 7] == pytest.approx(0.02)


def test_tensorboard_that_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(TrainingError, match="tensorboardX is not installed: pip install tensorboardX"):
        run(tmp_path, tensorboard=True)


def test_matplotlib_that_is_not_installed(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    run(tmp_path, mode="log")
    assert "curves.png: not drawn, as matplotlib is not installed" in capsys.readouterr().out


def figure(epochs, rates=((0.5, 0.1), (1.0, 0.2))):
    from matplotlib.figure import Figure

    result = Figure()
    report.draw(result, "googlenet", epochs, rates)
    return result.axes


def test_the_figure():
    epochs = [Epoch(1, 2.0, 50.0, 80.0, 1.5, 1.0, 1.0), Epoch(2, 1.0, 70.0, 90.0, float("nan"), 1.0, 1.0)]
    loss, accuracy, rate = figure(epochs)
    assert [axis.get_ylabel() for axis in (loss, accuracy, rate)] == ["loss (nats)", "accuracy (%)", "learning rate"]
    assert rate.get_xlabel() == "epochs"
    assert [text.get_text() for text in loss.get_legend().get_texts()] == [
        "training: best 1 at epoch 2", "validation: best 1.5 at epoch 1",
    ]  # fmt: skip
    assert accuracy.get_legend().get_texts()[0].get_text() == "top-1: best 70 at epoch 2"
    assert rate.lines[0].get_xydata().tolist() == [[0.5, 0.1], [1.0, 0.2]]
    assert loss.get_yscale() == "linear"


def test_a_loss_that_falls_far_is_on_a_log_scale():
    epochs = [Epoch(1, 2.0, None, None, None, 1.0, 0.0), Epoch(2, 0.1, None, None, None, 1.0, 0.0)]
    (loss,) = figure(epochs, rates=())
    assert loss.get_yscale() == "log"


def test_the_file_is_a_picture(tmp_path):
    from PIL import Image

    run(tmp_path)
    with Image.open(tmp_path / "curves.png") as image:
        assert image.size == (1200, 1200)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.png", "result.log"]


def test_validation_table(capsys):
    tally = Tally(6)
    tally.add(np.eye(6)[[0, 0, 1, 2, 3, 0, 5]], [0, 0, 1, 1, 3, 4, 5], range(7))
    classes = ["ant", "bee", "[cat]", "dog", "eel", "fox"]
    validation_table("a.ckpt", tally, classes, worst=2)
    out = capsys.readouterr().out
    assert out.startswith("a.ckpt: top-1 71.43% (5 of 7), top-5 100.00% (7 of 7), loss ")
    lines = [" ".join(line.split()) for line in out.splitlines()[2:] if line.strip()]
    assert lines[0] == "the 2 worst by top-1 top-1 top-5 precision mostly mistaken for"
    assert lines[2:4] == [
        "eel 0.00% (0 of 1) 100.00% (1 of 1) ant",
        "bee 50.00% (1 of 2) 100.00% (2 of 2) 100.00% [cat]",
    ]
    assert lines[4].startswith("the 2 worst by top-5 ")
    assert [line.partition(" ")[0] for line in lines[6:]] == ["ant", "bee"]
    validation_table("a.ckpt", tally, classes, per_class=True)
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines()[4:] if line.strip()] == classes


def test_few_classes_have_no_top_5(capsys):
    tally = Tally(2)
    tally.add(np.eye(2), [0, 1], [0, 1])
    validation_table("a.ckpt", tally, "ab")
    out = capsys.readouterr().out
    assert "a.ckpt: top-1 100.00% (2 of 2), loss 0.3133" in out
    assert out.splitlines()[2].split() == ["class", "top-1", "precision", "mostly", "mistaken", "for"]


def plain(text):
    """A tick label of matplotlib without its TeX."""
    return re.sub(r"[${}\\]|mathdefault|times", "", text).replace("\N{MINUS SIGN}", "-")


@pytest.mark.parametrize("rates", [(1e-3 + 1e-7, 1e-3), (1e-3, 1e-3), (0.045, 0.04, 1e-6), (1e-7, 2e-7)])
def test_the_learning_rate_s_axis_has_no_offset_and_begins_at_0(rates):
    epochs = [Epoch(1, 2.0, None, None, None, 1.0, 1.0)]
    axis = figure(epochs, list(enumerate(rates, 1)))[-1]
    axis.figure.draw_without_rendering()
    labels = [float(plain(label.get_text())) for label in axis.get_yticklabels()]
    offset = plain(axis.yaxis.get_offset_text().get_text())
    assert re.fullmatch(r"(10\^-?\d+)?", offset)
    scale = 10.0 ** int(offset.removeprefix("10^") or 0)
    assert [label * scale for label in labels] == pytest.approx(axis.get_yticks().tolist(), abs=max(rates) / 100)
    assert axis.get_ylim()[0] == 0
    assert axis.get_ylim()[1] > max(rates)


def test_a_resumed_run_goes_on_with_the_rates_it_is_given(tmp_path):
    reporter = run(tmp_path, epochs=range(2, 4), rates=[(1.0, 0.5)])
    assert reporter.rates[0] == (1.0, 0.5)
    assert reporter.rates[-1] == (3.0, 0.05)


def test_the_loss_of_a_step_that_is_not_due_need_not_be_known(tmp_path, capsys):
    with Reporter(tmp_path, "m", 1, 6, mode="log", log_interval=3) as reporter:
        assert [step for step in range(1, 7) if reporter.is_due(step)] == [1, 3, 6]
        for step in range(1, 7):
            reporter.step(1, step, 1.0 * step if reporter.is_due(step) else None, 0.1, 8)
    assert re.findall(r"loss: (\d)", capsys.readouterr().out) == ["1", "3", "6"]
