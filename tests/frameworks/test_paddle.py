"""What only Paddle can show: its graphs, its optimizer, two networks in one process."""

import numpy as np
import paddle
import pytest
from paddle import nn
from support import CONCEPTS, FULL, GRAPHS, batch, calibrated, error

import weights
import zoo
from backends.paddle import network as backend
from zoo.language.model import configure
from zoo.language.trace import parameters
from zoo.models import MODELS


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("taps", [(), ("mixed_5b", "mixed_4b", "block2", "block35")], ids=["logits", "features"])
def test_to_static_takes_the_network_whole(name, taps):
    whole = configure(MODELS[name], width=0.25, aux=False)
    taps = tuple(tap for tap in taps if tap in {stage.name for stage in whole.stages})
    model = configure(whole, taps=taps)
    net = backend.build(model)
    backend.load(net, weights.restrict(calibrated(whole), model, whole))
    x = paddle.to_tensor(batch(model, 160, count=2))
    with paddle.no_grad():
        eager = net(x)
        static = paddle.jit.to_static(net, full_graph=True)(x)
    if not taps:
        eager, static = [eager], [static]
    assert len(eager) == max(1, len(taps))
    for ours, theirs in zip(eager, static, strict=True):
        assert error(theirs.numpy(), ours.numpy()) <= 1e-6


@pytest.mark.parametrize("name", GRAPHS)
def test_saved_graph_takes_any_batch_and_size(name, tmp_path):
    """`paddle.jit.save` with open dimensions: what a deployment loads computes what the network does."""
    model = configure(MODELS[name], width=0.25, aux=False)
    whole, net = backend.build(model), backend.build(model)
    for network in (whole, net):
        backend.load(network, calibrated(model))
    shape = paddle.static.InputSpec([None, 3, None, None], "float32")
    paddle.jit.save(paddle.jit.to_static(net, [shape], full_graph=True), str(tmp_path / "net"))
    loaded = paddle.jit.load(str(tmp_path / "net"))
    for height, width, count in ((160, 128, 1), (99, 131, 3)):
        x = batch(model, height, width, count)
        with paddle.no_grad():
            eager = whole(paddle.to_tensor(x)).numpy()
        assert error(loaded(paddle.to_tensor(x)).numpy(), eager) <= 1e-6


@pytest.mark.parametrize(("name", "width"), [(name, 1) for name in FULL] + [(name, 0.25) for name in CONCEPTS])
def test_one_fine_tuning_step(name, width):
    net = zoo.build(name, "paddle", num_classes=10, aux=bool(MODELS[name].aux), width=width)
    net.train()
    trainable = {key: p for key, p in net.named_parameters() if p.trainable}
    before = {key: p.numpy().copy() for key, p in trainable.items()}
    optimizer = paddle.optimizer.Momentum(10.0, 0.9, parameters=net.parameters())
    logits = net(paddle.to_tensor(batch(net.spec, net.spec.size, count=4)))
    outputs = logits if isinstance(logits, tuple) else (logits,)
    assert len(outputs) == 1 + len(net.spec.aux)
    labels = paddle.to_tensor(np.array([1, 3, 5, 7]))
    sum(nn.functional.cross_entropy(output, labels) for output in outputs).backward()
    optimizer.step()
    assert sum(p.size for p in trainable.values()) == sum(p.count for p in parameters(net.spec).values() if p.trainable)
    for key, parameter in trainable.items():
        gradient = parameter.grad.numpy()
        assert np.isfinite(gradient).all(), key
        assert np.abs(gradient).max() > 0, key
        assert not np.array_equal(parameter.numpy(), before[key]), key


def test_sublayer_paths_are_the_specs_names():
    net = zoo.build("inception_v4", "paddle", width=0.25)
    assert isinstance(net.mixed_7b.branch2[3].branch1.conv, nn.Conv2D)
    assert "mixed_7b.branch2.3.branch1.bn._mean" in net.state_dict()


def test_two_networks_of_one_name_live_in_one_process():
    x = batch(MODELS["googlenet"], 96)
    one, other = (zoo.build("googlenet", "paddle", width=0.25, seed=seed) for seed in (0, 1))
    assert error(backend.predict(one, x)["logits"], backend.predict(other, x)["logits"]) > 1e-2
