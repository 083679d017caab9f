"""`zoo package`: a folder that others load, and its upload to a stand-in for the hub."""

import hashlib
import http.server
import json
import subprocess
import sys
import threading

import numpy as np
import pytest

import weights
import zoo
from zoo.commands import main
from zoo.errors import WeightsError
from zoo.language.model import configure
from zoo.models import MODELS
from zoo.packaging import ABOUT, package

NAMES = ["cat", "dog", "owl"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    model = configure(MODELS["googlenet.mindcv"], width=0.25, num_classes=3, aux=False)
    path = tmp_path_factory.mktemp("own") / "own.safetensors"
    weights.write(path, weights.calibrated(model), model, licence="MIT", notes={"class_names": json.dumps(NAMES)})
    return path


@pytest.fixture(scope="module")
def packaged(checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("packages") / "mine"
    package(checkpoint, folder)
    return folder


def test_all_files_are_there_and_have_their_sums(packaged):
    assert {file.name for file in packaged.iterdir()} == {name.format(suffix=".pth") for name in ABOUT}
    for line in (packaged / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((packaged / name).read_bytes()).hexdigest() == digest
    assert (packaged / "labels.txt").read_text().split() == NAMES
    card = (packaged / "README.md").read_text()
    assert card.startswith("---\nlicense: mit\n")
    assert "local-dir:FOLDER" in card
    assert str(packaged.parent) not in card + (packaged / "certificate.html").read_text()


def test_it_is_loaded_as_a_folder_of_the_hub_with_its_labels(packaged, checkpoint):
    opened = weights.open_checkpoint(f"local-dir:{packaged}")
    assert opened.class_names == NAMES
    first, again = weights.open_checkpoint(checkpoint).arrays(), opened.arrays()
    assert all(np.array_equal(array, again[name]) for name, array in first.items())
    result = zoo.predict(str(packaged), np.zeros((64, 64, 3), np.uint8), backend="onnx")
    assert result["pred_class"] in NAMES


def test_a_folder_in_the_way_and_no_weights_are_refused(packaged, checkpoint, capsys, tmp_path):
    with pytest.raises(WeightsError, match="exists already"):
        package(checkpoint, packaged)
    assert main(["package", "googlenet", "--to", str(tmp_path / "new")]) == 2
    assert "googlenet: a network without weights: give a checkpoint" in capsys.readouterr().err
    assert main(["package", "no_such_network", "--to", str(tmp_path / "new")]) == 2
    assert "unknown model 'no_such_network'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


class Hub(http.server.BaseHTTPRequestHandler):
    """What the hub's library asks for when it makes a repository and commits files, none of them by LFS."""

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((self.path, body))
        address = f"http://{self.headers['Host']}/owner/net"
        answer = {"url": address, "commitUrl": f"{address}/commit/1", "commitOid": "1"}
        if "preupload" in self.path:
            files = [file["path"] for file in json.loads(body)["files"]]
            answer = {"files": [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in files]}
        self.respond(answer)

    def do_GET(self):
        self.respond({"id": "owner/net", "sha": "0", "siblings": [], "type": "user", "name": "owner"})

    def respond(self, answer):
        text = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


def test_it_is_pushed_to_the_hub(packaged):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        server.seen = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        code = f"from zoo.packaging import push; print(push({str(packaged)!r}, 'owner/net'))"
        environment = {
            "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
            "HF_TOKEN": "hf_secret",
            "HF_HUB_DISABLE_XET": "1",
            "NO_PROXY": "127.0.0.1",
        }
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code], env=environment, capture_output=True, text=True
        )
        server.shutdown()
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip().endswith("/owner/net/commit/1")
    (commit,) = [body for path, body in server.seen if "/commit/" in path]
    sent = {json.loads(line)["value"]["path"] for line in commit.splitlines() if json.loads(line)["key"] == "file"}
    assert sent == {file.name for file in packaged.iterdir()}
