"""MindSpore: mindcv's own classes beside ours, and their tensors."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn
from support import batch, calibrated, error, expected

from backends.mindspore import network as backend
from weights import SOURCES
from zoo.models import MODELS

PEERS = {
    "inception_v4.mindcv": ("inception_v4", {}),
    "inception_v3.mindcv": ("inception_v3", {}),
    "googlenet.mindcv": ("googlenet", {"aux_logits": True}),
}


def peer(name):
    """Mindcv's network with our calibrated weights, through MindSpore's strict loader."""
    import mindcv

    theirs, options = PEERS[name]
    net = mindcv.create_model(theirs, **options)
    arrays = SOURCES["mindcv"].naming(MODELS[name]).write(calibrated(MODELS[name]))
    left = ms.load_param_into_net(net, {key: ms.Parameter(a) for key, a in arrays.items()}, strict_load=True)
    assert left == ([], [])
    return net.set_train(False)


@pytest.mark.nightly  # `make peers` compares them too, at the native size
@pytest.mark.parametrize("name", PEERS)
def test_equals_mindcvs_network(make, name):
    model = MODELS[name]
    theirs = peer(name)
    ours = make(model, calibrated(model))
    for height, width in ((model.size, model.size), (331, 299)):
        x = batch(model, height, width, count=2)
        output = theirs(ms.Tensor(x)).asnumpy()
        logits = backend.predict(ours, x)["logits"]
        assert error(logits, output) <= 5e-6
        if height == model.size:
            assert error(output, expected(model, calibrated(model), x)["logits"]) <= 5e-6


@pytest.mark.parametrize(
    "name",  # `make peers` reads the others' files
    [name if name == "googlenet.mindcv" else pytest.param(name, marks=pytest.mark.nightly) for name in PEERS],
)
def test_mindcvs_tensors_are_read_back_bit_for_bit(name):
    state = {parameter.name: parameter.asnumpy() for parameter in peer(name).get_parameters()}
    again = SOURCES["mindcv"].naming(MODELS[name]).read(state)
    assert all(np.array_equal(again[key], array) for key, array in calibrated(MODELS[name]).items())


def test_mindcvs_auxiliary_heads():
    """In training mode, deterministic without batch norm and dropout. Theirs return logits, aux2, aux1."""
    model = MODELS["googlenet.mindcv"]
    theirs = peer(model.name).set_train()
    for _, cell in theirs.cells_and_names():
        if isinstance(cell, nn.Dropout):
            cell.set_train(False)
    x = batch(model, 224, count=2)
    reference = expected(model, calibrated(model), x)
    for output, key in zip(theirs(ms.Tensor(x)), ("logits", "aux2", "aux1"), strict=True):
        assert error(output.asnumpy(), reference[key]) <= 5e-6
