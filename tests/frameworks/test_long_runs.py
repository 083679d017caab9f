"""Long runs: signals, killed processes, bad images and full disks, and resuming after them."""

import csv
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from pathlib import Path

import kills
import numpy as np
import pytest
import spoilt
from support import SMALL, files_up_to, in_one_framework

import zoo.files
from zoo.data.images import read_image
from zoo.errors import Stopped, TrainingError
from zoo.scripts import train, validate
from zoo.training import inputs
from zoo.training.run_folder import newest
from zoo.training.state import read_state

ROOT = Path(__file__).parents[2]
MODEL = f"--model {SMALL} --num_parallel_workers 2 --warmup_epochs 0"
FLAGS = (
    f"{MODEL} --dataset digits --num_samples 48 --batch_size 16 --lr 0.001 --opt momentum --scheduler constant --mode 1"
)
PROCESS = f"{MODEL} --dataset digits --num_samples 96 --batch_size 16 --recovery_interval 1"


def words(framework, folder, *more, flags=FLAGS):
    return [*flags.split(), "--backend", framework, "--ckpt_save_dir", str(folder), *more]


def script(*words, **options):
    """train.py in a process of its own, as users run it."""
    command = [sys.executable, str(ROOT / "train.py"), *words]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(), **options
    )


def environment():
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }


def until(condition, seconds=240):
    """Wait until the condition holds; fail after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.01)


def lines(errors):
    """The lines that a script itself has printed, without those of frameworks."""
    return [line for line in errors.splitlines() if line.startswith("train.py: ") and ": warning: " not in line]


@in_one_framework
def test_killed_at_a_random_moment_a_run_ends_as_the_undisturbed_one(framework, tmp_path):
    result = kills.ordeal(framework, tmp_path, kills=1, epochs=14, model=("small", f"--model {SMALL}"))
    assert result.kills == 1
    assert result.different == []


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=in_one_framework)])
def test_a_signal_finishes_the_step_and_says_how_to_go_on(framework, tmp_path, number):
    run = script(*words(framework, tmp_path / "my run", "--epoch_size", "1000", flags=PROCESS))
    until((tmp_path / "my run" / "optim_small.ckpt").exists)
    run.send_signal(number)
    _, errors = run.communicate(timeout=60)
    position = newest(tmp_path / "my run", "small").position
    (line,) = lines(errors)
    if framework == "mindspore" and run.returncode == 128 + signal.SIGTERM:
        number = signal.SIGTERM  # MindSpore turns SIGINT into it while it runs a graph
    wanted = (
        f"train.py: stopped by {number.name}; the last checkpoint is {tmp_path}/my run/optim_small.ckpt "
        f"({position}); to resume from it: python {ROOT}/train.py -c '{tmp_path}/my run/small.yaml' --resume"
    )
    assert (line, run.returncode) == (wanted, 128 + number)
    if number == signal.SIGTERM and framework == "torch":  # the printed command works
        again = subprocess.Popen(
            f"{wanted.rpartition(': ')[2]} --epoch_size {position.epoch}", shell=True, env=environment()
        )
        assert again.wait(120) == 0
        assert newest(tmp_path / "my run", "small").position == (position.epoch, 6)


@in_one_framework
def test_a_signal_in_validation_leaves_it_for_later(framework, tmp_path, monkeypatch, capsys):
    run = words(framework, tmp_path, "--epoch_size", "1", "--val_while_train", "--ckpt_save_interval", "5")
    real = train.evaluate

    def disturbed(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        return real(*arguments)

    monkeypatch.setattr(train, "evaluate", disturbed)
    with pytest.raises(Stopped, match=r"stopped by SIGTERM; .*\(epoch 1, batch 3\)"):
        train.main(run)
    monkeypatch.undo()
    capsys.readouterr()
    assert train.main([*run, "--resume"]) == 0
    assert re.search(r"^Epoch: \[1/1\], loss: .*Top_1_Accuracy", capsys.readouterr().out, re.M)
    with pytest.raises(TrainingError, match="this run is complete, with 1 epochs: give a larger --epoch_size"):
        train.main([*run, "--resume"])


@in_one_framework
def test_a_signal_stops_a_run_whose_epochs_are_one_update(framework, tmp_path, monkeypatch):
    real = train.Trainer.update

    def disturbed(self, lr):
        os.kill(os.getpid(), signal.SIGTERM)
        return real(self, lr)

    monkeypatch.setattr(train.Trainer, "update", disturbed)
    with pytest.raises(Stopped, match=r"stopped by SIGTERM; .*\(epoch 1, batch 3\)"):
        train.main(words(framework, tmp_path, "--epoch_size", "9", "--gradient_accumulation_steps", "5"))


@in_one_framework
def test_every_batch_has_random_numbers_of_its_own(framework, tmp_path, monkeypatch):
    """Dropout differs from epoch to epoch too."""
    real, numbers = train.Trainer.seed, []

    def noted(self, number, *arguments):
        numbers.append(number)
        return real(self, number, *arguments)

    monkeypatch.setattr(train.Trainer, "seed", noted)
    assert train.main(words(framework, tmp_path, "--num_samples", "32", "--epoch_size", "2")) == 0
    assert numbers[0] == 0  # the trainer's own, before any batch
    assert len(set(numbers[1:])) == len(numbers[1:]) == 4


@in_one_framework
def test_what_is_in_a_folder_where_another_run_goes_on_is_set_aside(framework, tmp_path):
    few = ("--num_samples", "16", "--epoch_size")
    assert train.main(words(framework, tmp_path / "a", *few, "1")) == 0
    assert train.main(words(framework, tmp_path / "b", *few, "1", "--seed", "1")) == 0
    file = tmp_path / "a" / "optim_small.ckpt"
    before = {path.name: path.read_bytes() for path in (tmp_path / "b").glob("*.ckpt")}
    assert train.main(words(framework, tmp_path / "b", *few, "2", "--resume", str(file))) == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "b" / "earlier-1").glob("*.ckpt")} == before
    assert sorted(path.name for path in (tmp_path / "b").glob("*.ckpt")) == [
        "optim_small.ckpt",
        "small-2_1.ckpt",
    ]


def test_a_run_goes_on_in_another_framework(framework, tmp_path):
    """Its next loss and update equal the first framework's; batch norm is frozen, because it magnifies rounding."""
    other = "torch" if framework != "torch" else "paddle"
    flags = f"{FLAGS} --freeze *.bn.* --ema --ema_decay 0.9 --mixup 0.2 --aux_factor 0.3 --recovery_interval 1"
    both = ("--epoch_size", "2", "--keep_state_max", "9")
    first = script(*words(other, tmp_path / "a", *both, flags=flags))
    assert first.wait(240) == 0, first.stderr.read()[-2000:]
    files = {step: tmp_path / "a" / f"optim_small-{step}.ckpt" for step in ("1_3", "2_1")}
    resumed = words(framework, tmp_path / "b", *both, "--resume", str(files["1_3"]), flags=flags)
    assert train.main(resumed) == 0
    before, wanted = read_state(files["1_3"]), read_state(files["2_1"])
    came = read_state(tmp_path / "b" / "optim_small-2_1.ckpt")
    assert came.losses[0] == pytest.approx(wanted.losses[0], rel=1e-5)
    for name, array in wanted.arrays.items():
        scale = max(1e-30, np.abs(array).max())
        assert np.abs(came.arrays[name] - array).max() <= 1e-5 * scale, name
    update, its = (
        np.concatenate([(one.arrays[n] - before.arrays[n]).ravel() for n in before.arrays if n.startswith("weights/")])
        for one in (wanted, came)
    )
    assert 0 < np.abs(update).max() < 1
    assert np.linalg.norm(its - update) <= 1e-5 * np.linalg.norm(update)


@pytest.fixture
def folder(tmp_path):
    return spoilt.folder(tmp_path / "images")


@in_one_framework
def test_bad_images_are_left_out_and_listed(framework, folder, tmp_path, monkeypatch, capsys, caplog):
    """Exactly those that cannot be read; the odd ones are used, and a batch keeps its size."""
    read, real, seen = set(), inputs.training_loader, []

    def recorded(path):
        image = read_image(path)
        read.add(Path(path).relative_to(folder.root / "train").as_posix())
        return image

    def vanished(*arguments):
        for name in folder.vanishing:
            (folder.root / "train" / name).unlink(missing_ok=True)
        return real(*arguments)

    monkeypatch.setattr("zoo.data.datasets.read_image", recorded)
    monkeypatch.setattr(inputs, "training_loader", vanished)
    monkeypatch.setattr(train.Trainer, "step", spy(train.Trainer.step, seen))
    run = f"{MODEL} --data_dir {folder.root} --batch_size 20 --lr 0.001 --epoch_size 1".split()
    assert train.main([*run, "--backend", framework, "--ckpt_save_dir", str(tmp_path / "a")]) == 0
    missing = folder.unreadable | folder.vanishing
    with (tmp_path / "a" / "bad_images.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["image"] for row in rows} == missing
    assert {row["split"] for row in rows} == {"train"}
    assert any("No such file" in row["reason"] for row in rows)
    assert any("decompression bomb" in row["reason"] for row in rows)
    everything = {path.relative_to(folder.root / "train").as_posix() for path in (folder.root / "train").glob("*/*")}
    assert read == everything - missing
    assert read >= folder.odd
    assert seen == [20] * 15
    assert f"{len(missing)} images could not be read: " in capsys.readouterr().out
    assert len([m for m in caplog.messages if m.startswith("skipped: ")]) == 5

    with pytest.raises(TrainingError, match=r"(cannot read the image|not an image).*; there is no checkpoint yet"):
        train.main([*run, "--backend", framework, "--ckpt_save_dir", str(tmp_path / "b"), "--strict"])

    report, figures = tmp_path / "bad.csv", tmp_path / "f.json"
    judge = (
        f"--model {SMALL} --data_dir {folder.root} --val_split train --mode 1 --backend {framework} --json {figures}"
    )
    judge += f" --bad_images {report} --ckpt_path {tmp_path / 'a' / 'small-1_15.ckpt'} --batch_size 32"
    assert validate.main(judge.split()) == 0
    assert len(report.read_text().splitlines()) == 1 + len(folder.unreadable)
    assert f'"unreadable": {len(folder.unreadable)}' in figures.read_text()
    assert f'"images": {len(everything) - len(folder.unreadable)}' in figures.read_text()


def spy(real, seen):
    """The method, noting how many images it gets."""

    def step(self, images, *arguments):
        seen.append(len(images))
        return real(self, images, *arguments)

    return step


@in_one_framework
def test_a_loss_that_is_no_number_names_the_batch_and_the_last_checkpoint(framework, tmp_path):
    assert train.main(words(framework, tmp_path, "--epoch_size", "1")) == 0
    message = (
        r"epoch 2, batch \d: the loss is (nan|inf).*; the batch: train/\d+, train/\d+, train/\d+, \.\.\. \(16 in all: "
        r".*failed_batch.csv\); the last checkpoint is .*optim_small.ckpt \(epoch 1, batch 3\); to resume from it: "
    )
    with pytest.raises(TrainingError, match=message):
        train.main(words(framework, tmp_path, "--epoch_size", "2", "--lr", "1e30", "--resume"))
    assert len((tmp_path / "failed_batch.csv").read_text().splitlines()) == 17
    assert newest(tmp_path, "small").position == (1, 3)


@in_one_framework
def test_a_disk_that_fills_loses_nothing(framework, tmp_path, monkeypatch):
    real, saved = train.Keeper.save_state, []

    def fills(self, state):
        saved.append(state.position)
        with files_up_to(20_000) if len(saved) == 3 else nullcontext():
            real(self, state)

    monkeypatch.setattr(train.Keeper, "save_state", fills)
    message = r"optim_small.ckpt: cannot write the state there: .*; the last checkpoint is .*\(epoch 2, batch 3\)"
    with pytest.raises(TrainingError, match=message):
        train.main(words(framework, tmp_path, "--epoch_size", "9"))
    assert newest(tmp_path, "small").position == (2, 3)
    assert not list(tmp_path.glob(".*.part"))
    assert train.main(words(framework, tmp_path, "--epoch_size", "3", "--resume")) == 0


@in_one_framework
def test_a_folder_that_turns_read_only_loses_nothing(framework, tmp_path, monkeypatch):
    real, made = zoo.files.tempfile.mkstemp, []

    def read_only(*arguments, dir, **options):
        made.append(dir)
        if len(made) == 7:  # yaml, json, result.log; a state and weights; the second epoch's state; its weights
            raise OSError(30, "Read-only file system", str(dir))
        return real(*arguments, dir=dir, **options)

    monkeypatch.setattr(zoo.files.tempfile, "mkstemp", read_only)
    message = r"Read-only file system; the last checkpoint is .*optim_small.ckpt \(epoch 2, batch 1\); to resume"
    with pytest.raises(TrainingError, match=message):
        train.main(words(framework, tmp_path, "--num_samples", "16", "--epoch_size", "9"))
    assert newest(tmp_path, "small").position == (2, 1)


@in_one_framework
def test_of_two_runs_in_a_folder_the_second_waits_for_its_turn(framework, tmp_path):
    first = script(*words(framework, tmp_path, "--epoch_size", "1000", flags=PROCESS))
    until((tmp_path / "optim_small.ckpt").exists)
    with pytest.raises(
        TrainingError, match=rf"process {first.pid} on .* is writing there: wait until it has ended, or choose"
    ):
        train.main(words(framework, tmp_path, "--epoch_size", "1"))
    assert first.poll() is None
    first.kill()
    first.communicate()
    assert train.main(words(framework, tmp_path, "--epoch_size", "1")) == 0
    assert newest(tmp_path / "earlier-1", "small").position.epoch >= 1


@in_one_framework
@pytest.mark.parametrize("error", [SystemExit(3), MemoryError("no more"), KeyError("a fault of the program")])
def test_a_worker_that_dies_ends_the_run_with_its_error(framework, tmp_path, monkeypatch, error):
    real, calls = inputs.Augment.__call__, []

    def dies(self, *arguments, **options):
        calls.append(threading.get_ident())
        if len(calls) == 20:
            raise error
        return real(self, *arguments, **options)

    monkeypatch.setattr(inputs.Augment, "__call__", dies)
    with pytest.raises(type(error)):
        train.main(words(framework, tmp_path, "--epoch_size", "1"))
    assert threading.get_ident() not in calls
