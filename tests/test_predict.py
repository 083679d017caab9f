"""`zoo predict`: images of any kind, names of classes, and what was applied; by the NumPy reference."""

import http.server
import io
import json
import sys
import threading
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from support import SMALL

import weights
import zoo
from backends.reference import network as reference
from zoo.commands import main
from zoo.data.imagenet import class_names, synsets
from zoo.errors import InputError, SpecError, WeightsError
from zoo.language.model import configure
from zoo.models import MODELS

TEN = [f"digit {k}" for k in range(10)]
RUN = {"backend": "reference", "mode": "module"}


@pytest.fixture
def photograph(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.fixture
def checkpoint(tmp_path):
    """A small network of ten classes, with their names."""
    model = configure(zoo.spec(SMALL), num_classes=10, aux=False)
    arrays = weights.calibrated(model)
    weights.write(tmp_path / "net.safetensors", arrays, model, notes={"class_names": json.dumps(TEN)})
    return tmp_path / "net.safetensors"


def test_imagenets_classes():
    assert len(synsets()) == len(set(class_names())) == 1000
    assert synsets()[0] == ("n01440764", "tench, Tinca tinca")
    assert class_names()[:2] == ("tench", "goldfish")
    assert (class_names()[134], class_names()[517]) == ("crane, wading bird", "crane, lifting machine")
    assert class_names(1001)[:2] == ("background", "tench")
    assert class_names(10) == ()


def test_the_numbers_are_the_networks(checkpoint, photograph):
    result = zoo.predict(checkpoint, photograph, topk=3, **RUN)
    net = zoo.build(checkpoint, "reference")
    logits = reference.predict(net, zoo.preprocess(net.spec, photograph)[None])["logits"][0].astype(np.float64)
    expected = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(result["pred_scores"], expected, rtol=1e-6)
    best = int(expected.argmax())
    assert (result["pred_label"], result["pred_class"]) == (best, f"digit {best}")
    assert result["pred_score"] == pytest.approx(expected.max())
    assert [top["label"] for top in result["top"]] == list(np.argsort(-expected)[:3])
    assert result["preprocess"]["size"] == net.spec.size
    assert (result["preprocess_from"], result["classes_from"]) == ("the file", "the file")
    larger = zoo.predict(checkpoint, photograph, size=2 * net.spec.size, **RUN)["preprocess"]
    assert (larger["size"], larger["resize"]) == (2 * net.spec.size, 2 * net.spec.preprocess.resize)


def test_one_image_or_several(checkpoint, photograph):
    pixels = np.asarray(Image.open(photograph))
    single = zoo.predict(checkpoint, photograph, **RUN)
    several = zoo.predict(checkpoint, [photograph, pixels, Image.open(photograph)], batch=2, **RUN)
    folder = zoo.predict(checkpoint, photograph.parent, **RUN)
    assert [each["image"] for each in several] == [str(photograph), "image 1", "image 2"]
    for each in (*several, *folder):
        np.testing.assert_allclose(each["pred_scores"], single["pred_scores"], rtol=1e-6)
    net = zoo.build(checkpoint, "reference")
    assert zoo.predict(net, pixels)["classes_from"] == "", "a network has no names"
    with pytest.raises(SpecError, match="it returns feature maps"):
        zoo.predict(zoo.build(checkpoint, "reference", features_only=True), pixels)
    with pytest.raises(InputError, match=r"expected uint8 \[H, W, 3\], not float64 \[4, 4, 3\]"):
        zoo.predict(net, np.zeros((4, 4, 3)))


def test_the_command(checkpoint, photograph, capsys, monkeypatch, tmp_path):
    words = ["--checkpoint", str(checkpoint), "--backend", "reference", "--mode", "module"]
    assert main(["predict", str(SMALL), str(photograph), *words, "--topk", "2", "--csv", str(tmp_path / "p.csv")]) == 0
    out = capsys.readouterr().out
    assert "digit" in out
    assert "(from the file)" in out
    assert "Class names: from the file." in out
    assert (tmp_path / "p.csv").read_text().splitlines()[0] == "image,rank,label,class,score"
    assert len((tmp_path / "p.csv").read_text().splitlines()) == 3
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(photograph.read_bytes())))
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"nothing")
    assert main(["predict", str(checkpoint), "-", str(broken), "nowhere.png", *words[2:], "--json", "-"]) == 2
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert [each["image"] for each in document] == ["-"]
    assert set(document[0]) >= {"pred_label", "pred_class", "pred_score", "top", "preprocess"}
    assert "pred_scores" not in document[0]
    assert captured.err.count("zoo: error:") == 2


def test_an_image_from_a_server(checkpoint, photograph, capsys):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = partial(Quiet, directory=str(photograph.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        there = zoo.predict(checkpoint, f"{url}/photo.png", **RUN)
        assert np.array_equal(there["pred_scores"], zoo.predict(checkpoint, photograph, **RUN)["pred_scores"])
        with pytest.raises(InputError, match=r"none\.png: cannot be fetched \(404 File not found\)"):
            zoo.predict(checkpoint, f"{url}/none.png", **RUN)
        with pytest.raises(InputError, match=r"net\.safetensors: not an image"):
            zoo.predict(checkpoint, f"{url}/net.safetensors", **RUN)
        server.shutdown()
    with pytest.raises(InputError, match=r"cannot be fetched \(no connection\)"):
        zoo.predict(checkpoint, "http://127.0.0.1:1/a.png", **RUN)


def test_random_weights_are_never_used_unless_asked_for(photograph, monkeypatch, tmp_path):
    monkeypatch.setenv("ZOO_MIRROR", str(tmp_path / "empty"))
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    with pytest.raises(WeightsError, match=r"googlenet\.torchvision_in1k: .*No such file"):
        zoo.predict("googlenet", photograph, **RUN)
    with pytest.raises(WeightsError, match="small: nobody has published weights of it"):
        zoo.predict(SMALL, photograph, **RUN)


def test_a_file_that_is_fed_otherwise_than_its_network(tmp_path, photograph, caplog):
    model = configure(MODELS["googlenet"], width=0.25, aux=False)
    for name, changed in (("usual", model), ("other", replace(model, size=160))):
        weights.write(tmp_path / f"{name}.safetensors", weights.initial(model), changed)
        caplog.clear()
        result = zoo.predict(tmp_path / f"{name}.safetensors", photograph, **RUN)
        assert result["classes_from"] == "ImageNet"
        assert ("the usual preprocessing of googlenet is different" in caplog.text) == (name == "other")


def test_a_network_of_grey_images(tmp_path, photograph):
    model = configure(zoo.spec(SMALL), in_channels=1, aux=False)
    assert zoo.preprocess(model, photograph).shape == (1, model.size, model.size)
    weights.write(tmp_path / "grey.safetensors", weights.initial(model), model)
    assert zoo.predict(tmp_path / "grey.safetensors", photograph, **RUN)["pred_score"] > 0
