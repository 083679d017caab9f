"""timm (pytorch-image-models, Apache-2.0): names as of 1.0.31. Cadene's files have the same names for these blocks."""

from weights.names import Row, Source, Table
from weights.sources.torchvision import INCEPTION_V3

INCEPTION_V4 = (
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
)

INCEPTION_RESNET_V2 = (
    ("conv2d_1a", "conv2d_1a_3x3"),
    ("conv2d_2{a,b}", "conv2d_2{a,b}_3x3"),
    ("conv2d_3b", "conv2d_3b_1x1"),
    ("conv2d_4a", "conv2d_4a_3x3"),
    ("mixed_5b", "mixed_5b"),
    ("repeat.{0..9}.branch{0..2}", "block35.{0..9}.body.0.branch{0..2}"),
    ("repeat.{0..9}.conv2d", "block35.{0..9}.body.1.conv"),
    ("mixed_6a", "mixed_6a"),
    ("repeat_1.{0..19}.branch{0,1}", "block17.{0..19}.body.0.branch{0,1}"),
    ("repeat_1.{0..19}.conv2d", "block17.{0..19}.body.1.conv"),
    ("mixed_7a", "mixed_7a"),
    ("repeat_2.{0..8}.branch{0,1}", "block8.{0..8}.body.0.branch{0,1}"),
    ("repeat_2.{0..8}.conv2d", "block8.{0..8}.body.1.conv"),
    ("block8.branch{0,1}", "block8.9.body.0.branch{0,1}"),
    ("block8.conv2d", "block8.9.body.1.conv"),
    ("conv2d_7b", "conv2d_7b_1x1"),
)

XCEPTION = (
    ("conv{1,2}", "conv{1,2}.conv"),
    ("bn{1,2}", "conv{1,2}.bn"),
    ("block{1,2,3,12}.skip", "block{1,2,3,12}.shortcut.conv"),
    ("block{1,2,3,12}.skipbn", "block{1,2,3,12}.shortcut.bn"),
    ("block1.rep.{0,3}.conv1", "block1.body.{0,3}.conv"),
    ("block1.rep.{0,3}.pointwise", "block1.body.{1,4}.conv"),
    ("block1.rep.{1,4}", "block1.body.{1,4}.bn"),
    ("block{2,3,12}.rep.{1,4}.conv1", "block{2,3,12}.body.{1,4}.conv"),
    ("block{2,3,12}.rep.{1,4}.pointwise", "block{2,3,12}.body.{2,5}.conv"),
    ("block{2,3,12}.rep.{2,5}", "block{2,3,12}.body.{2,5}.bn"),
    ("block{4..11}.rep.{1,4,7}.conv1", "block{4..11}.body.{1,4,7}.conv"),
    ("block{4..11}.rep.{1,4,7}.pointwise", "block{4..11}.body.{2,5,8}.conv"),
    ("block{4..11}.rep.{2,5,8}", "block{4..11}.body.{2,5,8}.bn"),
    ("conv{3,4}.conv1", "conv{3,4}.0.conv"),
    ("conv{3,4}.pointwise", "conv{3,4}.1.conv"),
    ("bn{3,4}", "conv{3,4}.1.bn"),
)


def aligned(blocks: int) -> Table:
    """Xception 41, 65 and 71: the last block has no residual, so its layers' indices are one less."""
    theirs, ours = f"blocks.{{0..{blocks - 2}}}", f"block{{1..{blocks - 1}}}"
    last, end = f"blocks.{blocks - 1}", f"block{blocks}"
    return Table(
        (
            ("stem.{0,1}", "conv{1,2}"),
            (f"blocks.{_shortcuts(blocks, 0)}.shortcut", f"block{_shortcuts(blocks, 1)}.shortcut"),
            *_separable(f"{theirs}.stack.conv{{1..3}}", f"{ours}.body.{{1,4,7}}", f"{ours}.body.{{2,5,8}}"),
            *_separable(f"{last}.stack.conv{{1..3}}", f"{end}.{{0,2,4}}", f"{end}.{{1,3,5}}"),
            ("head.fc", "head.fc"),
        )
    )


def preactivated(blocks: int) -> Table:
    """Xception 41p and 65p."""
    theirs, ours = f"blocks.{{0..{blocks - 2}}}", f"block{{1..{blocks - 1}}}"
    last, end = f"blocks.{blocks - 1}", f"block{blocks}"
    return Table(
        (
            ("stem.0", "conv1"),
            ("stem.1", "conv2.conv"),
            (f"blocks.{{0..{blocks - 1}}}.norm", f"block{{1..{blocks}}}.0.bn"),
            (f"blocks.{_shortcuts(blocks, 0)}.shortcut", f"block{_shortcuts(blocks, 1)}.1.shortcut.conv"),
            (f"{theirs}.stack.conv{{1..3}}.conv_dw", f"{ours}.1.body.{{0,3,6}}.conv"),
            (f"{theirs}.stack.conv{{1..3}}.conv_pw", f"{ours}.1.body.{{1,4,7}}.conv"),
            (f"{theirs}.stack.conv{{2,3}}.norm", f"{ours}.1.body.{{2,5}}.bn"),
            (f"{last}.stack.conv{{1..3}}.conv_dw", f"{end}.{{1,4,7}}.conv"),
            (f"{last}.stack.conv{{1..3}}.conv_pw", f"{end}.{{2,5,8}}.conv"),
            (f"{last}.stack.conv{{2,3}}.norm", f"{end}.{{3,6}}.bn"),
            ("head.fc", "head.fc"),
        )
    )


def _shortcuts(blocks: int, first: int) -> str:
    """The blocks with a shortcut convolution, in braces, counted from `first`: the entry flow, and the last but one."""
    entry = 5 if blocks == 23 else 3
    return "{" + ",".join(str(first + i) for i in (*range(entry), blocks - 2)) + "}"


def _separable(theirs: str, depthwise: str, pointwise: str) -> tuple[Row, ...]:
    return (
        (f"{theirs}.conv_dw", f"{depthwise}.conv"),
        (f"{theirs}.bn_dw", f"{depthwise}.bn"),
        (f"{theirs}.conv_pw", f"{pointwise}.conv"),
        (f"{theirs}.bn_pw", f"{pointwise}.bn"),
    )


TIMM = Source(
    "torch",
    {
        "inception_v3": Table(INCEPTION_V3),
        "inception_v4": Table((*INCEPTION_V4, ("last_linear", "head.fc"))),
        "inception_resnet_v2": Table((*INCEPTION_RESNET_V2, ("classif", "head.fc"))),
        "xception": Table((*XCEPTION, ("fc", "head.fc"))),
        "xception41": aligned(13),
        "xception65": aligned(21),
        "xception71": aligned(23),
        "xception41p": preactivated(13),
        "xception65p": preactivated(21),
    },
)
