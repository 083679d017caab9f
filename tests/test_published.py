"""Published weights, from a server on localhost."""

import hashlib
import http.server
import threading

import numpy as np
import pytest

import weights
import zoo
from weights import published
from zoo.errors import SpecError, WeightsError
from zoo.language.model import configure
from zoo.models import MODELS

NARROW = configure(MODELS["googlenet"], width=0.25)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serves `tmp_path/served`; the network's one publisher is there. `asked` is what was asked for."""
    served, asked = tmp_path / "served", []
    served.mkdir()
    weights.write(served / "x.safetensors", weights.initial(NARROW, 5), NARROW)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *rest):
            super().__init__(*rest, directory=str(served))

        def log_message(self, *rest):
            asked.append(self.path)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{running.server_port}/"
        monkeypatch.setattr(published, "URLS", {"googlenet": {"someone": url + "x.safetensors"}})
        monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
        yield served, url, asked
        running.shutdown()


def test_addresses_are_of_networks_there_are():
    assert set(published.URLS) <= set(MODELS)
    assert all(url.startswith("http") for urls in published.URLS.values() for url in urls.values())


@pytest.mark.parametrize("source", [True, "someone"])
def test_builds_with_published_weights_and_fetches_them_once(server, source):
    for _ in range(2):
        net = zoo.build("googlenet", "reference", pretrained=source)
    assert server[2] == ["/x.safetensors"]
    given = weights.initial(NARROW, 5)["head.fc.weight"]
    from backends.reference import network as reference

    assert np.array_equal(reference.dump(net)["head.fc.weight"], given)


def test_the_digits_in_a_name_are_checked(server, monkeypatch):
    served, url, _ = server
    data = (served / "x.safetensors").read_bytes()
    right, wrong = f"a-{hashlib.sha256(data).hexdigest()[:8]}.pth", "a-0123456789.pth"
    for name in (right, wrong):
        (served / name).write_bytes(data)
    monkeypatch.setattr(published, "URLS", {"googlenet": {"a": url + right, "b": url + wrong}})
    assert published.fetch("googlenet").name == right
    with pytest.raises(WeightsError, match="does not begin with 0123456789"):
        published.fetch("googlenet", "b")
    assert not list(published.fetch("googlenet").parent.glob("a-0123456789*"))


def test_what_cannot_be_had(server, monkeypatch):
    with pytest.raises(WeightsError, match="no published weights of 'nobody': expected someone"):
        zoo.build("googlenet", "reference", pretrained="nobody")
    with pytest.raises(WeightsError, match="inception_resnet_v1: nobody has published weights"):
        zoo.build("inception_resnet_v1", "reference", pretrained=True)
    with pytest.raises(SpecError, match="pretrained: expected a model, and no checkpoint beside it"):
        zoo.build("googlenet", "reference", pretrained=True, checkpoint="x.pth")
    monkeypatch.setattr(published, "URLS", {"googlenet": {"someone": server[1] + "none.pth"}})
    with pytest.raises(WeightsError, match=r"none\.pth: cannot be fetched \(404 .*--ckpt_path FILE"):
        published.fetch("googlenet")
    monkeypatch.setattr(published, "URLS", {"googlenet": {"someone": "http://127.0.0.1:1/x.pth"}})
    with pytest.raises(WeightsError, match=r"cannot be fetched \(no connection\).*--ckpt_path FILE"):
        published.fetch("googlenet")
