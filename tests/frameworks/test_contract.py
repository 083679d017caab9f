"""What every backend must do, whichever framework it is."""

import sys
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from support import CONCEPTS, FULL, SMALL, batch, calibrated, error, expected, in_one_framework, narrow, others

import weights
import zoo
from backends import deploys
from backends.device import parse
from zoo.errors import BackendError, InputError, SpecError, UnavailableError, WeightsError
from zoo.frameworks import FRAMEWORKS
from zoo.language.geometry import levels
from zoo.language.model import Model, Norm, configure, stages
from zoo.language.nodes import Conv, Head, transform
from zoo.language.trace import least_size, parameters
from zoo.models import MODELS

LOGITS, FEATURES = 5e-6, 1e-5
NARROW = configure(MODELS["inception_v3"], width=0.25, num_classes=10)


SHAPES = ("native", "288x331", "160x160", "least")
DAILY = {("googlenet.mindcv", "native"), ("googlenet", "288x331"), ("inception_v3", "least")}
IN_PYTORCH = {("inception_v4", "160x160"), ("inception_v3.mindcv", "288x331"), ("inception_v4", "least")}
"""The others are nightly: CI runs three networks at their native size by `make parity`."""


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        pair
        if pair in DAILY
        else pytest.param(*pair, marks=in_one_framework if pair in IN_PYTORCH else pytest.mark.nightly)
        for pair in product(FULL, SHAPES)
    ],
)
def test_equals_the_reference(backend, make, name, shape):
    """Logits and every stage against float64, at the published width; at the native size auxiliary heads too."""
    published = MODELS[name]
    model = published if shape == "native" else configure(published, aux=False)
    side = {"native": published.size, "least": least_size(bare(published))}.get(shape)
    height, width = (side, side) if side else map(int, shape.split("x"))
    arrays = weights.restrict(calibrated(published), model, published)
    x = batch(model, height, width, count=2 if shape == "native" else 1)
    reference = expected(model, arrays, x)
    net = make(model, arrays)
    assert error(backend.predict(net, x)["logits"], reference["logits"]) <= LOGITS
    tape = backend.predict(net, x, tape=True)
    assert list(tape) == list(reference)
    for stage, value in reference.items():
        assert error(tape[stage], value) <= (LOGITS if stage == "logits" else FEATURES), stage


@in_one_framework
@pytest.mark.parametrize("name", others())
def test_equals_the_reference_narrow(backend, make, name):
    """All other networks: logits, every stage and auxiliary head; non-square images without the heads.

    CI runs the logits of all networks in all frameworks by `zoo parity '*' --width 0.25`.
    """
    model = narrow(name)
    arrays = calibrated(model)
    net = make(model, arrays)
    for height, width in ((model.size, model.size), (192, 256)):
        x = batch(model, height, width)
        judged = model if height == model.size else bare(model)
        reference = expected(judged, weights.restrict(arrays, judged, model), x)
        assert error(backend.predict(net, x)["logits"], reference["logits"]) <= LOGITS
        if height == model.size:
            for stage, value in backend.predict(net, x, tape=True).items():
                assert error(value, reference[stage]) <= (LOGITS if stage == "logits" else FEATURES), stage


def bare(model):
    return replace(model, aux=())


@pytest.mark.parametrize("name", [*FULL, *others(in_one_framework)])
def test_weights_come_back_bit_for_bit(backend, make, name):
    model = narrow(name)
    arrays = calibrated(model)
    again = backend.dump(make(model, arrays))
    assert list(again) == list(parameters(model))
    assert all(again[key].tobytes() == array.tobytes() for key, array in arrays.items())


def test_dumped_arrays_are_copies(backend, make):
    net = make(NARROW, calibrated(NARROW))
    backend.dump(net)["head.fc.bias"][:] = 7
    assert not (backend.dump(net)["head.fc.bias"] == 7).any()


@pytest.mark.parametrize(
    "name",
    [
        *("googlenet.mindcv", "xception41p"),
        pytest.param("inception_v4", marks=pytest.mark.nightly_in("mindspore", "jax")),
        *(
            pytest.param(name, marks=pytest.mark.nightly_in("mindspore", "jax"))
            for name in CONCEPTS
            if name != "xception41p"
        ),
    ],
)
def test_features_only(framework, backend, name):
    """All levels, and some chosen by index and by name, equal the stages of the whole network."""
    x = batch(MODELS[name], 128, count=2)
    whole = zoo.build(name, framework, width=0.25)
    tape = backend.predict(whole, x, tape=True)
    features = backend.predict(zoo.build(name, framework, width=0.25, features_only=True), x)
    assert list(features) == levels(MODELS[name])
    assert [round(128 / value.shape[2] / 2) * 2 for value in features.values()][:2] == [2, 4]
    middle = MODELS[name].stages[-3].name
    some = zoo.build(name, framework, width=0.25, out_indices=(-2, middle, 0))
    assert not hasattr(some, "head")
    chosen = backend.predict(some, x)
    assert chosen.keys() == {levels(MODELS[name])[-2], middle, levels(MODELS[name])[0]}
    for stage, value in (features | chosen).items():
        assert error(value, tape[stage]) <= 1e-6


def test_auxiliary_logits_in_training_come_in_order_of_depth(backend, make):
    """The paper's GoogLeNet has no batch norm: without dropout, training computes what the reference does."""
    model = configure(MODELS["googlenet.mindcv"], width=0.25, drop_rate=0.0)
    model = replace(model, aux=tuple(replace(aux, node=transform(aux.node, without_dropout)) for aux in model.aux))
    arrays, x = calibrated(model), batch(model, 224, count=2)
    reference = expected(model, arrays, x)
    net = make(model, arrays)
    outputs = training(net)(native(net, x))
    assert len(outputs) == 3
    for output, name in zip(outputs, ("logits", "aux1", "aux2"), strict=True):
        assert error(numpy(output), reference[name]) <= LOGITS


def without_dropout(leaf):
    return replace(leaf, dropout=0.0) if isinstance(leaf, Head) else leaf


def training(net):
    """Put the network into training mode as its framework does."""
    (net.set_train if hasattr(net, "set_train") else net.train)()
    return net


def native(net, x):
    """An array as the framework's tensor."""
    framework = type(net).__module__.split(".")[1]
    if framework == "torch":
        import torch

        return torch.from_numpy(x)
    if framework == "paddle":
        import paddle

        return paddle.to_tensor(x)
    if framework == "jax":
        import jax

        return jax.numpy.asarray(x)
    import mindspore

    return mindspore.Tensor(x)


def numpy(tensor):
    """A framework's tensor as an array."""
    if hasattr(tensor, "asnumpy"):
        return tensor.asnumpy()
    return tensor.detach().numpy() if hasattr(tensor, "detach") else np.array(tensor)


def test_without_aux_training_gives_logits_only(framework):
    net = training(zoo.build(SMALL, framework))
    assert numpy(net(native(net, batch(net.spec, 32, count=2)))).shape == (2, 10)


def test_predict_leaves_the_mode_as_it_was(backend, make):
    net = training(make(configure(NARROW, aux=False), weights.initial(configure(NARROW, aux=False))))
    before = backend.dump(net)
    first = backend.predict(net, batch(NARROW, 96))["logits"]
    assert net.training
    assert np.array_equal(backend.predict(net, batch(NARROW, 96))["logits"], first)
    assert all(np.array_equal(before[name], array) for name, array in backend.dump(net).items())


def test_options_reach_the_network(framework, backend):
    net = zoo.build("googlenet", framework, num_classes=7, in_channels=1, width=0.5, drop_rate=0.4, aux=True)
    schema = {name: p.shape for name, p in parameters(net.spec).items()}
    assert {name: array.shape for name, array in backend.dump(net).items()} == schema
    assert backend.predict(net, batch(net.spec, 96, count=3))["logits"].shape == (3, 7)
    assert getattr(net.head.dropout, "rate" if framework == "jax" else "p") == pytest.approx(0.4)
    assert not net.training


def test_the_seed_decides_the_weights(framework, backend):
    model = configure(MODELS["googlenet"], width=0.25, aux=False)
    for seed in (0, 1):
        arrays = weights.initial(model, seed)
        again = backend.dump(zoo.build("googlenet", framework, width=0.25, seed=seed))
        assert all(np.array_equal(again[name], array) for name, array in arrays.items())


def test_a_checkpoint_with_more_than_the_variant_needs(framework, backend, tmp_path):
    arrays = calibrated(NARROW)
    weights.write(tmp_path / "w.safetensors", arrays, NARROW)
    choices = {"width": 0.25, "num_classes": 10, "checkpoint": tmp_path / "w.safetensors"}
    for variant in ({}, {"aux": True}, {"out_indices": ["mixed_5d"]}):
        dumped = backend.dump(zoo.build("inception_v3", framework, **choices, **variant))
        assert all(np.array_equal(arrays[name], array) for name, array in dumped.items())
    dumped = backend.dump(zoo.build("inception_v3", framework, checkpoint=tmp_path / "w.safetensors"))
    assert all(np.array_equal(arrays[name], array) for name, array in dumped.items())
    with pytest.raises(WeightsError, match=r"inception_v3: the weights have width 0.25, not 0.5: pass width=0.25"):
        zoo.build("inception_v3", framework, **choices | {"width": 0.5})


def test_a_checkpoint_for_other_classes_and_channels(framework, backend, tmp_path, caplog):
    arrays = calibrated(NARROW)
    weights.write(tmp_path / "w.safetensors", arrays, NARROW)
    net = zoo.build("inception_v3", framework, checkpoint=tmp_path / "w.safetensors", num_classes=5, in_channels=1)
    assert [record.message.partition(": ")[2] for record in caplog.records] == [
        "5 classes, and 10 in the file: all classifiers are new, made from seed 0",
        "the first convolution adapted from 3 to 1 input channels",
    ]
    fresh = weights.initial(net.spec)
    for name, array in backend.dump(net).items():
        if name == "conv2d_1a_3x3.conv.weight":
            np.testing.assert_allclose(array, arrays[name].sum(1, keepdims=True), rtol=1e-6, atol=1e-7)
        else:
            np.testing.assert_array_equal(array, (fresh if name.startswith("head.") else arrays)[name])


def test_a_flavour_with_other_weights_for_the_same_outputs(framework, backend, tmp_path):
    """Keras's Xception as mindcv's: another epsilon, and the same logits."""
    model = configure(MODELS["xception.keras"], width=0.25)
    weights.write(tmp_path / "x.weights.h5", calibrated(model), model, to="keras")
    x = batch(model, 96)
    net = zoo.build("xception.mindcv", framework, checkpoint=tmp_path / "x.weights.h5")
    assert error(backend.predict(net, x)["logits"], expected(model, calibrated(model), x)["logits"]) < 5e-6
    with pytest.raises(WeightsError, match=r"xception\.keras cannot become xception, whatever the weights"):
        zoo.build("xception", framework, checkpoint=tmp_path / "x.weights.h5")


def test_float64_weights_are_rounded_once(framework, backend, tmp_path):
    exact = {name: array.astype(np.float64) * (1 + 1e-10) for name, array in calibrated(NARROW).items()}
    weights.write(tmp_path / "w.safetensors", exact, NARROW)
    net = zoo.build("inception_v3", framework, checkpoint=tmp_path / "w.safetensors", aux=True)
    assert all(np.array_equal(exact[name].astype(np.float32), array) for name, array in backend.dump(net).items())


def test_batch_norm_has_the_models_decay(backend, make):
    """In one training pass the running mean moves by 1 - decay, whatever the framework's momentum means."""

    def moved(decay):
        model = replace(configure(zoo.spec(SMALL), aux=False), norm=Norm(1e-3, decay))
        net = training(make(model, weights.initial(model)))
        net(native(net, batch(model, 32, count=2)))
        return np.abs(backend.dump(net)["stem.0.bn.mean"]).max()

    assert moved(0.9) / moved(0.9997) == pytest.approx((1 - 0.9) / (1 - 0.9997), rel=1e-2)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 74, 99), "an input of 74 x 99 pixels is too small: at least 75 x 75, natively 299 x 299"),
        ((1, 3, 99, 10), "an input of 99 x 10 pixels is too small: at least 75 x 75"),
        ((1, 1, 99, 99), r"expected a batch of shape \[N, 3, height, width\], not \[1, 1, 99, 99\]"),
        ((3, 99, 99), r"expected a batch of shape \[N, 3, height, width\], not \[3, 99, 99\]"),
    ],
)
def test_inputs_that_cannot_be(backend, make, shape, message):
    net = make(NARROW, calibrated(NARROW))
    x = np.zeros(shape, np.float32)
    with pytest.raises(InputError, match=message):
        backend.predict(net, x)
    with pytest.raises(InputError, match=message):
        net(native(net, x))


def test_auxiliary_heads_need_larger_inputs_in_training(make):
    net = training(make(NARROW, calibrated(NARROW)))
    with pytest.raises(InputError, match="at least 299 x 299"):
        net(native(net, batch(NARROW, 224, count=2)))


def test_weights_that_do_not_fit_change_nothing(backend, make):
    net = make(NARROW, calibrated(NARROW))
    spoilt = {name: array + 1 for name, array in calibrated(NARROW).items()}
    del spoilt["head.fc.bias"]
    with pytest.raises(WeightsError, match=r"1 missing: head\.fc\.bias"):
        backend.load(net, spoilt)
    assert all(np.array_equal(array, calibrated(NARROW)[name]) for name, array in backend.dump(net).items())


@pytest.mark.parametrize("name", ["spec", "check_input", "training"])
def test_a_stage_cannot_have_an_attributes_name(backend, name):
    model = MODELS["googlenet"]
    with pytest.raises(SpecError, match=f"a stage cannot be called '{name}'"):
        backend.build(Model("one", stages(**{name: Conv(4)}), model.head, model.preprocess, size=16))


def test_devices(framework, backend):
    assert zoo.build("googlenet", framework, width=0.25, device="cpu") is not None
    with pytest.raises(BackendError, match="unknown device 'tpu': expected 'cpu', 'gpu' or 'gpu:1'"):
        zoo.build("googlenet", framework, width=0.25, device="tpu")
    with pytest.raises(UnavailableError, match=f"{framework}: no device gpu:99"):
        backend.build(NARROW, parse("gpu:99"))


def test_other_frameworks_are_not_imported(framework):
    assert sys.modules.keys() & FRAMEWORKS.keys() == {framework}


def test_a_compiled_classifier_has_the_weights_that_are_loaded_later(framework, backend, make):
    """A moving average is loaded before every validation. torch.compile takes a minute here: eager for PyTorch."""
    x = batch(NARROW, 107, count=2)
    net = make(NARROW, weights.initial(NARROW, 0))
    classify = deploys(framework).classifier(net, graph=framework != "torch")
    first = classify(x)
    for seed in (1, 2):
        backend.load(net, weights.initial(NARROW, seed))
        assert error(classify(x), backend.predict(net, x)["logits"]) < 1e-5
    assert not np.allclose(first, classify(x))
