"""The publishers' own classes of PyTorch, against ours."""

import numpy as np
import pytest
import torch
from PIL import Image
from publishers import import_torchvision
from support import batch, calibrated, error
from test_torch import build
from torch import nn

from backends.torch import network as backend
from weights import SOURCES, published
from weights.published import OLD_NAMES, PUBLISHED
from zoo.data.images import resized
from zoo.models import MODELS


def timm_model(name, **options):
    import_torchvision()
    import timm

    return timm.create_model(name, **options)


PEERS = [
    ("timm", "inception_v4", lambda: timm_model("inception_v4"), ()),
    ("timm", "inception_v3", lambda: timm_model("inception_v3", aux_logits=True), ("aux",)),
    (
        "torchvision",
        "inception_v3",
        lambda: import_torchvision().inception_v3(weights=None, init_weights=False, dropout=0.0),
        ("aux",),
    ),
    (
        "torchvision",
        "googlenet",
        lambda: import_torchvision().googlenet(weights=None, init_weights=False, dropout=0.0, dropout_aux=0.0),
        ("aux2", "aux1"),
    ),
]


def peer(source, name, make):
    """The publisher's network with our calibrated weights, through its own strict loader."""
    net = make()
    state = {
        key: torch.from_numpy(np.ascontiguousarray(a))
        for key, a in SOURCES[source].naming(MODELS[name]).write(calibrated(MODELS[name])).items()
    }
    state |= {key: value for key, value in net.state_dict().items() if key.endswith("num_batches_tracked")}
    net.load_state_dict(state, strict=True)
    return net.eval()


@pytest.mark.parametrize(
    ("source", "name", "make", "aux"), PEERS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_equals_the_publishers_network(source, name, make, aux):
    theirs, ours = peer(source, name, make), build(MODELS[name])
    size = MODELS[name].size
    for height, width in ((size, size), (331, 299)):
        x = torch.from_numpy(batch(MODELS[name], height, width, count=2))
        with torch.no_grad():
            output = theirs(x)
            output = output[0] if isinstance(output, tuple) else output
            assert error(ours(x).numpy(), output.numpy()) <= 1e-6


@pytest.mark.parametrize(
    ("source", "name", "make", "aux"), PEERS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_equals_the_publishers_network_in_training(source, name, make, aux):
    """The outputs in training mode, auxiliary ones included (ours in order of depth), and the new statistics."""
    theirs, ours = peer(source, name, make).train(), build(MODELS[name]).train()
    for module in ours.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    x = torch.from_numpy(batch(MODELS[name], MODELS[name].size, count=2))
    with torch.no_grad():
        theirs, trained = theirs(x), theirs.state_dict()
        output = ours(x)
    if not aux:
        theirs, output = (theirs,), (output,)
    order = [0, *(1 + [a.name for a in MODELS[name].aux].index(a) for a in aux)]
    for value, index in zip(theirs, order, strict=True):
        assert error(output[index].numpy(), value.numpy()) <= 1e-6
    statistics = SOURCES[source].naming(MODELS[name]).read({key: value.numpy() for key, value in trained.items()})
    for key, array in backend.dump(ours).items():
        assert error(array, statistics[key]) <= 1e-6, key


@pytest.mark.parametrize(
    ("source", "name", "make", "aux"), PEERS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_reads_the_publishers_tensors_bit_for_bit(source, name, make, aux):
    state = {key: value.numpy() for key, value in peer(source, name, make).state_dict().items()}
    again = SOURCES[source].naming(MODELS[name]).read(state)
    assert all(np.array_equal(again[key], array) for key, array in calibrated(MODELS[name]).items())


def test_flavours_of_one_name_are_different_networks():
    """The same weights; only whether average pools count the padding differs."""
    x = batch(MODELS["inception_v3"], 299)
    arrays = calibrated(MODELS["inception_v3"])
    one, other = (
        backend.predict(build(MODELS[name], arrays), x)["logits"] for name in ("inception_v3", "inception_v3.mindcv")
    )
    assert error(one, other) > 1e-2


def test_timms_rows_are_timms_own():
    import_torchvision()
    import timm

    names = [row.name for row in PUBLISHED.values() if row.source == "timm"]
    families = {name.partition(".")[0] for name in names}
    theirs = [name for name in timm.list_pretrained() if name.partition(".")[0] in families]
    assert sorted(theirs) == sorted(names)
    for name in names:
        row, cfg = PUBLISHED[name], timm.get_pretrained_cfg(name)
        assert row.address == (f"hf-hub:{cfg.hf_hub_id}" if cfg.hf_hub_id else cfg.url)
        how = row.preprocess
        assert how.resize == int(cfg.input_size[-1] / cfg.crop_pct)
        assert (how.interpolation, how.mean, how.std) == (cfg.interpolation, cfg.mean, cfg.std)
        assert (row.size, row.classes, row.licence.lower()) == (cfg.input_size[-1], cfg.num_classes, cfg.license)


def test_the_default_of_a_network_is_timms_default():
    import_torchvision()
    import timm

    for name in ("inception_v4", "inception_resnet_v2", "xception41", "xception65", "xception71", "xception65p"):
        assert published.of(name)[0].name == f"{name}.{timm.get_pretrained_cfg(name).tag}"
    for old, new in OLD_NAMES.items():
        with pytest.warns(UserWarning, match=new):
            timm.create_model(old)


@pytest.mark.parametrize(("width", "height"), [(53, 37), (400, 350), (299, 299), (1, 500)])
def test_resizing_is_pytorchs_and_tensorflow_1s(width, height):
    import_torchvision()
    from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
    theirs = {
        "torch_bilinear": nn.functional.interpolate(x, size=(299, 299), mode="bilinear", align_corners=False),
        "tf1_bilinear": interpolate_bilinear_2d_like_tensorflow1x(x, size=(299, 299), align_corners=False),
    }
    for name, expected in theirs.items():
        ours = resized(Image.fromarray(pixels), (299, 299), name)
        # positions in float32 differ by 2e-5 of a pixel at 400 pixels
        assert np.abs(ours - expected[0].permute(1, 2, 0).numpy()).max() < 0.02, name
