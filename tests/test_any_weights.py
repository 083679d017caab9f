"""Weights of any Model: what a file says about its network, and what conversion keeps or refuses."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest
from support import batch, calibrated, error, expected, narrow

import weights
from weights import sidecar, store
from weights.formats import FORMATS
from zoo.commands import main
from zoo.errors import WeightsError
from zoo.language.model import Model, Norm, Preprocess, configure, stages
from zoo.language.nodes import Conv, Head, MaxPool
from zoo.language.rewrites import set_epsilon
from zoo.models import MODELS

OWN = Model(
    "nobodys_net",
    stages(stem=Conv(16, 3, 2) >> MaxPool(3, 2), mixed=Conv(24, 1) >> Conv(32, 3)),
    Head(dropout=0.2),
    Preprocess(resize=40, mean=(0.1, 0.2, 0.3)),
    size=35,
    num_classes=4,
)
V4 = configure(MODELS["inception_v4"], width=0.25, num_classes=6)
VARIANTS = {
    "another epsilon": replace(V4, norm=Norm(eps=0.02)),
    "one's own": OWN,
    "rewritten": replace(V4, stages=(replace(V4.stages[0], node=Conv(8, 3, 2, act=False)), *V4.stages[1:])),
    "without batch norm": replace(OWN, norm=None),
}
SUFFIXES = {"zoo": ".safetensors", "torch": ".pth", "paddle": ".pdparams", "mindspore": ".ckpt", "jax": ".msgpack"}


@pytest.mark.parametrize("to", SUFFIXES)
@pytest.mark.parametrize("case", VARIANTS)
def test_any_network_opens_by_itself(tmp_path, case, to):
    model = VARIANTS[case]
    arrays = weights.initial(model)
    first, path = tmp_path / "first.safetensors", tmp_path / f"w{SUFFIXES[to]}"
    weights.write(first, arrays, model)
    weights.convert(first, path, to=to)
    opened = weights.open_checkpoint(path)
    assert opened.model == model
    assert weights.resolve(path) == model
    again, about = weights.read(path)
    assert all(np.array_equal(array, again[key]) for key, array in arrays.items())
    assert (about["model"], about["sources"], about["preprocess_known"]) == (model.name, [to], True)
    weights.convert(path, tmp_path / "home.safetensors")
    assert weights.open_checkpoint(tmp_path / "home.safetensors").model == model


def test_train_pys_checkpoints_say_their_network(tmp_path):
    model = VARIANTS["another epsilon"]
    arrays = weights.initial(model)
    notes = {"epoch": "3", "class_names": json.dumps(list("abcdef"))}
    weights.write(tmp_path / "w.ckpt", arrays, model, notes=notes)
    opened = weights.open_checkpoint(tmp_path / "w.ckpt")
    assert (opened.model, opened.class_names) == (model, list("abcdef"))
    state = {f"weights/{key}": array for key, array in arrays.items()} | {
        f"momentum/{key}": array for key, array in arrays.items()
    }
    FORMATS["mindspore"].write(tmp_path / "state.ckpt", state, {**store.describe(model), "holds": "state"})
    assert weights.open_checkpoint(tmp_path / "state.ckpt").model == model


@pytest.mark.parametrize("to", ["timm", "cadene"])
def test_a_publisher_gets_another_epsilon_moved(tmp_path, to):
    plain = replace(V4, aux=())
    model, arrays = set_epsilon(plain, calibrated(plain), 0.02)
    weights.write(tmp_path / "w.safetensors", arrays, model)
    report = weights.convert(tmp_path / "w.safetensors", tmp_path / "o.pth", to=to)
    assert "epsilon 0.02 moved into the variances, for 0.001" in report["operations"]
    moved, _ = weights.read(tmp_path / "o.pth")
    x = batch(model, 107)
    assert weights.open_checkpoint(tmp_path / "o.pth").model == plain
    assert error(expected(plain, moved, x)["logits"], expected(model, arrays, x)["logits"]) < 1e-6


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("rewritten", r"inception_v4 cannot become inception_v4, whatever the weights: conv2d_1a_3x3: Conv\(8, .*act"),
        ("one's own", "timm has no network with the outputs of nobodys_net: it publishes inception_v3,"),
    ],
)
def test_a_publisher_gets_no_other_network_under_its_name(tmp_path, case, reason):
    model = VARIANTS[case]
    weights.write(tmp_path / "w.safetensors", weights.initial(model), model)
    with pytest.raises(WeightsError, match=reason):
        weights.convert(tmp_path / "w.safetensors", tmp_path / "o.pth", to="timm")
    with pytest.raises(WeightsError, match=reason):
        weights.write(tmp_path / "o.pth", weights.initial(model), model, to="timm")
    assert os.listdir(tmp_path) == ["w.safetensors"]


SPECS = {
    "not JSON": ("{", "the document is not JSON"),
    "another document": ('{"nodes": []}', "the document is not a model"),
    "nested": ("[" * 100_000, "the document is nested too deeply"),
    "another node": (lambda d: d["stages"][0]["node"].update(op="attention"), r'stages\[0\]\.node: expected a node'),
    "another version": (lambda d: d.update(version=2), "version: expected 1, not 2"),
    "does not fit": (lambda d: d["stages"][1]["node"]["nodes"][1].update(kernel=99, padding="valid"), "smaller than"),
    "huge": (lambda d: d["stages"][0]["node"]["nodes"][0].update(channels=10**30), "the weights do not fit|channels"),
    "other shapes": (lambda d: d.update(num_classes=5), "the weights do not fit: 2 of another shape: head.fc"),
}  # fmt: skip


@pytest.mark.parametrize("case", SPECS)
@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
def test_a_spec_that_is_none_gets_one_line(tmp_path, case, suffix):
    change, message = SPECS[case]
    text = change
    if callable(change):
        document = json.loads(store.describe(OWN)["spec"])
        change(document)
        text = json.dumps(document)
    path = tmp_path / f"w{suffix}"
    names = {".safetensors": "safetensors", ".ckpt": "mindspore"}
    FORMATS[names[suffix]].write(path, weights.initial(OWN), {**store.describe(OWN), "spec": text})
    with pytest.raises(WeightsError, match=message) as caught:
        weights.open_checkpoint(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600 + len(str(path))


@pytest.mark.parametrize("to", ["torch", "paddle"])
@pytest.mark.parametrize("prefix", ["", "model."])
def test_a_frameworks_file_of_a_network_that_is_not_registered_opens_for_it(tmp_path, to, prefix):
    """Saved by the framework itself, so that nothing says which network it is."""
    arrays = weights.initial(OWN)
    native = weights.all_sources()[to].naming(OWN).write(arrays)
    path = tmp_path / f"w{SUFFIXES[to]}"
    FORMATS[to].write(path, {f"{prefix}{key}": array for key, array in native.items()}, {})
    with pytest.raises(WeightsError, match="do not have the names of a network"):
        weights.open_checkpoint(path)
    opened = weights.open_checkpoint(path, model=OWN)
    assert opened.model == OWN
    assert all(np.array_equal(array, arrays[key]) for key, array in opened.arrays().items())


def test_a_source_that_nobody_has(tmp_path):
    FORMATS["safetensors"].write(tmp_path / "w.safetensors", weights.initial(OWN), store.describe(OWN) | {"names": "x"})
    with pytest.raises(WeightsError, match="its metadata say that its names are those of 'x', expected one of cadene"):
        weights.open_checkpoint(tmp_path / "w.safetensors")


TUNED = replace(V4, size=224, preprocess=Preprocess(256, "bicubic", (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "BGR"))
LABELS = ["ä cat", "[red] dog", "c", "d", "e", "f"]
TARGETS = {
    "canonical": ("o.safetensors", None),
    "timm": ("o.pth", "timm"),
    "timm's safetensors": ("x.safetensors", "timm"),
    "mindcv": ("o.ckpt", "mindcv"),
    "zoo.build in MindSpore": ("p.ckpt", "mindspore"),
    "zoo.build in Paddle": ("o.pdparams", "paddle"),
    "paddleclas": ("i.pdparams", "paddleclas"),
    "keras": ("o.weights.h5", "keras"),
}


def tuned(folder, to):
    model, preprocess = TUNED, TUNED.preprocess
    if to in ("paddleclas", "keras"):
        name = {"paddleclas": "inception_v3.paddleclas", "keras": "xception.keras"}[to]
        model = replace(configure(MODELS[name], width=0.25, num_classes=6, aux=False), size=224, preprocess=preprocess)
    path = folder / "tuned.safetensors"
    weights.write(path, weights.initial(model), model, licence="MIT", notes={"class_names": json.dumps(LABELS)})
    return path, model


@pytest.mark.parametrize("case", TARGETS)
def test_labels_size_and_preprocessing_survive_every_conversion(tmp_path, case):
    name, to = TARGETS[case]
    path, model = tuned(tmp_path, to)
    report = weights.convert(path, tmp_path / name, to=to)
    opened = weights.open_checkpoint(tmp_path / name)
    assert opened.class_names == LABELS
    assert (opened.model.size, opened.model.preprocess) == (224, TUNED.preprocess)
    assert opened.metadata["licence"] == "MIT"
    assert opened.notes == []
    beside = sidecar.path_of(tmp_path / name)
    assert beside.exists() == (case not in ("canonical", "zoo.build in MindSpore"))
    assert report["beside"] == (str(beside) if beside.exists() else None)
    assert opened.preprocess_from == (beside.name if beside.exists() else "the file")
    if beside.exists():
        line = f"network, input size and preprocessing, class names: in {beside}, as "
        assert any(operation.startswith(line) for operation in report["operations"])
        content = json.loads(beside.read_text())
        assert (content["class_names"], content["input_size"]) == (LABELS, 224)
        assert content["preprocess"]["std"] == [0.4, 0.5, 0.6]
    weights.convert(tmp_path / name, tmp_path / "home.safetensors", model=model)
    assert weights.open_checkpoint(tmp_path / "home.safetensors").class_names == LABELS


def test_a_file_beside_can_be_edited(tmp_path):
    weights.convert(tuned(tmp_path, None)[0], tmp_path / "o.pth", to="timm")
    beside = sidecar.path_of(tmp_path / "o.pth")
    content = json.loads(beside.read_text())
    content["input_size"], content["preprocess"]["mean"] = 192, [0, 0, 0]
    beside.write_text(json.dumps(content))
    model = weights.open_checkpoint(tmp_path / "o.pth").model
    assert (model.size, model.preprocess.mean) == (192, (0, 0, 0))


@pytest.mark.parametrize(
    ("spoil", "note"),
    [
        (lambda path: path.write_text("{"), "cannot be read: not JSON"),
        (lambda path: path.write_text("[" * 100_000), "cannot be read: not JSON"),
        (lambda path: path.write_bytes(b"\xff\xfe"), "cannot be read: not JSON"),
        (lambda path: path.write_text('{"nodes": []}'), "is not a description of weights"),
        (lambda path: path.write_text(path.read_text().replace('"spec"', '"other"')), "has no spec"),
        (lambda path: path.write_text(path.read_text().replace('"fingerprint": "', '"fingerprint": "0')), "describes "),
    ],
)  # fmt: skip
def test_a_file_beside_that_is_not_this_files_is_ignored_and_said(tmp_path, spoil, note):
    weights.convert(tuned(tmp_path, None)[0], tmp_path / "o.pth", to="timm")
    spoil(sidecar.path_of(tmp_path / "o.pth"))
    opened = weights.open_checkpoint(tmp_path / "o.pth")
    assert len(opened.notes) == 1
    assert opened.notes[0].startswith("ignored: o.pth.json ")
    assert note in opened.notes[0]
    assert (opened.preprocess_from, opened.class_names) == ("", [])


def test_a_file_beside_whose_spec_is_of_another_network_is_an_error(tmp_path):
    weights.convert(tuned(tmp_path, None)[0], tmp_path / "o.pth", to="timm")
    beside = sidecar.path_of(tmp_path / "o.pth")
    content = json.loads(beside.read_text())
    content["spec"]["num_classes"] = 9
    beside.write_text(json.dumps(content))
    with pytest.raises(WeightsError, match=r"o\.pth: inception_v4: the weights do not fit"):
        weights.open_checkpoint(tmp_path / "o.pth")


def test_a_file_beside_is_not_taken_for_weights_trained_further(tmp_path):
    weights.convert(tuned(tmp_path, None)[0], tmp_path / "o.pth", to="timm")
    weights.write(
        tmp_path / "o.pth", {k: a + np.float32(1e-3) for k, a in weights.initial(TUNED).items()}, TUNED, to="timm"
    )
    opened = weights.open_checkpoint(tmp_path / "o.pth")
    assert opened.notes == ["ignored: o.pth.json describes other weights"]


def test_a_file_beside_that_cannot_be_written_leaves_nothing(tmp_path):
    path, _ = tuned(tmp_path, None)
    sidecar.path_of(tmp_path / "o.pth").mkdir()
    with pytest.raises(WeightsError, match="cannot write the weights"):
        weights.convert(path, tmp_path / "o.pth", to="timm")
    assert sorted(os.listdir(tmp_path)) == ["o.pth.json", "tuned.safetensors"]


def test_labels_of_a_new_classifier_are_left_out_and_said(tmp_path):
    path, _ = tuned(tmp_path, None)
    report = weights.convert(path, tmp_path / "o.safetensors", num_classes=3)
    assert "6 class names left out: the classifier is a new one, of 3 classes" in report["operations"]
    assert weights.open_checkpoint(tmp_path / "o.safetensors").class_names == []


def test_the_background_goes_with_its_label(tmp_path):
    model = configure(V4, num_classes=1001)
    names = [f"c{i}" for i in range(1001)]
    weights.write(tmp_path / "w.safetensors", weights.initial(model), model, notes={"class_names": json.dumps(names)})
    weights.convert(tmp_path / "w.safetensors", tmp_path / "o.safetensors", num_classes=1000)
    assert weights.open_checkpoint(tmp_path / "o.safetensors").class_names == names[1:]


@pytest.mark.parametrize("text", ["3", '["a"]', "[" * 100_000, '["a", 2, "c", "d", "e", "f"]'])
def test_labels_that_are_none_are_not_taken(tmp_path, text):
    weights.write(tmp_path / "w.safetensors", weights.initial(V4), V4, notes={"class_names": text})
    assert weights.open_checkpoint(tmp_path / "w.safetensors").class_names == []


def test_preprocessing_that_was_assumed_is_never_recorded_as_fact(tmp_path):
    weights.write(tmp_path / "w.pth", weights.initial(V4), V4, to="timm")
    weights.convert(tmp_path / "w.pth", tmp_path / "o.safetensors")
    weights.convert(tmp_path / "o.safetensors", tmp_path / "o.ckpt")
    for name in ("o.safetensors", "o.ckpt"):
        about = weights.open_checkpoint(tmp_path / name).document()
        assert (about["preprocess_known"], about["preprocess_of"]) == (False, "timm")
    assert not sidecar.path_of(tmp_path / "w.pth").exists()


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
@pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "w.ckpt", "w.pdparams"])
def test_files_follow_the_umask(tmp_path, name, umask):
    before = os.umask(umask)
    try:
        weights.write(tmp_path / name, weights.initial(OWN), OWN)
    finally:
        os.umask(before)
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.parametrize(
    ("name", "out", "hint"),
    [
        ("inception_v4", "o.ckpt", "which no publisher's class can load; --to mindcv writes a publisher's"),
        ("googlenet.slim", "o.ckpt", "which no publisher's class can load"),
        ("inception_v4", "o.pth", "--to cadene or --to timm or --to zhulf writes a publisher's"),
        ("inception_v4", "o.safetensors", None),
    ],
)
def test_names_that_no_publisher_has_are_said(tmp_path, capsys, name, out, hint):
    model = replace(narrow(name), aux=())
    weights.write(tmp_path / "w.safetensors", weights.initial(model), model)
    assert main(["convert", str(tmp_path / "w.safetensors"), str(tmp_path / out)]) == 0
    said = capsys.readouterr().out
    assert (f"note: its names are those of zoo.build('{name}'" in said) == (hint is not None)
    assert any(line.endswith(hint or "") for line in said.splitlines())


def test_text_of_files_is_shown_as_it_is(tmp_path, capsys):
    weights.convert(tuned(tmp_path, None)[0], tmp_path / "o.safetensors")
    assert main(["inspect", str(tmp_path / "o.safetensors")]) == 0
    assert "ä cat, [red] dog, c, ..." in capsys.readouterr().out
    notes = {"class_names": json.dumps(["\x1b[2J", *LABELS[1:]])}
    weights.write(tmp_path / "x.safetensors", weights.initial(TUNED), TUNED, notes=notes)
    assert main(["inspect", str(tmp_path / "x.safetensors")]) == 0
    assert "\x1b" not in capsys.readouterr().out
