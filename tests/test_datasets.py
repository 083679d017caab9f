"""Datasets: trees of images, CIFAR and MNIST as published, digits, and one clear line for what is wrong with them."""

import gzip
import pickle
import struct

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from zoo.data import datasets, open_dataset
from zoo.errors import InputError

RNG = np.random.default_rng(3)


def grow(folder, *paths):
    """Write a small image at each path, each of another colour."""
    for number, path in enumerate(paths):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 3), (number, 10, 20)).save(folder / path, "PNG")


def refused(*args, **kwargs):
    """What the InputError of `open_dataset` says."""
    with pytest.raises(InputError) as caught:
        open_dataset(*args, **kwargs)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


TREE = ("b/2.png", "b/1.JPG", "a/deep/er/x.png", "a/y.webp", "c/z.png")
FOUND = ["a/deep/er/x.png", "a/y.webp", "b/1.JPG", "b/2.png", "c/z.png"]


@pytest.mark.parametrize("below", ["val", "flowers/val", ""], ids=["split", "name and split", "flat"])
def test_a_tree_of_images(tmp_path, below):
    grow(tmp_path / below, *TREE)
    data = open_dataset("flowers", tmp_path, "val")
    assert (data.name, data.split, data.classes) == ("flowers", "val", ("a", "b", "c"))
    assert [data.path(index) for index in range(len(data))] == FOUND
    assert data.labels.tolist() == [0, 0, 1, 1, 2]
    assert data.labels.dtype == np.int64
    assert [data.image(k).getpixel((0, 0))[0] for k in range(5)] == [TREE.index(path) for path in FOUND]


def test_labels_follow_another_split_s_names(tmp_path):
    grow(tmp_path, *(f"train/{name}/1.png" for name in "abc"), *(f"val/{name}/1.png" for name in "ca"))
    data = open_dataset("imagenet", tmp_path, "val")
    assert data.labels.tolist() == [0, 1]
    named = data.numbered_by("abc", "the split train")
    assert (named.labels.tolist(), named.classes) == ([0, 2], ("a", "b", "c"))
    with pytest.raises(InputError, match=rf"{tmp_path.name}, val: c: not among the classes of the split train"):
        data.numbered_by("ab", "the split train")


def test_a_split_is_its_own_folder_only(tmp_path):
    grow(tmp_path, "train/a/1.png", "train/b/2.png", "val/a/3.png", "val/b/4.png")
    assert open_dataset("imagenet", tmp_path, "train").path(1) == "b/2.png"
    assert open_dataset("imagenet", str(tmp_path), "val").path(1) == "b/4.png"


def test_images_are_rgb(tmp_path):
    grow(tmp_path, "a/1.png", "b/1.png")
    for mode in ("L", "RGBA", "P", "CMYK"):
        Image.new(mode, (4, 4)).save(tmp_path / "a" / f"{mode}.{'tif' if mode == 'CMYK' else 'png'}")
    data = open_dataset("x", tmp_path, "train")
    assert {data.image(index).mode for index in range(len(data))} == {"RGB"}
    assert len(data) == 6


def test_hidden_and_other_files_are_no_images(tmp_path):
    grow(tmp_path / "train", "a/1.png", "b/1.png", "b/._1.png", ".cache/1.png")
    (tmp_path / "train" / "a" / "notes.txt").write_text("no image")
    (tmp_path / "train" / "labels.csv").write_text("no class")
    data = open_dataset("x", tmp_path, "train")
    assert data.classes == ("a", "b")
    assert [data.path(index) for index in range(len(data))] == ["a/1.png", "b/1.png"]


def test_images_in_hidden_folders_are_no_images(tmp_path):
    grow(tmp_path, "a/1.png", "a/.ipynb_checkpoints/1-checkpoint.png", "b/1.png")
    assert len(open_dataset("x", tmp_path, "train")) == 2


def test_a_folder_with_an_image_s_name_is_no_image(tmp_path):
    grow(tmp_path, "a/1.png", "a/scans.png/2.png", "b/1.png")
    data = open_dataset("x", tmp_path, "train")
    assert [data.path(index) for index in range(len(data))] == ["a/1.png", "a/scans.png/2.png", "b/1.png"]


def test_an_unreadable_image_is_named(tmp_path):
    grow(tmp_path, "a/1.png", "b/1.png")
    (tmp_path / "b" / "1.png").write_bytes(b"none")
    data = open_dataset("x", tmp_path, "train")
    with pytest.raises(InputError, match=r"b/1\.png: not an image"):
        data.image(1)


def test_errors_of_a_tree(tmp_path):
    assert refused("imagenet", tmp_path / "none", "val") == (
        f"{tmp_path}/none: no such folder; the images are expected in {tmp_path}/none/val/CLASS/IMAGE"
    )
    message = refused("cifer10", tmp_path, "val")
    assert f"{tmp_path}: it has no class folders" in message
    assert "known by name: cifar10, cifar100, mnist, digits" in message
    grow(tmp_path, "train/a/1.png", "val/a/1.png", "val/b/1.png")
    assert refused("x", tmp_path, "train") == (
        f"{tmp_path}/train: expected at least 2 class folders to tell apart, not 1"
    )
    assert open_dataset("x", tmp_path, "train", least_classes=1).classes == ("a",)
    assert refused("x", tmp_path, "test") == f"{tmp_path}: it has no split 'test', only train, val"
    (tmp_path / "val" / "c").mkdir()
    assert f"{tmp_path}/val/c: no images in this class" in refused("x", tmp_path, "val")


def test_an_empty_split_is_called_empty(tmp_path):
    grow(tmp_path, "val/a/1.png", "val/b/1.png")
    (tmp_path / "train").mkdir()
    message = refused("x", tmp_path, "train")
    assert f"{tmp_path}/train" in message
    assert "no split 'train'" not in message


def test_datasets_side_by_side_are_not_taken_for_classes(tmp_path):
    grow(tmp_path, *(f"{name}/train/{one}/1.png" for name in ("birds", "flowers") for one in "ab"))
    assert open_dataset("birds", tmp_path, "train").classes == ("a", "b")
    assert "'val'" in refused("birds", tmp_path, "val")
    assert str(tmp_path) in refused("imagenet", tmp_path, "train")


def test_a_missing_split_below_the_name_is_named(tmp_path):
    grow(tmp_path, "birds/train/a/1.png", "birds/train/b/1.png")
    assert "'val'" in refused("birds", tmp_path, "val")


@pytest.mark.parametrize("name", ["imagenet", "flowers"])
def test_what_cannot_be_downloaded(tmp_path, name):
    message = refused(name, tmp_path, "train", download=True)
    assert message.startswith(f"{name} cannot be downloaded: put it into {tmp_path}/train/CLASS/IMAGE")
    assert "cifar10, cifar100, mnist, digits can be" in message
    assert list(tmp_path.iterdir()) == []


CIFAR = {
    "cifar10": (1, "cifar-10-batches-bin", [f"data_batch_{k}.bin" for k in range(1, 6)], "test_batch.bin"),
    "cifar100": (2, "cifar-100-binary", ["train.bin"], "test.bin"),
}


def write_cifar(root, name):
    """As published: labels, then red, green, blue plane by plane; returns images [N, H, W, 3] and labels a split."""
    label_bytes, folder, train, test = CIFAR[name]
    classes = 10 ** (label_bytes)
    home = root / folder
    home.mkdir(parents=True)
    written = {}
    for split, files in (("train", train), ("test", [test])):
        images = RNG.integers(0, 256, (4 * len(files), 32, 32, 3), np.uint8)
        labels = RNG.integers(0, classes, len(images))
        for k, file in enumerate(files):
            records = b""
            for image, label in zip(images[4 * k : 4 * k + 4], labels[4 * k : 4 * k + 4], strict=True):
                records += bytes([label // 5, label][-label_bytes:]) + image.transpose(2, 0, 1).tobytes()
            (home / file).write_bytes(records)
        written[split] = images, labels
    names = {1: ["batches.meta.txt"], 2: ["fine_label_names.txt", "coarse_label_names.txt"]}[label_bytes]
    for file, count in zip(names, (classes, 20), strict=False):
        (home / file).write_text("".join(f"class_{k}\n" for k in range(count)) + "\n")
    return home, written


@pytest.mark.parametrize("name", CIFAR)
def test_cifar_as_published(tmp_path, name):
    home, written = write_cifar(tmp_path, name)
    for root in (tmp_path, home):
        for split, (images, labels) in written.items():
            data = open_dataset(name, root, split)
            assert data.labels.tolist() == labels.tolist()
            assert data.classes == tuple(f"class_{k}" for k in range(10 if name == "cifar10" else 100))
            for k, image in enumerate(images):
                np.testing.assert_array_equal(np.asarray(data.image(k)), image)
    assert data.path(3) == "test/00003"
    assert open_dataset(name, tmp_path, "val").labels.tolist() == written["test"][1].tolist()


@pytest.mark.parametrize("name", CIFAR)
def test_errors_of_cifar(tmp_path, name):
    home, _ = write_cifar(tmp_path, name)
    _, folder, train, test = CIFAR[name]
    record = 3072 + CIFAR[name][0]
    whole = (home / test).read_bytes()
    for data in (whole[:-1], whole + b"x", b""):
        (home / test).write_bytes(data)
        assert f"{home / test}: damaged: {len(data)} bytes are no records of {record}" in refused(name, tmp_path, "val")
    (home / test).write_bytes(whole[: record - 3073] + bytes([200]) + whole[record - 3072 :])
    assert f"{name}, test: damaged: label 200 with {10 ** CIFAR[name][0]} classes" in refused(name, tmp_path, "test")
    (home / test).write_bytes(whole)
    names = home / ("batches.meta.txt" if name == "cifar10" else "fine_label_names.txt")
    names.unlink()
    assert f"{names}: the names of the classes are not there" in refused(name, tmp_path, "test")
    (home / train[-1]).unlink()
    assert str(home / train[-1]).removeprefix(str(tmp_path)).lstrip("/") in refused(name, tmp_path, "train")
    message = refused(name, tmp_path / "elsewhere", "train")
    assert f"{folder}/{train[0]} is not there" in message
    assert "--dataset_download" in message


def test_pickled_cifar_is_not_read(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    (folder / "test_batch").write_bytes(pickle.dumps({b"data": np.zeros((1, 3072), np.uint8), b"labels": [1]}))
    message = refused("cifar10", tmp_path, "test")
    assert "cifar-10-batches-py is the pickled version, which is not read" in message
    assert "cifar-10-binary.tar.gz" in message


def idx(array):
    """LeCun's format: two zeros, 8 for bytes, the number of axes; sizes big-endian; the bytes."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


IMAGES = RNG.integers(0, 256, (6, 7, 5), np.uint8)
DIGITS = np.array([3, 1, 4, 1, 5, 9], np.uint8)
IMAGES_FILE, LABELS_FILE = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


@pytest.fixture
def mnist(tmp_path):
    """A folder with the test images plain and the labels packed, and nothing for training."""
    (tmp_path / IMAGES_FILE).write_bytes(idx(IMAGES))
    (tmp_path / f"{LABELS_FILE}.gz").write_bytes(gzip.compress(idx(DIGITS)))
    return tmp_path


def check_mnist(root):
    data = open_dataset("mnist", root, "test")
    assert data.labels.tolist() == DIGITS.tolist()
    assert data.classes == tuple("0123456789")
    for k, image in enumerate(IMAGES):
        np.testing.assert_array_equal(np.asarray(data.image(k)), np.repeat(image[..., None], 3, axis=2))


def test_mnist_as_published_plain_or_packed(mnist):
    check_mnist(mnist)
    (mnist / f"{IMAGES_FILE}.gz").write_bytes(gzip.compress((mnist / IMAGES_FILE).read_bytes()))
    (mnist / IMAGES_FILE).unlink()
    check_mnist(mnist)


@pytest.mark.parametrize("folder", ["mnist", "MNIST/raw"])
def test_mnist_where_others_put_it(tmp_path, mnist, folder):
    (tmp_path / folder).mkdir(parents=True)
    for file in (IMAGES_FILE, f"{LABELS_FILE}.gz"):
        (mnist / file).rename(tmp_path / folder / file)
    check_mnist(tmp_path)


HEADER = idx(IMAGES)[:16]
DAMAGES = {
    "magic": b"\0\0\x09\3" + idx(IMAGES)[4:],
    "axes": idx(IMAGES.reshape(6, 35)),
    "short": idx(IMAGES)[:-1],
    "long": idx(IMAGES) + b"x",
    "header only": HEADER,
    "half a header": HEADER[:9],
    "magic only": HEADER[:4],
    "empty": b"",
    "huge": struct.pack(">BBBB3I", 0, 0, 8, 3, *[2**32 - 1] * 3),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_idx_file(mnist, damage):
    (mnist / IMAGES_FILE).write_bytes(DAMAGES[damage])
    assert f"{mnist / IMAGES_FILE}: damaged: not an idx file of 3 axes" in refused("mnist", mnist, "test")


SPOILT = {
    "truncated": lambda data: data[:-9],
    "header only": lambda data: data[:10],
    "no gzip": lambda data: b"no gzip",
    "another checksum": lambda data: data[:-8] + bytes(8),
    "no such block": lambda data: data[:10] + b"\xff" + data[11:],
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_a_damaged_gz(mnist, spoil):
    path = mnist / f"{LABELS_FILE}.gz"
    path.write_bytes(spoil(path.read_bytes()))
    assert f"{path}: cannot be read: " in refused("mnist", mnist, "test")


def test_errors_of_mnist(mnist):
    assert "train-images-idx3-ubyte.gz is not there: give --dataset_download" in refused("mnist", mnist, "train")
    path = mnist / f"{LABELS_FILE}.gz"
    path.write_bytes(gzip.compress(idx(DIGITS[:5])))
    assert "6 images with 5 labels" in refused("mnist", mnist, "test")
    path.write_bytes(gzip.compress(idx(DIGITS + 1)))
    assert "mnist, test: damaged: label 10 with 10 classes" in refused("mnist", mnist, "test")
    (mnist / IMAGES_FILE).write_bytes(idx(IMAGES[:0]))
    path.write_bytes(gzip.compress(idx(DIGITS[:0])))
    assert "mnist, test: damaged: no images" in refused("mnist", mnist, "test")


def test_digits_are_scikit_learn_s(tmp_path):
    bunch = load_digits()
    train, test = (open_dataset("digits", tmp_path / "none", split, download=True) for split in ("train", "test"))
    assert (len(train), len(test), len(bunch.target)) == (1201, 596, 1797)
    seen = dict.fromkeys(range(10), 0)
    rest = {"train": iter(range(len(train))), "test": iter(range(len(test)))}
    for image, label in zip(bunch.images, bunch.target, strict=True):
        split = "test" if seen[label] % 3 == 2 else "train"
        seen[label] += 1
        data, k = (test if split == "test" else train), next(rest[split])
        assert data.labels[k] == label
        pixels = np.asarray(data.image(k))
        np.testing.assert_array_equal(pixels, np.rint(image[..., None] * 255 / 16).repeat(3, axis=2))
    assert next(rest["train"], None) is next(rest["test"], None) is None
    assert pixels.shape == (8, 8, 3)


@pytest.mark.parametrize("name", datasets.KNOWN)
def test_splits_of_known_datasets(tmp_path, name):
    assert refused(name, tmp_path, "evaluation") == (
        f"{name} has no split 'evaluation': expected train or test (val means test)"
    )


def test_val_means_test():
    val, test = (open_dataset("digits", "", split) for split in ("val", "test"))
    assert val.split == "test"
    assert val.path(7) == test.path(7) == "test/00007"
    np.testing.assert_array_equal(val.labels, test.labels)


@pytest.fixture(params=["tree", "arrays"])
def data(request, tmp_path):
    """Ten images of three classes, the first class's six first."""
    labels = [0] * 6 + [1] * 3 + [2]
    if request.param == "tree":
        grow(tmp_path, *(f"{'abc'[label]}/{k}.png" for k, label in enumerate(labels)))
        return open_dataset("toy", tmp_path, "train")
    pixels = np.zeros((10, 3, 4, 3), np.uint8)
    pixels[..., 0] = np.arange(10)[:, None, None]
    return datasets.Arrays("toy", "train", tuple("abc"), np.array(labels), pixels, np.arange(10))


def numbers(data):
    """Which images these are, by their colour."""
    return [data.image(k).getpixel((0, 0))[0] for k in range(len(data))]


def test_select_keeps_order_and_names(data):
    chosen = data.select([7, 2, 9])
    assert numbers(chosen) == [7, 2, 9]
    assert chosen.labels.tolist() == [1, 0, 2]
    assert [chosen.path(k) for k in range(3)] == [data.path(k) for k in (7, 2, 9)]
    assert numbers(chosen.select(np.array([2, 0]))) == [9, 7]
    assert len(data.select([])) == 0
    assert numbers(data) == list(range(10))


@pytest.mark.parametrize(
    ("count", "chosen"),
    [
        (0, []),
        (1, [0]),
        (3, [0, 6, 9]),
        (4, [0, 1, 6, 9]),
        (6, [0, 1, 2, 6, 7, 9]),
        (9, [0, 1, 2, 3, 4, 6, 7, 8, 9]),
        (99, [*range(10)]),
    ],
)
def test_take_is_even_over_the_classes(data, count, chosen):
    assert numbers(data.take(count)) == chosen
    assert data.take(count).classes == data.classes


def test_without_names(data):
    whole, last = data.path(3), data.path(6).rpartition("/")[2]
    assert numbers(data.without([whole, last])) == [0, 1, 2, 4, 5, 7, 8, 9]
    assert numbers(data.without([])) == list(range(10))
    with pytest.raises(InputError) as caught:
        data.without([whole, *(f"none{k}.png" for k in range(5))])
    assert str(caught.value) == (
        f"toy, train: no image none0.png, none1.png, none2.png and 2 more, e.g. {data.path(0)}"
    )


def test_without_a_name_that_several_have(tmp_path):
    grow(tmp_path, "a/1.png", "a/2.png", "b/1.png", "b/2.png")
    data = open_dataset("toy", tmp_path, "train")
    assert numbers(data.without(["1.png"])) == [1, 3]
    assert numbers(data.without(["b/1.png"])) == [0, 1, 3]
