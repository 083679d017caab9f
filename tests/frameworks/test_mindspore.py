"""What only MindSpore can show: GRAPH mode, its optimizer, and mindcv's own classes."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn
from support import CONCEPTS, FULL, GRAPHS, batch, calibrated, error, expected

import weights
import zoo
from backends.mindspore import network as backend
from weights import SOURCES
from zoo.language.model import configure
from zoo.language.trace import parameters
from zoo.models import MODELS


@pytest.fixture
def graph_mode():
    ms.set_context(mode=ms.GRAPH_MODE)
    yield
    ms.set_context(mode=ms.PYNATIVE_MODE)


def build(model, arrays):
    net = backend.build(model)
    backend.load(net, arrays)
    return net


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("taps", [(), ("mixed_5b", "mixed_4b", "block2", "block35")], ids=["logits", "features"])
def test_graph_mode(name, taps, request):
    whole = configure(MODELS[name], width=0.25, aux=False)
    taps = tuple(tap for tap in taps if tap in {stage.name for stage in whole.stages})
    model = configure(whole, taps=taps)
    net = build(model, weights.restrict(calibrated(whole), model, whole))
    x = batch(model, 160, count=2)
    eager = backend.predict(net, x)
    request.getfixturevalue("graph_mode")
    graph = build(model, weights.restrict(calibrated(whole), model, whole))
    compiled = backend.predict(graph, x)
    assert graph.compile_cache, "nothing was compiled"
    assert not net.compile_cache
    assert compiled.keys() == eager.keys()
    for key, value in eager.items():
        assert error(compiled[key], value) <= 1e-6


def test_graph_mode_inside_another_cell_and_in_training(graph_mode):
    """As in a training script: the network within a cell with the loss, auxiliary heads included."""
    model = configure(MODELS["inception_v3"], width=0.25, num_classes=10, drop_rate=0.0)
    net = build(model, calibrated(model))
    step = nn.TrainOneStepCell(Loss(net), nn.SGD(net.trainable_params(), 0.01)).set_train()
    x, labels = ms.Tensor(batch(model, 299, count=2)), ms.Tensor([1, 3], ms.int32)
    losses = [float(step(x, labels)) for _ in range(2)]
    assert all(np.isfinite(losses))
    assert losses[0] != losses[1]


class Loss(nn.Cell):
    """Cross entropy of the logits and of every auxiliary output."""

    def __init__(self, net):
        super().__init__()
        self.net = net
        self.loss = nn.CrossEntropyLoss()

    def construct(self, x, labels):
        outputs = self.net(x)
        if not isinstance(outputs, tuple):
            return self.loss(outputs, labels)
        total = self.loss(outputs[0], labels)
        for output in outputs[1:]:
            total = total + self.loss(output, labels)
        return total


@pytest.mark.parametrize(("name", "width"), [(name, 1) for name in FULL] + [(name, 0.25) for name in CONCEPTS])
def test_one_fine_tuning_step(name, width):
    net = zoo.build(name, "mindspore", num_classes=10, aux=bool(MODELS[name].aux), width=width).set_train()
    trainable = net.trainable_params()
    assert sum(p.size for p in trainable) == sum(p.count for p in parameters(net.spec).values() if p.trainable)
    before = backend.dump(net)
    optimizer = nn.Momentum(trainable, 10.0, 0.9)
    x = ms.Tensor(batch(net.spec, net.spec.size, count=4))
    gradients = ms.value_and_grad(Loss(net), None, trainable)(x, ms.Tensor([1, 3, 5, 7], ms.int32))[1]
    optimizer(gradients)
    after = backend.dump(net)
    for parameter, gradient in zip((p for p in parameters(net.spec).values() if p.trainable), gradients, strict=True):
        assert gradient.shape == parameter.shape, parameter.name
        assert np.isfinite(gradient.asnumpy()).all(), parameter.name
        assert np.abs(gradient.asnumpy()).max() > 0, parameter.name
        assert not np.array_equal(after[parameter.name], before[parameter.name]), parameter.name


def test_cell_paths_and_parameter_names_are_the_specs_names():
    net = zoo.build("inception_v4", "mindspore", width=0.25)
    assert isinstance(net.mixed_7b.branch2[3].branch1.conv, nn.Conv2d)
    names = [parameter.name for parameter in net.get_parameters()]
    assert "mixed_7b.branch2.3.branch1.bn.moving_mean" in names
    assert len(set(names)) == len(names)


# mindcv's own classes

PEERS = {
    "inception_v4": ("inception_v4", {}),
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


@pytest.mark.parametrize("name", PEERS)
def test_equals_mindcvs_network(name):
    model = MODELS[name]
    theirs = peer(name)
    ours = build(model, calibrated(model))
    for height, width in ((model.size, model.size), (331, 299)):
        x = batch(model, height, width, count=2)
        output = theirs(ms.Tensor(x)).asnumpy()
        logits = backend.predict(ours, x)["logits"]
        assert error(logits, output) <= 5e-6
        if height == model.size:
            assert error(output, expected(model, calibrated(model), x)["logits"]) <= 5e-6


@pytest.mark.parametrize("name", PEERS)
def test_mindcvs_tensors_are_read_back_bit_for_bit(name):
    state = {parameter.name: parameter.asnumpy() for parameter in peer(name).get_parameters()}
    again = SOURCES["mindcv"].naming(MODELS[name]).read(state)
    assert all(np.array_equal(again[key], array) for key, array in calibrated(MODELS[name]).items())


def test_mindcvs_auxiliary_heads():
    """Without batch norm, and with dropout off, training is a function: theirs are logits, aux2, aux1."""
    model = MODELS["googlenet.mindcv"]
    theirs = peer(model.name).set_train()
    for _, cell in theirs.cells_and_names():
        if isinstance(cell, nn.Dropout):
            cell.set_train(False)
    x = batch(model, 224, count=2)
    reference = expected(model, calibrated(model), x)
    for output, key in zip(theirs(ms.Tensor(x)), ("logits", "aux2", "aux1"), strict=True):
        assert error(output.asnumpy(), reference[key]) <= 5e-6
