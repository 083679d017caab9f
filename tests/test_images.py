"""Preprocessing, against torchvision's definition of it and the publishers' numbers."""

import numpy as np
import pytest
import spoilt
from PIL import Image

from zoo.data.images import preprocess, read_image, sample_photographs
from zoo.errors import InputError
from zoo.models import MODELS


@pytest.mark.parametrize("name", MODELS)
def test_photographs_become_inputs_of_the_native_size(name):
    model = MODELS[name]
    for photograph in sample_photographs():
        array = preprocess(model, photograph)
        assert array.shape == (3, model.size, model.size)
        assert array.dtype == np.float32
        how = model.preprocess
        assert array.max() <= (1 - min(how.mean)) / min(how.std)
        assert array.min() >= -max(how.mean) / min(how.std)


def test_colours_keep_their_channels():
    image = Image.new("RGB", (400, 300), (255, 0, 51))
    array = preprocess(MODELS["inception_v3.mindcv"], image)
    for channel, (value, mean, std) in enumerate(
        zip((1, 0, 0.2), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)
    ):
        assert array[channel] == pytest.approx((value - mean) / std, abs=1e-6)


def test_blue_comes_first_where_the_publisher_has_it_so():
    array = preprocess(MODELS["bninception"], Image.new("RGB", (256, 256), (128, 117, 110)))
    assert array[:, 0, 0] == pytest.approx([110 - 104, 0, 0], abs=1e-4)


@pytest.mark.parametrize("size", [(640, 427), (427, 640), (299, 299), (50, 20)])
@pytest.mark.parametrize("name", ["inception_v4", "googlenet"])
def test_equals_resize_and_center_crop_done_by_hand(name, size):
    random = np.random.default_rng(0)
    image = Image.fromarray(random.integers(0, 255, (size[1], size[0], 3), np.uint8))
    model = MODELS[name]
    shorter = model.preprocess.resize
    width, height = (shorter * side // min(size) for side in size)
    filters = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
    scaled = np.asarray(image.resize((width, height), filters[model.preprocess.interpolation]))
    top, left = round((height - model.size) / 2), round((width - model.size) / 2)
    wanted = scaled[top : top + model.size, left : left + model.size].transpose(2, 0, 1) / 127.5 - 1
    np.testing.assert_allclose(preprocess(model, image), wanted, atol=1e-6)


def test_other_sizes_keep_the_proportion():
    image = Image.linear_gradient("L").convert("RGB")
    small, native = preprocess(MODELS["googlenet"], image, 112), preprocess(MODELS["googlenet"], image)
    assert small.shape == (3, 112, 112)
    np.testing.assert_allclose(small.mean(), native.mean(), atol=5e-3)
    np.testing.assert_allclose(small[:, -1].mean(), native[:, -1].mean(), atol=2e-2)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_any_mode_becomes_rgb(tmp_path, mode):
    path = tmp_path / ("image.tiff" if mode == "CMYK" else "image.png")
    Image.new("RGB", (20, 30), (200, 100, 50)).convert(mode).save(path)
    assert read_image(path).mode == "RGB"


def test_unreadable_images(tmp_path):
    (tmp_path / "text.jpg").write_text("not an image")
    (tmp_path / "empty.png").write_bytes(b"")
    Image.new("RGB", (500, 500)).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:300])
    with pytest.raises(InputError, match=r"text.jpg: not an image that Pillow can read"):
        read_image(tmp_path / "text.jpg")
    with pytest.raises(InputError, match=r"empty.png: not an image that Pillow can read"):
        read_image(tmp_path / "empty.png")
    with pytest.raises(InputError, match=r"cut.png: cannot read the image: "):
        read_image(tmp_path / "cut.png")
    with pytest.raises(InputError, match=r"none.png: cannot read the image: No such file or directory"):
        read_image(tmp_path / "none.png")


@pytest.mark.parametrize("kind", spoilt.UNREADABLE)
def test_what_cannot_be_read_says_so_in_one_way(tmp_path, kind):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8))
    (tmp_path / kind).write_bytes(spoilt.UNREADABLE[kind](image))
    with pytest.raises(InputError, match=rf"{kind}: (not an image that Pillow can read|cannot read the image: \w+)"):
        read_image(tmp_path / kind)


@pytest.mark.parametrize("kind", spoilt.ODD)
def test_odd_images_show_what_they_show(tmp_path, kind):
    image = Image.linear_gradient("L").resize((50, 40)).convert("RGB")
    (tmp_path / kind).write_bytes(spoilt.ODD[kind](image))
    came = read_image(tmp_path / kind)
    wanted = {"turned.jpg": image.transpose(Image.Transpose.ROTATE_270)}.get(kind, image).resize(came.size)
    assert came.mode == "RGB"
    assert np.abs(np.asarray(came, int) - np.asarray(wanted, int)).mean() < 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations_are_upright(tmp_path, orientation):
    """As a viewer shows it: the mark is where it was before the camera was turned."""
    image = Image.new("RGB", (60, 40))
    image.paste((255, 0, 0), (0, 0, 20, 20))
    undo = (None, Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_180, Image.Transpose.FLIP_TOP_BOTTOM)
    undo += (Image.Transpose.TRANSPOSE, Image.Transpose.ROTATE_90, Image.Transpose.TRANSVERSE)
    undo += (Image.Transpose.ROTATE_270,)
    stored = image if orientation == 1 else image.transpose(undo[orientation - 1])
    (tmp_path / "a.jpg").write_bytes(spoilt.jpeg(stored, exif=spoilt.exif(orientation), quality=95))
    came = read_image(tmp_path / "a.jpg")
    assert came.size == (60, 40)
    assert came.getpixel((10, 10))[0] > 200
    assert came.getpixel((50, 30))[0] < 50


def test_sixteen_bits_become_eight_by_their_range(tmp_path):
    values = np.arange(0, 65536, 257, np.uint16).reshape(16, 16)
    Image.fromarray(values).save(tmp_path / "a.png")
    assert np.asarray(read_image(tmp_path / "a.png"))[..., 0].ravel().tolist() == list(range(256))


@pytest.mark.parametrize("side", [(4000, 3), (3, 4000), (4000, 1)])
def test_slender_images_need_no_memory_and_look_alike(side, monkeypatch):
    """Resizing only the visible part gives the same as resizing the whole image."""
    random = np.random.default_rng(0)
    image = Image.fromarray(random.integers(0, 256, (side[1], side[0], 3), np.uint8))
    model = MODELS["googlenet"]
    part = preprocess(model, image, 16)
    monkeypatch.setattr("zoo.data.images.SLENDER", 10**9)
    np.testing.assert_allclose(part, preprocess(model, image, 16), atol=2 / 127.5)
