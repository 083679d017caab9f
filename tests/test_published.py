"""Published weights: the rows, and building with them from a mirror, from a server, from a folder of the hub."""

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from typing import ClassVar

import h5py
import numpy as np
import pytest

import weights
import zoo
from backends.reference import network as reference
from weights import published
from weights.published import HUB, PUBLISHED
from weights.sources import SOURCES
from zoo.commands import main
from zoo.errors import SpecError, WeightsError
from zoo.language.model import Preprocess, configure
from zoo.models import MODELS, PUBLISHERS

ONE_OF_EACH = (
    "googlenet.torchvision_in1k",
    "inception_v4.cadene_in1k",
    "inception_v4.mindcv_in1k",
    "xception41.paddleclas_deeplab_in1k",
    "xception.keras_in1k",
    "inception_v3.mmpretrain_in1k",
)


def narrow(row, seed=5):
    """A row's network at a quarter of its width, and weights."""
    model = configure(MODELS[row.model], width=0.25, aux=False, num_classes=row.classes or 1000)
    return model, weights.initial(model, seed)


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A folder that ZOO_MIRROR names, and a function that puts a narrow network's weights there for a row."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    monkeypatch.setenv("ZOO_MIRROR", str(folder))
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))

    def put(name):
        row = PUBLISHED[name]
        model, arrays = narrow(row)
        target = folder / row.file
        if row.address.startswith(HUB):
            target.mkdir(parents=True)
            target /= "model.safetensors"
        weights.write(target, arrays, model, to=row.source)
        monkeypatch.setitem(PUBLISHED, name, replace(row, digest=""))
        return arrays, target

    return put


def test_rows_are_of_networks_and_sources_there_are():
    for row in PUBLISHED.values():
        assert row.model in MODELS, row
        assert row.source in SOURCES, row
        assert row.source in MODELS[row.model].publishers, row
        assert row.source in PUBLISHERS, row
        assert row.model in SOURCES[row.source].models, row
        assert (row.top1 is None) == (row.figure == "") == (row.classes in (0, 1008)), row
        assert row.name.startswith(row.model.partition(".")[0]) or row.name.startswith("legacy_xception")
        assert row.name not in MODELS, row
    files = {row.file: row for row in PUBLISHED.values()}
    for row in PUBLISHED.values():
        other = files[row.file]
        assert row == other or row.digest == other.digest != "", "two files of one name"


def test_every_network_that_has_weights_has_a_default():
    without = {name for name in MODELS if not published.of(name)}
    assert without == {"googlenet.slim", "inception_resnet_v1", "inception_resnet_v2.slim", "inception_v4.slim"}
    assert published.of("inception_v3")[0].name == "inception_v3.torchvision_in1k"
    assert published.of("inception_resnet_v2")[0].name == "inception_resnet_v2.tf_in1k"


def test_the_default_is_fed_as_its_network_is():
    for name, model in MODELS.items():
        for row in published.of(name)[:1]:
            assert row.preprocess == model.preprocess, row


def test_digests():
    assert PUBLISHED["inception_v3.pytorch_fid_2015"].digest == "sha256:6726825d"
    assert PUBLISHED["googlenet.torchvision_in1k"].digest == "sha256:1378be20"
    assert PUBLISHED["inception_v4.mindcv_910v2_in1k"].digest == "sha256:56e798fc"
    assert PUBLISHED["xception.keras_in1k"].digest == "md5:0a58e3b7378bc2990ea3b43d5981f1f6"
    assert PUBLISHED["xception.mindcv_v2_in1k"].digest == "", "174_5004 are no digits of a digest"


def test_names():
    assert zoo.spec("inception_v3.gluon_in1k").preprocess.mean == (0.485, 0.456, 0.406)
    assert zoo.spec("gluon_inception_v3") == zoo.spec("inception_v3.gluon_in1k")
    assert (
        zoo.spec("xception.tf_in1k") == zoo.spec("legacy_xception.tf_in1k") == zoo.spec("timm/legacy_xception.tf_in1k")
    )
    assert zoo.spec("xception65.ra3_in1k") == replace(MODELS["xception65"], preprocess=Preprocess(318, "bicubic"))
    with pytest.raises(SpecError, match=r"unknown model 'inception_v3\.tf_in21k'"):
        zoo.spec("inception_v3.tf_in21k")


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_a_file_of_each_publisher(mirror, name):
    arrays, _ = mirror(name)
    net = zoo.build(name, "reference", pretrained=True)
    row = PUBLISHED[name]
    assert net.spec.name == row.model
    assert net.spec.preprocess == row.preprocess
    assert net.spec.num_classes == 1000
    classifier = arrays["head.fc.weight"][1 if row.classes == 1001 else 0 :]
    np.testing.assert_allclose(reference.dump(net)["head.fc.weight"], classifier, rtol=1e-6)
    opened = weights.open_checkpoint(name)
    assert opened.preprocess_from == name
    assert opened.metadata["licence"] == row.licence


def test_a_file_without_a_classifier(mirror):
    arrays, target = mirror("xception.keras_notop")
    with h5py.File(target, "r+") as file:
        names = [name for name in file.attrs["layer_names"] if name != "predictions"]
        assert len(names) == len(file.attrs["layer_names"]) - 1
        file.attrs["layer_names"] = names
        del file["predictions"]
    net = zoo.build("xception.keras_notop", "reference", pretrained=True, num_classes=7)
    assert net.spec.num_classes == 7
    assert np.array_equal(reference.dump(net)["block1.body.0.conv.weight"], arrays["block1.body.0.conv.weight"])
    with pytest.raises(WeightsError, match=r"All layers but the classifier fit: give num_classes"):
        zoo.build("xception.keras_notop", "reference", pretrained=True)


def test_a_wrong_checksum(mirror, monkeypatch):
    mirror("xception.keras_in1k")
    monkeypatch.setitem(PUBLISHED, "xception.keras_in1k", replace(PUBLISHED["xception.keras_in1k"], digest="md5:00"))
    with pytest.raises(WeightsError, match=r"^xception.keras_in1k: .*another checksum than md5 00 and was not kept"):
        zoo.build("xception.keras", "reference", pretrained=True)


def test_which_of_several(mirror):
    mirror("inception_v3.tf_adv_in1k")
    for pretrained in ("tf_adv_in1k", "inception_v3.tf_adv_in1k", "adv_inception_v3"):
        net = zoo.build("inception_v3", "reference", pretrained=pretrained)
        assert net.spec.preprocess == PUBLISHED["inception_v3.tf_adv_in1k"].preprocess
    mirror("inception_v4.mindcv_in1k")
    assert zoo.build("inception_v4", "reference", pretrained="mindcv").spec.preprocess.resize == 341
    with pytest.raises(
        WeightsError, match=r"inception_v4: no published weights 'keras': expected timm, cadene, mindcv, "
    ):
        zoo.build("inception_v4", "reference", pretrained="keras")
    with pytest.raises(WeightsError, match="inception_resnet_v1: nobody has published weights"):
        zoo.build("inception_resnet_v1", "reference", pretrained=True)
    with pytest.raises(SpecError, match="pretrained: expected a model and no checkpoint"):
        zoo.build("googlenet", "reference", pretrained=True, checkpoint="x.pth")


def test_other_commands_take_the_names(mirror, tmp_path, capsys):
    arrays, _ = mirror("inception_v3.tf_adv_in1k")
    assert main(["convert", "adv_inception_v3", str(tmp_path / "out.ckpt"), "--to", "mindspore"]) == 0
    read, document = weights.read(tmp_path / "out.ckpt")
    assert all(np.array_equal(read[name], array) for name, array in arrays.items())
    assert document["metadata"]["licence"] == "Apache-2.0"
    assert document["preprocess"]["resize"] == 341
    assert main(["list", "--pretrained", "inception_v3", "--json", "-"]) == 0
    names = [row["name"] for row in json.loads(capsys.readouterr().out.partition("\n[")[2].join("[]")[:-1])]
    assert names[0] == "inception_v3.tv_in1k"


def test_fetching_makes_a_mirror(mirror, tmp_path, monkeypatch, capsys):
    arrays, _ = mirror("inception_v3.tf_in1k")
    mirror("xception.cadene_in1k")
    copy = tmp_path / "copy"
    assert main(["fetch", "tf_inception_v3", "xception.cadene*", "--to", str(copy)]) == 0
    assert str(copy / "timm" / "inception_v3.tf_in1k") in capsys.readouterr().out
    monkeypatch.setenv("ZOO_MIRROR", str(copy))
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "another"))
    net = zoo.build("inception_v3.tf_in1k", "reference", pretrained=True)
    assert np.array_equal(reference.dump(net)["head.fc.weight"], arrays["head.fc.weight"])
    assert main(["fetch", "xception.nobody"]) == 2
    assert "no published weights 'xception.nobody'" in capsys.readouterr().err


def test_folders_by_address(mirror, tmp_path, monkeypatch):
    arrays, target = mirror("inception_v3.tf_in1k")
    config = {"architecture": "inception_v3", "pretrained_cfg": {"crop_pct": 0.9, "mean": [0.1, 0.2, 0.3]}}
    (target.parent / "config.json").write_text(json.dumps(config))
    local = f"local-dir:{target.parent}"
    for net in (
        zoo.build("hf-hub:timm/inception_v3.tf_in1k", "reference", pretrained=True),
        zoo.build("hf_hub:timm/inception_v3.tf_in1k@v1", "reference"),
        zoo.build(local, "reference"),
        zoo.build("inception_v3", "reference", checkpoint=local),
    ):
        assert np.array_equal(reference.dump(net)["head.fc.weight"], arrays["head.fc.weight"])
        assert (net.spec.preprocess.resize, net.spec.preprocess.mean) == (332, (0.1, 0.2, 0.3))
    for address, message in (
        ("hf-hub:timm", "expected hf-hub:OWNER/NAME or hf-hub:OWNER/NAME@REVISION"),
        ("hf-hub:timm/nothing", "it has no model.safetensors"),
        ("local-dir:nowhere", "local-dir:nowhere: no folder with model.safetensors"),
    ):
        with pytest.raises(WeightsError, match=message):
            zoo.build(address, "reference")


class Hub(http.server.BaseHTTPRequestHandler):
    """Answers as the hub does, from `files` by path; `asked` are the requested paths, except the library's own."""

    files: ClassVar[dict[str, bytes]] = {}
    asked: ClassVar[list[str]] = []

    def do_GET(self):
        data = self.files.get(self.path)
        if not self.path.startswith("/api"):
            self.asked.append(f"{self.command} {self.path}")
        self.send_response(404 if data is None else 200)
        self.send_header("Content-Length", str(len(data or b"")))
        if data is None:
            self.send_header("X-Error-Code", "EntryNotFound")
        else:
            self.send_header("ETag", hashlib.sha256(data).hexdigest())
            self.send_header("X-Repo-Commit", "a" * 40)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data or b"")

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


def test_the_hub(mirror, tmp_path, monkeypatch):
    """In processes of their own, because the hub's library reads its environment variables when it is imported."""
    arrays, target = mirror("inception_v3.tf_in1k")
    folder = "/timm/inception_v3.tf_in1k/resolve/main/"
    Hub.files = {f"{folder}config.json": b"{}", f"{folder}model.safetensors": target.read_bytes()}
    monkeypatch.delenv("ZOO_MIRROR")
    script = (
        "import sys, zoo; from backends.reference import network\n"
        "net = zoo.build(sys.argv[1], 'reference', pretrained=True)\n"
        "print(float(network.dump(net)['head.fc.weight'][3, 4]))"
    )

    def run(name):
        environment = {**os.environ, "HF_ENDPOINT": url, "HF_HOME": str(tmp_path / "hub"), "no_proxy": "127.0.0.1"}
        return subprocess.run([sys.executable, "-c", script, name], env=environment, capture_output=True, text=True)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        first = run("inception_v3.tf_in1k")
        assert float(first.stdout) == arrays["head.fc.weight"][3, 4], first.stderr
        assert f"GET {folder}model.safetensors" in Hub.asked
        missing = run("hf-hub:timm/inception_v9")
        assert "hf-hub:timm/inception_v9: it has no model.safetensors" in missing.stderr
        server.shutdown()
    Hub.asked.clear()
    again = run("hf-hub:timm/inception_v3.tf_in1k")
    assert again.stdout == first.stdout, again.stderr
    assert Hub.asked == [], "the cache is enough"


def test_sizes_are_those_that_torchvision_states():
    assert PUBLISHED["googlenet.torchvision_in1k"].bytes == pytest.approx(49.731 * 2**20, rel=0.01)
    assert PUBLISHED["inception_v3.torchvision_in1k"].bytes == pytest.approx(103.903 * 2**20, rel=0.01)
    assert PUBLISHED["xception.keras_notop"].bytes < PUBLISHED["xception.keras_in1k"].bytes
