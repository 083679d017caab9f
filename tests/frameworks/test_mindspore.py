"""MindSpore only: GRAPH mode, its pools, its ONNX exporter, its own optimizers and devices, and mindcv's classes."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn
from mindspore.common.api import ms_compile_cache
from mindspore.dataset import NumpySlicesDataset
from support import CONCEPTS, FULL, GRAPHS, SMALL, batch, calibrated, error, expected

import weights
import zoo
from backends import deploys
from backends.device import Device
from backends.mindspore import network as backend
from backends.mindspore.pools import AvgPool2d, MaxPool2d
from backends.mindspore.processes import Processes
from backends.training import trainer
from weights import SOURCES
from zoo.errors import BackendError, UnavailableError
from zoo.language.interpreter import avg_pool, windows
from zoo.language.model import configure
from zoo.language.nodes import AvgPool, MaxPool
from zoo.language.trace import parameters
from zoo.models import MODELS
from zoo.parity import assert_same
from zoo.training.optimizers import Optimizer
from zoo.training.plan import Plan, groups


@pytest.fixture
def graph_mode():
    ms.set_context(mode=ms.GRAPH_MODE)
    yield
    ms.set_context(mode=ms.PYNATIVE_MODE)


def build(model, arrays):
    net = backend.build(model)
    backend.load(net, arrays)
    return net


@pytest.mark.parametrize(
    ("name", "taps"),
    [
        *((name, ()) for name in GRAPHS),
        ("inception_v4", ("mixed_5b",)),
        ("xception41p", ("block2",)),
    ],
    ids=lambda value: value if isinstance(value, str) else "features" if value else "logits",
)
def test_graph_mode(name, taps, request):
    complete = configure(MODELS[name], width=0.25, aux=False)
    model = configure(complete, taps=taps)
    net = build(model, weights.restrict(calibrated(complete), model, complete))
    x = batch(model, 160, count=2)
    eager = backend.predict(net, x)
    request.getfixturevalue("graph_mode")
    graph = build(model, weights.restrict(calibrated(complete), model, complete))
    compiled = backend.predict(graph, x)
    assert graph.compile_cache, "nothing was compiled"
    assert not net.compile_cache
    assert compiled.keys() == eager.keys()
    for key, value in eager.items():
        assert error(compiled[key], value) <= 1e-6


def test_graph_mode_inside_another_cell_and_in_training(graph_mode):
    """As in a training script: the network inside a cell that computes the loss, auxiliary heads included."""
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


TUNED = ("googlenet", "xception41p")


@pytest.mark.parametrize(
    ("name", "width"),
    [
        *((name, 0.25) for name in TUNED),
        *(pytest.param(name, 0.25, marks=pytest.mark.nightly) for name in (*FULL, *CONCEPTS) if name not in TUNED),
        pytest.param("inception_v4", 1, marks=pytest.mark.nightly),
    ],
)
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


WINDOWS = ((3, 1), (3, 2), (2, 2), (2, 1), (5, 3))
POOLS = [MaxPool(k, s, padding) for k, s in WINDOWS for padding in ("half", "valid", "same", "ceil")] + [
    AvgPool(k, s, padding, include) for k, s in WINDOWS for padding in ("half", "valid") for include in (False, True)
]


@pytest.mark.parametrize("mode", ["pynative", "graph"])
@pytest.mark.parametrize("node", POOLS, ids=str)
def test_pools_have_the_border_of_their_node(node, mode, request):
    """At even and odd sizes, where different operations run; against float64."""
    if mode == "graph":
        request.getfixturevalue("graph_mode")
    cell = (MaxPool2d if isinstance(node, MaxPool) else AvgPool2d)(node)
    for height, width in ((14, 15), (12, 12), (13, 13)):
        x = np.random.default_rng(0).standard_normal((2, 3, height, width)).astype(np.float32) - 3
        exact = x.astype(np.float64)
        exact = avg_pool(exact, node) if isinstance(node, AvgPool) else windows(exact, node, -np.inf).max((-2, -1))
        assert error(cell(ms.Tensor(x)).asnumpy(), exact) <= 1e-6


@pytest.mark.parametrize("graph", [False, True], ids=["pynative", "graph"])
@pytest.mark.parametrize("node", POOLS, ids=str)
def test_gradients_of_pools(node, graph):
    """Behind a ReLU, where PyNative mode fails for some slices; against MindSpore's pools with explicit padding."""
    half = node.kernel // 2 if node.padding == "half" else 0
    if isinstance(node, AvgPool):
        cell, options = AvgPool2d(node), {"padding": half, "count_include_pad": node.count_include_pad}
        reference = nn.AvgPool2d(node.kernel, node.stride, pad_mode="pad", **options)
    elif node.padding == "same":
        cell, reference = MaxPool2d(node), nn.MaxPool2d(node.kernel, node.stride, pad_mode="same")
    else:
        cell, options = MaxPool2d(node), {"padding": half, "ceil_mode": node.padding == "ceil"}
        reference = nn.MaxPool2d(node.kernel, node.stride, pad_mode="pad", **options)

    def gradient(pool, x, upstream):
        def total(x):
            return (pool(ms.ops.relu(x)) * upstream).sum()

        function = ms.grad(total)
        return (ms.jit(function) if graph else function)(x).asnumpy()

    for height, width in ((14, 15), (12, 12), (13, 13)):
        random = np.random.default_rng(0)
        x = ms.Tensor(random.permutation(2 * 3 * height * width).reshape(2, 3, height, width).astype(np.float32) + 1)
        upstream = ms.Tensor(random.standard_normal(reference(x).shape).astype(np.float32))
        assert error(gradient(cell, x, upstream), gradient(reference, x, upstream)) <= 1e-6


def unusable(*_):
    raise AssertionError("the slower operation ran")


@pytest.mark.parametrize("node", [MaxPool(3, 2, "valid"), MaxPool(3, 2, "half"), AvgPool(), AvgPool(3, 1, "valid")])
def test_each_mode_runs_its_faster_pooling_operation(node):
    x = ms.Tensor(np.ones((1, 2, 13, 13), np.float32))
    eager, compiled = ((MaxPool2d if isinstance(node, MaxPool) else AvgPool2d)(node) for _ in range(2))
    eager.pool3d = unusable
    assert eager(x).shape[:2] == (1, 2)
    compiled.valid = compiled.same = compiled.every = unusable

    def run(x):
        return compiled(x)

    assert ms.jit(run)(x).shape[:2] == (1, 2)


EXPORTED = ("inception_v3", "googlenet.mindcv", "inception_resnet_v1")


@pytest.mark.parametrize(
    "name", [name if name in EXPORTED else pytest.param(name, marks=pytest.mark.nightly) for name in GRAPHS]
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
def test_a_trainer_leaves_the_network_as_it_was(graph):
    model = configure(MODELS["googlenet"], width=0.25, num_classes=10, aux=False)
    net = build(model, weights.initial(model, 0))
    net.mixed_3b.set_train(True)
    net.head.fc.weight.requires_grad = False
    dropout, modes, flags = net.head.dropout, *state(net)
    plan = Plan(Optimizer(), {name: g for name, g in groups(model).items() if "conv2d_1a" not in name}, graph=graph)
    training = trainer("mindspore", net, plan)
    assert state(net) == (modes, flags)
    x, targets = batch(model, 64, count=4), np.eye(10, dtype=np.float32)[[1, 3, 5, 7]]
    fixed, trained = net.conv2d_1a_7x7.conv.weight.asnumpy().copy(), net.head.fc.weight.asnumpy().copy()
    for _ in range(2):
        training.step(x, targets, 0.1)
    assert state(net) == (modes, flags)
    assert net.head.dropout is dropout
    assert np.array_equal(net.conv2d_1a_7x7.conv.weight.asnumpy(), fixed)
    assert not np.array_equal(net.head.fc.weight.asnumpy(), trained)
    net.set_train(True)
    outputs = [net(ms.Tensor(x[:3])).asnumpy() for _ in range(2)]
    assert outputs[0].shape == (3, 10)
    assert not np.array_equal(*outputs), "the network's own dropout draws new masks"


@pytest.mark.parametrize("graph", [pytest.param(False, marks=pytest.mark.nightly), True], ids=["pynative", "graph"])
def test_every_classifier_drops_features_by_its_own_mask(graph):
    """From the first step on, and compiled once for each batch size: masks have unique names that do not change."""
    model = configure(MODELS["googlenet"], width=0.125, num_classes=10)
    training = trainer(
        "mindspore",
        build(model, weights.initial(model, 0)),
        Plan(Optimizer(), groups(model), aux_factor=0.3, graph=graph),
    )
    x, targets = batch(model, 224, count=4), np.eye(10, dtype=np.float32)[[1, 3, 5, 7]]

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
    assert len({first, *others}) == 5
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


def test_inference_leaves_the_mode_of_every_cell():
    model = configure(MODELS["googlenet"], width=0.25, aux=False)
    net = build(model, weights.initial(model, 0))
    net.mixed_3b.set_train(True)
    before, x = state(net), batch(model, 64)
    backend.predict(net, x)
    deploys("mindspore").classifier(net)(x)
    assert state(net) == before


# Devices: MindSpore has one for the whole process


@pytest.fixture
def two_gpus(monkeypatch):
    """A process on gpu:0 of two, whose device MindSpore refuses to change; gives the devices asked for."""
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
        with pytest.raises(BackendError, match=f"device {device} asked for, but this process already runs on gpu:0"):
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


@pytest.mark.parametrize("mode", [ms.GRAPH_MODE, ms.PYNATIVE_MODE])
def test_comparing_a_network_keeps_the_mode_of_the_process(mode):
    """Hooks need PyNative mode, which is the whole process's."""
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
