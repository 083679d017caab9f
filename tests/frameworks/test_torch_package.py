"""What `zoo package` writes, loaded by timm and by its own source; and hubconf.py."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from publishers import import_torchvision
from support import batch

import weights
import zoo
from zoo.language.model import configure
from zoo.models import MODELS
from zoo.packaging import package

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model():
    return configure(MODELS["xception41p"], num_classes=4)


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    parent = tmp_path_factory.mktemp("packages")
    notes = {"class_names": json.dumps(["ant", "bee", "cow", "dog"])}
    weights.write(parent / "own.safetensors", weights.initial(model), model, notes=notes)
    package(parent / "own.safetensors", parent / "own")
    return parent / "own"


def test_timm_loads_the_folder(folder, model):
    import_torchvision()
    import timm

    theirs = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    assert theirs.pretrained_cfg["label_names"] == ["ant", "bee", "cow", "dog"]
    x = torch.from_numpy(batch(model, 107))
    ours = zoo.build(checkpoint=f"local-dir:{folder}", backend="torch")
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)
    finetuned = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=7)
    assert finetuned.get_classifier().out_features == 7


def test_its_source_loads_its_weights(folder, model):
    spec = importlib.util.spec_from_file_location("packaged_network", folder / "network.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    x = torch.from_numpy(batch(model, 107))
    net = module.load(str(folder / "network.pth"))
    with torch.no_grad():
        ours = zoo.build(checkpoint=folder / "network.pth", backend="torch")(x)
        assert np.array_equal(net(x).numpy(), ours.numpy())


def test_torch_hub_finds_the_networks():
    spec = importlib.util.spec_from_file_location("hubconf", ROOT / "hubconf.py")
    entries = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(entries)
    assert {*MODELS, "inception_v3.tf_adv_in1k"} <= set(dir(entries))
    net = torch.hub.load(str(ROOT), "inception_v3.mindcv", source="local", width=0.25, num_classes=3)
    assert (net.spec.name, net.spec.num_classes) == ("inception_v3.mindcv", 3)
