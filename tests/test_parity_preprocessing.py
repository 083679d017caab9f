"""`zoo parity --preprocess`: users' functions that preprocess images rightly and wrongly."""

import json
import os
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest

from zoo.commands import main

SCHEMA = json.loads((Path(__file__).parents[1] / "docs" / "parity.schema.json").read_text())

OWN = """
import numpy as np
from PIL import Image


def square(path, size=299, shorter=342, how=Image.BILINEAR):
    image = Image.open(path).convert("RGB")
    image = image.resize([shorter * side // min(image.size) for side in image.size], how)
    left, top = (round((side - size) / 2) for side in image.size)
    return np.asarray(image.crop((left, top, left + size, top + size))) / 255


def right(path):
    return (square(path).transpose(2, 0, 1) - 0.5) / 0.5


def batch(path):
    return right(path)[None]


def reversed_channels(path):
    return right(path)[::-1]


def imagenet(path):
    return (square(path) - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]


def other_scale(path):
    return (square(path) - 0.4) / 0.3


def small(path):
    return (square(path, 224, 256, Image.BICUBIC) - 0.5) / 0.5


def whole(path):
    return (np.asarray(Image.open(path).convert("RGB").resize((299, 299), Image.BILINEAR)) / 255 - 0.5) / 0.5


def noise(path):
    return np.random.default_rng(0).random((3, 299, 299))


def constant(path):
    return np.zeros((3, 299, 299))


def grey(path):
    return np.zeros((299, 299))


def broken(path):
    raise ValueError("no such mean")


VALUE = 3
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    (folder / "own_images.py").write_text(OWN)
    before = os.getcwd()
    os.chdir(folder)
    yield folder
    os.chdir(before)


@pytest.mark.parametrize(
    ("name", "causes"),
    [
        ("right", {}),
        pytest.param("batch", {}, marks=pytest.mark.nightly),
        ("reversed_channels", {"channel_order": "BGR where the publisher has RGB"}),
        ("imagenet", {"normalisation": "mean (0.485, 0.456, 0.406) and std (0.229, 0.224, 0.225) of pixels"}),
        pytest.param(
            "other_scale",
            {"normalisation": "mean (0.4, 0.4, 0.4) and std (0.3, 0.3, 0.3) of pixels"},
            marks=pytest.mark.nightly,
        ),
        (
            "small",
            {"size": "224 x 224 pixels where", "resize": "bicubic interpolation where the publisher has bilinear"},
        ),
        ("whole", {"resize": "the whole image resized to the square where the publisher has shorter side 342"}),
        ("noise", None),
        pytest.param("constant", None, marks=pytest.mark.nightly),
    ],
)
def test_what_differs_is_named(folder, capsys, name, causes):
    file = folder / f"{name}.json"
    status = main(["parity", "inception_v3", "--preprocess", f"own_images:{name}", "--json", str(file)])
    document = json.loads(file.read_text())
    jsonschema.validate(document, SCHEMA)
    out = capsys.readouterr().out
    assert status == (causes != {})
    assert document["ok"] == (causes == {})
    assert document["proved"] == bool(causes)
    assert {row["cause"] for row in document["causes"]} == set(causes or ())
    assert all(text in out for text in (causes or {}).values())
    if causes is None:
        assert "None of the usual ways" in out


@pytest.mark.parametrize("name", ["right", "imagenet"])
def test_reports(folder, name):
    words = ["--html", str(folder / "p.html"), "--junit", str(folder / "p.xml")]
    status = main(["parity", "inception_v3", "--preprocess", f"own_images:{name}", *words])
    page = (folder / "p.html").read_text()
    suite = ElementTree.parse(folder / "p.xml").find("testsuite")
    assert (suite.get("name"), suite.get("tests"), suite.get("failures")) == ("inception_v3", "1", str(status))
    assert page.startswith("<!doctype html>")
    if name == "imagenet":
        change = "Cause: normalisation: mean (0.485, 0.456, 0.406) and std (0.229, 0.224, 0.225) of pixels"
        assert change in page
        assert change in suite.find("testcase/failure").text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("inception_v3 --preprocess own_images:grey", "expected an array [3, N, N], [1, 3, N, N] or [N, N, 3], not"),
        ("inception_v3 --preprocess own_images:broken", "failed: ValueError: no such mean"),
        ("inception_v3 --preprocess own_images:missing", "has no attribute 'missing'"),
        ("inception_v3 googlenet --preprocess own_images:right", "of one model: name one"),
        ("inception_v3 --preprocess own_images:right --against own:Own", "--preprocess and --against exclude"),
        ("inception_v3 --preprocess own_images:right --layers", "--layers does not go with --preprocess"),
        ("inception_v3 --preprocess own_images:right --size 99", "--size does not go with --preprocess"),
        ("inception_v3 --preprocess own_images:right --steps 2", "--steps does not go with --preprocess"),
        ("inception_v3 --preprocess own_images:right --image gone", "gone: cannot read the image"),
    ],
)
def test_bad_input(folder, capsys, words, message):
    assert main(["parity", *words.split()]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("zoo: error:") == 1
