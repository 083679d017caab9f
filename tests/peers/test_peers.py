"""What the matrix of publishers (`make peers`) covers, and the naming tables that it cannot run."""

from matrix import ROWS, UNRUNNABLE

from weights import SOURCES
from zoo.models import MODELS


def test_every_source_is_run_or_says_why_not():
    assert {source for source, _ in ROWS} | UNRUNNABLE.keys() == SOURCES.keys()


def test_every_network_with_a_publisher_here_is_run():
    """TF-slim's and the paper's own have none: their counts are tested, and what they share with the others."""
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
