"""Rewrites keep what a network computes: in float64 to 1e-12, with float32 weights to 1e-5, on every network."""

from dataclasses import replace

import numpy as np
import pytest
from support import FULL, batch, calibrated, error, narrow, others

from zoo.errors import SpecError
from zoo.language import rewrites
from zoo.language.interpreter import Interpreter
from zoo.language.model import Model, Norm, Preprocess, stages
from zoo.language.nodes import AvgPool, Chain, Conv, Depthwise, Head, NormRelu, Relu, Residual, concat, leaves
from zoo.language.trace import parameters


def run(model, arrays, x):
    """Every stage and the logits, in float64."""
    return Interpreter(model, {name: array.astype(np.float64) for name, array in arrays.items()}).tape(x)


@pytest.mark.parametrize("name", [*FULL, *others()])
def test_every_step_keeps_every_stage(name):
    model, arrays = rewrites.for_inference(narrow(name), calibrated(narrow(name)))
    double = {key: array.astype(np.float64) for key, array in arrays.items()}
    x = batch(model, 128)
    expected = run(model, double, x)

    def check(spec, arrays, tolerance):
        assert {key: p.shape for key, p in parameters(spec).items()} == {key: a.shape for key, a in arrays.items()}
        for stage, value in run(spec, arrays, x).items():
            assert error(value, expected[stage]) <= tolerance, stage

    rewritten = model, double
    for step in (rewrites.fold_norms, rewrites.fold_scales, rewrites.move_pools):
        rewritten = step(*rewritten)
        check(*rewritten, 1e-12)
    check(*rewrites.deployable(model, arrays), 1e-5)
    spec = rewritten[0]
    nodes = [leaf for stage in spec.stages for leaf in leaves(stage.node)]
    assert not any(isinstance(leaf, Conv | Depthwise) and leaf.norm and spec.norm for leaf in nodes)


def test_without_auxiliary_heads_and_dropout():
    whole, given = narrow("googlenet"), calibrated(narrow("googlenet"))
    model, arrays = rewrites.for_inference(whole, given)
    assert model.aux == ()
    assert model.head.dropout == 0
    assert parameters(model).keys() == arrays.keys()
    x = batch(model, whole.size)
    assert np.array_equal(run(model, arrays, x)["logits"], run(whole, given, x)["logits"])


def small(**parts):
    return Model("small", stages(**parts), Head(), Preprocess(16), size=16, num_classes=4, norm=Norm(1e-3))


def drawn(model):
    random = np.random.default_rng(3)
    return {name: random.uniform(0.5, 1.5, p.shape) for name, p in parameters(model).items()}


def test_pre_activation_is_folded_into_a_convolution_right_before_it_only():
    model = small(
        first=Conv(8, 3) >> NormRelu(),
        second=Residual(NormRelu() >> Conv(8, 3, norm=False, act=False) >> NormRelu() >> Conv(8, act=False)),
        third=Conv(8, 3, norm=False, act=False) >> NormRelu(),
    )
    folded, arrays = rewrites.fold_norms(model, drawn(model))
    x = batch(model, 16)
    assert error(run(folded, arrays, x)["third"], run(model, drawn(model), x)["third"]) < 1e-12
    first, second, third = (stage.node for stage in folded.stages)
    assert [type(leaf) for leaf in leaves(first)] == [Conv, NormRelu]  # its convolution ends in a ReLU
    assert [type(leaf) for leaf in leaves(second)] == [NormRelu, Conv, Conv]
    assert third == Conv(8, 3, norm=False, bias=True)
    assert folded.norm == model.norm


@pytest.mark.parametrize(
    ("pool", "conv", "moves"),
    [
        (AvgPool(), Conv(4, bias=True, norm=False), True),
        (AvgPool(), Conv(4, bias=True, norm=False, act=False), True),
        (AvgPool(3, 2, "valid"), Conv(4, bias=True, norm=False), True),
        (AvgPool(3, 2, "valid", True), Conv(4, bias=True, norm=False), True),
        (AvgPool(count_include_pad=True), Conv(4, norm=False), True),
        (AvgPool(count_include_pad=True), Conv(4, bias=True, norm=False), False),  # padded zeros would lack the bias
        (AvgPool(), Conv(16, bias=True, norm=False), False),  # more channels to pool, not fewer
        (AvgPool(), Conv(4, 3, bias=True, norm=False), False),
        (AvgPool(), Conv(4, 1, 2, bias=True, norm=False), False),
        (AvgPool(), Conv(4), False),  # its norm comes between
    ],
)
def test_pools_move_behind_a_1x1_convolution_where_that_is_exact(pool, conv, moves):
    model = small(stem=Conv(8, 3, norm=False, bias=True), pooled=pool >> conv)
    arrays = drawn(model)
    rewritten, moved = rewrites.move_pools(model, arrays)
    x = batch(model, 16)
    assert error(run(rewritten, moved, x)["pooled"], run(model, arrays, x)["pooled"]) < 1e-12
    after = Chain((replace(conv, act=False), pool, *((Relu(),) if conv.act else ())))
    assert rewritten.stages[1].node == (after if moves else pool >> conv)


def test_scales_go_into_the_last_convolution_of_a_body():
    kept = Residual(Conv(8, bias=True, norm=False), scale=0.5)  # a ReLU comes between
    model = small(
        stem=Conv(8, 3, norm=False),
        a=Residual(Conv(4, norm=False) >> Conv(8, 3, bias=True, norm=False, act=False), scale=0.25, act=True),
        b=kept,
    )
    arrays = drawn(model)
    rewritten, scaled = rewrites.fold_scales(model, arrays)
    x = batch(model, 16)
    assert error(run(rewritten, scaled, x)["b"], run(model, arrays, x)["b"]) < 1e-12
    assert rewritten.stages[1].node.scale == 1
    assert rewritten.stages[2].node == kept
    assert np.array_equal(scaled["a.body.1.conv.bias"], arrays["a.body.1.conv.bias"] * 0.25)


def test_input_normalisation_is_folded_where_no_border_is_padded():
    model = replace(small(stem=Conv(8, 3, 2, "valid", norm=False)), preprocess=Preprocess(16, mean=(0.4, 0.5, 0.6)))
    arrays, pixels = drawn(model), np.random.default_rng(0).uniform(0, 1, (2, 3, 16, 16))
    how = model.preprocess
    x = (pixels - np.reshape(how.mean, (3, 1, 1))) / np.reshape(how.std, (3, 1, 1))
    rewritten, folded = rewrites.fold_normalisation(model, arrays)
    assert (rewritten.preprocess.mean, rewritten.preprocess.std) == ((0, 0, 0), (1, 1, 1))
    assert error(run(rewritten, folded, pixels)["logits"], run(model, arrays, x)["logits"]) < 1e-12
    with pytest.raises(SpecError, match=r"stem: pads its border with zeros, .*: the mean cannot be folded"):
        rewrites.fold_normalisation(small(stem=Conv(8, 3, norm=False)), drawn(small(stem=Conv(8, 3, norm=False))))
    branches = small(stem=concat(Conv(4, 3, norm=False), Conv(4, norm=False)))
    with pytest.raises(SpecError, match=r"stem\.branch0: the network does not begin with a convolution"):
        rewrites.fold_normalisation(branches, drawn(branches))
    wide = replace(small(stem=Conv(8, 3, 2, "valid", norm=False)), in_channels=4)
    with pytest.raises(SpecError, match="4 input channels, and a mean for 3"):
        rewrites.fold_normalisation(wide, drawn(wide))
    with pytest.raises(SpecError, match=r"stem: has a batch norm: fold that first"):
        rewrites.fold_normalisation(small(stem=Conv(8, 3, 2, "valid")), drawn(small(stem=Conv(8, 3, 2, "valid"))))
