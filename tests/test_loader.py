"""Batches: the same bits for any number of workers, from any position, and what mixing does to images and targets."""

import threading
import time

import numpy as np
import pytest
from PIL import Image

from zoo.data import Augment, Loader, Mixing, open_dataset
from zoo.data.datasets import Arrays
from zoo.errors import InputError

COUNT, CLASSES = 23, 4


def toy(count=COUNT, size=12):
    """Images of noise, the first pixel's red being its number; classes in turn."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)
    pixels[:, 0, 0, 0] = np.arange(count)
    labels = np.arange(count) % CLASSES
    return Arrays("toy", "train", tuple("abcd"), labels, pixels, np.arange(count))


def view(image, random, plain=False):
    """The pixels; if the view is not plain, plus a random number between 0 and 1."""
    pixels = np.asarray(image, np.float32).transpose(2, 0, 1)
    return pixels if plain else pixels + np.float32(random.random())


def loader(data=None, transform=view, batch_size=5, **options):
    return Loader(toy() if data is None else data, transform, batch_size, **{"workers": 0, "seed": 7} | options)


def same(left, right):
    left, right = list(left), list(right)
    return len(left) == len(right) and all(
        a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
        for one, other in zip(left, right, strict=True)
        for a, b in zip(one, other, strict=True)
    )


def threads():
    """Threads of loaders."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("loader")]


def left_behind():
    """Threads of loaders that do not end within five seconds."""
    until = time.monotonic() + 5
    while threads() and time.monotonic() < until:
        time.sleep(0.01)
    return threads()


def promptly(function):
    """The function's result or error; a failure if it takes ten seconds."""
    result = []

    def run():
        try:
            result.append((function(), None))
        except Exception as error:
            result.append((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(10)
    assert result, "hangs"
    value, error = result[0]
    if error is not None:
        raise error
    return value


AUGMENT = Augment(10, auto_augment="randaug-m9-mstd0.5-inc1", vflip=0.3, re_prob=0.6, re_value="random")
MIXED = Mixing(CLASSES, mixup=0.3, cutmix=0.7, prob=0.8, label_smoothing=0.1)
HARD = {"shuffle": True, "mixing": MIXED, "repeats": 2}


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("splits", [0, 3])
def test_any_number_of_workers_gives_the_same_bits(workers, splits):
    one, other = (loader(transform=AUGMENT, workers=n, splits=splits, **HARD) for n in (0, workers))
    for epoch in (0, 3):
        assert same(one.epoch(epoch), other.epoch(epoch))
    assert left_behind() == []


def test_a_new_loader_gives_the_same_bits():
    assert same(loader(transform=AUGMENT, **HARD).epoch(2), loader(transform=AUGMENT, **HARD).epoch(2))


@pytest.mark.parametrize("options", [{"shuffle": True}, {"transform": AUGMENT}, {"mixing": MIXED}], ids=str)
def test_bits_depend_on_seed_and_epoch(options):
    options = {"transform": lambda image, random, plain=False: view(image, random, True)} | options
    base = list(loader(**options).epoch(1))
    assert not same(base, loader(**options).epoch(2))
    assert not same(base, loader(**options, seed=8).epoch(1))
    images = {batch.images.tobytes() for epoch in range(6) for batch in loader(**options).epoch(epoch)}
    assert len(images) > 25  # of 30


def test_without_randomness_every_epoch_is_the_same():
    plain = loader(transform=lambda image, random, plain=False: view(image, random, True))
    assert same(plain.epoch(0), plain.epoch(1))
    assert np.concatenate([batch.indices for batch in plain.epoch(0)]).tolist() == list(range(COUNT))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("options", [{}, {"drop_remainder": True}, {"splits": 2}], ids=str)
def test_a_position_gives_exactly_the_rest(workers, options):
    one = loader(transform=AUGMENT, workers=workers, **HARD, **options)
    whole = list(one.epoch(4))
    for start in range(len(one) + 1):
        assert same(one.epoch(4, start), whole[start:])
    assert list(one.epoch(4, start=len(one) + 3)) == []


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("batch_size", [1, 5, 23, 40])
def test_every_image_comes_once_an_epoch(shuffle, batch_size):
    data = toy()
    one = loader(data, batch_size=batch_size, shuffle=shuffle, workers=2)
    batches = list(one.epoch(1))
    assert [len(batch.labels) for batch in batches] == [min(batch_size, COUNT - k) for k in range(0, COUNT, batch_size)]
    assert len(batches) == len(one)
    indices = np.concatenate([batch.indices for batch in batches])
    assert sorted(indices) == list(range(COUNT))
    assert (indices.tolist() != list(range(COUNT))) == shuffle
    for batch in batches:
        np.testing.assert_array_equal(batch.labels, data.labels[batch.indices])
        np.testing.assert_array_equal(np.floor(batch.images[:, 0, 0, 0]), batch.indices)
        np.testing.assert_array_equal(batch.targets, np.eye(CLASSES)[batch.labels])


def test_types_and_shapes_of_a_batch():
    batch = next(loader(transform=AUGMENT, splits=3).epoch(0))
    assert [(field.dtype.name, field.shape) for field in batch] == [
        ("float32", (15, 3, 10, 10)),
        ("int64", (15,)),
        ("int64", (15,)),
        ("float32", (15, CLASSES)),
    ]
    assert batch.images.flags.c_contiguous


@pytest.mark.parametrize(("count", "batches"), [(23, 4), (25, 5), (4, 0)])
def test_what_does_not_fill_a_batch_may_be_dropped(count, batches):
    one = loader(toy(count), drop_remainder=True, shuffle=True)
    assert [len(batch.labels) for batch in one.epoch(0)] == [5] * batches
    assert len(one) == batches


@pytest.mark.parametrize("repeats", [2, 3])
def test_repeats_of_an_image_differ_and_the_epoch_keeps_its_length(repeats):
    one = loader(repeats=repeats, shuffle=True)
    batches = list(one.epoch(0))
    indices = np.concatenate([batch.indices for batch in batches])
    assert (len(batches), len(indices)) == (len(one), COUNT)
    values, counts = np.unique(indices, return_counts=True)
    assert sorted(counts) == sorted([repeats] * (COUNT // repeats) + [COUNT % repeats] * bool(COUNT % repeats))
    views = {image.tobytes() for batch in batches for image in batch.images}
    assert len(views) == COUNT
    others = np.concatenate([batch.indices for batch in one.epoch(1)])
    assert set(others) != set(values)


@pytest.mark.parametrize("repeats", [0, 1])
def test_no_repeats(repeats):
    assert same(loader(repeats=repeats, shuffle=True).epoch(0), loader(shuffle=True).epoch(0))


def test_splits_are_views_plain_ones_first():
    data = toy()
    for batch in loader(data, splits=3, shuffle=True).epoch(0):
        count = len(batch.labels) // 3
        views = batch.images.reshape(3, count, 3, 12, 12)
        indices = batch.indices.reshape(3, count)
        np.testing.assert_array_equal(indices, np.stack([indices[0]] * 3))
        np.testing.assert_array_equal(batch.labels, data.labels[batch.indices])
        pixels = data.pixels[indices[0]].transpose(0, 3, 1, 2).astype(np.float32)
        np.testing.assert_array_equal(views[0], pixels)
        noise = (views[1:] - pixels).mean(axis=(2, 3, 4))
        assert len(np.unique(noise.round(4))) == 2 * count


@pytest.fixture
def folder(tmp_path):
    """A tree of 40 images; the 18th cannot be read."""
    for k in range(40):
        path = tmp_path / f"{k // 20}" / f"{k:02}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), (k, k, k)).save(path)
    (tmp_path / "0" / "17.png").write_bytes(b"\x89PNG damaged")
    return open_dataset("toy", tmp_path, "train")


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_an_unreadable_image_is_named_and_leaves_nothing_behind(folder, workers):
    came = []

    def read():
        for batch in loader(folder, workers=workers).epoch(0):
            came.append(batch.indices.tolist())

    with pytest.raises(InputError, match=r"0/17\.png: (not an image|cannot read)"):
        promptly(read)
    assert came == [[5 * k + j for j in range(5)] for k in range(3)]  # all batches before its own
    assert left_behind() == []


@pytest.mark.parametrize("end", ["close", "forget"])
def test_an_abandoned_epoch_ends_its_threads_and_reads_no_more(end):
    seen = []

    def slow(image, random, plain=False):
        time.sleep(0.001)
        seen.append(image)
        return view(image, random)

    batches = loader(toy(240), slow, batch_size=40, workers=3).epoch(0)
    next(batches)
    assert len(threads()) == 3
    if end == "close":
        promptly(batches.close)
    del batches
    assert left_behind() == []
    assert 40 <= len(seen) < 100  # 120 were asked for


def test_few_batches_are_prepared_ahead():
    seen = []

    def counted(image, random, plain=False):
        seen.append(1)
        return view(image, random)

    batches = loader(toy(240), counted, workers=4).epoch(0)
    next(batches)
    time.sleep(0.1)
    assert 5 <= len(seen) <= 20
    batches.close()


def test_epochs_may_be_read_side_by_side():
    one = loader(transform=AUGMENT, workers=2, **HARD)
    pairs = promptly(lambda: list(zip(one.epoch(0), one.epoch(1), strict=True)))
    assert same([left for left, _ in pairs], loader(transform=AUGMENT, **HARD).epoch(0))
    assert same([right for _, right in pairs], loader(transform=AUGMENT, **HARD).epoch(1))


N, SIDE = 6, 16
LABELS = np.array([0, 1, 2, 3, 0, 2])
FLAT = np.broadcast_to(np.arange(1, N + 1, dtype=np.float32)[:, None, None, None], (N, 3, SIDE, SIDE)).copy()
"""Images of a single value each, from which the mixing can be read."""


def smoothed(labels, smoothing):
    return (1 - smoothing) * np.eye(CLASSES)[labels] + smoothing / CLASSES


def mixed(seeds, **options):
    for seed in range(seeds):
        images, targets = Mixing(CLASSES, **options)(FLAT.copy(), LABELS, np.random.default_rng(seed))
        assert (images.dtype, targets.dtype, images.shape) == (np.float32, np.float32, FLAT.shape)
        np.testing.assert_allclose(targets.sum(axis=1), 1, atol=1e-6)
        yield images, targets


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.6])
def test_label_smoothing(smoothing):
    for images, targets in mixed(1, label_smoothing=smoothing):
        np.testing.assert_array_equal(images, FLAT)
        np.testing.assert_allclose(targets, smoothed(LABELS, smoothing), atol=1e-7)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_mixup_mixes_targets_as_images(smoothing):
    plain = smoothed(LABELS, smoothing)
    weights = []
    for images, targets in mixed(300, mixup=0.4, label_smoothing=smoothing):
        weight = (images[0, 0, 0, 0] - FLAT[-1, 0, 0, 0]) / (FLAT[0, 0, 0, 0] - FLAT[-1, 0, 0, 0])
        np.testing.assert_allclose(images, weight * FLAT + (1 - weight) * FLAT[::-1], atol=1e-5)
        np.testing.assert_allclose(targets, weight * plain + (1 - weight) * plain[::-1], atol=1e-5)
        weights.append(weight)
    assert np.mean(weights) == pytest.approx(0.5, abs=0.08)
    assert np.var(weights) == pytest.approx(1 / (4 * 1.8), rel=0.15)  # Beta(a, a): 1 / (4 (2 a + 1))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cutmix_weighs_targets_by_the_pixels_replaced(smoothing):
    plain = smoothed(LABELS, smoothing)
    shares = []
    for images, targets in mixed(300, cutmix=1.0, label_smoothing=smoothing):
        replaced = images[0, 0] != FLAT[0, 0]
        rows, columns = replaced.any(axis=1), replaced.any(axis=0)
        np.testing.assert_array_equal(replaced, np.outer(rows, columns))
        assert all(np.count_nonzero(np.diff(np.pad(side, 1).astype(int))) <= 2 for side in (rows, columns))
        np.testing.assert_array_equal(images, np.where(replaced, FLAT[::-1], FLAT))
        share = 1 - replaced.mean()
        np.testing.assert_allclose(targets, share * plain + (1 - share) * plain[::-1], atol=1e-6)
        shares.append(share)
    assert 0.55 < np.mean(shares) < 0.8  # 0.5 before the borders and the even sides
    assert min(shares) < 0.3
    assert max(shares) == 1


def test_cutmix_s_area_follows_beta():
    """In the middle of a large image nothing is cut off; Beta(50, 50) is 0.5 nearly always."""
    images = np.zeros((2, 1, 200, 100), np.float32)
    images[1] = 1
    sides = []
    for seed in range(200):
        out, _ = Mixing(2, cutmix=50.0)(images, np.array([0, 1]), np.random.default_rng(seed))
        rows, columns = out[0, 0].any(axis=1), out[0, 0].any(axis=0)
        if not (rows[0] or rows[-1]):
            sides.append((rows.mean(), 0))
        if not (columns[0] or columns[-1]):
            sides.append((columns.mean(), 1))
    assert {axis for _, axis in sides} == {0, 1}
    np.testing.assert_allclose([side for side, _ in sides], 0.5**0.5, atol=0.12)


def test_mixup_and_cutmix_take_turns_and_prob_leaves_batches_alone():
    kinds = {"none": 0, "mixup": 0, "cutmix": 0}
    for images, _ in mixed(600, mixup=1.0, cutmix=1.0, prob=0.6):
        whole = all(len(np.unique(image)) == 1 for image in images)
        kinds["none" if np.array_equal(images, FLAT) else "mixup" if whole else "cutmix"] += 1
    assert kinds["none"] == pytest.approx(240 + 20, abs=45)  # a few cuts are empty
    assert kinds["mixup"] == pytest.approx(180, abs=45)
    assert kinds["cutmix"] == pytest.approx(170, abs=45)


@pytest.mark.parametrize("options", [{"mixup": 1.0}, {"cutmix": 1.0}], ids=str)
def test_mixing_leaves_what_it_was_given(options):
    images = FLAT.copy()
    for seed in range(5):
        Mixing(CLASSES, **options)(images, LABELS, np.random.default_rng(seed))
        np.testing.assert_array_equal(images, FLAT)


@pytest.mark.parametrize("options", [{"mixup": 0.5}, {"cutmix": 0.5}], ids=str)
def test_mixing_with_probability_0_is_none(options):
    for images, targets in mixed(20, prob=0.0, **options):
        np.testing.assert_array_equal(images, FLAT)
        np.testing.assert_array_equal(targets, np.eye(CLASSES)[LABELS])


def test_every_batch_is_mixed_otherwise():
    data = toy(60)
    batches = list(loader(data, batch_size=6, mixing=Mixing(CLASSES, mixup=1.0)).epoch(0))
    weights = {round(float(batch.targets.max(axis=1)[0]), 4) for batch in batches}
    assert len(weights) == len(batches)


def test_a_loader_mixes_what_it_loads():
    plain = list(loader(transform=lambda image, random, plain=False: view(image, random, True)).epoch(0))
    options = {"transform": lambda image, random, plain=False: view(image, random, True)}
    for one, other in zip(plain, loader(mixing=Mixing(CLASSES, mixup=1.0), **options).epoch(0), strict=True):
        weight = np.linalg.lstsq(
            (one.images - one.images[::-1]).reshape(-1, 1), (other.images - one.images[::-1]).ravel(), rcond=None
        )[0][0]
        targets = np.eye(CLASSES)[one.labels]
        np.testing.assert_allclose(other.targets, weight * targets + (1 - weight) * targets[::-1], atol=1e-4)
        np.testing.assert_array_equal(other.labels, one.labels)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize("options", [{}, {"drop_remainder": True}, {"repeats": 2}], ids=str)
def test_processes_share_every_step_of_one_without_overlap_or_loss(processes, workers, options):
    options = {"shuffle": True, "transform": AUGMENT, **options}
    one = loader(batch_size=2 * processes, **options)
    shares = [loader(batch_size=2, workers=workers, share=(rank, processes), **options) for rank in range(processes)]
    assert {len(share) for share in shares} == {len(one)}
    for step, (whole, *parts) in enumerate(zip(one.epoch(3), *(share.epoch(3) for share in shares), strict=True)):
        for name in ("images", "labels", "indices", "targets"):
            joined = np.concatenate([getattr(part, name) for part in parts])
            assert joined.tobytes() == getattr(whole, name).tobytes()
        places = [share.share_of(step) for share in shares]
        assert [part.images for part in places] == [len(part.images) for part in parts]
        assert [part.first for part in places] == [sum(p.images for p in places[:k]) for k in range(processes)]
        assert {part.total for part in places} == {len(whole.images)}


def test_of_a_last_step_with_too_few_images_some_processes_have_none():
    shares = [loader(toy(9), batch_size=2, share=(rank, 4)) for rank in range(4)]
    assert sorted(int(i) for share in shares for batch in share.epoch(0) for i in batch.indices) == list(range(9))
    assert sorted(len(list(share.epoch(0))) for share in shares) == [1, 1, 1, 2]


def test_processes_mix_by_chances_of_their_own():
    def share(rank):
        return next(loader(transform=plain, batch_size=4, mixing=MIXED, share=(rank, 2)).epoch(0)).targets

    def plain(image, random, plain=False):
        return view(image, random, True)

    assert not np.array_equal(share(0).max(axis=1), share(1).max(axis=1))


@pytest.mark.parametrize("workers", [0, 4])
def test_another_takes_an_unreadable_one_s_place(folder, workers):
    one = loader(folder, batch_size=5, workers=workers, unreadable="replace")
    indices = np.concatenate([batch.indices for batch in one.epoch(0)]).tolist()
    wanted = list(range(len(folder)))
    wanted[17] = 18
    assert indices == wanted
    assert list(one.skipped) == [17]
    assert "17.png: " in one.skipped[17]
    (batch,) = [batch for batch in one.epoch(0) if batch.indices.tolist().count(18) > 1]
    assert (batch.labels == folder.labels[batch.indices]).all()


@pytest.mark.parametrize("workers", [0, 4])
def test_an_unreadable_one_is_skipped(folder, workers):
    one = loader(folder, batch_size=5, workers=workers, unreadable="skip")
    indices = np.concatenate([batch.indices for batch in one.epoch(0)]).tolist()
    assert indices == [index for index in range(len(folder)) if index != 17]
    assert list(one.skipped) == [17]


@pytest.mark.parametrize("unreadable", ["skip", "replace"])
def test_where_nothing_can_be_read_the_run_ends(tmp_path, unreadable):
    for k in range(60):
        path = tmp_path / "train" / str(k % 2) / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    one = loader(open_dataset("toy", tmp_path, "train"), batch_size=4, workers=2, unreadable=unreadable)
    with pytest.raises(
        InputError, match=r"50 consecutive images cannot be read, the last: .*png: .*: is the disk still there\?"
    ):
        promptly(lambda: list(one.epoch(0)))
    assert left_behind() == []
