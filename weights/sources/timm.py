"""timm (pytorch-image-models, Apache-2.0): names as of 1.0.31. Cadene's files name Inception-v4's tensors alike."""

from weights.names import Source
from weights.sources.torchvision import INCEPTION_V3

TIMM = Source(
    framework="torch",
    models={
        "inception_v3": INCEPTION_V3,
        "inception_v4": (
            ("features.0", "conv2d_1a_3x3"),
            ("features.{1,2}", "conv2d_2{a,b}_3x3"),
            ("features.3.conv", "mixed_3a.branch1"),
            ("features.4", "mixed_4a"),
            ("features.5.conv", "mixed_5a.branch0"),
            ("features.{6..9}", "mixed_5{b..e}"),
            ("features.{10..17}", "mixed_6{a..h}"),
            ("features.18", "mixed_7a"),
            ("features.{19..21}.branch0", "mixed_7{b..d}.branch0"),
            ("features.{19..21}.branch1_0", "mixed_7{b..d}.branch1.0"),
            ("features.{19..21}.branch1_1{a,b}", "mixed_7{b..d}.branch1.1.branch{0,1}"),
            ("features.{19..21}.branch2_{0..2}", "mixed_7{b..d}.branch2.{0..2}"),
            ("features.{19..21}.branch2_3{a,b}", "mixed_7{b..d}.branch2.3.branch{0,1}"),
            ("features.{19..21}.branch3", "mixed_7{b..d}.branch3"),
            ("last_linear", "head.fc"),
        ),
    },
)
