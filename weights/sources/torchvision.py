"""torchvision (BSD-3-Clause): names as of 0.28; timm and mmpretrain name Inception-v3's tensors alike."""

from weights.names import Row, Source

GOOGLENET: tuple[Row, ...] = (
    ("conv1", "conv2d_1a_7x7"),
    ("conv2", "conv2d_2b_1x1"),
    ("conv3", "conv2d_2c_3x3"),
    ("inception3{a,b}.branch{1..4}", "mixed_3{b,c}.branch{0..3}"),
    ("inception4{a..e}.branch{1..4}", "mixed_4{b..f}.branch{0..3}"),
    ("inception5{a,b}.branch{1..4}", "mixed_5{b,c}.branch{0..3}"),
    ("aux{1,2}.conv", "aux{1,2}.1"),
    ("aux{1,2}.fc1", "aux{1,2}.2.hidden"),
    ("aux{1,2}.fc2", "aux{1,2}.2.fc"),
    ("fc", "head.fc"),
)

INCEPTION_V3: tuple[Row, ...] = (
    ("Conv2d_1a_3x3", "conv2d_1a_3x3"),
    ("Conv2d_2{a,b}_3x3", "conv2d_2{a,b}_3x3"),
    ("Conv2d_3b_1x1", "conv2d_3b_1x1"),
    ("Conv2d_4a_3x3", "conv2d_4a_3x3"),
    ("Mixed_5{b..d}.branch1x1", "mixed_5{b..d}.branch0"),
    ("Mixed_5{b..d}.branch5x5_{1,2}", "mixed_5{b..d}.branch1.{0,1}"),
    ("Mixed_5{b..d}.branch3x3dbl_{1..3}", "mixed_5{b..d}.branch2.{0..2}"),
    ("Mixed_5{b..d}.branch_pool", "mixed_5{b..d}.branch3.1"),
    ("Mixed_6a.branch3x3", "mixed_6a.branch0"),
    ("Mixed_6a.branch3x3dbl_{1..3}", "mixed_6a.branch1.{0..2}"),
    ("Mixed_6{b..e}.branch1x1", "mixed_6{b..e}.branch0"),
    ("Mixed_6{b..e}.branch7x7_{1..3}", "mixed_6{b..e}.branch1.{0..2}"),
    ("Mixed_6{b..e}.branch7x7dbl_{1..5}", "mixed_6{b..e}.branch2.{0..4}"),
    ("Mixed_6{b..e}.branch_pool", "mixed_6{b..e}.branch3.1"),
    ("Mixed_7a.branch3x3_{1,2}", "mixed_7a.branch0.{0,1}"),
    ("Mixed_7a.branch7x7x3_{1..4}", "mixed_7a.branch1.{0..3}"),
    ("Mixed_7{b,c}.branch1x1", "mixed_7{b,c}.branch0"),
    ("Mixed_7{b,c}.branch3x3_1", "mixed_7{b,c}.branch1.0"),
    ("Mixed_7{b,c}.branch3x3_2{a,b}", "mixed_7{b,c}.branch1.1.branch{0,1}"),
    ("Mixed_7{b,c}.branch3x3dbl_{1,2}", "mixed_7{b,c}.branch2.{0,1}"),
    ("Mixed_7{b,c}.branch3x3dbl_3{a,b}", "mixed_7{b,c}.branch2.2.branch{0,1}"),
    ("Mixed_7{b,c}.branch_pool", "mixed_7{b,c}.branch3.1"),
    ("AuxLogits.conv{0,1}", "aux.{1,2}"),
    ("AuxLogits.fc", "aux.3.fc"),
    ("fc", "head.fc"),
)

TORCHVISION = Source(framework="torch", models={"googlenet": GOOGLENET, "inception_v3": INCEPTION_V3})
