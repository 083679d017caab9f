"""FID, KID and the Inception score: the definitions, and the command."""

import json

import numpy as np
import pytest
import scipy.linalg
from PIL import Image

import zoo
from zoo.commands import main
from zoo.errors import InputError, SpecError
from zoo.fidelity import statistics
from zoo.fidelity.statistics import Moments, Statistics

RANDOM = np.random.default_rng(3)


def features(count=40, dimensions=12, shift=0.0):
    """Correlated features, so far from 0 that a difference of sums of squares would cancel."""
    mix = RANDOM.normal(size=(dimensions, dimensions))
    return (RANDOM.normal(size=(count, dimensions)) @ mix + 1000 + shift).astype(np.float32)


def collected(array, batch=7):
    moments = Moments()
    for start in range(0, len(array), batch):
        moments.add(array[start : start + batch])
    return moments.statistics()


def test_statistics_batch_by_batch_are_those_of_all():
    array = features()
    found = collected(array)
    np.testing.assert_allclose(found.mean, array.astype(np.float64).mean(0), rtol=1e-13)
    np.testing.assert_allclose(found.covariance, np.cov(array.astype(np.float64), rowvar=False), rtol=1e-9)
    with pytest.raises(InputError, match="1 images: a covariance needs two or more"):
        collected(array[:1])


@pytest.mark.parametrize("count", [40, 8], ids=["regular", "singular"])
def test_frechet_distance_is_its_definition(count):
    first, second = collected(features(count)), collected(features(count, shift=3))
    root = scipy.linalg.sqrtm(first.covariance @ second.covariance).real
    shift = first.mean - second.mean
    expected = shift @ shift + np.trace(first.covariance + second.covariance - 2 * root)
    assert statistics.frechet_distance(first, second) == pytest.approx(expected, rel=1e-5)
    assert statistics.frechet_distance(first, first) == pytest.approx(0, abs=1e-6 * np.trace(first.covariance))
    with pytest.raises(InputError, match="statistics of 12 and of 3 features"):
        statistics.frechet_distance(first, Statistics(np.zeros(3), np.eye(3)))


def test_frechet_distance_of_diagonal_covariances():
    """|m1 - m2|^2 + sum (s1 - s2)^2."""
    first, second = (
        Statistics(np.array([1.0, 2]), np.diag([4.0, 9])),
        Statistics(np.array([0.0, 0]), np.diag([1.0, 16])),
    )
    assert statistics.frechet_distance(first, second) == pytest.approx(5 + 1 + 1)


def test_kernel_distance_is_its_definition():
    x, y = RANDOM.normal(size=(6, 4)).astype(np.float32), RANDOM.normal(size=(6, 4)).astype(np.float32)

    def kernel(a, b):
        return (float(a.astype(np.float64) @ b) / 4 + 1) ** 3

    within = sum(kernel(a, b) for s in (x, y) for i, a in enumerate(s) for j, b in enumerate(s) if i != j) / 30
    across = sum(kernel(a, b) for a in x for b in y) / 36
    mean, std = statistics.kernel_distance(x, y, subsets=3, size=6)  # each subset is the whole set
    assert mean == pytest.approx(within - 2 * across, rel=1e-9)
    assert std == pytest.approx(0, abs=1e-9)
    with pytest.raises(InputError, match=r"subsets of 1000 images of 6 and 6: give --kid-subset-size"):
        statistics.kernel_distance(x, y, 100, 1000)


def test_inception_score_of_certain_and_of_uncertain_classes():
    certain = np.eye(5, dtype=np.float32)[np.arange(20) % 5] * 100
    assert statistics.inception_score(certain, 1)[0] == pytest.approx(5)
    assert statistics.inception_score(np.zeros((20, 5), np.float32), 2) == (pytest.approx(1), pytest.approx(0))
    with pytest.raises(InputError, match="30 splits of 20 images"):
        statistics.inception_score(certain, 30)


def test_files_of_statistics(tmp_path):
    found = collected(features())
    statistics.write_statistics(tmp_path / "a.npz", found)
    again = statistics.read_statistics(tmp_path / "a.npz")
    assert np.array_equal(again.mean, found.mean)
    assert np.array_equal(again.covariance, found.covariance)
    np.savez(tmp_path / "b.npz", mu=np.zeros(3), sigma=np.zeros((2, 2)))
    np.savez(tmp_path / "c.npz", m=np.zeros(3))
    np.savez(tmp_path / "d.npz", mu=np.array([{}]), sigma=np.zeros((1, 1)))
    (tmp_path / "e.npz").write_text("no archive")
    (tmp_path / "g.npz").write_bytes(b"PK\3\4 and nothing else")
    np.savez(tmp_path / "h.npz", mu=np.full(3, np.nan), sigma=np.eye(3))
    for name in "bcdefgh":
        with pytest.raises(InputError, match=rf"{name}\.npz: expected"):
            statistics.read_statistics(tmp_path / f"{name}.npz")


@pytest.fixture
def folders(tmp_path):
    """Two folders of three images each."""
    for name, low in (("a", 0), ("b", 128)):
        (tmp_path / name).mkdir()
        for k in range(3):
            pixels = RANDOM.integers(low, 256, (20 + k, 30, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{k}.png")
    return tmp_path


def test_the_command(folders, capsys):
    small = ["--features", "64", "--random-weights", "1", "--backend", "onnx", "--batch", "2"]
    a, b, stored = (str(folders / name) for name in ("a", "b", "a.npz"))
    assert main(["fid", a, b, *small, "--kid", "--kid-subset-size", "3", "--save-stats", stored, "--json", "-"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["fid"] > 0
    assert document["images"] == [3, 3]
    assert document["kid"]["subset_size"] == 3
    assert document["preprocess"].startswith("whole image resized to 299 x 299 (tf1_bilinear)")
    assert main(["fid", stored, b, *small]) == 0
    out = capsys.readouterr().out
    assert f"FID              {document['fid']:.6g}\n" in out
    assert "stored, 3" in out
    for other in (["--pipeline", "pytorch-fid"], ["--random-weights", "2"]):
        assert main(["fid", stored, b, *small, *other]) == 2
        assert "a.npz: its" in capsys.readouterr().err
    assert main(["fid", a, b, *small, "--pipeline", "pytorch-fid", "--json", "-"]) == 0
    other = json.loads(capsys.readouterr().out)
    assert abs(other["fid"] / document["fid"] - 1) > 1e-3, "another resizing gives another figure"
    assert main(["fid", a, a, *small, "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["fid"] == pytest.approx(0, abs=1e-6)


def test_what_cannot_be_compared(folders):
    stored = folders / "s.npz"
    statistics.write_statistics(stored, Statistics(np.zeros(64), np.eye(64)))
    (folders / "a" / "broken.png").write_bytes(b"no image")
    for error, message, arguments in (
        (InputError, "KID compares features", {"second": stored, "kid": True}),
        (InputError, "the Inception score needs images", {"first": stored, "score": True}),
        (SpecError, "unknown pipeline 'x': expected torch-fidelity or pytorch-fid", {"pipeline": "x"}),
        (SpecError, "unknown features '63': expected one of 64, 192, 768, 2048", {"features": "63"}),
        (InputError, r"broken\.png: not an image that Pillow can read", {}),
        (InputError, "nowhere: no such file or folder", {"second": folders / "nowhere"}),
        (InputError, "subsets of 1000 images of 4 and 3: give --kid-subset-size", {"kid": True}),
        (InputError, "10 splits of 4 images", {"score": True}),
        (InputError, "nofolder/s.npz: cannot write statistics there", {"save": folders / "nofolder" / "s.npz"}),
        (InputError, "statistics of 64 features, and of 192 of the images", {"second": stored, "features": "192"}),
    ):
        given = {"first": folders / "a", "second": folders / "b", "seed": 1, "backend": "onnx", "features": "64"}
        with pytest.raises(error, match=message):
            zoo.fid(**{**given, **arguments})
