"""Cadene's pretrained-models.pytorch (BSD-3-Clause): names as of 0.7.4, with 1000 classes. Its published Inception-v4
and Inception-ResNet-v2 have 1001, the first of them background.
"""

from weights.names import Source, Table
from weights.sources.timm import INCEPTION_RESNET_V2, INCEPTION_V4, XCEPTION

BLOCKS, OURS = "inception_{3a,3b,4a,4b,4c,4d,5a,5b}", "mixed_{3b,3c,4b,4c,4d,4e,5b,5c}"
BNINCEPTION = (
    ("conv1_7x7_s2{,_bn}", "conv2d_1a_7x7.{conv,bn}"),
    ("conv2_3x3_reduce{,_bn}", "conv2d_2b_1x1.{conv,bn}"),
    ("conv2_3x3{,_bn}", "conv2d_2c_3x3.{conv,bn}"),
    (f"{BLOCKS}_1x1{{,_bn}}", f"{OURS}.branch0.{{conv,bn}}"),
    (f"{BLOCKS}_3x3{{_reduce,}}{{,_bn}}", f"{OURS}.branch1.{{0,1}}.{{conv,bn}}"),
    (f"{BLOCKS}_double_3x3_{{reduce,1,2}}{{,_bn}}", f"{OURS}.branch2.{{0..2}}.{{conv,bn}}"),
    (f"{BLOCKS}_pool_proj{{,_bn}}", f"{OURS}.branch3.1.{{conv,bn}}"),
    ("inception_{3c,4e}_3x3{_reduce,}{,_bn}", "mixed_{4a,5a}.branch0.{0,1}.{conv,bn}"),
    ("inception_{3c,4e}_double_3x3_{reduce,1,2}{,_bn}", "mixed_{4a,5a}.branch1.{0..2}.{conv,bn}"),
)

HEAD = (("last_linear", "head.fc"),)

CADENE = Source(
    "torch",
    {
        "bninception": Table(BNINCEPTION + HEAD),
        "inception_v4": Table(INCEPTION_V4 + HEAD),
        "inception_resnet_v2": Table(INCEPTION_RESNET_V2 + HEAD),
        "xception": Table(XCEPTION + HEAD),
    },
)
