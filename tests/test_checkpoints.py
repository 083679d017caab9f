"""Checkpoints are recognised and read, whoever wrote them; or the error says why not."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from support import calibrated, narrow, save

import weights
from weights import SOURCES
from weights.adapt import adapt_channels
from weights.formats import FORMATS
from weights.sources.native import NATIVE
from zoo.commands import main
from zoo.errors import WeightsError
from zoo.language.model import configure
from zoo.language.trace import parameters
from zoo.models import MODELS

TABLES = [(source, model) for source, table in SOURCES.items() for model in table.models]
VARIANTS = [(*table, aux) for table in TABLES for aux in ([True, False] if MODELS[table[1]].aux else [False])]


@pytest.mark.parametrize(("source", "name", "aux"), VARIANTS)
def test_every_source_and_network_is_recognised(tmp_path, source, name, aux):
    classes = 7 if MODELS[name].num_classes == 1000 else MODELS[name].num_classes
    model = configure(MODELS[name], num_classes=classes, in_channels=1, width=0.25, aux=aux)
    about = weights.open_checkpoint(save(tmp_path, source, model, weights.initial(model))).document()
    assert source in about["sources"]
    assert (about["model"], about["num_classes"], about["in_channels"]) == (name, classes, 1)
    assert about["width"] == 0.25
    assert about["aux"] == [aux.name for aux in model.aux]
    assert about["dtypes"]["float32"] == about["tensors"]
    assert not about["preprocess_known"]


def test_the_network_of_fid_is_told_by_its_classes(tmp_path):
    """Its tensors have the names of torchvision's without auxiliary heads."""
    for classes, found in ((1008, "inception_v3.fid"), (1000, "inception_v3"), (10, "inception_v3")):
        model = configure(MODELS["inception_v3.fid"], num_classes=classes, width=0.25)
        file = save(tmp_path, "pytorch_fid", model, weights.initial(model))
        assert weights.open_checkpoint(file).model.name == found
        for wanted in ("inception_v3", "inception_v3.fid"):
            assert weights.open_checkpoint(file, model=wanted).model.name == wanted


@pytest.mark.parametrize("source", NATIVE)
@pytest.mark.parametrize("name", ["googlenet.mindcv", "xception41p", "inception_v4.slim", "inception_resnet_v1"])
def test_networks_of_ones_own(tmp_path, source, name):
    model = narrow(name)
    again, about = weights.read(save(tmp_path, source, model))
    assert about["model"] == name
    assert source in about["sources"]  # without batch norm, PyTorch and MindSpore name all tensors alike
    assert all(np.array_equal(array, again[key]) for key, array in calibrated(model).items())


@pytest.mark.parametrize("name", ["inception_v3", "googlenet", "inception_v4"])
@pytest.mark.parametrize("width", [0.01, 0.07, 0.126, 0.13, 1 / 3, 0.99, 1.07])
def test_a_width_that_is_no_round_number(tmp_path, name, width):
    """Another width with the same channels may be found; it is as good as the one that was given."""
    model = configure(MODELS[name], width=width)
    path = save(tmp_path, "zhulf" if name == "inception_v4" else "torchvision", model, weights.initial(model))
    opened = weights.open_checkpoint(path)
    assert parameters(opened.model) == parameters(model)
    assert opened.arrays_for(model)[0].keys() == parameters(model).keys()


def test_names_that_fit_several_flavours(tmp_path):
    path = save(tmp_path, "torch", narrow("inception_v3"))
    question = (
        r"its names fit inception_v3, and also inception_v3\.mindcv \(count_include_pad False for True\); "
        r"inception_v3\.paddleclas \(eps 1e-05 for 0\.001\)\. Say which it is: --model, or model="
    )
    bare = save(tmp_path, "torch", replace(narrow("inception_v3"), aux=()), name="bare")
    for function in (weights.read, lambda path: weights.read(path, model="xception")):
        with pytest.raises(WeightsError, match=question):
            function(bare) if function is not weights.read else weights.read(bare)
    about = weights.open_checkpoint(bare).document()
    assert about["model"] is None
    assert [possible["model"] for possible in about["possible"]] == [
        "inception_v3",
        "inception_v3.mindcv",
        "inception_v3.paddleclas",
    ]
    assert about["possible"][2]["differs_in"] == [
        {"where": "batch norm", "what": "eps", "first": "0.001", "second": "1e-05"}
    ]
    for name in ("inception_v3", "inception_v3.keras", "inception_v3.paddleclas"):
        arrays, about = weights.read(bare, model=name)
        assert (about["model"], about["sources"]) == (name, ["torch"])
        assert all(np.array_equal(array, arrays[key]) for key, array in calibrated(narrow("inception_v3")).items()
                   if not key.startswith("aux"))  # fmt: skip
    assert weights.open_checkpoint(path).document()["possible"][0]["model"] == "inception_v3"


WRAPPED = {
    "DataParallel": (lambda t: {f"module.{k}": v for k, v in t.items()}, "the prefix 'module.'"),
    "compiled": (lambda t: {f"_orig_mod.module.{k}": v for k, v in t.items()}, "the prefix '_orig_mod.'"),
    "part of a larger one": (lambda t: {f"backbone.{k}": v for k, v in t.items()}, "the prefix 'backbone.'"),
    "counters": (lambda t: t, "57 counters, num_batches_tracked"),
    "slots": (
        lambda t: t | {f"moments.{k}": v for k, v in t.items() if "weight" in k},
        "115 tensors of an optimizer or a moving average: moments.conv1.conv.weight, ",
    ),
    "loop": (lambda t: t | {"learning_rate": np.ones(50, np.float32), "epoch_num": np.int32(3)},
             "numbers of the training loop: learning_rate, epoch_num"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRAPPED)
def test_what_is_around_the_weights_is_taken_off(tmp_path, case):
    wrap, report = WRAPPED[case]
    model = configure(MODELS["googlenet"], width=0.25, aux=False)
    FORMATS["torch"].write(tmp_path / "w.pth", wrap(SOURCES["torchvision"].naming(model).write(calibrated(model))), {})
    arrays, about = weights.read(tmp_path / "w.pth")
    assert any(line.startswith(report) for line in about["removed"])
    assert about["sources"] == ["torchvision"]
    assert all(np.array_equal(array, arrays[key]) for key, array in calibrated(model).items())


def test_an_averaged_model_of_pytorch(tmp_path):
    model = configure(MODELS["googlenet"], width=0.25, aux=False)
    native = {
        f"module.{key}": array for key, array in SOURCES["torchvision"].naming(model).write(calibrated(model)).items()
    }
    FORMATS["torch"].write(tmp_path / "w.pth", native | {"n_averaged": np.array(3)}, {})
    assert weights.open_checkpoint(tmp_path / "w.pth").model.name == "googlenet"


def test_auxiliary_heads_for_other_classes_are_left_out(tmp_path):
    """A new classifier of ten, and the old auxiliary ones of a thousand."""
    model = configure(MODELS["inception_v3"], width=0.25, num_classes=10)
    native = dict(SOURCES["timm"].naming(model).write(weights.initial(model)))
    native["AuxLogits.fc.weight"] = np.ones((1000, native["AuxLogits.fc.weight"].shape[1]), np.float32)
    native["AuxLogits.fc.bias"] = np.ones(1000, np.float32)
    FORMATS["torch"].write(tmp_path / "w.pth", native, {})
    _, about = weights.read(tmp_path / "w.pth")
    assert (about["num_classes"], about["aux"]) == (10, [])
    assert "12 tensors of auxiliary heads for other classes: AuxLogits.conv0.conv.weight, ..." in about["removed"]


def test_canonical_metadata_and_tensors_must_agree(tmp_path):
    model = narrow("inception_v3.mindcv")
    metadata, arrays = metadata_without_spec(model), calibrated(model)
    for change, message in (
        ({"num_classes": "77"}, r"the weights do not fit: 4 of another shape"),
        ({"norm": '{"eps": 0.1, "decay": 0.9}'}, "its metadata do not describe a network: .*with batch norm"),
        ({"preprocess": "[" * 100_000}, "its metadata do not describe a network: RecursionError"),
        ({"preprocess": metadata["preprocess"].replace("0.485", '"a"')}, "mean must be three numbers"),
        ({"model": "resnet50"}, "its metadata do not describe a network: ValueError: unknown model 'resnet50'"),
    ):
        FORMATS["safetensors"].write(tmp_path / "w.safetensors", arrays, metadata | change)
        with pytest.raises(WeightsError, match=message):
            weights.open_checkpoint(tmp_path / "w.safetensors")


def metadata_without_spec(model):
    """The metadata of canonical files written before metadata had the spec."""
    return {
        "format": "zoo",
        "model": model.name,
        "num_classes": str(model.num_classes),
        "in_channels": str(model.in_channels),
        "width": str(model.width),
        "aux": str(bool(model.aux)).lower(),
        "size": str(model.size),
        "norm": json.dumps(asdict(model.norm) if model.norm else None),
        "preprocess": json.dumps(asdict(model.preprocess)),
        "source": "",
        "licence": "",
    }


@pytest.mark.parametrize("name", ["inception_v3.mindcv", "googlenet.mindcv", "inception_resnet_v2"])
def test_canonical_files_from_before_the_spec_still_open(tmp_path, name):
    model = replace(configure(MODELS[name], width=0.25, num_classes=5, aux=name == "googlenet.mindcv"), size=224)
    model = replace(model, preprocess=replace(model.preprocess, resize=256, mean=(0.1, 0.2, 0.3)))
    arrays = weights.initial(model)
    FORMATS["safetensors"].write(tmp_path / "w.safetensors", arrays, metadata_without_spec(model))
    opened = weights.open_checkpoint(tmp_path / "w.safetensors")
    assert opened.model == model
    assert opened.preprocess_from == "the file"
    assert all(np.array_equal(array, arrays[key]) for key, array in opened.arrays().items())


def test_a_name_in_the_metadata_imports_nothing(tmp_path, monkeypatch):
    """Names of models that users type may be package.module:NAME; those in files may not."""
    (tmp_path / "harm.py").write_text("import pathlib; pathlib.Path('mark').touch()\nMODEL = 1")
    monkeypatch.chdir(tmp_path)
    model = narrow("googlenet")
    metadata = metadata_without_spec(model) | {"model": "harm:MODEL"}
    FORMATS["safetensors"].write(tmp_path / "w.safetensors", calibrated(model), metadata)
    with pytest.raises(WeightsError, match="unknown model 'harm:MODEL'"):
        weights.open_checkpoint(tmp_path / "w.safetensors")
    assert not (tmp_path / "mark").exists()


def test_inspecting_for_a_network_that_it_cannot_become(tmp_path, capsys):
    path = save(tmp_path, "timm", narrow("inception_v3"))
    assert main(["inspect", str(path), "--model", "xception"]) == 2
    assert "inception_v3 cannot become xception" in capsys.readouterr().err


def test_mmpretrains_prefix_is_its_own(tmp_path):
    about = weights.open_checkpoint(save(tmp_path, "mmpretrain", narrow("inception_v3"))).document()
    assert about["sources"] == ["mmpretrain"]
    assert not any("prefix" in line for line in about["removed"])


def test_a_moving_average_within_the_names(tmp_path):
    model = narrow("xception.mindcv")
    native = SOURCES["mindcv"].naming(model).write(calibrated(model))
    averages = {f"ema.{key}": array * np.float32(0.5) for key, array in native.items() if "moving" not in key}
    FORMATS["mindspore"].write(tmp_path / "w.ckpt", {**native, **averages}, {})
    plain, about = weights.read(tmp_path / "w.ckpt")
    averaged, _ = weights.read(tmp_path / "w.ckpt", ema=True)
    assert about["removed"] == [f"{len(averages)} tensors of an optimizer or a moving average: "
                                "ema.conv1.weight, ema.bn1.gamma, ema.bn1.beta and 153 more"]  # fmt: skip
    for key, array in plain.items():
        np.testing.assert_array_equal(averaged[key], array * (1 if key.endswith((".mean", ".var")) else 0.5))
    with pytest.raises(WeightsError, match="it holds no moving average of the weights"):
        weights.read(save(tmp_path, "zoo", model), ema=True)


def test_halves_are_read_exactly(tmp_path):
    model = narrow("googlenet")
    half = {key: array.astype(np.float16) for key, array in calibrated(model).items()}
    FORMATS["torch"].write(tmp_path / "w.pth", SOURCES["torchvision"].naming(model).write(calibrated(model)) | {}, {})
    native = {key: array.astype(np.float16) if array.dtype == np.float32 else array
              for key, array in SOURCES["torchvision"].naming(model).write(calibrated(model)).items()}  # fmt: skip
    FORMATS["torch"].write(tmp_path / "w.pth", native, {})
    arrays, about = weights.read(tmp_path / "w.pth")
    assert about["dtypes"] == {"float16": 305}
    for key, array in arrays.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, half[key])


def test_doubles_are_read_exactly_and_stay(tmp_path):
    model = narrow("xception.keras")
    double = {key: array.astype(np.float64) / 3 for key, array in calibrated(model).items()}
    for source in ("keras", "zoo", "torch"):
        arrays, about = weights.read(save(tmp_path, source, model, double), model="xception.keras")
        assert about["dtypes"] == {"float64": 236}
        assert all(array.dtype == np.float64 and np.array_equal(array, double[key]) for key, array in arrays.items())


def test_other_classes_and_auxiliary_heads_are_made_anew(tmp_path):
    held, wanted = narrow("googlenet"), configure(MODELS["googlenet"], num_classes=3, width=0.25)
    arrays, done = weights.adapt(calibrated(held), held, wanted, seed=5)
    fresh = weights.initial(wanted, 5)
    for key, array in arrays.items():
        new = key.startswith(("head.fc", "aux1.2.fc", "aux2.2.fc"))
        np.testing.assert_array_equal(array, fresh[key] if new else calibrated(held)[key])
    assert done == ["3 classes, and 1000 in the file: all classifiers are new, made from seed 5"]
    bare = replace(held, aux=())
    arrays, done = weights.adapt(weights.restrict(calibrated(held), bare, held), bare, held)
    assert done == ["no auxiliary heads in the file: aux1, aux2 made anew from seed 0"]
    weights.check(arrays, held)


@pytest.mark.parametrize("channels", [1, 2, 4, 7])
def test_input_channels_are_adapted_as_timm_does(channels):
    """A grey image gives the same output as three equal channels did; several equal channels give the same as three."""
    weight = np.random.default_rng(0).standard_normal((8, 3, 5, 5)).astype(np.float32)
    adapted = adapt_channels(weight, channels)
    assert adapted.shape == (8, channels, 5, 5)
    if channels == 1:
        np.testing.assert_allclose(adapted[:, 0], weight.sum(1), rtol=1e-6)
    for i in range(channels if channels > 1 else 0):
        np.testing.assert_allclose(adapted[:, i], weight[:, i % 3] * 3 / channels, rtol=1e-6)
    with pytest.raises(WeightsError, match="4 input channels cannot become 3: only 3 can; pass in_channels=4"):
        adapt_channels(adapt_channels(weight, 4), 3)


BAD = {
    "missing": ({"fc.bias": None}, r"nearest is torchvision's googlenet, but: 1 missing: fc.bias"),
    "no classifier": (
        {"fc.bias": None, "fc.weight": None},
        r"nearest is torchvision's googlenet, but: 2 missing: fc.weight, fc.bias",
    ),
    "surplus": ({"stranger": np.ones((3, 3), np.float32)}, r"torchvision's googlenet, but: 1 surplus: stranger"),
    "shape": ({"fc.bias": np.ones(7, np.float32)}, r"1 of another shape: fc.bias \[7\] \(expected \[1000\]\)"),
    "mixed up": (
        {"inception3a.branch1.conv.weight": np.ones((24, 48, 1, 1), np.float32)},
        r"1 of another shape: inception3a.branch1.conv.weight \[24, 48, 1, 1\] \(expected \[16, 48, 1, 1\]\)",
    ),
    "not a number": ({"fc.bias": np.full(1000, np.nan, np.float32)}, r"1 with NaN or infinity: head.fc.bias"),
    "infinity": ({"fc.bias": np.full(1000, -np.inf, np.float32)}, r"1 with NaN or infinity: head.fc.bias"),
    "beyond float32": ({"fc.bias": np.full(1000, 1e300)}, r"1 with NaN or infinity: head.fc.bias"),
    "integers": ({"fc.bias": np.ones(1000, np.int64)}, r"1 neither float32 nor float64: head.fc.bias int64"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_is_said_in_the_files_own_names(tmp_path, case):
    change, message = BAD[case]
    model = configure(MODELS["googlenet"], width=0.25, aux=False)
    native = {**SOURCES["torchvision"].naming(model).write(calibrated(model)), **change}
    FORMATS["torch"].write(tmp_path / "w.pth", {key: array for key, array in native.items() if array is not None}, {})
    with pytest.raises(WeightsError, match=message) as caught:
        weights.read(tmp_path / "w.pth")
    assert str(caught.value).startswith(f"{tmp_path / 'w.pth'}: ")
    assert "\n" not in str(caught.value)
