"""Operations, against the figures that publishers print. Tools that can be installed count in tests/frameworks."""

from dataclasses import replace

import pytest

from zoo.language.complexity import counted_by
from zoo.language.trace import trace
from zoo.models import MODELS

PRINTED = [  # network, input size, convention, thousand millions
    ("inception_v4", 299, "fvcore", 12.28),  # timm, results/model_benchmark_amp_nchw_rtx3090.csv, commit 13178ba7
    ("inception_v3", 299, "fvcore", 5.73),
    ("inception_resnet_v2", 299, "fvcore", 13.18),
    ("xception", 299, "fvcore", 8.40),
    ("xception41", 299, "fvcore", 9.28),
    ("xception65", 299, "fvcore", 13.96),
    ("xception71", 299, "fvcore", 18.09),
    ("inception_v3", 299, "mmcv", 5.75),  # mmpretrain
    ("inception_v4", 229, "thop_2019", 6.31),  # zhulf0804, whose script feeds images of 229 pixels
    ("inception_resnet_v2", 229, "thop_2019", 6.65),
    ("inception_v3.paddleclas", 299, "paddle", 5.73),  # PaddleClas, docs/zh_CN/models/ImageNet1k/README.md
    ("inception_v4.paddleclas", 299, "paddle", 12.29),
    ("xception41.paddleclas", 299, "paddle", 8.57),
    ("xception41.paddleclas_deeplab", 299, "paddle", 9.28),
    ("xception65.paddleclas", 299, "paddle", 13.25),
    ("xception65.paddleclas_deeplab", 299, "paddle", 13.96),
    ("xception71.paddleclas", 299, "paddle", 16.21),
]


@pytest.mark.parametrize(("name", "size", "convention", "printed"), PRINTED)
def test_published_figures(name, size, convention, printed):
    counted = counted_by(replace(MODELS[name], aux=()), size)[convention]
    assert round(counted / 1e9, 2) == printed


def test_paddleclas_counts_googlenets_auxiliary_heads():
    assert round(counted_by(MODELS["googlenet.paddleclas"])["paddle"] / 1e9, 2) == 1.44


def test_figures_printed_or_computed_in_full():
    """Mmpretrain's metafile has all digits; thop 0.0.31.post1909230639 adds float32 numbers."""
    bare = {name: replace(MODELS[name], aux=()) for name in ("inception_v3", "inception_v4", "inception_resnet_v2")}
    assert counted_by(bare["inception_v3"])["mmcv"] == 5745177632
    assert counted_by(bare["inception_v4"], 229)["thop_2019"] == pytest.approx(6314485760, rel=2e-6)
    assert counted_by(bare["inception_resnet_v2"], 299)["thop_2019"] == pytest.approx(13223990272, rel=2e-6)


@pytest.mark.parametrize("name", MODELS)
def test_convolutions_and_linear_layers_are_nearly_all(name):
    macs = trace(MODELS[name]).macs
    assert all(macs <= counted < 1.025 * macs for counted in counted_by(MODELS[name]).values())
