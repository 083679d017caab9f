"""What only Paddle has: graphs and saved models, `paddle.Model`, its own optimizers, hooks, places."""

import numpy as np
import paddle
import pytest
from paddle import nn
from paddle.hapi import dynamic_flops
from support import CONCEPTS, FULL, GRAPHS, batch, calibrated, error

import weights
import zoo
from backends.paddle import engines
from backends.paddle import network as backend
from backends.training import trainer
from zoo.language.complexity import counted_by
from zoo.language.model import Model, Preprocess, configure, stages
from zoo.language.nodes import Conv, Head
from zoo.language.trace import parameters, trace
from zoo.models import MODELS
from zoo.training.optimizers import Optimizer
from zoo.training.plan import Plan, groups

DAILY = ("googlenet.mindcv", "xception41p")
"""Networks whose graphs differ most: SAME padding and biases, sums and pre-activation."""


@pytest.mark.parametrize(
    ("name", "taps"),
    [
        *((name, ()) if name in DAILY else pytest.param(name, (), marks=pytest.mark.nightly) for name in GRAPHS),
        ("inception_v4", ("mixed_5b",)),
        pytest.param("xception41p", ("block2",), marks=pytest.mark.nightly),
    ],
    ids=lambda value: value if isinstance(value, str) else "features" if value else "logits",
)
def test_to_static_takes_the_network_whole(name, taps):
    whole = configure(MODELS[name], width=0.25, aux=False)
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


@pytest.mark.parametrize(
    "name", [name if name in DAILY else pytest.param(name, marks=pytest.mark.nightly) for name in GRAPHS]
)
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


@pytest.mark.parametrize(
    ("name", "width"),
    [pytest.param("inception_v4", 1, marks=pytest.mark.nightly), *((name, 0.25) for name in (*FULL, *CONCEPTS))],
)
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


SPEC = [paddle.static.InputSpec([None, 3, None, None], "float32", "x")]


def small(**options):
    """Two convolutions with batch norm, and a classifier with dropout."""
    head = Head(dropout=options.pop("dropout", 0.0))
    return Model("small", stages(stem=Conv(8, 3, 2), body=Conv(16)), head, Preprocess(32), size=32, num_classes=4)


def build(model, seed=0):
    net = backend.build(model)
    backend.load(net, weights.initial(model, seed))
    return net


def state(net):
    return {name: tensor.numpy() for name, tensor in net.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(array.tobytes() == other[name].tobytes() for name, array in one.items())


class Images(paddle.io.Dataset):
    """Eight noisy images of four classes."""

    def __len__(self):
        return 8

    def __getitem__(self, index):
        image = np.random.default_rng(index).standard_normal((3, 32, 32)).astype(np.float32)
        return image, np.int64(index % 4)


@pytest.fixture
def fitted():
    """A network after `paddle.Model.fit`, and the Model; the network is in training mode, as fit leaves it."""
    net = build(small(dropout=0.2))
    model = paddle.Model(net, inputs=SPEC, labels=[paddle.static.InputSpec([None], "int64", "y")])
    optimizer = paddle.optimizer.Momentum(0.05, 0.9, parameters=net.parameters())
    model.prepare(optimizer, nn.CrossEntropyLoss(), paddle.metric.Accuracy())
    model.fit(Images(), batch_size=4, epochs=2, verbose=0)
    return net, model


def test_paddle_model_fits_evaluates_and_predicts(fitted):
    net, model = fitted
    assert not same(state(net), state(build(small())))
    images = np.stack([image for image, _ in (Images()[i] for i in range(8))])
    logits = backend.predict(net, images)["logits"]
    labels = np.arange(8) % 4
    figures = model.evaluate(Images(), batch_size=4, verbose=0)
    assert figures["acc"] == pytest.approx((logits.argmax(1) == labels).mean())
    (predicted,) = model.predict(Images(), batch_size=3, stack_outputs=True, verbose=0)
    assert error(predicted, logits) <= 1e-6


@pytest.mark.parametrize("way", ["Model.save", "jit.save"])
def test_inference_model_saved_after_training(fitted, way, tmp_path):
    """Saved in training mode, as `fit` leaves the network; loading and running it never changes the statistics."""
    net, model = fitted
    assert net.training
    if way == "Model.save":
        model.save(str(tmp_path / "net"), training=False)
    else:
        paddle.jit.save(net, str(tmp_path / "net"), input_spec=SPEC)
    loaded = paddle.jit.load(str(tmp_path / "net"))
    for size, count in ((32, 3), (45, 1), (32, 3)):
        x = batch(net.spec, size, count=count)
        assert error(loaded(paddle.to_tensor(x)).numpy(), backend.predict(net, x)["logits"]) <= 1e-6


@pytest.mark.parametrize("wrapped", [False, True], ids=["itself", "inside another layer"])
def test_training_graph_of_unknown_batch_size_equals_eager(wrapped):
    """Logits, gradients and running statistics, for two batch sizes of one traced graph."""
    eager, static = build(small()), build(small())
    layer = nn.Sequential(static) if wrapped else static
    graph = paddle.jit.to_static(layer, input_spec=SPEC, full_graph=True)
    for net in (eager, layer):
        net.train()
    for count in (6, 3):
        x = paddle.to_tensor(batch(eager.spec, 32, count=count))
        outputs = [run(x) for run in (eager, graph)]
        for output in outputs:
            output.square().mean().backward()
        assert np.array_equal(outputs[0].numpy(), outputs[1].numpy())
        for one, other in zip(eager.parameters(), static.parameters(), strict=True):
            if not one.stop_gradient:
                assert np.array_equal(one.grad.numpy(), other.grad.numpy()), one.name
        assert same(state(eager), state(static))


@pytest.mark.parametrize("decay", [0.9, 0.9997])
def test_running_variance_is_unbiased_and_the_weight_of_a_batch_exact(decay):
    x = np.random.default_rng(0).normal(1, 3, (4, 2, 3, 5)).astype(np.float32)
    norm = backend.BatchNorm2D(2, decay)
    norm._variance.set_value(np.zeros(2, np.float32))  # rounding would hide a small error beside 1
    norm.train()
    norm(paddle.to_tensor(x))
    exact = x.astype(np.float64)
    assert error(norm._mean.numpy(), (1 - decay) * exact.mean((0, 2, 3))) <= 1e-6
    assert error(norm._variance.numpy(), (1 - decay) * exact.var((0, 2, 3), ddof=1)) <= 1e-6


@pytest.mark.parametrize("name", ["googlenet", "inception_resnet_v2", "xception41p"])
def test_each_relu_is_a_layer(name, monkeypatch):
    """Tools that explain a network replace or hook its `nn.ReLU` layers."""
    called, computed, relu = set(), [], nn.functional.relu
    monkeypatch.setattr(nn.functional, "relu", lambda *given: computed.append(1) or relu(*given))
    net = zoo.build(name, "paddle", width=0.25, num_classes=10)
    names = {path for path, layer in net.named_sublayers() if isinstance(layer, nn.ReLU)}
    for path in names:
        net.get_sublayer(path).register_forward_post_hook(lambda *_, path=path: called.add(path))
    backend.predict(net, batch(net.spec, 139), tape=True)
    assert called == names
    assert len(computed) == len(names)


def test_a_hook_on_batch_norm_sees_values_before_the_relu():
    net, seen = build(small()), []
    net.stem.bn.register_forward_post_hook(lambda layer, inputs, output: seen.append(output))
    backend.predict(net, batch(net.spec, 32))
    assert seen[0].numpy().min() < 0


@pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])
def test_the_trainer_leaves_the_callers_network_as_it_was(graph):
    """The same layers in the same modes, the network's own dropout, the same `stop_gradient`, no gradients."""
    model = small(dropout=0.5)
    net = build(model)
    net.body.train()
    net.stem.conv.weight.stop_gradient = True

    def seen():
        flags = {name: (p.stop_gradient, p.grad) for name, p in net.named_parameters()}
        return dict(net.named_sublayers()), [layer.training for layer in net.sublayers(True)], net.forward, flags

    before, arrays = seen(), state(net)
    training = trainer("paddle", net, Plan(Optimizer(), groups(model, freeze=["body.bn.*"]), graph=graph))
    images = batch(model, 32, count=4)
    for _ in range(2):
        training.step(images, np.eye(4, dtype=np.float32), 0.01)
        backend.predict(net, images)
        engines.classifier(net)(images)
    training.differentiate("stem", images, np.ones((4, 8, 16, 16), np.float32))
    assert seen() == before
    changed = {name for name, array in state(net).items() if not np.array_equal(array, arrays[name])}
    assert changed == {name for name in arrays if not name.startswith("body.bn.")}
    net.train()
    x = paddle.to_tensor(batch(model, 32, count=7))  # a batch size that no mask was made for
    assert not np.array_equal(net(x).numpy(), net(x).numpy())
    net.eval()
    assert np.array_equal(net(x).numpy(), net(x).numpy())


def test_tensors_are_made_on_the_networks_device(monkeypatch):
    """Tested without a GPU: every tensor made from an array or a number is given the network's place."""
    model, places = small(dropout=0.5), []
    net = build(model)
    to_tensor = paddle.to_tensor

    def recorded(data, dtype=None, place=None, stop_gradient=True):
        places.append(place)
        return to_tensor(data, dtype, place, stop_gradient)

    monkeypatch.setattr(paddle, "to_tensor", recorded)
    x = batch(model, 32, count=4)
    training = trainer("paddle", net, Plan(Optimizer("lamb"), groups(model, 0.1), ema=0.9))
    training.step(x, np.eye(4, dtype=np.float32), 0.01)
    training.feed({name: weights.initial(model, 1)[name] for name in training.names})
    training.clear()
    training.differentiate("body", np.ones((2, 8, 9, 9), np.float32), np.ones((2, 16, 9, 9), np.float32))
    training.resume(training.saved())
    backend.predict(net, x)
    backend.predict(net, x, tape=True)
    engines.classifier(net)(x)
    assert len(places) >= 6
    assert all(place == backend.place(net) for place in places)


def test_operations_of_a_compiled_network_take_turns_on_a_cpu():
    """By default Paddle runs operations at the same time, and they compete for the cores."""
    flag = "FLAGS_new_executor_serial_run"
    before = paddle.get_flags(flag)
    try:
        paddle.set_flags({flag: False})
        engines.classifier(build(small()))
        assert paddle.get_flags(flag) == {flag: False}
        engines.classifier(build(small()), graph=True)
        assert paddle.get_flags(flag) == {flag: True}
    finally:
        paddle.set_flags(before)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_paddles_counters():
    """paddle.summary counts running statistics too. paddle.flops counts batch norm where its class is named, and does
    not see the global pool, which is a function here and a layer in PaddleClas's networks.
    """
    model = configure(MODELS["inception_v4"], width=0.25)
    net, traced = zoo.build(model, "paddle"), trace(model)
    size = (1, 3, model.size, model.size)
    summary = paddle.summary(net, size)
    assert summary["total_params"] == traced.trainable + traced.buffers
    assert summary["trainable_params"] == traced.trainable
    flops = paddle.flops(net, list(size), custom_ops={backend.BatchNorm2D: dynamic_flops.count_bn})
    last = traced.stages[model.stages[-1].name]
    assert flops + last.size + last.channels == counted_by(model)["paddle"]
