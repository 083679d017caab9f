"""Augmentation, judged by Pillow, by geometry over many draws, and by timm's and torchvision's policies."""

import importlib.util
import json
import os
import subprocess
import sys
from collections import Counter
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageFilter, ImageOps

from zoo.catalogue import list_models
from zoo.data import Augment, Evaluate, policies
from zoo.data.images import preprocess
from zoo.data.policies import parse
from zoo.data.transforms import random_box
from zoo.errors import InputError
from zoo.language.model import configure
from zoo.models import MODELS

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
STILL = {"scale": (1, 1), "ratio": (1, 1), "hflip": 0, "color_jitter": 0}
"""Nothing is random."""


def noise(width, height, low=0, high=256):
    return Image.fromarray(np.random.default_rng(width).integers(low, high, (height, width, 3), np.uint8))


SQUARE = noise(24, 24)


def rng(seed=0):
    return np.random.default_rng(seed)


def normalised(image, mean=MEAN, std=STD):
    return ((np.asarray(image, np.float64) - mean) / std).transpose(2, 0, 1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("order", ["RGB", "BGR"])
@pytest.mark.parametrize("image", [noise(40, 30), noise(9, 50), noise(1, 1)], ids=lambda image: f"{image.size}")
def test_what_comes_out(channels, order, image):
    augment = Augment(17, channels, auto_augment="randaug", re_prob=1, vflip=0.5, channels=order)
    for plain in (True, False):
        x = augment(image, rng(), plain)
        assert (x.shape, x.dtype.name, x.flags.c_contiguous, x.flags.writeable) == (
            (channels, 17, 17),
            "float32",
            True,
            True,
        )


@pytest.mark.parametrize(
    ("name", "resampling"),
    [
        ("nearest", Image.Resampling.NEAREST),
        ("bilinear", Image.Resampling.BILINEAR),
        ("bicubic", Image.Resampling.BICUBIC),
        ("lanczos", Image.Resampling.LANCZOS),
        ("area", Image.Resampling.BOX),
    ],
)
@pytest.mark.parametrize("size", [16, 24, 31])
def test_without_chance_it_is_resizing_and_normalisation(name, resampling, size):
    x = Augment(size, **STILL, interpolation=name)(SQUARE, rng())
    np.testing.assert_allclose(x, normalised(SQUARE.resize((size, size), resampling)), atol=1e-5)


def test_channels_and_their_means():
    x = Augment(24, **STILL, channels="BGR", mean=(1, 2, 3), std=(4, 5, 6))(SQUARE, rng())
    np.testing.assert_allclose(x, normalised(np.asarray(SQUARE)[..., ::-1], (1, 2, 3), (4, 5, 6)), atol=1e-5)
    grey = Augment(24, 1, **STILL, mean=(10,), std=(4,))(SQUARE, rng())
    np.testing.assert_allclose(grey[0], (np.asarray(SQUARE.convert("L"), float) - 10) / 4, atol=1e-5)
    np.testing.assert_array_equal(grey, Augment(24, 1, **STILL, mean=(10, 1, 2), std=(4, 5, 6))(SQUARE, rng()))


@pytest.mark.parametrize(
    "options",
    [{}, {"color_jitter": 0.9, "vflip": 0.5}, {"auto_augment": "randaug-m9-n2-p1"}, {"auto_augment": "3a"}],
    ids=str,
)
def test_bgr_is_rgb_turned_round(options):
    one, other = Augment(24, **options), Augment(24, **options, channels="BGR", mean=MEAN[::-1], std=STD[::-1])
    for seed in range(40):
        np.testing.assert_array_equal(one(SQUARE, rng(seed))[::-1], other(SQUARE, rng(seed)))


@pytest.mark.parametrize("count", [2, 4])
def test_other_channels_are_refused(count):
    with pytest.raises(InputError, match=f"a network of {count} input channels: images have 3 channels, or 1"):
        Augment(24, count)
    with pytest.raises(InputError, match=f"a network of {count} input channels"):
        Evaluate(configure(MODELS["inception_v4"], in_channels=count), 64)


def test_flips():
    still = Augment(24, **STILL)(SQUARE, rng())
    for options, axes in (({"hflip": 1}, 2), ({"vflip": 1}, 1), ({"hflip": 1, "vflip": 1}, (1, 2))):
        for seed in range(5):
            x = Augment(24, **STILL | options)(SQUARE, rng(seed))
            np.testing.assert_array_equal(x, np.flip(still, axes))
    half = Augment(24, **STILL | {"hflip": 0.3})
    assert sum(not np.array_equal(half(SQUARE, rng(seed)), still) for seed in range(400)) == pytest.approx(120, abs=40)


@pytest.mark.parametrize(
    ("scale", "ratio"), [((0.08, 0.7), (0.75, 4 / 3)), ((0.3, 0.3), (0.5, 2)), ((0.1, 0.4), (1, 1))]
)
def test_crops_are_of_the_area_and_ratio_wanted_and_anywhere(scale, ratio):
    width, height = 600, 500
    boxes = np.array([random_box((width, height), scale, ratio, rng(seed)) for seed in range(1500)])
    left, top, right, bottom = boxes.T
    assert min(left.min(), top.min()) >= 0
    assert right.max() <= width
    assert bottom.max() <= height
    w, h = right - left, bottom - top
    area, aspect = w * h / (width * height), w / h
    assert (area > scale[0] * 0.99).all()
    assert (area < scale[1] * 1.01).all()
    assert (aspect > ratio[0] * 0.99).all()
    assert (aspect < ratio[1] * 1.01).all()
    assert area.mean() == pytest.approx(sum(scale) / 2, abs=0.02)  # uniform, but for large ones that do not fit
    assert np.log(aspect).mean() == pytest.approx(0, abs=0.03)
    for begin, room in ((left, width - w), (top, height - h)):
        place = begin[room > 0] / room[room > 0]
        assert (place.min(), place.mean(), place.max()) == pytest.approx((0, 0.5, 1), abs=0.03)


@pytest.mark.parametrize(
    ("size", "scale", "ratio", "box"),
    [
        ((100, 10), (1, 1), (0.75, 4 / 3), (43, 0, 56, 10)),
        ((10, 100), (1, 1), (0.75, 4 / 3), (0, 43, 10, 56)),
        ((20, 20), (1, 1), (1, 1), (0, 0, 20, 20)),
        ((1, 1), (0.08, 1), (0.75, 4 / 3), (0, 0, 1, 1)),
        ((1, 300), (0.9, 1), (0.75, 4 / 3), (0, 149, 1, 150)),
    ],
)
def test_where_no_crop_fits_it_is_the_middle(size, scale, ratio, box):
    assert random_box(size, scale, ratio, rng()) == box


def test_crops_begin_at_every_pixel():
    begins = {random_box((4, 4), (0.25, 0.25), (1, 1), rng(seed))[:2] for seed in range(200)}
    assert begins == {(left, top) for left in range(3) for top in range(3)}


def test_crops_are_views_of_the_image():
    """A ramp from left to right and one from top to bottom: their range is the crop's place."""
    ramp = np.zeros((200, 200, 3), np.uint8)
    ramp[..., 0], ramp[..., 1] = np.arange(200)[None], np.arange(200)[:, None]
    augment = Augment(50, scale=(0.25, 0.25), ratio=(1, 1), hflip=0, color_jitter=0, mean=(0,) * 3, std=(1,) * 3)
    for seed in range(20):
        x = augment(Image.fromarray(ramp), rng(seed))
        left, top, right, bottom = random_box((200, 200), (0.25, 0.25), (1, 1), rng(seed))
        np.testing.assert_allclose([x[0].min(), x[0].max()], [left + 0.5, right - 1.5], atol=1.5)
        np.testing.assert_allclose([x[1].min(), x[1].max()], [top + 0.5, bottom - 1.5], atol=1.5)


def jittered(strength, image, seeds=300):
    augment = Augment(24, **STILL | {"color_jitter": strength}, mean=(0,) * 3, std=(1,) * 3)
    return np.array([augment(image, rng(seed)).mean(axis=(1, 2)) for seed in range(seeds)])


def test_colour_jitter():
    flat = Image.new("RGB", (24, 24), (100, 100, 100))
    brightness = jittered((0.4, 0, 0), flat)[:, 0] / 100
    assert brightness.min() == pytest.approx(0.6, abs=0.02)
    assert brightness.max() == pytest.approx(1.4, abs=0.02)
    assert brightness.mean() == pytest.approx(1, abs=0.04)
    np.testing.assert_allclose(jittered((0, 0.4, 0.4), flat), 100, atol=1)  # contrast and colour keep a flat grey
    np.testing.assert_allclose(jittered((0.4,), flat)[:, 0] / 100, brightness)
    red = Image.new("RGB", (24, 24), (150, 50, 50))
    colour = jittered((0, 0, 0.5), red)
    spread = (colour[:, 0] - colour[:, 1]) / 100
    assert (spread.min(), spread.max()) == (pytest.approx(0.5, abs=0.02), pytest.approx(1.5, abs=0.02))
    assert len(np.unique(jittered(0.4, red)[:, 0])) > 100
    assert (jittered((5.0, 0, 0), flat) == 0).mean() < 0.02  # never a negative factor: four tenths would be black
    np.testing.assert_allclose(jittered((0, 0, 5.0), flat), 100, atol=1)


def test_a_policy_replaces_colour_jitter_and_a_plain_view_has_neither():
    policy = Augment(24, **STILL | {"color_jitter": 0.9}, auto_augment="randaug-n0", re_prob=0)
    np.testing.assert_array_equal(policy(SQUARE, rng()), Augment(24, **STILL)(SQUARE, rng()))
    for options in ({"color_jitter": 0.9}, {"auto_augment": "3a"}, {"re_prob": 1}):
        augment, still = Augment(24, **STILL | options), Augment(24, **STILL)(SQUARE, rng())
        np.testing.assert_array_equal(augment(SQUARE, rng(), plain=True), still)
        assert not np.array_equal(augment(SQUARE, rng()), still)


def erased(size=60, seeds=400, re_prob=1.0, **options):
    """For each draw, the image and where it was erased (None if nowhere)."""
    image = Image.new("RGB", (size, size), (90, 90, 90))
    still = Augment(size, **STILL)(image, rng())
    for seed in range(seeds):
        x = Augment(size, **STILL, re_prob=re_prob, **options)(image, rng(seed))
        hole = (x != still).any(axis=0)
        rows, columns = np.flatnonzero(hole.any(axis=1)), np.flatnonzero(hole.any(axis=0))
        if len(rows) == 0:
            yield x, None
            continue
        box = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
        assert hole.sum() == (box[1] - box[0]) * (box[3] - box[2])
        yield x, box


def test_erased_rectangles_have_the_area_and_ratio_wanted():
    boxes = np.array([box for _, box in erased(re_scale=(0.05, 0.2), re_ratio=(0.5, 2.0), re_value=7.0)])
    top, bottom, left, right = boxes.T
    area, ratio = (bottom - top) * (right - left) / 3600, (right - left) / (bottom - top)
    assert 0.045 < area.min() < 0.06
    assert 0.19 < area.max() < 0.21
    assert area.mean() == pytest.approx(0.125, abs=0.01)
    assert 0.46 < ratio.min() < 0.55
    assert 1.8 < ratio.max() < 2.17
    assert np.log(ratio).mean() == pytest.approx(0, abs=0.08)
    assert top.min() == left.min() == 0
    assert bottom.max() == right.max() == 60


@pytest.mark.parametrize(("value", "expected"), [(0.0, (0, 0, 0)), (2.5, (2.5,) * 3), ((1.0, -2.0, 3.0), (1, -2, 3))])
def test_the_value_of_what_is_erased(value, expected):
    for x, (top, bottom, left, right) in erased(seeds=20, re_value=value):
        hole = x[:, top:bottom, left:right]
        np.testing.assert_array_equal(hole, np.broadcast_to(np.reshape(expected, (3, 1, 1)), hole.shape))


def test_grey_is_erased_by_the_first_value():
    x = Augment(24, 1, **STILL, re_prob=1, re_value=(9.0, 8.0, 7.0))(SQUARE, rng())
    assert 9 in x
    assert 8 not in x


def test_noise_of_what_is_erased():
    holes = [x[:, a:b, c:d].ravel() for x, (a, b, c, d) in erased(seeds=30, re_value="random")]
    values = np.concatenate(holes)
    assert (values.mean(), values.std()) == (pytest.approx(0, abs=0.02), pytest.approx(1, abs=0.02))
    assert len(np.unique(values)) > 0.99 * len(values)


def test_probability_of_erasing():
    assert all(box is None for _, box in erased(seeds=50, re_prob=0.0))
    augment = Augment(24, **STILL, re_prob=0.25, re_value=9.0)
    assert sum(9 in augment(SQUARE, rng(seed)) for seed in range(1000)) == pytest.approx(250, abs=60)


def test_what_does_not_fit_is_not_erased():
    assert all(box is None for _, box in erased(seeds=50, re_scale=(1, 1), re_ratio=(1, 1)))
    narrow = {"re_scale": (0.5, 0.5), "re_ratio": (0.3, 3.3)}
    few, many = (
        sum(box is None for _, box in erased(seeds=200, **narrow, re_max_attempts=attempts)) for attempts in (1, 10)
    )
    assert few > 40
    assert many < 10


@pytest.mark.parametrize("name", [name for name in list_models() if name in ("inception_v3", "googlenet.mindcv")])
def test_evaluation_is_the_publisher_s(name):
    image = noise(50, 40)
    model = MODELS[name]
    x = Evaluate(model, 32)(image, rng(1))
    np.testing.assert_array_equal(x, preprocess(model, image, 32))
    assert (x.shape, x.dtype.name, x.flags.c_contiguous) == ((3, 32, 32), "float32", True)
    np.testing.assert_array_equal(x, Evaluate(model, 32)(image, rng(2), plain=True))


def test_evaluation_in_grey():
    image = noise(40, 40)
    model = configure(MODELS["inception_v4"], in_channels=1)
    x = Evaluate(model, 32)(image, rng())
    assert x.shape == (1, 32, 32)
    np.testing.assert_array_equal(x, Evaluate(model, 32)(image.convert("L").convert("RGB"), rng()))
    np.testing.assert_array_equal(x[0], preprocess(model, image.convert("L").convert("RGB"), 32)[0])


FILL = (124, 116, 104)
IMAGE = noise(20, 14, 30, 200)


@pytest.fixture(scope="module")
def timm():
    """The auto_augment.py of timm, which needs Pillow and NumPy only: timm itself would import torch."""
    found = importlib.util.find_spec("timm")
    if found is None:
        pytest.skip("timm is not installed")
    path = Path(found.origin).parent / "data" / "auto_augment.py"
    spec = importlib.util.spec_from_file_location("timms_policies", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    # Pillow 13 refuses to keep 0 bits; 1 is the least.
    keep = module.posterize
    for name in ("Posterize", "PosterizeIncreasing"):
        module.NAME_TO_OP[name] = lambda image, bits, **rest: keep(image, max(1, bits), **rest)
    return module


def theirs(timm, name, level, sign, image=IMAGE):
    """An operation of timm, of this sign where it draws one, interpolating as ours does."""
    timm._randomly_negate = lambda value: sign * value
    how = {"img_mean": FILL, "interpolation": Image.Resampling.BICUBIC}
    return timm.AugmentOp(name, 1.0, level, how)(image).tobytes()


OPERATIONS = {
    **{("SHAPES", name): name for name in ("Rotate", "ShearX", "ShearY")},
    **{("SHAPES", f"Translate{axis}"): f"Translate{axis}Rel" for axis in "XY"},
    **{("COLOURS", name): name for name in ("AutoContrast", "Equalize", "Invert", "SolarizeAdd")},
    **{
        (table, name): f"{name}{suffix}"
        for table, suffix in (("FALLING", ""), ("GROWING", "Increasing"))
        for name in ("Posterize", "Solarize", "Color", "Contrast", "Brightness", "Sharpness")
    },
    ("FALLING", "PosterizeOriginal"): "PosterizeOriginal",
}


LEVELS = [*range(11), 0.4, 2.5, 6.3, 9.7]


@pytest.mark.parametrize(("table", "name"), OPERATIONS, ids=[f"{table}-{name}" for table, name in OPERATIONS])
def test_an_operation_is_timm_s_of_that_name(timm, table, name):
    """To one unit in 256: 0.45 * 2 / 10 and 2 / 10 * 0.45 round to other pixels."""
    operation = getattr(policies, table)[name]

    def differ(level):
        ours = [np.asarray(operation(IMAGE, level, rng(seed), FILL), int) for seed in range(12)]
        both = [theirs(timm, OPERATIONS[table, name], level, sign) for sign in (-1, 1)]
        both = [np.frombuffer(data, np.uint8).reshape(ours[0].shape) for data in both]
        far = np.array([[abs(one - other).max() for other in both] for one in ours])
        return far.min(axis=1).max() > 1 or far.min(axis=0).max() > 1

    assert [level for level in LEVELS if differ(level)] == []


def outcomes(timm, operations):
    """The probability of each image after a chain of (name, probability, level); both signs are equally likely."""
    images = {IMAGE.tobytes(): 1.0}
    for name, probability, level in operations:
        after = Counter()
        for data, chance in images.items():
            after[data] += chance * (1 - probability)
            for sign in (-1, 1):
                image = Image.frombytes("RGB", IMAGE.size, data)
                after[theirs(timm, name, level, sign, image)] += chance * probability / 2
        images = after
    return images


def mean_of(distributions):
    total = Counter()
    for images in distributions:
        for data, chance in images.items():
            total[data] += chance / len(distributions)
    return {data: chance for data, chance in total.items() if chance}


def check(text, expected, draws=4000):
    """Assert that a policy makes the expected images with the expected frequencies, within five standard deviations."""
    assert sum(expected.values()) == pytest.approx(1)
    policy, random = parse(text, FILL), rng()
    came = Counter(policy(IMAGE, random).tobytes() for _ in range(draws))
    assert sum(count for data, count in came.items() if data not in expected) == 0
    for data, chance in expected.items():
        assert abs(came[data] - draws * chance) < 5 * (draws * chance) ** 0.5 + 2


@pytest.mark.parametrize(
    ("ours", "timms"),
    [
        ("randaug-n1-p1-m5", "rand-n1-p1-m5"),
        ("randaug-m5-n1", "rand-m5-n1"),
        ("randaug-n1-p0.3", "rand-n1-p0.3"),
        ("randaug-n1-m5-inc1", "rand-n1-m5-inc1"),
        ("randaug-n1-m10-inc1", "rand-n1-m10-inc1"),
        ("randaug-n1-m5-inc0", "rand-n1-m5-inc0"),
        ("randaug-n1-m25", "rand-n1-m25"),
    ],
)
def test_randaug_is_timm_s(timm, ours, timms):
    made = timm.rand_augment_transform(timms, {"img_mean": FILL})
    assert made.num_layers == 1
    check(ours, mean_of([outcomes(timm, [(op.name, op.prob, op.magnitude)]) for op in made.ops]))


def test_randaug_is_of_two_operations_unless_told(timm):
    ops = timm.rand_augment_transform("rand-m5-p1", {"img_mean": FILL}).ops
    pairs = [[(op.name, op.prob, op.magnitude) for op in pair] for pair in product(ops, ops)]
    expected = mean_of([outcomes(timm, pair) for pair in pairs])
    check("randaug-m5-p1", expected)
    check("randaug-m5-p1-n2", expected)


@pytest.mark.parametrize(("ours", "timms"), [("autoaug", "original"), ("autoaugr", "originalr")])
def test_autoaugment_is_timm_s(timm, ours, timms):
    made = timm.auto_augment_policy(timms, {"img_mean": FILL})
    check(ours, mean_of([outcomes(timm, [(op.name, op.prob, op.magnitude) for op in pair]) for pair in made]))


def test_autoaugment_s_table_is_timm_s(timm):
    words = iter(policies.IMAGENET.replace("|", " ").split())
    ours = [
        (name, float(probability), int(level)) for name, probability, level in zip(words, words, words, strict=True)
    ]
    pairs = timm.auto_augment_policy("original", {"img_mean": FILL})
    assert ours == [(op.name, op.prob, op.magnitude) for pair in pairs for op in pair]


def test_three_augment_is_timm_s(timm, monkeypatch):
    """Grey, solarised or blurred by a radius from 0.1 to 2."""
    (solarize,), (grey,), (blur,) = timm.auto_augment_policy("3a", {"img_mean": FILL})
    kinds = {theirs(timm, op.name, op.magnitude, 1): op.name for op in (solarize, grey)}
    policy, random = parse("3a", FILL), rng()
    came = Counter(policy(IMAGE, random).tobytes() for _ in range(1500))
    for data, name in kinds.items():
        assert came.pop(data) == pytest.approx(500, abs=90), name
    assert len(came) > 400
    radii = []
    monkeypatch.setattr(timm, "random", SimpleNamespace(uniform=lambda *ends: ends))
    timm.gaussian_blur_rand(SimpleNamespace(filter=lambda wanted: radii.extend(wanted.radius)), 1.0)
    assert (blur.name, blur.magnitude) == ("GaussianBlurRand", 10)
    spread = [np.asarray(Image.frombytes("RGB", IMAGE.size, data), float).std() for data in came]
    most, least = (np.asarray(IMAGE.filter(ImageFilter.GaussianBlur(radius)), float).std() for radius in radii)
    assert (max(spread), min(spread)) == (pytest.approx(most, rel=0.02), pytest.approx(least, rel=0.02))


def test_augmix_draws_from_timm_s_operations(timm):
    """One chain of one operation, mixed half and half with the image."""
    names = {op.name for op in timm.augment_and_mix_transform("augmix-m8-mstd0", {"img_mean": FILL}).ops}
    halves = {}
    for name in timm.LEVEL_TO_ARG:
        if name not in ("TranslateX", "TranslateY", "GaussianBlurRand"):
            for sign in (-1, 1):
                image = np.frombuffer(theirs(timm, name, 8, sign), np.uint8)
                halves.setdefault(name, []).append((image + np.asarray(IMAGE, float).ravel()) / 2)
    policy, random = parse("augmix-m8-w1-d1-a100000000000000-mstd0", FILL), rng()
    came = Counter()
    for _ in range(300):
        mixed = np.asarray(policy(IMAGE, random), float).ravel()
        fits = [name for name, many in halves.items() if any(np.abs(mixed - one).max() < 1.1 for one in many)]
        came[min(fits, key=lambda name: name not in names) if fits else "unknown"] += 1
    assert set(came) == names


def half_mixed(options, draws=300):
    """The results of augmix, with the image and its equally weighted chains mixed half and half."""
    policy, random = parse(f"augmix-m8-a100000000000000-{options}", FILL), rng()
    return [policy(IMAGE, random).tobytes() for _ in range(draws)]


def test_augmix_draws_its_magnitudes_unless_told(timm):
    """As in the paper and in timm: uniform from 0 to m, where no mstd is given."""
    assert timm.augment_and_mix_transform("augmix", {"img_mean": FILL}).ops[0].magnitude_std == float("inf")
    assert len(set(half_mixed("w1-d1-mstd0"))) < 60  # halves are rounded up and down
    assert len(set(half_mixed("w1-d1"))) > 150


def test_augmix_s_width_and_depth():
    single = set(half_mixed("w1-d1-mstd0", 1000))
    for options, share in (("w1-d1", 1), ("w1-d-1", 0.37), ("w1", 0.37), ("w1-d3", 0.03), ("w3-d1", 0.03)):
        came = [data in single for data in half_mixed(f"{options}-mstd0")]
        assert np.mean(came) == pytest.approx(share, abs=0.08), options


def test_augmix_mixes_an_image_with_its_chains():
    policy = parse("augmix", FILL)
    images = [np.asarray(policy(IMAGE, rng(seed))) for seed in range(200)]
    assert len({image.tobytes() for image in images}) > 150
    assert {(image.shape, image.dtype.name) for image in images} == {((14, 20, 3), "uint8")}


@pytest.mark.parametrize(
    ("text", "mean", "deviation"), [("mstd0", 8, 0), ("mstd0.5", 8, 0.5), ("mstd1", 7.9, 0.9), ("mstd101", 4.5, 2.05)]
)
def test_magnitudes_are_drawn_around_theirs(text, mean, deviation):
    """Read off a dark image: SolarizeAdd makes it lighter by 11 a unit, and nothing else makes it 20 to 120."""
    dark = Image.new("RGB", (4, 4), (10, 10, 10))
    policy, random = parse(f"randaug-n1-p1-m8-{text}", (10, 10, 10)), rng()
    values = np.array([policy(dark, random).getpixel((0, 0))[0] for _ in range(6000)])
    magnitudes = (values[(values > 20) & (values <= 120)] - 10) / 11
    assert len(magnitudes) > 250
    assert (magnitudes.mean(), magnitudes.std()) == pytest.approx((mean, deviation), abs=0.2)


@pytest.mark.parametrize("text", ["mstd0", "mstd1", "mstd101"])
def test_no_magnitude_is_above_10(timm, text):
    """As timm clips it: of 100, uniform or not, nine tenths or all are 10."""
    policy, random = parse(f"randaug-n1-p1-m100-{text}", FILL), rng()
    most = {theirs(timm, op.name, 10, sign) for op in timm.rand_augment_transform("rand-m10").ops for sign in (-1, 1)}
    came = [policy(IMAGE, random).tobytes() in most for _ in range(500)]
    assert np.mean(came) == pytest.approx(0.93 if text == "mstd101" else 1, abs=0.05)


TORCHVISION = """
import json
from publishers import import_torchvision
import_torchvision()
from torchvision.transforms import TrivialAugmentWide
space = TrivialAugmentWide()._augmentation_space(31)
print(json.dumps({name: (levels.tolist(), signed) for name, (levels, signed) in space.items()}))
"""


def test_trivial_augment_s_ranges_are_torchvision_s():
    """In a process of its own, as it imports torch. It rounds bits, and its thresholds end at 255."""
    if not all(map(importlib.util.find_spec, ("torch", "torchvision"))):
        pytest.skip("torchvision is not installed")
    command = [sys.executable, "-W", "ignore", "-c", TORCHVISION]
    peers = str(Path(__file__).parent / "peers")
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": peers})
    space = json.loads(run.stdout)
    assert policies.WIDE.keys() == space.keys()
    for name, (levels, signed) in space.items():
        operation = policies.WIDE[name]
        base = 1 if name in ("Brightness", "Color", "Contrast", "Sharpness") else 0
        factor = 224 if name.startswith("Translate") else 1
        for k, level in enumerate(levels if isinstance(levels, list) else []):
            amounts = {(operation.amount(10 * k / 30, rng(seed)) - base) * factor for seed in range(12)}
            tolerance = {"Posterize": 1, "Solarize": 2}.get(name, 1e-5)
            for amount, wanted in zip(sorted(amounts), sorted({level, -level} if signed else {level}), strict=True):
                assert amount == pytest.approx(wanted, abs=tolerance), (name, k)


def test_trivial_augment_applies_one_operation_of_any_level():
    """Every image it makes is one of WIDE's at one of 31 levels, each operation as often, least and most included."""
    expected = Counter()
    for name, operation in policies.WIDE.items():
        for k in range(31):
            both = {operation(IMAGE, 10 * k / 30, rng(seed), FILL).tobytes() for seed in range(10)}
            for data in both:
                expected[data] += 1 / (len(policies.WIDE) * 31 * len(both))
            if k == 0 and name not in ("AutoContrast", "Equalize"):
                assert both == {IMAGE.tobytes()}, name
    check("trivialaugwide", expected)


def test_posterizing_keeps_what_its_levels_say():
    kept = [policies.WIDE["Posterize"](IMAGE, 10 * k / 30, rng(), FILL).tobytes() for k in range(31)]
    bits = [next(b for b in range(8, 0, -1) if ImageOps.posterize(IMAGE, b).tobytes() == data) for data in kept]
    assert (bits[0], bits[-1]) == (8, 2)
    assert bits == sorted(bits, reverse=True)
    assert set(bits) == set(range(2, 9))


BAD = {
    "rand": "no such policy; there are randaug, autoaug, autoaugr, 3a, augmix, trivialaugwide",
    "": "no such policy; there are randaug",
    "randaug-x3": "'x3' is none of its options: randaug takes -mNUMBER, -nNUMBER, -pNUMBER, -mstdNUMBER, -incNUMBER",
    "randaug-m": "'m' is none of its options",
    "randaug-mx": "'mx' is none of its options",
    "randaug-m9 -n2": "'m9 ' is none of its options",
    "randaug-": "'' is none of its options",
    "randaug-m9--n2": "'' is none of its options",
    "randaug-w3": "'w3' is none of its options",
    "autoaug-m9": "'m9' is none of its options: autoaug takes -mstdNUMBER",
    "autoaugr-n1": "'n1' is none of its options: autoaugr takes -mstdNUMBER",
    "3a-m9": "'m9' is none of its options: 3a takes no options",
    "trivialaugwide-n3": "'n3' is none of its options: trivialaugwide takes no options",
    "augmix-n3": "'n3' is none of its options: augmix takes -mNUMBER, -wNUMBER, -dNUMBER, -aNUMBER",
    "augmix-w0": "augmix-w0",
    "augmix-a0": "augmix-a0",
}


@pytest.mark.parametrize("text", BAD)
def test_policies_that_are_none(text):
    with pytest.raises(InputError) as caught:
        Augment(24, auto_augment=text)
    assert str(caught.value).startswith(f"--auto_augment {text}: ")
    assert BAD[text] in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        *policies.POLICIES,
        "randaug-m9-mstd0.5-inc1",
        "randaug-n3-m7-p0.8",
        "autoaug-mstd0.5",
        "autoaugr-mstd1",
        "augmix-m3-w3-d-1",
        "augmix-d-1-m5-w4",
        "augmix-m5-w2-d2-a0.5-mstd1",
    ],
)
def test_policies_make_images_of_the_same_kind(text):
    policy = parse(text, MEAN)
    for seed in range(60):
        image = policy(IMAGE, rng(seed))
        assert (image.mode, image.size) == (IMAGE.mode, IMAGE.size)
        assert image.tobytes() == policy(IMAGE, rng(seed)).tobytes()
    assert len({policy(IMAGE, rng(seed)).tobytes() for seed in range(60)}) > 2
