"""PyTorch's devices, without a GPU; and what a trainer leaves behind."""

from importlib import import_module

import numpy as np
import pytest
import torch
from support import batch
from test_torch import build
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import weights
from backends.predict import tape
from backends.torch import engines
from backends.torch import network as backend
from backends.torch import training as torch_training
from backends.training import trainer
from zoo.language.model import Model, Preprocess, configure, stages
from zoo.language.nodes import Conv, Head
from zoo.models import MODELS
from zoo.training.optimizers import SLOTS, Optimizer
from zoo.training.plan import Plan, groups


class OneDevice(TorchDispatchMode):
    """Refuses, like a GPU, operations on tensors of several devices, except for copies.

    Tensors without dimensions may be on the CPU, except for fused optimizers.
    """

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        tensors = [t for t in tree_leaves((arguments, options)) if isinstance(t, torch.Tensor)]
        devices = {t.device.type for t in tensors if t.dim() or "_fused_" in str(operation)}
        assert len(devices) < 2 or operation is torch.ops.aten.copy_.default, (operation, devices)
        if operation is torch.ops.aten._fused_sgd_.default:  # works in place, and does not exist for `meta`
            return None
        return operation(*arguments, **(options or {}))


@pytest.fixture
def one_device(monkeypatch):
    """A network on the `meta` device, in place of a GPU. Reading values from it fails, except by `cpu()`."""
    monkeypatch.setattr(torch.Tensor, "cpu", lambda t: torch.zeros(t.shape, dtype=t.dtype))
    monkeypatch.setattr(import_module("torch.optim.sgd"), "_device_dtype_check_for_fused", lambda parameter: None)
    net = backend.build(configure(MODELS["googlenet"], width=0.25, num_classes=10)).to("meta")
    with OneDevice():
        yield net


IMAGES = np.zeros((4, 3, 224, 224), np.float32)
TARGETS = np.eye(4, 10, dtype=np.float32)


@pytest.mark.parametrize("name", SLOTS)
def test_a_step_stays_on_the_device_and_does_not_wait_for_it(one_device, name):
    plan = Plan(Optimizer(name), groups(one_device.spec, 0.1), ema=0.9, loss_scale=8.0, aux_factor=0.3)
    training = trainer("torch", one_device, plan)
    training.restore(training.state())
    assert training.step(IMAGES, TARGETS, 0.1).device.type == "meta"
    assert all(p.device.type == "meta" for p in training.parameters)


def test_other_paths_that_take_a_device(one_device):
    model = one_device.spec
    training = trainer("torch", one_device, Plan(Optimizer(), groups(model)))
    stage = model.stages[0].name
    shape = tape(one_device, torch.zeros(IMAGES.shape, device="meta"))[stage].shape
    results = training.differentiate(stage, IMAGES, np.zeros(shape, np.float32))
    assert results["input"].shape == IMAGES.shape
    for _ in range(2):
        training.feed({name: np.zeros(p.shape, np.float32) for name, p in training.tensors.items()})
    assert {p.grad.device.type for p in training.parameters} == {"meta"}
    assert backend.predict(one_device, IMAGES)["logits"].shape == (4, 10)
    assert engines.classifier(one_device)(IMAGES).shape == (4, 10)
    backend.load(one_device, weights.initial(model))
    assert list(backend.dump(one_device)) == list(weights.initial(model))


def test_a_gpu_gets_arrays_through_pinned_memory(monkeypatch):
    """A copy from other memory waits for all earlier work of the GPU."""
    calls = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda t: calls.append("pin_memory") or t)
    monkeypatch.setattr(torch.Tensor, "to", lambda t, *where, **how: calls.append((where, how)) or t)
    gpu = torch.device("cuda", 1)
    torch_training.Masked(gpu).set(np.ones(3, np.float32))
    assert calls == ["pin_memory", ((gpu,), {"non_blocking": True})]


# What a trainer leaves behind


def settings(net):
    return (
        {path: (id(module), module.training) for path, module in net.named_modules()},
        {path: parameter.requires_grad for path, parameter in net.named_parameters()},
    )


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("training_mode", [False, True])
def test_a_trainer_leaves_the_network_as_it_was(monkeypatch, graph, training_mode):
    """Only weights and statistics that the plan trains change; modes, `requires_grad` and dropout do not."""
    compiler = torch.compile
    monkeypatch.setattr(torch, "compile", lambda net: compiler(net, backend="eager"))
    model = Model(
        "small", stages(stem=Conv(8, 3), body=Conv(8, 3)), Head(dropout=0.5), Preprocess(48), size=48, num_classes=10
    )
    net = build(model, weights.initial(model)).train(training_mode)
    net.body.bn.eval()
    net.body.conv.weight.requires_grad_(False)
    before, arrays = settings(net), backend.dump(net)
    training = trainer("torch", net, Plan(Optimizer(), groups(model, freeze=["stem"]), graph=graph))
    x = batch(model, 48, count=4)
    training.step(x, TARGETS, 0.1)
    training.differentiate("body", np.ones((4, 8, 48, 48), np.float32), np.ones((4, 8, 48, 48), np.float32))
    backend.predict(net, x)
    engines.classifier(net)(x)
    assert settings(net) == before
    changed = {name for name, array in backend.dump(net).items() if not np.array_equal(array, arrays[name])}
    assert changed == {name for name in arrays if not name.startswith("stem.")}
    net.train()
    first, second = (net(torch.from_numpy(x[:3])) for _ in range(2))
    assert isinstance(net.head.dropout, nn.Dropout)
    assert not torch.equal(first, second)


def test_a_trainer_drops_gradients_of_its_callers():
    model = configure(MODELS["inception_v3"], width=0.25, num_classes=10, aux=False, drop_rate=0.0)
    x = batch(model, 96, count=4)
    nets = [build(model, weights.initial(model)) for _ in range(2)]
    nets[0](torch.from_numpy(x)).sum().backward()
    for net in nets:
        trainer("torch", net, Plan(Optimizer("sgd"), groups(model))).step(x, TARGETS, 0.1)
    first, second = map(backend.dump, nets)
    assert all(np.array_equal(first[name], second[name]) for name in first)
