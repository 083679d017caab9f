"""Where publishers of one name differ: each difference is in the spec, and ignoring it changes the outputs.

A row undoes one difference. If a model file ignored it, undoing it would change nothing, and the row would fail.
`make peers` proves that the spec has the publisher's side of each.
"""

from dataclasses import replace

import numpy as np
import pytest
from support import batch, calibrated, error, expected, narrow

import weights
from weights import SOURCES
from zoo.language.model import Model, configure
from zoo.language.nodes import (
    AdaptiveAvgPool,
    AvgPool,
    Chain,
    Conv,
    Depthwise,
    Head,
    MaxPool,
    Relu,
    Residual,
    transform,
)
from zoo.models import MODELS


def leaves_where(kind, **changes):
    """The model with every leaf of this kind changed."""

    def undo(model: Model) -> Model:
        def leaf(node):
            return replace(node, **changes) if isinstance(node, kind) and node != replace(node, **changes) else node

        return over_nodes(model, lambda node: transform(node, leaf))

    return undo


def over_nodes(model, change):
    return replace(
        model,
        stages=tuple(replace(stage, node=change(stage.node)) for stage in model.stages),
        aux=tuple(replace(aux, node=change(aux.node)) for aux in model.aux),
    )


def norm(eps):
    return lambda model: replace(model, norm=replace(model.norm, eps=eps))


def pools(padding, stride=2):
    def leaf(node):
        return replace(node, padding=padding) if isinstance(node, MaxPool) and node.stride == stride else node

    return lambda model: over_nodes(model, lambda node: transform(node, leaf))


def first(**changes):
    def undo(model):
        stage = model.stages[0]
        return replace(model, stages=(replace(stage, node=replace(stage.node, **changes)), *model.stages[1:]))

    return undo


def residuals(**changes):
    """Every Residual changed, wherever it stands."""

    def change(node):
        if isinstance(node, Chain):
            return Chain(tuple(change(child) for child in node.nodes))
        return replace(node, **changes) if isinstance(node, Residual) else node

    return lambda model: over_nodes(model, change)


def last_residual(**changes):
    def undo(model):
        stages = {stage.name: stage for stage in model.stages}
        *others, last = stages["block8"].node.nodes
        node = Chain((*others, replace(last, **changes)))
        return replace(model, stages=tuple(replace(s, node=node) if s.name == "block8" else s for s in model.stages))

    return undo


def without_final_relus(model):
    def change(node):
        ends = isinstance(node, Chain) and isinstance(node.nodes[-1], Relu)
        return Chain((*node.nodes[:-1], AvgPool(1))) if ends else node

    return over_nodes(model, change)


def aux_pool(pool):
    """Auxiliary heads behind another pool."""

    def undo(model):
        aux = tuple(replace(a, node=Chain((pool, *a.node.nodes[1:]))) for a in model.aux)
        return replace(model, aux=aux)

    return undo


TRAPS = [
    ("padding counted in average pools", "inception_v3", leaves_where(AvgPool, count_include_pad=False)),
    ("padding not counted in average pools", "inception_v3.mindcv", leaves_where(AvgPool, count_include_pad=True)),
    ("padding not counted, Keras", "inception_v3.keras", leaves_where(AvgPool, count_include_pad=True)),
    ("padding not counted, v4", "inception_v4", leaves_where(AvgPool, count_include_pad=True)),
    ("padding not counted, IRv2", "inception_resnet_v2", leaves_where(AvgPool, count_include_pad=True)),
    ("padding counted, Cadene", "bninception", leaves_where(AvgPool, count_include_pad=False)),
    ("padding counted, PaddleClas", "inception_v3.paddleclas", leaves_where(AvgPool, count_include_pad=False)),
    ("eps of PaddleClas v3", "inception_v3.paddleclas", norm(1e-3)),
    ("eps of PaddleClas v4", "inception_v4.paddleclas", norm(1e-3)),
    ("eps of xception", "xception", norm(1e-3)),
    ("eps of Keras xception", "xception.keras", norm(1e-5)),
    ("eps of xception41p", "xception41p", norm(1e-3)),
    ("eps of BN-Inception", "bninception", norm(1e-3)),
    ("xception pools on both sides", "xception", pools("same")),
    ("mindcv xception pools SAME", "xception.mindcv", pools("half")),
    ("Keras xception pools SAME", "xception.keras", pools("half")),
    ("torchvision stem symmetric", "googlenet", first(padding="same")),
    ("TF-slim stem asymmetric", "googlenet.slim", first(padding="half")),
    ("mindcv stem asymmetric", "googlenet.mindcv", first(padding="half")),
    ("PaddleClas stem symmetric", "googlenet.paddleclas", first(padding="same")),
    ("PaddleClas stem without ReLU", "googlenet.paddleclas", first(act=True)),
    ("PaddleClas ReLU after the concat only", "googlenet.paddleclas", leaves_where(Conv, act=True)),
    ("PaddleClas ReLU after the concat", "googlenet.paddleclas", without_final_relus),
    ("PaddleClas second head without ReLU", "googlenet.paddleclas", leaves_where(Head, act=True)),
    ("torchvision adaptive auxiliary pool", "googlenet", aux_pool(AvgPool(5, 3, "valid"))),
    ("mindcv auxiliary pool 5x5", "googlenet.mindcv", aux_pool(AdaptiveAvgPool(4))),
    ("ceil pools", "googlenet", pools("half")),
    ("deeplab's dilated last block", "xception41.paddleclas_deeplab", leaves_where(Depthwise, dilation=1)),
    ("residual scales", "inception_resnet_v2", residuals(scale=1.0)),
    ("last residual unscaled", "inception_resnet_v2", last_residual(scale=0.2)),
    ("last residual without ReLU", "inception_resnet_v2", last_residual(act=True)),
]


@pytest.mark.parametrize(("name", "undo"), [row[1:] for row in TRAPS], ids=[row[0] for row in TRAPS])
def test_ignoring_it_changes_the_outputs(name, undo):
    published = narrow(name)
    arrays = calibrated(published)
    if published.size == 299:  # no trap is in their auxiliary heads, which need the native size
        published = configure(published, aux=False)
        arrays = weights.restrict(arrays, published, narrow(name))
    ignored = undo(published)
    assert ignored != published
    x = batch(published, 224)
    ours, theirs = expected(published, arrays, x), expected(ignored, arrays, x)
    heads = [key for key in ours if key == "logits" or key.startswith("aux")]
    assert max(error(theirs[key], ours[key]) for key in heads) > 1e-4


def test_max_pools_of_googlenet_are_valid_in_paddleclas():
    """Sizes 112, 55, 27, 13, 6, where the others have 56, 28, 14, 7."""
    from zoo.language.trace import trace

    heights = {shape.height for shape in trace(MODELS["googlenet.paddleclas"]).stages.values()}
    assert heights == {112, 55, 27, 13, 6}
    assert MODELS["googlenet.paddleclas"].stages[-3].node.kernel == 3


@pytest.mark.parametrize(
    ("name", "scale"),
    [
        ("googlenet.paddleclas", {"head.fc.weight": 0.6, "aux1.2.fc.weight": 0.3, "aux2.2.fc.weight": 0.3}),
        ("inception_v3.paddleclas", {"head.fc.weight": 0.8}),
        ("inception_v4.paddleclas", {"head.fc.weight": 0.8}),
        ("xception41.paddleclas_deeplab", {"head.fc.weight": 0.5}),
        ("xception65.paddleclas_deeplab", {"head.fc.weight": 0.5}),
        ("xception41.paddleclas", {}),
    ],
)
def test_paddleclas_dropout_scales_in_inference(name, scale):
    """The weights of a checkpoint's classifier are multiplied by 1 - p on reading; its bias is not scaled."""
    model = configure(MODELS[name], width=0.25)
    arrays = calibrated(model)
    written = SOURCES["paddleclas"].naming(model).write(arrays)
    keys = SOURCES["paddleclas"].naming(model).keys
    for key in ("head.fc.weight", "head.fc.bias", *scale):
        array = arrays[key].T if arrays[key].ndim == 2 else arrays[key]
        np.testing.assert_allclose(written[keys[key]] * scale.get(key, 1), array, rtol=1e-6)


def kernels(name, path):
    """The kernels along a chain of the published network, (height, width)."""
    node = {stage.name: stage.node for stage in MODELS[name].stages}
    stage, branch = path.split(".")
    return [link.kernel for link in node[stage].branches[int(branch)].nodes if isinstance(link, Conv)]


ROW, COLUMN = (1, 7), (7, 1)
KERNELS = [
    # name, branch, kernels: TF-slim's order and PaddleClas's, which no transposition turns into each other
    ("inception_v4", "mixed_4a.1", [1, ROW, COLUMN, 3]),
    ("inception_v4.paddleclas", "mixed_4a.1", [1, COLUMN, ROW, 3]),
    ("inception_v4", "mixed_6b.1", [1, ROW, COLUMN]),
    ("inception_v4.paddleclas", "mixed_6b.2", [1, ROW, COLUMN]),
    ("inception_v4", "mixed_6b.2", [1, COLUMN, ROW, COLUMN, ROW]),
    ("inception_v4.paddleclas", "mixed_6b.3", [1, ROW, COLUMN, ROW, COLUMN]),
    ("inception_v4", "mixed_7b.2", [1, (3, 1), (1, 3)]),
    ("inception_v4.paddleclas", "mixed_7b.3", [1, (1, 3), (3, 1)]),
    ("googlenet", "mixed_3b.2", [1, 3]),
    ("googlenet.slim", "mixed_3b.2", [1, 3]),
    ("googlenet.mindcv", "mixed_3b.2", [1, 5]),
]


@pytest.mark.parametrize(("name", "path", "order"), KERNELS)
def test_kernels(name, path, order):
    assert kernels(name, path) == order


@pytest.mark.parametrize("stage", ["mixed_5b", "mixed_6b", "mixed_7b", "mixed_6a", "mixed_7a"])
def test_paddleclas_v4_concatenates_the_pool_first(stage):
    """Everyone else has it last; the consumers' input channels follow."""
    for name, place in (("inception_v4", -1), ("inception_v4.paddleclas", 0)):
        branch = {s.name: s.node for s in MODELS[name].stages}[stage].branches[place]
        first = branch.nodes[0] if isinstance(branch, Chain) else branch
        assert isinstance(first, AvgPool | MaxPool)


POOLS = [
    ("googlenet", "ceil"),
    ("googlenet.slim", "same"),
    ("googlenet.mindcv", "same"),
    ("googlenet.paddleclas", "valid"),
    ("bninception", "ceil"),
    ("inception_v3", "valid"),
]


@pytest.mark.parametrize(("name", "padding"), POOLS)
def test_shrinking_pools(name, padding):
    pools = [s.node for s in MODELS[name].stages if isinstance(s.node, MaxPool)]
    assert pools
    assert {pool.padding for pool in pools} == {padding}


def test_paddleclas_own_xception():
    """Pointwise before depthwise, each with norm; shortcuts without; no ReLU in front of the first block."""
    stages = {stage.name: stage.node for stage in MODELS["xception41.paddleclas"].stages}
    first, second = stages["block1"], stages["block2"]
    assert [type(node) for node in first.body.nodes[:3]] == [Conv, Depthwise, Relu]
    assert [type(node) for node in second.body.nodes[:3]] == [Relu, Conv, Depthwise]
    assert not first.shortcut.norm
    assert not second.shortcut.norm
    assert all(node.norm and not node.act for node in first.body.nodes[:2])


def test_timms_xceptions_put_a_norm_after_the_depthwise_or_do_not():
    aligned, legacy = (MODELS[name].stages[2].node for name in ("xception41", "xception"))
    assert [node.norm for node in aligned.body.nodes if isinstance(node, Depthwise)] == [True] * 3
    assert [node.norm for node in legacy.body.nodes if isinstance(node, Depthwise)] == [False] * 2
