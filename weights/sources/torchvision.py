"""torchvision (BSD-3-Clause): names as of 0.28. timm has the same names for Inception-v3; mmpretrain and PaddleClas
have the same names within its blocks.
"""

from weights.names import Row, Source, Table

GOOGLENET = (
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


def inception_v3_blocks(a: str, reduction_a: str, b: str, reduction_b: str, c: str, pool: str) -> tuple[Row, ...]:
    """Inception-v3's blocks, given their paths (three a, four b, two c, in braces) and the pool projection's name."""
    return (
        (f"{a}.branch1x1", "mixed_5{b..d}.branch0"),
        (f"{a}.branch5x5_{{1,2}}", "mixed_5{b..d}.branch1.{0,1}"),
        (f"{a}.branch3x3dbl_{{1..3}}", "mixed_5{b..d}.branch2.{0..2}"),
        (f"{a}.{pool}", "mixed_5{b..d}.branch3.1"),
        (f"{reduction_a}.branch3x3", "mixed_6a.branch0"),
        (f"{reduction_a}.branch3x3dbl_{{1..3}}", "mixed_6a.branch1.{0..2}"),
        (f"{b}.branch1x1", "mixed_6{b..e}.branch0"),
        (f"{b}.branch7x7_{{1..3}}", "mixed_6{b..e}.branch1.{0..2}"),
        (f"{b}.branch7x7dbl_{{1..5}}", "mixed_6{b..e}.branch2.{0..4}"),
        (f"{b}.{pool}", "mixed_6{b..e}.branch3.1"),
        (f"{reduction_b}.branch3x3_{{1,2}}", "mixed_7a.branch0.{0,1}"),
        (f"{reduction_b}.branch7x7x3_{{1..4}}", "mixed_7a.branch1.{0..3}"),
        (f"{c}.branch1x1", "mixed_7{b,c}.branch0"),
        (f"{c}.branch3x3_1", "mixed_7{b,c}.branch1.0"),
        (f"{c}.branch3x3_2{{a,b}}", "mixed_7{b,c}.branch1.1.branch{0,1}"),
        (f"{c}.branch3x3dbl_{{1,2}}", "mixed_7{b,c}.branch2.{0,1}"),
        (f"{c}.branch3x3dbl_3{{a,b}}", "mixed_7{b,c}.branch2.2.branch{0,1}"),
        (f"{c}.{pool}", "mixed_7{b,c}.branch3.1"),
    )


INCEPTION_V3 = (
    ("Conv2d_1a_3x3", "conv2d_1a_3x3"),
    ("Conv2d_2{a,b}_3x3", "conv2d_2{a,b}_3x3"),
    ("Conv2d_3b_1x1", "conv2d_3b_1x1"),
    ("Conv2d_4a_3x3", "conv2d_4a_3x3"),
    *inception_v3_blocks("Mixed_5{b..d}", "Mixed_6a", "Mixed_6{b..e}", "Mixed_7a", "Mixed_7{b,c}", "branch_pool"),
    ("AuxLogits.conv{0,1}", "aux.{1,2}"),
    ("AuxLogits.fc", "aux.3.fc"),
    ("fc", "head.fc"),
)

TORCHVISION = Source("torch", {"googlenet": Table(GOOGLENET), "inception_v3": Table(INCEPTION_V3)})
