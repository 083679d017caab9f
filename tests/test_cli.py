"""The command line: what it prints, its exit status, and its one-line errors."""

import json
import os
import re
import subprocess
import sys

import pytest
from support import SMALL

from zoo.commands import main


def test_list(capsys):
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    for word in ("inception_v3.mindcv", "42.68", "12.25", "torchvision, timm, mmpretrain", "xception65.ra3_in1k"):
        assert word in out


def test_list_as_json(capsys):
    assert main(["list", "goog*", "--json", "-"]) == 0
    assert [row["model"] for row in json.loads(capsys.readouterr().out)] == [
        "googlenet",
        "googlenet.mindcv",
        "googlenet.paddleclas",
        "googlenet.slim",
    ]


def test_info(capsys):
    assert main(["info", "googlenet"]) == 0
    out = capsys.readouterr().out
    for word in (
        "6,624,904 (13,004,888 with auxiliary heads)",
        "1,498,376,192",
        "aux1 after mixed_4b",
        "1024 x 7 x 7",
        "least 15",
    ):
        assert word in out


def test_info_as_json(capsys):
    assert main(["info", "inception_v4", "--size", "331", "--json", "-"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["model"] == "inception_v4"
    assert figures["size"] == 331
    assert {"parameters", "parameters_with_aux", "buffers", "macs", "activations", "layers"} <= figures.keys()


def test_json_file_beside_the_table(tmp_path, capsys):
    assert main(["info", "googlenet", "--json", str(tmp_path / "info.json")]) == 0
    assert "aux1 after" in capsys.readouterr().out
    assert json.loads((tmp_path / "info.json").read_text())["model"] == "googlenet"


def test_source(tmp_path, capsys):
    assert main(["source", "inception_v4", "--backend", "paddle", "--num-classes", "7"]) == 0
    text = capsys.readouterr().out
    assert "class InceptionA(Concat):" in text
    assert "num_classes: int = 7" in text
    assert main(["source", "inception_v4", "--out", str(tmp_path / "net.py")]) == 0
    assert (tmp_path / "net.py").read_text().startswith('"""inception_v4 (arXiv:1602.07261) in torch')
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["train", "validate"])
def test_the_scripts_are_commands(name):
    """In a process of their own, which they end as the scripts do."""

    def zoo(*words):
        return subprocess.run([sys.executable, "-m", "zoo", name, *words], capture_output=True, text=True)

    assert zoo("--help").stdout.startswith(f"usage: zoo {name} [-c RECIPE] --model NAME")
    refused = zoo("--model", "inceptionv4")
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"zoo {name}: error: --model: unknown model 'inceptionv4': did you mean")


ERRORS = [
    (["source", "inception_v4", "--taps", "none"], "inception_v4: no stage 'none'"),
    (["info", "inceptionv4"], "unknown model 'inceptionv4': did you mean inception_v4"),
    (["info", "inception_v4", "--size", "74"], "inception_v4: size must be at least 75 pixels, not 74"),
    (["info", "inception_v4", "--size", "big"], "argument --size: invalid int value: 'big' (see zoo info --help)"),
    (
        ["info", "googlenet", "--json", "/nowhere/x.json"],
        "/nowhere/x.json: cannot write the JSON there: no such folder",
    ),
    (["list", "resnet*"], "no model matches 'resnet*'; there are bninception, googlenet, "),
    (
        ["parity", "googlenet", "--backends", "torch,tf"],
        "unknown backend 'tf': expected some of torch, mindspore, paddle, jax",
    ),
    (
        ["parity", "googlenet", "--image", "/nowhere.jpg"],
        "/nowhere.jpg: cannot read the image: No such file or directory",
    ),
    (["parity", "googlenet", "--size", "14"], "googlenet: an input of 14 x 14 pixels is too small: at least 15 x 15"),
    (["parity", "googlenet", "--checkpoint", "/nowhere.st"], "/nowhere.st: no such file"),
    (["info", "googlenet", "--json", "/tmp"], "/tmp: cannot write the JSON there: it is a folder"),
    (["parity", "googlenet", "--device", "tpu"], "unknown device 'tpu': expected 'cpu', 'gpu' or 'gpu:1'"),
    (["parity", "googlenet", "--width", "-1"], "googlenet: width must be above 0"),
    (["parity"], "no model to compare: name some, or give a checkpoint"),
    (["parity", "googlenet", "inception_v3", "--checkpoint", "w"], "one checkpoint goes with one model, not with 2"),
    (["inspect", "/nowhere.pth"], "/nowhere.pth: no such file"),
    (["inspect", "/"], "/: a folder"),
    (
        ["convert", "/nowhere.pth", "out"],
        "out: its suffix is not that of a format that can be written: expected one of ",
    ),
    (["convert", "/nowhere.pth", "out.pth"], "/nowhere.pth: no such file"),
    (["convert", "/nowhere.pth", "out.pth", "--to", "timn"], "unknown source 'timn': expected one of cadene, keras"),
    (["dance"], "invalid choice: 'dance'"),
    ([], "the following arguments are required: COMMAND"),
]


@pytest.mark.parametrize(
    ("arguments", "message"), ERRORS, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_errors_are_one_line_and_exit_with_2(capsys, arguments, message):
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("zoo: error: ")
    assert message in err
    assert len(err.splitlines()) == 1


def test_the_module_is_the_command():
    run = subprocess.run([sys.executable, "-m", "zoo", "info", "nothing"], capture_output=True, text=True)
    assert run.returncode == 2
    assert run.stderr.startswith("zoo: error: unknown model 'nothing'")
    assert len(run.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", ["list", "info", "diff", "parity", "inspect", "convert"])
def test_help(capsys, command):
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    assert f"usage: zoo {command}" in capsys.readouterr().out


def test_json_follows_links_and_leaves_pipes_alone(tmp_path, capsys):
    (tmp_path / "real.json").write_text("old")
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    for name in ("link.json", "pipe"):
        assert main(["info", "googlenet", "--json", str(tmp_path / name)]) == 0
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "pipe").is_fifo()
    os.close(reader)
    assert json.loads((tmp_path / "real.json").read_text())["model"] == "googlenet"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.json", "pipe", "real.json"]


def test_a_reader_that_goes_away_is_no_error():
    run = subprocess.run(f"{sys.executable} -m zoo list | head -c 1 >&2", shell=True, capture_output=True, text=True)
    assert "Traceback" not in run.stderr


def test_brackets_in_a_path_are_no_pattern(tmp_path, monkeypatch, capsys):
    """As in folders named run[1]."""
    (tmp_path / "run[1]").mkdir()
    (tmp_path / "run[1]" / "small.json").write_text(SMALL.read_text())
    monkeypatch.chdir(tmp_path)
    arguments = ["run[1]/small.json", "--steps", "1", "--backends", "torch", "--device", "gpu"]
    assert main(["parity", *arguments]) == 1  # nothing was compared
    assert re.search(r"small +torch +skipped +\n", capsys.readouterr().out)
