"""zhulf0804's Inceptionv4_and_Inception-ResNetv2.PyTorch: names as of commit 04ca904, "brance" included."""

from weights.names import Source, Table

ZHULF = Source(
    "torch",
    {
        "inception_v4": Table(
            (
                ("features.0.conv2d_1a_3x3", "conv2d_1a_3x3"),
                ("features.0.conv2d_2{a,b}_3x3", "conv2d_2{a,b}_3x3"),
                ("features.0.mixed_3a_branch_1", "mixed_3a.branch1"),
                ("features.0.mixed_4a_branch_{0,1}", "mixed_4a.branch{0,1}"),
                ("features.0.mixed_5a_branch_0", "mixed_5a.branch0"),
                ("features.{1..4}.branch_{0..2}", "mixed_5{b..e}.branch{0..2}"),
                ("features.{1..4}.brance_3", "mixed_5{b..e}.branch3"),
                ("features.5.branch_{0,1}", "mixed_6a.branch{0,1}"),
                ("features.{6..12}.branch_{0..3}", "mixed_6{b..h}.branch{0..3}"),
                ("features.13.branch_{0,1}", "mixed_7a.branch{0,1}"),
                ("features.{14..16}.branch_{0,3}", "mixed_7{b..d}.branch{0,3}"),
                ("features.{14..16}.branch_1", "mixed_7{b..d}.branch1.0"),
                ("features.{14..16}.branch_1_{1,2}", "mixed_7{b..d}.branch1.1.branch{0,1}"),
                ("features.{14..16}.branch_2.{0..2}", "mixed_7{b..d}.branch2.{0..2}"),
                ("features.{14..16}.branch_2_{1,2}", "mixed_7{b..d}.branch2.3.branch{0,1}"),
                ("linear", "head.fc"),
            )
        ),
        "inception_resnet_v2": Table(
            (
                ("features.0.features.0", "conv2d_1a_3x3"),
                ("features.0.features.{1,2}", "conv2d_2{a,b}_3x3"),
                ("features.0.features.4", "conv2d_3b_1x1"),
                ("features.0.features.5", "conv2d_4a_3x3"),
                ("features.0.branch_{0..3}", "mixed_5b.branch{0..3}"),
                ("features.{1..10}.branch_{0..2}", "block35.{0..9}.body.0.branch{0..2}"),
                ("features.{1..10}.conv", "block35.{0..9}.body.1.conv"),
                ("features.11.branch_{0,1}", "mixed_6a.branch{0,1}"),
                ("features.{12..31}.branch_{0,1}", "block17.{0..19}.body.0.branch{0,1}"),
                ("features.{12..31}.conv", "block17.{0..19}.body.1.conv"),
                ("features.32.branch_{0..2}", "mixed_7a.branch{0..2}"),
                ("features.{33..42}.branch_{0,1}", "block8.{0..9}.body.0.branch{0,1}"),
                ("features.{33..42}.conv", "block8.{0..9}.body.1.conv"),
                ("conv", "conv2d_7b_1x1"),
                ("linear", "head.fc"),
            )
        ),
    },
)
