"""Two processes started by the framework's own launcher: they equal one with all the images, and end when one dies."""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from support import SMALL, in_one_framework

from zoo.errors import TrainingError
from zoo.frameworks import FRAMEWORKS
from zoo.scripts import train
from zoo.training.run_folder import newest

ROOT = Path(__file__).parents[2]
SEVERAL = Path(__file__).with_name("several.py")
FLAGS = (
    f"--model {SMALL} --dataset digits --num_parallel_workers 2 --warmup_epochs 0 "
    "--opt momentum --lr 0.001 --batch_size 8 --mode 1"
)


def launch(framework, logs, *words):
    """Start two processes, on free ports; `logs` gets what they print."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = {
        "torch": ("-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", port),
        "mindspore": (
            *("-m", "mindspore.parallel.cluster.run", "--worker_num", "2", "--local_worker_num", "2", "--join", "True"),
            *("--master_port", port, "--log_dir", str(logs)),
        ),
        "paddle": (
            *("-m", "paddle.distributed.launch", "--nproc_per_node", "2", "--backend", "gloo"),
            *("--log_dir", str(logs)),
        ),
        "jax": ("-m", "backends.jax.launch", "--processes", "2"),
    }[framework]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    # MindSpore's launcher waits for a process that has ended: 5 seconds here instead of 30.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": path, "MS_NODE_TIMEOUT": "5"}
    logs.mkdir()
    with (logs / "out").open("w") as out:
        return subprocess.Popen(
            [sys.executable, *command, *map(str, words)], stdout=out, stderr=subprocess.STDOUT, env=environment
        )


def said(logs):
    return "\n".join(path.read_text(errors="replace") for path in sorted(logs.iterdir()) if path.is_file())


def test_two_processes_are_one_with_all_the_images(framework, tmp_path):
    compare_one_and_two(framework, tmp_path)


def compare_one_and_two(framework, tmp_path, graph=0):
    """With frozen batch norm: loss and gradients of the first step, weights after 8; two batches make an update."""
    words = (framework, tmp_path, 2, graph)
    several = launch(framework, tmp_path / "logs", SEVERAL, *words)
    assert several.wait(240) == 0, said(tmp_path / "logs")[-3000:]
    subprocess.run([sys.executable, SEVERAL, *map(str, words)], check=True, timeout=240)
    one, two = (dict(np.load(tmp_path / f"{count}.npz")) for count in (1, 2))
    assert one.keys() == two.keys()
    assert np.array_equal(one["seen"], two["seen"])
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)
    for name, array in one.items():
        tolerance = 1e-4 if name.startswith("weight/") else 1e-5
        assert np.abs(two[name] - array).max() <= tolerance * np.abs(array).max(), name


@in_one_framework
def test_two_processes_train_and_judge_as_one_program(framework, tmp_path):
    """Rank 0 writes; a signal to the other stops both; one process goes on where two have stopped; validation counts
    every image once.
    """
    more = f"--backend {framework} --ckpt_save_dir {tmp_path / 'run'}".split()
    more += ["--num_samples", "50", "--val_while_train"]
    words = (
        ROOT / "train.py",
        *FLAGS.split(),
        *more,
        "--epoch_size",
        "500",
        "--recovery_interval",
        "1",
        "--distribute",
    )
    run = launch(framework, tmp_path / "logs", *words)
    until_it_saves(run, tmp_path)
    os.kill(second(run.pid, framework), signal.SIGTERM)
    run.wait(120)
    position = newest(tmp_path / "run", "small").position
    assert f"train.py: stopped by SIGTERM; the last checkpoint is {tmp_path}/run/optim_small.ckpt ({position})" in said(
        tmp_path / "logs"
    )
    assert (tmp_path / "logs" / "out").read_text().count("Epoch: [1/500], batch: [1/3], loss: ") == 1
    epochs = ["--epoch_size", str(position.epoch + 1)]
    on = [*FLAGS.replace("--batch_size 8 --mode 1", "--batch_size 16").split(), *more, *epochs, "--resume"]
    assert train.main(on) == 0
    assert newest(tmp_path / "run", "small").position == (position.epoch + 1, 3)
    judge = f"--model {SMALL} --dataset digits --batch_size 64 --num_samples 75".split()
    judge += ["--mode", "1", "--backend", framework]
    judge += ["--ckpt_path", str(tmp_path / "run" / f"small-{position.epoch + 1}_3.ckpt")]
    figures, predictions = {}, {}
    for count in (2, 1):
        out = tmp_path / str(count)
        words = (ROOT / "validate.py", *judge, "--json", f"{out}.json", "--predictions", f"{out}.csv")
        if count == 2:
            assert launch(framework, tmp_path / "2", *words, "--distribute").wait(240) == 0, said(tmp_path / "2")[
                -3000:
            ]
        else:
            subprocess.run([sys.executable, *map(str, words)], check=True, timeout=240, stdout=subprocess.DEVNULL)
        (figures[count],) = json.loads(Path(f"{out}.json").read_text())
        with open(f"{out}.csv", newline="") as file:
            predictions[count] = [(row["image"], row["predicted"]) for row in csv.DictReader(file)]
    assert predictions[2] == predictions[1]
    assert len(predictions[1]) == figures[2]["images"] == 75
    assert figures[2]["summary"]["loss"] == pytest.approx(figures[1]["summary"]["loss"], rel=1e-6)


@in_one_framework
def test_a_process_that_dies_ends_the_run(framework, tmp_path):
    more = f"--backend {framework} --ckpt_save_dir {tmp_path / 'run'}".split()
    more += ["--num_samples", "96", "--recovery_interval", "1"]
    run = launch(framework, tmp_path / "logs", ROOT / "train.py", *FLAGS.split(), *more, "--distribute")
    until_it_saves(run, tmp_path)
    os.kill(second(run.pid, framework), signal.SIGKILL)
    assert run.wait(120) != 0
    assert newest(tmp_path / "run", "small").position.epoch >= 1
    end = time.monotonic() + 30
    while left := [pid for pid in processes() if str(tmp_path).encode() in command_line(pid)]:
        assert time.monotonic() < end, f"{left} are left"
        time.sleep(0.1)


def until_it_saves(run, folder):
    end = time.monotonic() + 120
    while not (folder / "run" / "optim_small.ckpt").exists():
        assert run.poll() is None, said(folder / "logs")[-3000:]
        assert time.monotonic() < end, "it does not begin"
        time.sleep(0.05)


def processes():
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit() and int(path.name) != os.getpid()]


def command_line(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def second(launcher, framework):
    """The process of rank 1."""
    wanted = f"{FRAMEWORKS[framework].launcher.rank}=1".encode()
    for pid in processes():
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if wanted in environment and b"train.py" in command_line(pid):
            return pid
    raise AssertionError("there is no process of rank 1")


def test_a_launcher_and_the_flag_go_together(framework, tmp_path, monkeypatch):
    words = [*FLAGS.split(), "--backend", framework, "--ckpt_save_dir", str(tmp_path), "--distribute"]
    name = FRAMEWORKS[framework].launcher.command.split(" --")[0]
    with pytest.raises(TrainingError, match=f"no processes were started; start {framework}'s with `{name} .* train.py"):
        train.main(words)
    monkeypatch.setenv(FRAMEWORKS[framework].launcher.rank, "1")
    monkeypatch.setenv(FRAMEWORKS[framework].launcher.size, "2")
    with pytest.raises(TrainingError, match="started as one of 2 processes: give --distribute too"):
        train.main(words[:-1])
