"""PaddleClas (Apache-2.0): names as of 2.6.0.

Its dropout multiplies by 1 - p in inference ("downscale_in_infer") where others divide by it in training. So the
weights of the classifier after it are multiplied by 1 - p when they are read (`scale`).
"""

from weights.names import Row, Source, Table
from weights.sources.torchvision import inception_v3_blocks


def boxes(*rows: Row, theirs: str = "{_conv,_batch_norm}") -> tuple[Row, ...]:
    """Rows of modules that hold a convolution and its norm."""
    return tuple((f"{publisher}.{theirs}", f"{canonical}.{{conv,bn}}") for publisher, canonical in rows)


GOOGLENET = (
    ("_conv._conv", "conv2d_1a_7x7.conv"),
    ("_conv_1._conv", "conv2d_2b_1x1.conv"),
    ("_conv_2._conv", "conv2d_2c_3x3.conv"),
    *(
        (f"{theirs}._{convolution}._conv", f"{ours}.0.{branch}.conv")
        for theirs, ours in (
            ("_ince3{a,b}", "mixed_3{b,c}"),
            ("_ince4{a..e}", "mixed_4{b..f}"),
            ("_ince5{a,b}", "mixed_5{b,c}"),
        )
        for convolution, branch in (
            ("conv1", "branch0"),
            ("conv3{r,}", "branch1.{0,1}"),
            ("conv5{r,}", "branch2.{0,1}"),
            ("convprj", "branch3.1"),
        )
    ),
    ("_conv_o{1,2}._conv", "aux{1,2}.1.conv"),
    ("_fc_o{1,2}", "aux{1,2}.2.hidden"),
    ("_out{1,2}", "aux{1,2}.2.fc"),
    ("_fc_out", "head.fc"),
)

INCEPTION_V3 = (
    ("inception_stem.conv_1a_3x3", "conv2d_1a_3x3"),
    ("inception_stem.conv_2{a,b}_3x3", "conv2d_2{a,b}_3x3"),
    ("inception_stem.conv_3b_1x1", "conv2d_3b_1x1"),
    ("inception_stem.conv_4a_3x3", "conv2d_4a_3x3"),
    *inception_v3_blocks(
        "inception_block_list.{0..2}",
        "inception_block_list.3",
        "inception_block_list.{4..7}",
        "inception_block_list.8",
        "inception_block_list.{9,10}",
        "branch_pool_conv",
    ),
    ("fc", "head.fc"),
)

INCEPTION_V4 = (
    *boxes(
        ("_inception_stem._conv_1", "conv2d_1a_3x3"),
        ("_inception_stem._conv_{2,3}", "conv2d_2{a,b}_3x3"),
        ("_inception_stem._conv2", "mixed_3a.branch1"),
        ("_inception_stem._conv1_{1,2}", "mixed_4a.branch0.{0,1}"),
        ("_inception_stem._conv2_{1..4}", "mixed_4a.branch1.{0..3}"),
        ("_inception_stem._conv3", "mixed_5a.branch0"),
        ("_inceptionA_{1..4}._conv{1,2}", "mixed_5{b..e}.branch{0.1,1}"),
        ("_inceptionA_{1..4}._conv3_{1,2}", "mixed_5{b..e}.branch2.{0,1}"),
        ("_inceptionA_{1..4}._conv4_{1..3}", "mixed_5{b..e}.branch3.{0..2}"),
        ("_reductionA._conv2", "mixed_6a.branch1"),
        ("_reductionA._conv3_{1..3}", "mixed_6a.branch2.{0..2}"),
        ("_inceptionB_{1..7}._conv{1,2}", "mixed_6{b..h}.branch{0.1,1}"),
        ("_inceptionB_{1..7}._conv3_{1..3}", "mixed_6{b..h}.branch2.{0..2}"),
        ("_inceptionB_{1..7}._conv4_{1..5}", "mixed_6{b..h}.branch3.{0..4}"),
        ("_reductionB._conv2_{1,2}", "mixed_7a.branch1.{0,1}"),
        ("_reductionB._conv3_{1..4}", "mixed_7a.branch2.{0..3}"),
        ("_inceptionC_{1..3}._conv{1,2}", "mixed_7{b..d}.branch{0.1,1}"),
        ("_inceptionC_{1..3}._conv3_0", "mixed_7{b..d}.branch2.0"),
        ("_inceptionC_{1..3}._conv3_{1,2}", "mixed_7{b..d}.branch2.1.branch{0,1}"),
        ("_inceptionC_{1..3}._conv4_{0,00,000}", "mixed_7{b..d}.branch3.{0..2}"),
        ("_inceptionC_{1..3}._conv4_{1,2}", "mixed_7{b..d}.branch3.3.branch{0,1}"),
    ),
    ("out", "head.fc"),
)


def xception(entry: int, middle: int) -> Table:
    """PaddleClas's own design: `entry` and `middle` blocks, then one of the exit flow."""
    first, last = entry + 1, entry + middle
    return Table(
        (
            *boxes(
                ("_entry_flow._conv{1,2}", "conv{1,2}"),
                ("_entry_flow._conv_0._conv{1,2}._pointwise_conv", "block1.body.{0,3}"),
                ("_entry_flow._conv_0._conv{1,2}._depthwise_conv", "block1.body.{1,4}"),
                (
                    f"_entry_flow._conv_{{1..{entry - 1}}}._conv{{1,2}}._pointwise_conv",
                    f"block{{2..{entry}}}.body.{{1,4}}",
                ),
                (
                    f"_entry_flow._conv_{{1..{entry - 1}}}._conv{{1,2}}._depthwise_conv",
                    f"block{{2..{entry}}}.body.{{2,5}}",
                ),
                (
                    f"_middle_flow._conv_{{0..{middle - 1}}}._conv_{{0..2}}._pointwise_conv",
                    f"block{{{first}..{last}}}.body.{{1,4,7}}",
                ),
                (
                    f"_middle_flow._conv_{{0..{middle - 1}}}._conv_{{0..2}}._depthwise_conv",
                    f"block{{{first}..{last}}}.body.{{2,5,8}}",
                ),
                ("_exit_flow._conv_0._conv_{1,2}._pointwise_conv", f"block{last + 1}.body.{{1,4}}"),
                ("_exit_flow._conv_0._conv_{1,2}._depthwise_conv", f"block{last + 1}.body.{{2,5}}"),
                ("_exit_flow._conv_{1,2}._pointwise_conv", "conv{3,4}.0"),
                ("_exit_flow._conv_{1,2}._depthwise_conv", "conv{3,4}.1"),
            ),
            (f"_entry_flow._conv_{{0..{entry - 1}}}._short", f"block{{1..{entry}}}.shortcut.conv"),
            ("_exit_flow._conv_0._short", f"block{last + 1}.shortcut.conv"),
            ("_exit_flow._out", "head.fc"),
        )
    )


def deeplab(name: str, middle: int) -> Table:
    """The deeplab design: three entry blocks, `middle` of the middle flow, two of the exit flow."""
    flows = (
        (f"{name}/entry_flow/block{{1..3}}", "block{1..3}"),
        (f"{name}/middle_flow/block{{1..{middle}}}", f"block{{4..{middle + 3}}}"),
        ("_exit_flow_1", f"block{middle + 4}"),
    )
    end = f"block{middle + 5}"
    return Table(
        (
            *boxes(("_conv{1,2}", "conv{1,2}"), theirs="{_conv,_bn}"),
            *(
                (f"{theirs}._conv{{1..3}}._{{conv,bn}}1", f"{ours}.body.{{1,4,7}}.{{conv,bn}}")
                for theirs, ours in flows
            ),
            *(
                (f"{theirs}._conv{{1..3}}._{{conv,bn}}2", f"{ours}.body.{{2,5,8}}.{{conv,bn}}")
                for theirs, ours in flows
            ),
            *(
                (f"{theirs}._short.{{_conv,_bn}}", f"{ours}.shortcut.{{conv,bn}}")
                for theirs, ours in (flows[0], flows[2])
            ),
            ("_exit_flow_2._conv{1..3}._{conv,bn}1", f"{end}.{{0,2,4}}.{{conv,bn}}"),
            ("_exit_flow_2._conv{1..3}._{conv,bn}2", f"{end}.{{1,3,5}}.{{conv,bn}}"),
            ("_fc", "head.fc"),
        ),
        {"head.fc.weight": 0.5},
    )


PADDLECLAS = Source(
    "paddle",
    {
        "googlenet.paddleclas": Table(
            GOOGLENET, {"head.fc.weight": 0.6, "aux1.2.fc.weight": 0.3, "aux2.2.fc.weight": 0.3}
        ),
        "inception_v3.paddleclas": Table(INCEPTION_V3, {"head.fc.weight": 0.8}),
        "inception_v4.paddleclas": Table(INCEPTION_V4, {"head.fc.weight": 0.8}),
        "xception41.paddleclas": xception(3, 8),
        "xception65.paddleclas": xception(3, 16),
        "xception71.paddleclas": xception(5, 16),
        "xception41.paddleclas_deeplab": deeplab("xception_41", 8),
        "xception65.paddleclas_deeplab": deeplab("xception_65", 16),
    },
)
