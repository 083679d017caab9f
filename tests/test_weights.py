"""Initial weights, the checks, and the canonical store."""

import os

import numpy as np
import pytest
from support import calibrated

import weights
from zoo.errors import WeightsError
from zoo.language.document import from_json
from zoo.language.model import configure
from zoo.language.trace import parameters
from zoo.models import MODELS

SMALL = configure(MODELS["googlenet"], width=0.25, num_classes=10)


@pytest.fixture
def arrays():
    return dict(weights.initial(SMALL))


def test_initial_weights_have_the_variance_they_should():
    arrays = weights.initial(MODELS["googlenet"])
    assert arrays["conv2d_2c_3x3.conv.weight"].std() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)
    assert arrays["aux1.2.hidden.weight"].std() == pytest.approx((2 / 2048) ** 0.5, rel=0.02)
    assert arrays["head.fc.weight"].std() == pytest.approx((1 / 1024) ** 0.5, rel=0.02)
    for name, array in arrays.items():
        if array.ndim == 1:
            assert (array == (1 if name.endswith((".bn.weight", ".bn.var")) else 0)).all(), name


@pytest.mark.parametrize("make", [weights.initial, weights.calibrated])
def test_a_tensor_depends_on_seed_and_name_only(make):
    full, bare = make(SMALL, 3), make(configure(SMALL, aux=False), 3)
    assert bare.keys() < full.keys()
    for name, array in bare.items():
        np.testing.assert_array_equal(array, full[name])
    other = make(SMALL, 4)
    assert not np.array_equal(other["head.fc.weight"], full["head.fc.weight"])


def test_a_network_without_norm_is_scaled_to_unit_variance():
    model = configure(MODELS["googlenet.mindcv"], width=0.25)
    plain, scaled = weights.initial(model), calibrated(model)
    name = "mixed_4c.branch1.1.conv.weight"
    ratio = scaled[name] / plain[name]
    assert ratio.std() < 1e-6 * ratio.mean()
    assert ratio.mean() != pytest.approx(1, abs=1e-3)


def test_store_round_trips_bit_for_bit(tmp_path, arrays):
    path = tmp_path / "small.safetensors"
    weights.write(path, arrays, SMALL, source="here", licence="Apache-2.0")
    again, about = weights.read(path)
    assert again.keys() == arrays.keys()
    assert all(again[name].tobytes() == array.tobytes() for name, array in arrays.items())
    assert (about["model"], about["width"], about["num_classes"]) == ("googlenet", 0.25, 10)
    assert about["aux"] == ["aux1", "aux2"]
    assert about["sources"] == ["zoo"]
    assert about["preprocess_known"]
    metadata = about["metadata"]
    assert (metadata["source"], metadata["licence"]) == ("here", "Apache-2.0")
    assert from_json(metadata["spec"]) == SMALL
    assert os.listdir(tmp_path) == ["small.safetensors"]


def test_a_failed_write_leaves_the_old_file_alone(tmp_path, arrays, monkeypatch):
    path = tmp_path / "small.safetensors"
    weights.write(path, arrays, SMALL)
    before = path.read_bytes()
    monkeypatch.setattr(
        "zoo.files.os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    with pytest.raises(WeightsError, match="No space left on device"):
        weights.write(path, arrays, SMALL)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["small.safetensors"]


def test_write_refuses_a_folder_that_is_not_there(tmp_path, arrays):
    with pytest.raises(WeightsError, match="cannot write the weights: No such file or directory"):
        weights.write(tmp_path / "none" / "w.safetensors", arrays, SMALL)


def without(*names):
    return lambda arrays: {name: array for name, array in arrays.items() if name not in names}


def changed(name, change):
    return lambda arrays: arrays | {name: change(arrays[name])}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without("head.fc.bias"), "1 missing: head.fc.bias"),
        (lambda arrays: {}, "305 missing: .*, and 302 more"),
        (lambda arrays: arrays | {"head.fc2.bias": arrays["head.fc.bias"]}, "1 surplus: head.fc2.bias"),
        (changed("head.fc.bias", lambda a: a[:-1]), r"1 of another shape: head.fc.bias \[9\] \(expected \[10\]\)"),
        (changed("head.fc.weight", lambda a: a.T), r"1 of another shape: head.fc.weight \[256, 10\]"),
        (
            changed("head.fc.bias", lambda a: a.astype(np.float16)),
            "1 neither float32 nor float64: head.fc.bias float16",
        ),
        (changed("head.fc.bias", lambda a: a + np.nan), "1 with NaN or infinity: head.fc.bias"),
        (changed("head.fc.bias", lambda a: a + np.inf), "1 with NaN or infinity: head.fc.bias"),
    ],
)
def test_weights_that_do_not_fit(arrays, spoil, message):
    assert len(parameters(SMALL)) == len(arrays)
    with pytest.raises(WeightsError, match=f"googlenet: the weights do not fit: {message}"):
        weights.check(spoil(arrays), SMALL)


def test_restrict_drops_what_a_variant_lacks_and_nothing_else(arrays):
    bare = configure(SMALL, aux=False)
    weights.check(weights.restrict(arrays, bare, SMALL), bare)
    with pytest.raises(WeightsError, match="1 surplus: stranger"):
        weights.check(weights.restrict(arrays | {"stranger": arrays["head.fc.bias"]}, bare, SMALL), bare)
