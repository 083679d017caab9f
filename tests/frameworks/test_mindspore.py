"""MindSpore: names and modes of cells, its ONNX exporter, its own optimizers, devices and `Model`."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn
from mindspore.common.api import ms_compile_cache
from mindspore.dataset import NumpySlicesDataset
from support import GRAPHS, SMALL, batch

import weights
import zoo
from backends import deploys
from backends.device import Device
from backends.mindspore import network as backend
from backends.mindspore.processes import Processes
from backends.training import trainer
from zoo.errors import BackendError, UnavailableError
from zoo.language.model import configure
from zoo.language.trace import parameters
from zoo.models import MODELS
from zoo.parity import assert_same
from zoo.training.optimizers import Optimizer
from zoo.training.plan import Plan, groups


def test_cell_paths_and_parameter_names_are_the_specs_names():
    net = zoo.build("inception_v4", "mindspore", width=0.25)
    assert isinstance(net.mixed_7b.branch2[3].branch1.conv, nn.Conv2d)
    names = [parameter.name for parameter in net.get_parameters()]
    assert "mixed_7b.branch2.3.branch1.bn.moving_mean" in names
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(("name", "kind"), [("inception_resnet_v2", "Sum"), ("xception41p", "PreActivation")])
def test_relus_are_cells_and_absent_parts_are_identities(name, kind):
    net = backend.build(configure(MODELS[name], width=0.25, aux=False))
    cells = {type(cell).__name__: cell for _, cell in net.cells_and_names()}
    assert isinstance(cells[kind].act, nn.ReLU | nn.Identity)
    assert {"ReLU", "Identity"} <= cells.keys()
    assert isinstance(net.head.hidden, nn.Identity)
    assert isinstance(net.head.act, nn.Identity)
    sums = [cell for _, cell in net.cells_and_names() if type(cell).__name__ == "Sum"]
    assert any(isinstance(cell.shortcut, nn.Identity) for cell in sums)


@pytest.mark.parametrize(
    "name",
    [
        "googlenet.mindcv",
        *(pytest.param(name, marks=pytest.mark.nightly) for name in GRAPHS if name != "googlenet.mindcv"),
    ],
)
def test_mindspores_own_onnx_export(name, tmp_path):
    """At the native size. What the file computes was compared by hand with ONNX Runtime."""
    net = zoo.build(name, "mindspore", width=0.25)
    x = ms.Tensor(batch(net.spec, net.spec.size))
    net(x)
    ms.export(net, x, file_name=str(tmp_path / "net.onnx"), file_format="ONNX")
    for _, cell in net.cells_and_names():  # the exporter writes (top, bottom, left, right) in another order
        assert not isinstance(cell, nn.Conv2d) or cell.pad_mode != "pad" or len(set(cell.padding)) == 1
    assert (tmp_path / "net.onnx").stat().st_size > 4 * sum(p.count for p in parameters(net.spec).values())


# The caller's network


@pytest.mark.parametrize("graph", [False, True], ids=["pynative", "graph"])
def test_a_trainer_leaves_the_network_as_it_was(make, graph):
    model = configure(zoo.spec(SMALL), aux=False)
    net = make(model, weights.initial(model, 0))
    net.mixed.set_train(True)
    net.head.fc.weight.requires_grad = False
    dropout, modes, flags = net.head.dropout, *state(net)
    plan = Plan(Optimizer(), {name: g for name, g in groups(model).items() if "stem" not in name}, graph=graph)
    training = trainer("mindspore", net, plan)
    assert state(net) == (modes, flags)
    x, targets = batch(model, 32, count=4), np.eye(10, dtype=np.float32)[[1, 3, 5, 7]]
    fixed, trained = net.stem[0].conv.weight.asnumpy().copy(), net.head.fc.weight.asnumpy().copy()
    for _ in range(2):
        training.step(x, targets, 0.1)
    assert state(net) == (modes, flags)
    assert net.head.dropout is dropout
    assert np.array_equal(net.stem[0].conv.weight.asnumpy(), fixed)
    assert not np.array_equal(net.head.fc.weight.asnumpy(), trained)
    net.set_train(True)
    outputs = [net(ms.Tensor(x[:3])).asnumpy() for _ in range(2)]
    assert outputs[0].shape == (3, 10)
    assert not np.array_equal(*outputs), "the network's own dropout draws new masks"


@pytest.mark.parametrize("graph", [pytest.param(False, marks=pytest.mark.nightly), True], ids=["pynative", "graph"])
def test_every_classifier_drops_features_by_its_own_mask(make, graph):
    """From the first step on, and compiled once for each batch size: masks have unique names that do not change."""
    model = zoo.spec(SMALL)
    training = trainer(
        "mindspore",
        make(model, weights.initial(model, 0)),
        Plan(Optimizer(), groups(model), aux_factor=0.3, graph=graph),
    )
    x, targets = batch(model, 32, count=4), np.eye(10, dtype=np.float32)[[1, 3, 5, 7]]

    def loss(seed, dropped=()):
        training.seed(seed)
        draw = training.masks
        training.masks = lambda count: {p: m * 0 if p in dropped else m for p, m in draw(count).items()}
        try:
            return float(training.backward(x, targets, 1.0))
        finally:
            del training.masks

    first = loss(0)
    compiled = len(ms_compile_cache)
    others = [loss(1), *(loss(0, [path]) for path in training.heads)]
    assert len({first, *others}) == 4
    assert {cell.mask.name for cell in training.masked.values()} == {f"{path}.mask.4" for path in training.heads}
    assert len(ms_compile_cache) == compiled
    if graph:
        x, targets = x[:2], targets[:2]
        loss(0)
        assert len(ms_compile_cache) == compiled + 1


def state(net):
    """Every cell's mode and every parameter's `requires_grad`."""
    modes = {path: cell.training for path, cell in net.cells_and_names()}
    return modes, {path: parameter.requires_grad for path, parameter in net.parameters_and_names()}


def test_inference_leaves_the_mode_of_every_cell(make):
    model = configure(MODELS["googlenet"], width=0.25, aux=False)
    net = make(model, weights.initial(model, 0))
    net.mixed_3b.set_train(True)
    before, x = state(net), batch(model, 64)
    backend.predict(net, x)
    deploys("mindspore").classifier(net)(x)
    assert state(net) == before


# Devices: MindSpore has one for the whole process


@pytest.fixture
def two_gpus(monkeypatch):
    """A process on gpu:0 of two, whose device MindSpore refuses to change; gives the devices that were requested."""
    asked = []

    def set_device(target, index):
        asked.append((target, index))
        raise RuntimeError("the device cannot be changed")

    monkeypatch.setattr(backend, "gpus", lambda: 2)
    monkeypatch.setattr(ms, "get_context", {"device_target": "GPU", "device_id": 0}.__getitem__)
    monkeypatch.setattr(ms, "set_device", set_device)
    return asked


def test_every_device_reaches_mindspore_or_is_refused(two_gpus):
    backend.set_device(Device("gpu", 0))
    assert two_gpus == []
    for device, call in ((Device("gpu", 1), ("GPU", 1)), (Device("cpu"), ("CPU", 0))):
        with pytest.raises(BackendError, match=f"{device} was requested, but this process already runs on gpu:0"):
            backend.build(MODELS["googlenet"], device)
        assert two_gpus.pop() == call
    with pytest.raises(UnavailableError, match=r"no device gpu:2: .* sees 2 GPUs"):
        backend.build(MODELS["googlenet"], Device("gpu", 2))


def test_several_processes_set_their_device_before_they_meet(two_gpus, monkeypatch):
    """On CPUs too, where MindSpore would otherwise take a GPU that it sees."""
    monkeypatch.setenv("DEVICE_ID", "1")
    for gpu, call in ((True, ("GPU", 1)), (False, ("CPU", 0))):
        with pytest.raises(BackendError):
            Processes(gpu)
        assert two_gpus.pop() == call


# mindcv's own classes


@pytest.mark.parametrize("mode", [ms.GRAPH_MODE, ms.PYNATIVE_MODE])
def test_comparing_a_network_keeps_the_mode_of_the_process(mode):
    """Hooks need PyNative mode, which is a setting of the whole process."""
    before = ms.get_context("mode")
    try:
        ms.set_context(mode=mode)
        assert_same(zoo.build(SMALL, "mindspore"), SMALL)
        assert ms.get_context("mode") == mode
    finally:
        ms.set_context(mode=before)


def test_mindspores_model_trains_evaluates_and_predicts():
    """`ms.Model` on a dataset of MindSpore's: one epoch in which the loss falls."""
    random = np.random.default_rng(0)
    labels = np.arange(16, dtype=np.int32) % 2
    images = (random.normal(size=(16, 3, 32, 32)) + 2 * labels[:, None, None, None]).astype(np.float32)

    def batches():
        return NumpySlicesDataset((images, labels), ["image", "label"], shuffle=False).batch(8)

    net = zoo.build(SMALL, "mindspore", num_classes=2, train=True)
    optimizer = ms.nn.Momentum(net.trainable_params(), 0.05, 0.9)
    loss = ms.nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
    model = ms.Model(net, loss, optimizer, metrics={"accuracy", "loss"})
    before = model.eval(batches(), dataset_sink_mode=False)
    model.train(8, batches(), dataset_sink_mode=False)
    after = model.eval(batches(), dataset_sink_mode=False)
    assert after["loss"] < before["loss"]
    logits = model.predict(ms.Tensor(images[:3])).asnumpy()
    np.testing.assert_allclose(logits, backend.predict(net, images[:3])["logits"], rtol=1e-5, atol=1e-6)
