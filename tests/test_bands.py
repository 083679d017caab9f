"""Bands: rounding to other precisions, and that correct implementations stay inside while small faults do not."""

import ml_dtypes
import numpy as np
import pytest

from zoo.language.interpreter import Interpreter, conv2d
from zoo.language.model import Model, Norm, Preprocess, stages
from zoo.language.nodes import Conv, Depthwise, Head
from zoo.parity.bands import MARGIN, RUNS, Rounded, band, bands, error, rounded, unit

DRAWS = 1000


def test_rounding_is_to_the_nearest_and_ties_go_to_even():
    x = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
    x = np.concatenate([x, x * 1e-30, x * 1e30, np.float32([0, -0.0, 1 + 2**-8, 1 + 3 * 2**-8, np.inf, -np.inf])])
    assert np.array_equal(rounded(x, "bf16"), x.astype(ml_dtypes.bfloat16).astype(np.float32))
    with np.errstate(over="ignore"):
        assert np.array_equal(rounded(x, "fp16"), x.astype(np.float16).astype(np.float32))
    assert np.array_equal(rounded(x, "fp32"), x)
    ten_bits = rounded(x[:1000], "tf32").view(np.uint32)
    assert not (ten_bits & 0x1FFF).any()
    assert np.abs(rounded(x[:1000], "tf32") / x[:1000] - 1).max() <= unit("tf32") / 2
    assert rounded(np.float32([1 + 2**-11, 1 + 3 * 2**-11]), "tf32").tolist() == [1, 1 + 2**-9]


def one_by_one(x, weight):
    """A 1x1 convolution whose sum is made in order, each addition rounded to float32."""
    total = np.zeros((len(x), len(weight), *x.shape[2:]), np.float32)
    for channel in range(x.shape[1]):
        total += weight[:, channel, 0, 0][:, None, None] * x[:, channel : channel + 1]
    return total


def blockwise(x, weight):
    """The same in blocks of 16 channels, as vector units sum."""
    blocks = [one_by_one(x[:, i : i + 16], weight[:, i : i + 16]) for i in range(0, x.shape[1], 16)]
    while len(blocks) > 1:
        blocks = [sum(blocks[i : i + 2]) for i in range(0, len(blocks), 2)]
    return blocks[0]


def one_convolution(draw):
    """A 1x1 convolution of 16 to 512 channels after a ReLU: its model, weights, input and float64 output."""
    random = np.random.default_rng(draw)
    inputs, outputs = int(random.integers(16, 512)), 8
    x = np.maximum(random.standard_normal((1, inputs, 6, 6)) + random.uniform(-1, 1), 0).astype(np.float32)
    weight = (random.standard_normal((outputs, inputs, 1, 1)) / inputs**0.5).astype(np.float32)
    node = Conv(outputs, norm=False, act=False)
    model = Model("one", stages(only=node), Head(), Preprocess(resize=6), norm=None, size=6, in_channels=inputs)
    return model, weight, x, conv2d(x.astype(np.float64), weight.astype(np.float64), node)


def test_correct_sums_in_any_order_lie_within_the_band():
    """1,000 convolutions, each summed one by one, backwards, in blocks, and with weights scaled first.

    They lie within the band even without its floor, which alone would cover them all; half of the margin is needed.
    """
    largest = 0.0
    for draw in range(DRAWS):
        model, weight, x, expected = one_convolution(draw)
        arrays = {"only.conv.weight": weight}
        nets = [Rounded(model, arrays, "fp32", np.random.default_rng([draw, run])) for run in range(RUNS)]
        errors = [error(net.convolve(model.stages[0].node, "only", x), expected) for net in nets]
        assert band(errors) < 1e-5
        scale = np.float32(np.random.default_rng(draw).uniform(0.5, 2))
        folded = one_by_one(x, weight * scale) / scale
        others = (one_by_one(x, weight), one_by_one(x[:, ::-1], weight[:, ::-1]), blockwise(x, weight), folded)
        found = max(error(y, expected) for y in others)
        assert found <= band(errors)
        largest = max(largest, found / max(errors))
    assert MARGIN / 2 < largest <= MARGIN


def test_every_run_sums_in_an_order_of_its_own_and_a_seed_repeats_it():
    model, weight, x, _ = one_convolution(3)

    def run(seed):
        net = Rounded(model, {"only.conv.weight": weight}, "fp32", np.random.default_rng(seed))
        return net.convolve(model.stages[0].node, "only", x).tobytes()

    assert run(1) == run(1)
    assert len({run(seed) for seed in range(5)}) == 5


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
def test_a_network_in_another_precision_lies_within_its_band_and_not_within_the_next(precision):
    nodes = stages(a=Conv(32, 3) >> Depthwise(3), b=Conv(64, 3, stride=2), c=Conv(32))
    model = Model("net", nodes, Head(), Preprocess(resize=16), norm=Norm(), size=16, num_classes=10)
    import weights

    arrays = weights.calibrated(model)
    x = np.random.default_rng(5).uniform(-1, 1, (2, 3, 16, 16)).astype(np.float32)
    expected = Interpreter(model, {name: array.astype(np.float64) for name, array in arrays.items()}).tape(x)
    limits = bands(model, arrays, x, expected, precision)
    other = Rounded(model, arrays, precision, np.random.default_rng(99)).tape(x)
    assert all(error(other[name], value) <= limits[name] for name, value in expected.items())
    if precision != "fp32":
        narrow = bands(model, arrays, x, expected)
        assert all(error(other[name], value) > narrow[name] for name, value in expected.items())


def test_the_error_of_what_cannot_be_compared():
    y = np.ones((2, 3))
    assert error(y * np.nan, y) == error(y[:1], y) == np.inf
    assert error(y, y) == error(0 * y, 0 * y) == 0
    assert band([np.inf, 0.0]) == band([]) == band([0.0])
