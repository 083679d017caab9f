"""Tallies against scikit-learn, and what happens at the edges: ties, NaN, padding, few classes."""

import csv
import math
import warnings

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, log_loss, precision_score, recall_score, top_k_accuracy_score

from zoo.errors import InputError
from zoo.training.metrics import Tally

RNG = np.random.default_rng(5)
LOGITS = RNG.normal(size=(500, 12)).astype(np.float32)
LABELS = RNG.integers(0, 12, 500)
LOGITS[np.arange(500), LABELS] += 1


def tally(logits, labels, indices=None):
    result = Tally(len(logits[0]))
    result.add(logits, labels, range(len(labels)) if indices is None else indices)
    return result


def test_as_scikit_learn():
    t = tally(LOGITS, LABELS)
    guesses = LOGITS.argmax(axis=1)
    for which, k in (("top1", 1), ("top5", 5)):
        assert t.percent(which) == pytest.approx(100 * top_k_accuracy_score(LABELS, LOGITS, k=k))
    np.testing.assert_array_equal(t.confusion(), confusion_matrix(LABELS, guesses))
    rows = t.rows([str(k) for k in range(12)])
    np.testing.assert_allclose([row["recall"] for row in rows], 100 * recall_score(LABELS, guesses, average=None))
    np.testing.assert_allclose([row["precision"] for row in rows], 100 * precision_score(LABELS, guesses, average=None))
    probabilities = np.exp(LOGITS.astype(np.float64))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    assert t.loss == pytest.approx(log_loss(LABELS, probabilities), rel=1e-12)


def test_counts_fit_together():
    t = tally(LOGITS, LABELS)
    rows = t.rows([f"class {k}" for k in range(12)])
    assert t.confusion().dtype == np.int64
    assert sum(row["images"] for row in rows) == len(t) == 500
    assert sum(row["top1"] for row in rows) == t.correct("top1") == np.trace(t.confusion())
    assert sum(row["top5"] for row in rows) == t.correct("top5")
    assert rows[3]["class"] == "class 3"
    wrong = t.confusion()[3].copy()
    wrong[3] = 0
    assert rows[3]["mistaken_for"] == f"class {wrong.argmax()}"


def test_equal_logits_go_by_class_number():
    t = tally(np.zeros((6, 6)), np.arange(6))
    assert t.per_class("top1").tolist() == [1, 0, 0, 0, 0, 0]
    assert t.per_class("top5").tolist() == [1, 1, 1, 1, 1, 0]


@pytest.mark.parametrize("place", [0, 2])
@pytest.mark.parametrize("classes", [3, 7])
def test_nan_is_wrong_and_taken_for_nothing(classes, place):
    logits = np.zeros((2, classes))
    logits[:, 0] = 1
    logits[1, place] = np.nan
    t = tally(logits, [0, 0])
    assert (t.correct("top1"), t.correct("top5"), len(t)) == (1, 1, 2)
    assert t.confusion().sum() == 1
    assert math.isnan(t.loss)


def test_infinite_and_huge_logits_do_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert tally([[1e4, -1e4]], [1]).loss == 2e4
        t = tally([[np.inf, 0.0]], [0])
    assert t.correct() == 1
    assert math.isnan(t.loss)


def test_shards_in_any_order_are_the_whole():
    whole = tally(LOGITS, LABELS)
    shards = [tally(LOGITS[i::3], LABELS[i::3], np.arange(500)[i::3]) for i in range(3)]
    for order in ([0, 1, 2], [2, 0, 1]):
        joined = shards[order[0]] + shards[order[1]] + shards[order[2]]
        assert joined.summary() == whole.summary()
        np.testing.assert_array_equal(joined.records, whole.records)


def test_padding_and_repeated_images_count_once():
    t = tally(LOGITS[:4], LABELS[:4])
    t.add(LOGITS[[3, 0, 4]], LABELS[[3, 0, 4]], [3, -1, 4])
    assert t.summary() == tally(LOGITS[:5], LABELS[:5]).summary()
    assert len(t) == 5


def test_summary_rounds_and_has_top_5_from_5_classes_on():
    assert tally(np.eye(4)[[0, 0, 0]], [0, 0, 1]).summary() == {
        "Top_1_Accuracy": 66.6667,
        "loss": pytest.approx(1.077, 1e-3),
    }
    assert list(tally(np.eye(5), range(5)).summary()) == ["Top_1_Accuracy", "Top_5_Accuracy", "loss"]


def test_worst_leaves_out_absent_classes_and_breaks_ties_by_number():
    guesses, labels = [0, 0, 2, 2, 4, 4, 0], [0, 0, 1, 2, 3, 4, 4]
    t = tally(np.eye(6)[guesses], labels)
    assert t.worst(9) == [1, 3, 4, 0, 2]
    assert t.worst(2) == [1, 3]
    assert t.worst(1, by="top5") == [0]  # all of them are among the first five
    assert tally(np.eye(40)[[0] * 40], range(40)).worst(40) == [*range(1, 40), 0]


def test_a_class_without_images_or_guesses_has_no_share():
    row = tally(np.eye(3)[[0, 0]], [0, 0]).rows("abc")[2]
    assert (row["images"], row["recall"], row["precision"], row["mistaken_for"]) == (0, None, None, None)


def test_nothing_counted_is_nan():
    assert math.isnan(Tally(3).percent())
    assert math.isnan(Tally(3).loss)


def test_confusion_file(tmp_path):
    tally(np.eye(2)[[0, 1, 1]], [0, 0, 1]).write_confusion(tmp_path / "c.csv", ['a "cat", or', "dog"])
    with open(tmp_path / "c.csv", newline="") as file:
        assert list(csv.reader(file)) == [
            ["label \\ predicted", 'a "cat", or', "dog"],
            ['a "cat", or', "1", "1"],
            ["dog", "0", "1"],
        ]
    with pytest.raises(InputError, match=r"/nowhere/c\.csv: cannot write a table there: No such file"):
        Tally(2).write_confusion("/nowhere/c.csv", "ab")


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros((2, 4)), [0, 1], r"expected logits \[N, 3\], .* not \[2, 4\], \[2\], \[2\]"),
        (np.zeros((2, 3)), [0], r"not \[2, 3\], \[1\], \[1\]"),
        (np.zeros((2, 3)), [0, 3], "labels are 0 to 3, expected 0 to 2: does num_classes fit the dataset"),
        (np.zeros((2, 3)), [-1, 0], "labels are -1 to 0"),
    ],
)
def test_what_does_not_fit(logits, labels, message):
    with pytest.raises(InputError, match=message):
        Tally(3).add(logits, labels, range(len(labels)))
    with pytest.raises(InputError, match="cannot add tallies of 3 and of 4 classes"):
        Tally(3) + Tally(4)
