"""What the matrix of publishers (`make peers`) covers, and the naming tables that it cannot run."""

import importlib.util
import re
from functools import cache
from pathlib import Path

import pytest
from matrix import ROWS, UNRUNNABLE

from weights import SOURCES
from weights.published import PUBLISHED
from zoo.models import MODELS


def test_every_source_is_run_or_says_why_not():
    assert {source for source, _ in ROWS} | UNRUNNABLE.keys() == SOURCES.keys()


def test_every_network_with_a_publisher_here_is_run():
    """Networks of TF-slim and of the paper have none: their counts, and what they share with others, are tested."""
    assert MODELS.keys() - {model for _, model in ROWS} == {
        "googlenet.slim",
        "inception_resnet_v1",
        "inception_resnet_v2.slim",
        "inception_v4.slim",
    }


def test_mmpretrains_names_are_torchvisions():
    model = MODELS["inception_v3"]
    theirs, torchvisions = (SOURCES[source].naming(model).keys for source in ("mmpretrain", "torchvision"))
    assert theirs == {name: f"backbone.{key}" for name, key in torchvisions.items()}


def test_zhulfs_tensors_are_mindcvs_but_for_the_names_published():
    """435 of 449 trainable names of Inception-v4 agree; "brance_3" (12) and the classifier (2) do not."""
    theirs = SOURCES["zhulf"].naming(MODELS["inception_v4"]).keys
    mindcvs = SOURCES["mindcv"].naming(MODELS["inception_v4.mindcv"]).keys
    plain = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}

    def in_torchs_words(key):
        path, _, tail = key.rpartition(".")
        return f"{path}.{plain.get(tail, tail)}"

    differ = [key for name, key in theirs.items() if key != in_torchs_words(mindcvs[name]) and "running" not in key]
    assert len([key for key in differ if "brance_3" in key]) == 12
    assert sorted(key for key in differ if "brance_3" not in key) == ["linear.bias", "linear.weight"]


PACKAGES = {
    "torchvision": ("torchvision", ["models/googlenet.py", "models/inception.py"]),
    "cadene": ("pretrainedmodels", ["models/*.py"]),
    "mindcv": ("mindcv", ["models/*.py"]),
    "paddleclas": ("paddleclas", ["ppcls/arch/backbone/*/*.py"]),
    "keras": ("keras", ["src/applications/*.py"]),
}


@cache
def source_text(publisher):
    """The source of a publisher's package, which need not be imported for this."""
    package, patterns = PACKAGES[publisher]
    found = importlib.util.find_spec(package)
    if found is None:
        pytest.skip(f"{package} is not installed")
    folder = Path(found.origin).parent
    text = "".join(file.read_text() for pattern in patterns for file in sorted(folder.glob(pattern)))
    return re.sub(r'"\s*"', "", text)  # strings that are written on several lines


IN_PACKAGES = [row for row in PUBLISHED.values() if row.source in PACKAGES and "osinfra" not in row.address]
"""mindcv's newer files, and all accuracies but torchvision's, are in READMEs only."""


@pytest.mark.parametrize("row", IN_PACKAGES, ids=lambda row: row.name)
def test_addresses_and_digests_are_those_in_the_publishers_packages(row):
    text = source_text(row.source)
    assert (row.file if row.source == "keras" else row.address) in text
    if row.source == "keras":
        assert row.digest.removeprefix("md5:") in text
    if row.source == "torchvision":
        assert f'"acc@1": {row.top1:.3f}' in text
        assert f'"acc@5": {row.top5:.3f}' in text
