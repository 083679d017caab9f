"""Which checkpoints a run keeps, which it resumes from, and that none is lost: damage, full disks, other runs."""

import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support import files_up_to

import weights
from zoo.errors import TrainingError, WeightsError, ZooError
from zoo.files import atomic_write
from zoo.language.model import configure
from zoo.models import MODELS
from zoo.training import run_folder
from zoo.training.run_folder import Keeper, has_weights, lock, newest, require_disk_space, set_aside, state_of
from zoo.training.state import Position, State, read_state, require_same_network

MODEL = configure(MODELS["googlenet"], width=0.0625, num_classes=3)
ARRAYS = weights.initial(MODEL, 0)


def at(epoch, step, **changes):
    arrays = {f"weights/{n}": a for n, a in ARRAYS.items()} | {"progress": np.arange(3.0), "momentum/x": np.ones(3)}
    return State(Position(epoch, step), arrays, [0.5] * step, "lr: 0.1\n", 70, 10, 7, 1.5, MODEL, **changes)


@pytest.fixture
def keep(tmp_path):
    """Saves epochs with their accuracies into a folder; gives the weights' names."""

    def keep(accuracies, first=1, **options):
        resumed = newest(tmp_path, MODEL.name) if first > 1 else None
        keeper = Keeper(tmp_path, MODEL, resumed=resumed, **options)
        for epoch, top1 in enumerate(accuracies, first):
            keeper.save_state(at(epoch, 7))
            keeper.save(ARRAYS, epoch, 7, top1)
        return names(tmp_path, "googlenet-*")

    return keep


def names(folder, pattern="*"):
    return sorted(path.name for path in folder.glob(pattern))


def test_the_latest_are_kept(keep):
    assert keep([50, 40, 30, 20], keep=2) == ["googlenet-3_7.ckpt", "googlenet-4_7.ckpt"]


def test_the_best_are_kept(keep):
    kept = keep([20, 40, float("nan"), 30], keep=2, policy="top_k")
    assert kept == ["googlenet-2_7.ckpt", "googlenet-4_7.ckpt"]


def test_the_newest_is_kept_beside_the_best(keep):
    assert keep([40, 30, 20], keep=1, policy="top_k") == ["googlenet-1_7.ckpt", "googlenet-3_7.ckpt"]


def test_all_are_kept(keep):
    assert len(keep([1, 2, 3], keep=1, policy=None)) == 3


def test_a_run_that_goes_on_counts_its_earlier_files(keep, tmp_path):
    keep([50, 40], keep=2)
    assert keep([30, 20], first=3, keep=2) == ["googlenet-3_7.ckpt", "googlenet-4_7.ckpt"]
    assert weights.open_checkpoint(tmp_path / "googlenet_best.ckpt").metadata["epoch"] == "1"


@pytest.mark.parametrize(("states", "left"), [(1, []), (2, ["3_7"]), (3, ["2_7", "3_7"])])
def test_so_many_states_are_kept(keep, tmp_path, states, left):
    keep([1, 2, 3, 4], states=states)
    assert names(tmp_path, "optim_*") == [*(f"optim_googlenet-{k}.ckpt" for k in left), "optim_googlenet.ckpt"]


def test_a_state_comes_back_as_it_was(tmp_path):
    Keeper(tmp_path, MODEL).save_state(at(3, 4, classes=("a", "b"), rates=[(0.5, 0.1), (1.0, 1e-3)]))
    came = newest(tmp_path, MODEL.name)
    assert (came.model, came.classes, came.rates) == (MODEL, ("a", "b"), [(0.5, 0.1), (1.0, 1e-3)])
    assert (came.position, came.path) == (Position(3, 4), tmp_path / "optim_googlenet.ckpt")
    assert (came.losses, came.flags, came.seconds) == ([0.5] * 4, "lr: 0.1\n", 1.5)
    assert (came.images, came.batch, came.steps) == (70, 10, 7)
    assert came.arrays.keys() == at(3, 4).arrays.keys()
    for name, array in at(3, 4).arrays.items():
        assert came.arrays[name].tobytes() == array.tobytes()


def test_a_state_is_a_checkpoint_like_any_other(tmp_path):
    Keeper(tmp_path, MODEL).save_state(at(1, 7))
    arrays = weights.open_checkpoint(tmp_path / "optim_googlenet.ckpt").arrays()
    assert {name: array.tobytes() for name, array in arrays.items()} == {n: a.tobytes() for n, a in ARRAYS.items()}


SPOILT = {
    "cut": lambda data: data[: len(data) // 2],
    "a bit": lambda data: data[:200] + bytes([data[200] ^ 4]) + data[201:],
    "the last byte": lambda data: data[:-1],
    "the checksum": lambda data: data[:-17],
    "empty": lambda data: b"",
    "zeros": lambda data: bytes(len(data)),
    "weights": None,
}


@pytest.mark.parametrize("how", SPOILT)
def test_the_newest_that_can_be_read_is_taken_and_the_others_named(tmp_path, caplog, how):
    keeper = Keeper(tmp_path, MODEL, states=3)
    for epoch in (1, 2, 10):
        keeper.save_state(at(epoch, 7))
    path = tmp_path / "optim_googlenet.ckpt"
    if SPOILT[how] is None:
        weights.write(path, ARRAYS, MODEL)
    else:
        path.write_bytes(SPOILT[how](path.read_bytes()))
    assert newest(tmp_path, "googlenet").position == (2, 7)
    assert [r.getMessage().split(": ")[:2] for r in caplog.records] == [["skipped", str(path)]]
    (tmp_path / "optim_googlenet-2_7.ckpt").unlink()
    assert newest(tmp_path, "googlenet").position == (1, 7)


def test_where_no_state_can_be_read_the_error_says_what_to_do(tmp_path):
    keeper = Keeper(tmp_path, MODEL)
    keeper.save_state(at(1, 7))
    keeper.save(ARRAYS, 1, 7, 50)
    (tmp_path / "optim_googlenet.ckpt").write_bytes(b"gone")
    with pytest.raises(TrainingError, match=r"that can be read, of 1 in .*--ckpt_path .*googlenet-1_7.ckpt"):
        newest(tmp_path, "googlenet")


def test_weights_find_their_state(keep, tmp_path):
    keep([3, 2, 1])
    assert state_of(tmp_path / "googlenet-2_7.ckpt", "googlenet", tmp_path).position == (2, 7)
    assert state_of(tmp_path / "optim_googlenet.ckpt", "googlenet", tmp_path).position == (3, 7)
    with pytest.raises(
        TrainingError, match=r"no state of that position, only optim_googlenet.ckpt \(epoch 3, batch 7\), "
    ):
        state_of(tmp_path / "googlenet_best.ckpt", "googlenet", tmp_path)


def test_a_damaged_neighbour_is_passed_over(keep, tmp_path, caplog):
    keep([3, 2], states=3)
    (tmp_path / "optim_googlenet.ckpt").write_bytes(b"gone")
    assert state_of(tmp_path / "googlenet-1_7.ckpt", "googlenet", tmp_path).position == (1, 7)
    assert "skipped: " in caplog.text


def test_the_best_is_written_before_the_epoch_s_own_file(keep, tmp_path, monkeypatch):
    """Killed between the two, the epoch is validated again, and loses nothing."""
    keep([50])
    real = weights.write

    def killed(path, *arguments, **options):
        if "-2_7" in path.name:
            raise KeyboardInterrupt
        return real(path, *arguments, **options)

    monkeypatch.setattr(weights, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        keep([60], first=2)
    monkeypatch.undo()
    assert not has_weights(tmp_path, "googlenet", 2)
    keep([60, 55], first=2)
    assert weights.open_checkpoint(tmp_path / "googlenet_best.ckpt").metadata["epoch"] == "2"


def test_a_tie_after_a_resume_is_a_tie(keep, tmp_path):
    keep([100 * 11 / 96])
    keep([100 * 11 / 96], first=2)
    assert weights.open_checkpoint(tmp_path / "googlenet_best.ckpt").metadata["epoch"] == "1"


def test_the_best_of_those_that_stay_takes_the_best_s_place(keep, tmp_path):
    keep([20, 30, 10, 40], states=4)
    set_aside(tmp_path, "googlenet", Position(3, 7))
    assert weights.open_checkpoint(tmp_path / "googlenet_best.ckpt").metadata["epoch"] == "2"
    for path in tmp_path.glob("optim_*"):
        path.unlink()
    with pytest.raises(TrainingError, match=r"an earlier run's files are in .*earlier-1"):
        newest(tmp_path, "googlenet")
    assert newest(tmp_path, "other") is newest(tmp_path / "nowhere", "googlenet") is None


def test_no_number_that_is_none_is_saved_as_a_state(tmp_path):
    keeper = Keeper(tmp_path, MODEL)
    keeper.save_state(at(1, 7))
    bad = at(2, 7)
    bad.arrays["weights/head.fc.bias"] = np.full(3, np.nan, np.float32)
    with pytest.raises(WeightsError, match="with NaN or infinity"):
        keeper.save_state(bad)
    assert newest(tmp_path, "googlenet").position == (1, 7)


def test_a_full_disk_leaves_the_last_state(tmp_path):
    keeper = Keeper(tmp_path, MODEL)
    keeper.save_state(at(1, 7))
    before = names(tmp_path)
    message = r"optim_googlenet.ckpt: cannot write the state there: File too large"
    with pytest.raises(ZooError, match=message), files_up_to(1000):
        keeper.save_state(at(2, 7))
    message = r"googlenet_best.ckpt: cannot write the weights: File too large"
    with pytest.raises(ZooError, match=message), files_up_to(1000):
        keeper.save(ARRAYS, 1, 7, 50)
    assert names(tmp_path) == before
    assert newest(tmp_path, "googlenet").position == (1, 7)


def test_too_small_a_disk_is_reported_at_once(tmp_path, monkeypatch, caplog):
    free = [500]
    usage = type("Usage", (), {"free": property(lambda self: free[0])})
    monkeypatch.setattr(run_folder.shutil, "disk_usage", lambda folder: usage())
    with pytest.raises(TrainingError, match=r"0.0 MB free, and a checkpoint takes .*: free some space, or"):
        require_disk_space(tmp_path, MODEL, 3, 2, 10)
    free[0] = 3_000_000
    require_disk_space(tmp_path, MODEL, 3, 2, 10)
    assert "and its checkpoints will take" in caplog.text


def hold(folder, ready):
    with lock(folder):
        ready.set()
        time.sleep(60)


def test_a_folder_is_one_run_s_until_it_ends_however_it_ends(tmp_path):
    ready = multiprocessing.Event()
    other = multiprocessing.Process(target=hold, args=(tmp_path, ready))
    other.start()
    assert ready.wait(20)
    with (
        pytest.raises(TrainingError, match=rf"process {other.pid} on .* is writing there: wait until it has ended"),
        lock(tmp_path),
    ):
        pass
    os.kill(other.pid, signal.SIGKILL)
    other.join()
    (tmp_path / ".googlenet.ckpt.abc.part").write_bytes(b"half")
    with lock(tmp_path):
        assert names(tmp_path, ".*") == [".lock"]


def test_an_earlier_run_is_set_aside(keep, tmp_path, caplog):
    keep([1, 2])
    (tmp_path / "result.log").write_text("figures")
    (tmp_path / "mine.ckpt").write_text("of the user's own")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.name != "mine.ckpt"}
    set_aside(tmp_path, "googlenet")
    assert {path.name: path.read_bytes() for path in (tmp_path / "earlier-1").iterdir()} == before
    assert names(tmp_path) == ["earlier-1", "mine.ckpt", "result.log"]
    assert caplog.messages == [f"{tmp_path}: moved 5 checkpoints of an earlier run to {tmp_path / 'earlier-1'}"]
    set_aside(tmp_path, "googlenet")
    assert not (tmp_path / "earlier-2").exists()


def test_what_is_later_than_where_a_run_goes_on_is_set_aside(keep, tmp_path):
    keep([1, 2, 3], states=3)
    set_aside(tmp_path, "googlenet", Position(2, 3))
    assert names(tmp_path / "earlier-1") == [
        *("googlenet-2_7.ckpt", "googlenet-3_7.ckpt", "googlenet_best.ckpt"),
        *("optim_googlenet-2_7.ckpt", "optim_googlenet.ckpt"),
    ]
    assert newest(tmp_path, "googlenet").position == (1, 7)


def test_a_file_is_on_the_disk_before_it_takes_its_name(tmp_path, monkeypatch):
    done = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, name=name, real=real: (done.append(name), real(*args))[1])
    with atomic_write(tmp_path / "file") as part:
        part.write_text("whole")
    assert done == ["fsync", "replace", "fsync"]


def test_the_log_says_nothing_where_nothing_is_wrong(keep, caplog):
    with caplog.at_level(logging.WARNING):
        keep([1, 2])
    assert not caplog.records


def test_a_state_says_what_it_is_where_it_is_damaged_inside(tmp_path):
    with pytest.raises(TrainingError, match="no such file"):
        read_state(tmp_path / "none.ckpt")


def test_a_state_of_another_network_is_refused_whatever_its_name(tmp_path):
    Keeper(tmp_path, MODEL).save_state(at(1, 7))
    state = newest(tmp_path, MODEL.name)
    require_same_network(state, replace(MODEL, size=64, name="other"))
    require_same_network(state, configure(MODEL, drop_rate=0.5))
    for other, what in (
        (configure(MODEL, num_classes=4), "network: num_classes 3 in the file, 4 here"),
        (replace(MODEL, norm=replace(MODEL.norm, eps=1e-5)), "batch norm: eps 0.001 in the file, 1e-05 here"),
        (replace(MODEL, stages=MODEL.stages[:-1], aux=()), ": part "),
    ):
        with pytest.raises(TrainingError, match=f"optim_googlenet.ckpt: the state of another network.*{what}"):
            require_same_network(state, other)


def test_where_there_are_no_locks_a_warning_says_so_and_the_run_goes_on(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(run_folder, "_flock", None)
    with lock(tmp_path), lock(tmp_path):
        pass
    assert "folders are locked on Linux and macOS only" in caplog.messages[0]


def test_importing_it_needs_no_fcntl(tmp_path):
    """As on Windows, where the module does not exist."""
    code = "import sys; sys.modules['fcntl'] = None; sys.platform = 'win32'; import zoo.training.run_folder"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])
