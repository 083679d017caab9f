"""Files as users have them: parts of larger modules, hub folders, shards, other classifiers, moving averages."""

import json
import pickle
import time

import numpy as np
import pytest
from support import calibrated

import weights
from weights import SOURCES
from weights.formats import FORMATS
from weights.formats.tensors import Tensor
from weights.wrappers import unwrap
from zoo.commands import main
from zoo.data import open_dataset
from zoo.errors import WeightsError
from zoo.language.model import configure
from zoo.models import MODELS
from zoo.training import recipe
from zoo.training.flags import parse

MODEL = configure(MODELS["inception_v4"], width=0.25, num_classes=10)


def native(model=MODEL, source="timm", arrays=None):
    return SOURCES[source].naming(model).write(weights.initial(model) if arrays is None else arrays)


def save(path, tensors, format_="torch"):
    FORMATS[format_].write(path, tensors, {})
    return path


@pytest.mark.parametrize("prefix", ["model.", "classifier.", "timm_model.", "a.b.c.", "module.model.", "student."])
@pytest.mark.parametrize("extra", [False, True])
def test_the_prefix_whose_tensors_fit_is_found(tmp_path, prefix, extra):
    others = {"crit.weight": np.ones(10, np.float32), "log.scale": np.ones((2, 2), np.float32)} if extra else {}
    opened = weights.open_checkpoint(
        save(tmp_path / "w.ckpt", others | {f"{prefix}{key}": array for key, array in native().items()})
    )
    assert opened.model == MODEL
    assert any(prefix.endswith(line.split("'")[1]) for line in opened.removed if line.startswith("the prefix"))
    assert ("2 tensors outside it: crit.weight, log.scale" in opened.removed) == extra
    arrays = opened.arrays()
    assert all(np.array_equal(array, arrays[key]) for key, array in weights.initial(MODEL).items())


def test_a_dictionary_beside_numbers_of_the_training_loop():
    tree = {"student": native(), "epoch": np.float32([1]), "best": np.float32(3)}
    tensors, removed, _ = unwrap(contents(tree))
    assert tensors.keys() == {key for key in tree["student"] if not key.endswith("num_batches_tracked")}
    assert removed[0] == "the dictionary around 'student', with epoch, best"


def contents(tree):
    """A tree of dictionaries as a file's reader returns it."""
    if isinstance(tree, dict):
        return {key: contents(value) for key, value in tree.items()}
    return Tensor(tree.shape, tree.dtype.name, lambda: tree)


def test_of_two_networks_the_caller_chooses(tmp_path, capsys):
    teacher = weights.initial(MODEL, 5)
    both = {f"student.{key}": array for key, array in native().items()}
    both |= {f"teacher.{key}": array for key, array in native(arrays=teacher).items()}
    path = save(tmp_path / "w.pth", both)
    with pytest.raises(WeightsError, match=r"networks below 'student\.' and 'teacher\.': choose one with prefix="):
        weights.open_checkpoint(path)
    arrays = weights.open_checkpoint(path, prefix="teacher.").arrays()
    assert all(np.array_equal(array, teacher[key]) for key, array in arrays.items())
    assert main(["convert", str(path), str(tmp_path / "o.safetensors"), "--prefix", "teacher."]) == 0
    assert np.array_equal(weights.read(tmp_path / "o.safetensors")[0]["head.fc.weight"], teacher["head.fc.weight"])
    with pytest.raises(WeightsError, match=r"below the prefix 'head\.': its 0 tensors"):
        weights.open_checkpoint(path, prefix="head.")
    capsys.readouterr()


def test_a_moving_average_in_a_module_of_its_own_is_not_the_network(tmp_path):
    both = {f"model.{key}": array for key, array in native().items()}
    both |= {f"ema_model.{key}": array for key, array in native(arrays=weights.initial(MODEL, 5)).items()}
    arrays = weights.open_checkpoint(save(tmp_path / "w.pth", both)).arrays()
    assert np.array_equal(arrays["head.fc.weight"], weights.initial(MODEL)["head.fc.weight"])


def test_a_network_below_a_prefix_that_does_not_fit_is_named(tmp_path):
    tensors = {f"net.{key}": array for key, array in native().items() if "features.9.branch0" not in key}
    message = r"below the prefix 'net\.': not a file of any known source; the nearest is (timm|cadene)'s inception_v4"
    with pytest.raises(WeightsError, match=message):
        weights.open_checkpoint(save(tmp_path / "w.pth", tensors | {"crit.weight": np.ones(3, np.float32)}))


def test_many_prefixes_take_little_time(tmp_path):
    tensors = {f"{'ab'[i % 2]}.{i % 7}.{i % 91}.{i % 333}.weight{i}": np.ones(1, np.float32) for i in range(3000)}
    path = save(tmp_path / "w.safetensors", tensors, "safetensors")
    begin = time.process_time()
    with pytest.raises(WeightsError, match="do not have the names of a network"):
        weights.open_checkpoint(path)
    assert time.process_time() - begin < 5


CONFIG = {
    "architecture": "inception_v4",
    "num_classes": 10,
    "label_names": list("abcdefghij"),
    "pretrained_cfg": {
        "input_size": [3, 224, 224],
        "mean": [0.1, 0.2, 0.3],
        "std": [0.4, 0.5, 0.6],
        "crop_pct": 0.9,
        "interpolation": "bilinear",
        "crop_mode": "center",
    },
}


def hub(folder, config=CONFIG):
    folder.mkdir(exist_ok=True)
    save(folder / "model.safetensors", native(), "safetensors")
    if config is not None:
        (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return folder


def test_a_hub_folder(tmp_path, capsys):
    folder = hub(tmp_path / "hub")
    for path in (folder, folder / "model.safetensors"):
        opened = weights.open_checkpoint(path)
        how = opened.model.preprocess
        assert (opened.model.size, how.resize, how.interpolation) == (224, 248, "bilinear")
        assert (how.mean, how.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
        assert opened.class_names == list("abcdefghij")
        about = opened.document()
        assert (about["preprocess_known"], about["preprocess_of"]) == (True, "config.json")
        assert about["metadata"]["architecture"] == "inception_v4"
    assert weights.is_checkpoint(folder)
    assert weights.resolve(folder) == opened.model
    assert main(["inspect", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert "std 0.4 0.5 0.6 (from config.json)" in shown
    assert "a, b, c, ..." in shown


def test_a_folder_converts_with_its_labels_and_preprocessing(tmp_path):
    folder = hub(tmp_path / "hub")
    weights.convert(folder, tmp_path / "o.safetensors")
    again = weights.open_checkpoint(tmp_path / "o.safetensors")
    assert again.model == weights.open_checkpoint(folder).model
    assert (again.class_names, again.preprocess_from) == (list("abcdefghij"), "the file")


@pytest.mark.parametrize(
    ("change", "note"),
    [
        ({"interpolation": "lanczos"}, "config.json: interpolation 'lanczos' is not supported"),
        ({"mean": [0.5]}, "config.json: mean [0.5] is not supported: expected three numbers"),
        ({"crop_pct": 1.2}, "config.json: crop_pct 1.2 is not supported: expected a number up to 1"),
        ({"crop_mode": "squash"}, "config.json: crop_mode 'squash' is not supported: expected center"),
        ({"input_size": [3, 224, 200]}, "config.json: input_size [3, 224, 200] is not supported"),
        ({"std": [1, 1, float("nan")]}, "config.json: std [1, 1, nan] is not supported"),
        ({"input_size": [3, 8, 8]}, "ignored: config.json: "),
    ],
)
def test_a_config_that_cannot_be_followed_is_noted(tmp_path, change, note):
    config = {**CONFIG, "pretrained_cfg": {**CONFIG["pretrained_cfg"], **change}}
    notes = weights.open_checkpoint(hub(tmp_path / "hub", config)).document()["notes"]
    assert any(line.startswith(note) for line in notes), notes


@pytest.mark.parametrize("config", ["{", "[" * 100_000, "[]", "\xff", '{"pretrained_cfg": 3}', None])
def test_without_a_config_the_preprocessing_is_not_known(tmp_path, config):
    opened = weights.open_checkpoint(hub(tmp_path / "hub", config))
    assert opened.preprocess_from == ""
    assert opened.model == MODEL
    weights.convert(tmp_path / "hub", tmp_path / "o.safetensors")
    about = weights.open_checkpoint(tmp_path / "o.safetensors").document()
    assert (about["preprocess_known"], about["preprocess_of"]) == (False, "timm")


def test_names_of_other_classes_are_not_taken(tmp_path):
    opened = weights.open_checkpoint(hub(tmp_path / "hub", {**CONFIG, "label_names": ["a", "b"]}))
    assert opened.class_names == []
    assert "config.json: ignored: 2 names for 10 classes" in opened.notes
    numbered = {**CONFIG, "label_names": None, "id2label": {str(i): f"n{i}" for i in range(10)}}
    assert weights.open_checkpoint(hub(tmp_path / "hub", numbered)).class_names[9] == "n9"


def test_a_config_beside_a_file_of_another_name_is_not_its_own(tmp_path):
    hub(tmp_path)
    save(tmp_path / "mine.safetensors", native(), "safetensors")
    assert weights.open_checkpoint(tmp_path / "mine.safetensors").preprocess_from == ""


def shards(folder, change=lambda index: index):
    tensors = list(native().items())
    parts = {f"model-{i + 1:05}-of-00003.safetensors": dict(tensors[i::3]) for i in range(3)}
    for name, part in parts.items():
        save(folder / name, part, "safetensors")
    listed = {key: name for name, part in parts.items() for key in part}
    index = change({"metadata": {"total_size": 1}, "weight_map": listed})
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def test_shards(tmp_path):
    shards(tmp_path)
    for path in (tmp_path, tmp_path / "model.safetensors.index.json", tmp_path / "model-00002-of-00003.safetensors"):
        arrays, about = weights.read(path)
        assert about["model"] == "inception_v4"
        assert all(np.array_equal(array, arrays[key]) for key, array in weights.initial(MODEL).items())
    (tmp_path / "model.safetensors.index.json").unlink()
    with pytest.raises(WeightsError, match=r"one of several shards; model\.safetensors\.index\.json, which lists them"):
        weights.open_checkpoint(tmp_path / "model-00002-of-00003.safetensors")
    with pytest.raises(WeightsError, match=r"a folder without model\.safetensors, .*: name the file in it"):
        weights.open_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda index: {}, 'expected "weight_map"'),
        (lambda index: {"weight_map": {"a": 3}}, 'expected "weight_map"'),
        (lambda index: {"weight_map": {"a": "../../etc/passwd"}}, "is not the name of a shard"),
        (lambda index: {"weight_map": {"a": "/x/model-00001-of-00003.safetensors"}}, "is not the name of a shard"),
        (lambda index: {"weight_map": {"a": "model-00009-of-00003.safetensors"}}, "no such file"),
        (lambda index: {"weight_map": {"a": "model-00001-of-00003.safetensors"}}, "'a' is not in model-00001"),
        (lambda index: [], "expected a JSON object, not a list"),
    ],
)
def test_an_index_that_lies(tmp_path, change, message):
    shards(tmp_path, change)
    with pytest.raises(WeightsError, match=message) as caught:
        weights.open_checkpoint(tmp_path)
    assert "\n" not in str(caught.value)


HEADS = {
    "none": {},
    "another": {"last_linear.weight": np.ones((10, 7), np.float32), "last_linear.bias": np.ones(10, np.float32)},
    "one's own": {"last_linear.0.weight": np.ones((64, 384), np.float32), "last_linear.2.bias": np.ones(5, np.float32)},
}


@pytest.mark.parametrize("prefix", ["", "backbone."])
@pytest.mark.parametrize("head", HEADS)
def test_a_backbone_with_another_classifier_or_none(tmp_path, head, prefix):
    tensors = {f"{prefix}{key}": array for key, array in native().items() if "last_linear" not in key}
    path = save(tmp_path / "w.pth", tensors | {f"{prefix}{key}": array for key, array in HEADS[head].items()})
    with pytest.raises(WeightsError, match=r"nearest is (cadene|timm)'s inception_v4, but: .*All layers but the "
                       r"classifier fit: give num_classes \(--num-classes N\)"):  # fmt: skip
        weights.open_checkpoint(path)
    opened = weights.open_checkpoint(path, num_classes=5)
    wanted = configure(MODEL, num_classes=5)
    assert opened.model == wanted
    assert any("tensors that are not the network's: " in line for line in opened.removed) == bool(HEADS[head])
    arrays = opened.arrays(seed=7)
    expected = weights.initial(MODEL) | {k: a for k, a in weights.initial(wanted, 7).items() if k.startswith("head")}
    assert all(np.array_equal(array, expected[key]) for key, array in arrays.items())
    assert opened.done == ["no classifier that fits in the file: a new one of 5 classes, from seed 7"]
    report = weights.convert(path, tmp_path / "o.pth", to="timm", num_classes=5)
    assert "no classifier that fits in the file: a new one of 5 classes, from seed 0" in report["operations"]
    assert weights.open_checkpoint(tmp_path / "o.pth").model.num_classes == 5


def test_the_scripts_take_a_hub_folder_as_one_checkpoint_and_train_a_backbone(tmp_path, caplog):
    """The dataset's classes are those of the new classifier; in validation it says where preprocessing is assumed."""
    folder = hub(tmp_path / "hub")
    assert [*recipe.checkpoints([str(folder)])] == [folder]
    backbone = save(tmp_path / "w.pth", {key: a for key, a in native().items() if "last_linear" not in key})
    flags = ["--model", "inception_v4", "--dataset", "digits"]
    data = open_dataset("digits", ".", "train")
    network = recipe.network(parse([*flags, "--ckpt_path", str(backbone)], "train"), data, backbone)
    assert (network.model.num_classes, network.model.width) == (10, 0.25)
    assert network.arrays(0).keys() == weights.initial(MODEL).keys()
    whole = save(tmp_path / "whole.pth", native())
    for file, told in ((folder, False), (whole, True)):
        caplog.clear()
        recipe.network(parse([*flags, "--ckpt_path", str(file)], "validate"), data, file)
        assert ("does not say how images are fed" in caplog.text) == told


def test_a_backbone_that_fits_several_flavours(tmp_path):
    model = configure(MODELS["inception_v3"], width=0.25, aux=False)
    tensors = weights.all_sources()["torch"].naming(model).write(calibrated(model))
    path = save(tmp_path / "w.pth", {key: array for key, array in tensors.items() if not key.startswith("head")})
    with pytest.raises(WeightsError, match=r"its names fit inception_v3, and also inception_v3\.mindcv"):
        _ = weights.open_checkpoint(path, num_classes=3).model
    opened = weights.open_checkpoint(path, model="inception_v3.paddleclas", num_classes=3)
    assert (opened.model.name, opened.model.num_classes) == ("inception_v3.paddleclas", 3)
    weights.check(opened.arrays(), opened.model)


def test_a_file_with_its_classifier_keeps_it(tmp_path):
    opened = weights.open_checkpoint(save(tmp_path / "w.pth", native()), num_classes=5)
    assert opened.model.num_classes == 10
    with pytest.raises(WeightsError, match=r"1 surplus: stranger\.weight$"):
        weights.open_checkpoint(
            save(tmp_path / "s.pth", native() | {"stranger.weight": np.ones((3, 3), np.float32)}), num_classes=5
        )


def test_a_keras_base_with_a_dense_layer_of_ones_own(tmp_path):
    model = configure(MODELS["xception.keras"], width=0.25)
    tensors = {k: a for k, a in native(model, "keras").items() if "predictions" not in k}
    width = native(model, "keras")["predictions/kernel"].shape[0]
    tensors |= {"dense/kernel": np.ones((width, 4), np.float32), "dense/bias": np.ones(4, np.float32)}
    for format_ in ("keras", "keras-legacy"):
        path = save(tmp_path / format_, tensors, format_)
        message = r"the nearest is keras's xception\.keras, but: 2 missing: predictions/kernel, predictions/bias; "
        with pytest.raises(WeightsError, match=message + r"2 surplus: dense/kernel.*All layers but the classifier fit"):
            weights.open_checkpoint(path)
        opened = weights.open_checkpoint(path, num_classes=4)
        assert (opened.model.name, opened.model.num_classes) == ("xception.keras", 4)
        assert "2 tensors that are not the network's: dense/kernel, dense/bias" in opened.removed


def test_nested_keras_models_are_called_nested(tmp_path):
    import h5py

    tensors = native(configure(MODELS["xception.keras"], width=0.25), "keras")
    save(tmp_path / "inner.h5", tensors, "keras")
    with h5py.File(tmp_path / "inner.h5") as inner, h5py.File(tmp_path / "w.weights.h5", "w") as outer:
        inner.copy("layers", outer.create_group("layers/functional"))
    with pytest.raises(
        WeightsError, match=r"layer functional is a nested model, save that model alone: .*save_weights"
    ):
        weights.open_checkpoint(tmp_path / "w.weights.h5")


@pytest.mark.parametrize("kind", ["dictionary", "names", "state"])
def test_a_moving_average_is_said(tmp_path, capsys, kind):
    tensors = native()
    if kind == "state":
        arrays = weights.initial(MODEL)
        notes = {**weights.store.describe(MODEL), "holds": "state"}
        nested = {f"{part}/{key}": array for part in ("weights", "ema") for key, array in arrays.items()}
        path = tmp_path / "w.ckpt"
        FORMATS["mindspore"].write(path, nested, notes)
    elif kind == "names":
        path = save(tmp_path / "w.pth", tensors | {f"ema.{key}": array for key, array in tensors.items()})
    else:
        path = tmp_path / "w.pdparams"
        path.write_bytes(pickle.dumps({"state_dict": tensors, "state_dict_ema": tensors}, 4))
    assert weights.open_checkpoint(path).document()["moving_average"]
    assert main(["inspect", str(path)]) == 0
    assert "it also holds a moving average of the weights: ema=True (--ema) takes that" in capsys.readouterr().out
    assert weights.open_checkpoint(path, ema=True).notes == []
