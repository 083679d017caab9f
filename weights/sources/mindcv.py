"""mindcv (Apache-2.0): names as of 0.3.0."""

from weights.names import Source, Table

MINDCV = Source(
    framework="mindspore",
    tables={
        "googlenet.mindcv": Table(
            (
                ("conv1", "conv2d_1a_7x7"),
                ("conv2", "conv2d_2b_1x1"),
                ("conv3", "conv2d_2c_3x3"),
                ("inception3{a,b}.b{1..4}", "mixed_3{b,c}.branch{0..3}"),
                ("inception4{a..e}.b{1..4}", "mixed_4{b..f}.branch{0..3}"),
                ("inception5{a,b}.b{1..4}", "mixed_5{b,c}.branch{0..3}"),
                ("aux{1,2}.conv", "aux{1,2}.1"),
                ("aux{1,2}.fc1", "aux{1,2}.2.hidden"),
                ("aux{1,2}.fc2", "aux{1,2}.2.fc"),
                ("classifier", "head.fc"),
            )
        ),
        "inception_v3.mindcv": Table(
            (
                ("conv1a", "conv2d_1a_3x3"),
                ("conv2{a,b}", "conv2d_2{a,b}_3x3"),
                ("conv3b", "conv2d_3b_1x1"),
                ("conv4a", "conv2d_4a_3x3"),
                ("inception5{b..d}.branch{0..2}", "mixed_5{b..d}.branch{0..2}"),
                ("inception5{b..d}.branch_pool", "mixed_5{b..d}.branch3"),
                ("inception6a", "mixed_6a"),
                ("inception6{b..e}.branch{0..2}", "mixed_6{b..e}.branch{0..2}"),
                ("inception6{b..e}.branch_pool", "mixed_6{b..e}.branch3"),
                ("inception7a", "mixed_7a"),
                ("inception7{b,c}.branch0", "mixed_7{b,c}.branch0"),
                ("inception7{b,c}.branch1", "mixed_7{b,c}.branch1.0"),
                ("inception7{b,c}.branch1{a,b}", "mixed_7{b,c}.branch1.1.branch{0,1}"),
                ("inception7{b,c}.branch2.{0,1}", "mixed_7{b,c}.branch2.{0,1}"),
                ("inception7{b,c}.branch2{a,b}", "mixed_7{b,c}.branch2.2.branch{0,1}"),
                ("inception7{b,c}.branch_pool", "mixed_7{b,c}.branch3"),
                ("aux.conv{0,1}", "aux.{1,2}"),
                ("aux.fc", "aux.3.fc"),
                ("classifier", "head.fc"),
            )
        ),
        "inception_v4.mindcv": Table(
            (
                ("features.0.conv2d_1a_3x3", "conv2d_1a_3x3"),
                ("features.0.conv2d_2{a,b}_3x3", "conv2d_2{a,b}_3x3"),
                ("features.0.mixed_3a_branch_1", "mixed_3a.branch1"),
                ("features.0.mixed_4a_branch_{0,1}", "mixed_4a.branch{0,1}"),
                ("features.0.mixed_5a_branch_0", "mixed_5a.branch0"),
                ("features.{1..4}.branch_{0..3}", "mixed_5{b..e}.branch{0..3}"),
                ("features.5.branch_{0,1}", "mixed_6a.branch{0,1}"),
                ("features.{6..12}.branch_{0..3}", "mixed_6{b..h}.branch{0..3}"),
                ("features.13.branch_{0,1}", "mixed_7a.branch{0,1}"),
                ("features.{14..16}.branch_{0,3}", "mixed_7{b..d}.branch{0,3}"),
                ("features.{14..16}.branch_1", "mixed_7{b..d}.branch1.0"),
                ("features.{14..16}.branch_1_{1,2}", "mixed_7{b..d}.branch1.1.branch{0,1}"),
                ("features.{14..16}.branch_2.{0..2}", "mixed_7{b..d}.branch2.{0..2}"),
                ("features.{14..16}.branch_2_{1,2}", "mixed_7{b..d}.branch2.3.branch{0,1}"),
                ("classifier", "head.fc"),
            )
        ),
        "xception.mindcv": Table(
            (
                ("conv{1,2}", "conv{1,2}.conv"),
                ("bn{1,2}", "conv{1,2}.bn"),
                ("blocks.{0,1,2,11}.skip", "block{1,2,3,12}.shortcut.conv"),
                ("blocks.{0,1,2,11}.skipbn", "block{1,2,3,12}.shortcut.bn"),
                ("blocks.0.rep.{0,3}.conv1", "block1.body.{0,3}.conv"),
                ("blocks.0.rep.{0,3}.pointwise", "block1.body.{1,4}.conv"),
                ("blocks.0.rep.{1,4}", "block1.body.{1,4}.bn"),
                ("blocks.{1,2,11}.rep.{1,4}.conv1", "block{2,3,12}.body.{1,4}.conv"),
                ("blocks.{1,2,11}.rep.{1,4}.pointwise", "block{2,3,12}.body.{2,5}.conv"),
                ("blocks.{1,2,11}.rep.{2,5}", "block{2,3,12}.body.{2,5}.bn"),
                ("blocks.{3..10}.rep.{1,4,7}.conv1", "block{4..11}.body.{1,4,7}.conv"),
                ("blocks.{3..10}.rep.{1,4,7}.pointwise", "block{4..11}.body.{2,5,8}.conv"),
                ("blocks.{3..10}.rep.{2,5,8}", "block{4..11}.body.{2,5,8}.bn"),
                ("conv{3,4}.conv1", "conv{3,4}.0.conv"),
                ("conv{3,4}.pointwise", "conv{3,4}.1.conv"),
                ("bn{3,4}", "conv{3,4}.1.bn"),
                ("classifier", "head.fc"),
            )
        ),
    },
)
