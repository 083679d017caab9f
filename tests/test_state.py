"""Which checkpoints a run keeps, and what goes on from which."""

import ast
import os

import numpy as np
import pytest

import weights
from zoo.errors import TrainingError
from zoo.model import Model, Preprocess, stages
from zoo.nodes import Conv, Head
from zoo.training.state import Keeper, epoch_of, newest, read_state

MODEL = Model("tiny", stages(stem=Conv(4, 3)), Head(), Preprocess(8), size=8, num_classes=3)
ARRAYS = weights.initial(MODEL, 0)
STATE = {"momentum/x": np.ones(3, np.float32)}


@pytest.fixture
def keep(tmp_path, monkeypatch):
    """Saves epochs with their accuracies into a folder; gives the files' names."""
    real = weights.open_checkpoint
    monkeypatch.setattr(weights, "write", lambda path, arrays, model, notes: path.write_text(repr(notes)))

    class Opened:
        def __init__(self, path):
            self.metadata = ast.literal_eval(path.read_text())

    monkeypatch.setattr(weights, "open_checkpoint", lambda path: Opened(path) if path.suffix == ".ckpt" else real(path))

    def keep(accuracies, first=1, **options):
        keeper = Keeper(tmp_path, MODEL, done=first - 1, **options)
        for epoch, top1 in enumerate(accuracies, first):
            keeper.save(ARRAYS, STATE, epoch, 7, top1)
        return sorted(path.name for path in tmp_path.glob("tiny-*"))

    return keep


def test_the_latest_are_kept(keep):
    assert keep([50, 40, 30, 20], keep=2) == ["tiny-3_7.ckpt", "tiny-4_7.ckpt"]


def test_the_best_are_kept(keep):
    assert keep([20, 40, float("nan"), 30], keep=2, policy="top_k") == ["tiny-2_7.ckpt", "tiny-4_7.ckpt"]


def test_the_newest_is_kept_beside_the_best(keep):
    assert keep([40, 30, 20], keep=1, policy="top_k") == ["tiny-1_7.ckpt", "tiny-3_7.ckpt"]


def test_all_are_kept(keep):
    assert len(keep([1, 2, 3], keep=1, policy=None)) == 3


def test_a_run_that_goes_on_counts_its_earlier_files(keep, tmp_path):
    keep([50, 40], keep=2)
    assert keep([30, 20], first=3, keep=2) == ["tiny-3_7.ckpt", "tiny-4_7.ckpt"]
    assert epoch_of(tmp_path / "tiny_best.ckpt") == 1


def test_the_newest_is_the_one_written_last(keep, tmp_path):
    keep([1] * 3)
    os.utime(tmp_path / "tiny-2_7.ckpt", (2**31, 2**31))
    assert newest(tmp_path, "tiny").name == "tiny-2_7.ckpt"
    with pytest.raises(TrainingError, match="no checkpoint other-EPOCH_STEP"):
        newest(tmp_path, "other")


def test_a_state_of_another_epoch_is_refused(keep, tmp_path):
    keep([1, 2])
    state = read_state(tmp_path / "optim_tiny.ckpt", 2)
    assert {name: array.tolist() for name, array in state.items()} == {"momentum/x": [1, 1, 1]}
    with pytest.raises(TrainingError, match="state is of epoch 2, and the checkpoint of epoch 1: go on from the run"):
        read_state(tmp_path / "optim_tiny.ckpt", 1)
