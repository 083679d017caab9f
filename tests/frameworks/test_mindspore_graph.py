"""MindSpore: GRAPH mode, and pools, which run different operations in different modes."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn
from support import CONCEPTS, FULL, GRAPHS, SMALL, batch, calibrated, error
from test_processes import compare_one_and_two

import weights
import zoo
from backends.mindspore import network as backend
from backends.mindspore.pools import AvgPool2d, MaxPool2d
from zoo.language.interpreter import avg_pool, windows
from zoo.language.model import configure
from zoo.language.nodes import AvgPool, MaxPool
from zoo.language.trace import parameters, trace
from zoo.models import MODELS


@pytest.fixture
def graph_mode():
    ms.set_context(mode=ms.GRAPH_MODE)
    yield
    ms.set_context(mode=ms.PYNATIVE_MODE)


DAILY = ("googlenet.mindcv", "xception41p")


@pytest.mark.parametrize(
    ("name", "taps"),
    [
        *((name, ()) if name in DAILY else pytest.param(name, (), marks=pytest.mark.nightly) for name in GRAPHS),
        ("inception_v4", ("mixed_5b",)),
        pytest.param("xception41p", ("block2",), marks=pytest.mark.nightly),
    ],
    ids=lambda value: value if isinstance(value, str) else "features" if value else "logits",
)
def test_graph_mode(make, name, taps, request):
    complete = configure(MODELS[name], width=0.25, aux=False)
    model = configure(complete, taps=taps)
    net = make(model, weights.restrict(calibrated(complete), model, complete))
    x = batch(model, 160, count=2)
    eager = backend.predict(net, x)
    request.getfixturevalue("graph_mode")
    graph = make(model, weights.restrict(calibrated(complete), model, complete))
    compiled = backend.predict(graph, x)
    assert graph.compile_cache, "nothing was compiled"
    assert not net.compile_cache
    assert compiled.keys() == eager.keys()
    for key, value in eager.items():
        assert error(compiled[key], value) <= 1e-6


def test_graph_mode_inside_another_cell_and_in_training(make, graph_mode):
    """As in a training script: the network inside a cell that computes the loss, auxiliary heads included."""
    model = configure(zoo.spec(SMALL), drop_rate=0.0)
    net = make(model, calibrated(model))
    step = nn.TrainOneStepCell(Loss(net), nn.SGD(net.trainable_params(), 0.01)).set_train()
    x, labels = ms.Tensor(batch(model, 32, count=2)), ms.Tensor([1, 3], ms.int32)
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


TUNED = ("googlenet",)


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


WINDOWS = ((3, 1), (3, 2), (2, 2), (2, 1), (5, 3))
PUBLISHED = {op.node for model in MODELS.values() for op in trace(model).ops if isinstance(op.node, MaxPool | AvgPool)}
POOLS = [
    node if node in PUBLISHED else pytest.param(node, marks=pytest.mark.nightly)
    for node in (
        *(MaxPool(k, s, padding) for k, s in WINDOWS for padding in ("half", "valid", "same", "ceil")),
        *(AvgPool(k, s, padding, own) for k, s in WINDOWS for padding in ("half", "valid") for own in (False, True)),
    )
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


@pytest.mark.nightly
def test_two_processes_are_one_with_all_the_images(tmp_path):
    """tests/frameworks/test_processes.py does it in PyNative mode."""
    compare_one_and_two("mindspore", tmp_path, graph=1)
