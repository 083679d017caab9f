"""Every optimizer of the command line, in the framework: 20 updates from the same gradients, against the definition."""

from dataclasses import replace

import numpy as np
import pytest

import weights
from backends.training import trainer
from zoo.errors import TrainingError
from zoo.language.model import Model, Preprocess, stages
from zoo.language.nodes import Conv, Head
from zoo.training.optimizers import SLOTS, Optimizer, update
from zoo.training.plan import EMA_WARMUP, Plan, groups
from zoo.training.schedules import SCHEDULES, Schedule

MODEL = Model("tiny", stages(stem=Conv(8, 3), body=Conv(16)), Head(), Preprocess(8), size=8, num_classes=5)
UPDATES, TOLERANCE = 20, 1e-5

VARIANTS = {
    "plain": ({}, {}, {}),
    "decay": ({}, {}, {"weight_decay": 0.1, "decay_filter": "norm_and_bias"}),
    "layers": ({}, {}, {"weight_decay": 0.1, "layer_decay": 0.5, "freeze": ["*.bn.bias"]}),
    "constants": ({"momentum": 0.7, "eps": 1e-3}, {}, {}),
    "clip": ({}, {"clip": 1.5}, {}),
    "accumulate": ({}, {"accumulate": 3}, {}),
    "ema": ({}, {"ema": 0.9}, {"weight_decay": 0.01}),
    "scaled": ({}, {"loss_scale": 64.0}, {}),
}
COMPILED = ({}, {"graph": True}, {"weight_decay": 0.1, "layer_decay": 0.5})


class Definition:
    """Training by the written rules, on NumPy's float64."""

    sqrt, sign, where, norm = np.sqrt, np.sign, np.where, staticmethod(lambda x: np.sqrt((x * x).sum()))

    def __init__(self, arrays, plan):
        self.plan = plan
        self.weights = {name: array.astype(np.float64) for name, array in arrays.items()}
        self.slots = {n: tuple(np.full(arrays[n].shape, v) for v in plan.optimizer.slots.values()) for n in plan.groups}
        self.ema = dict(self.weights)

    def update(self, count, lr, gradients):
        plan = self.plan
        mean = {n: sum(g[n].astype(np.float64) for g in gradients) / len(gradients) for n in plan.groups}
        norm = np.sqrt(sum((g * g).sum() for g in mean.values()))
        factor = min(1, plan.clip / norm) if plan.clip else 1
        for name, group in plan.groups.items():
            self.weights[name], self.slots[name] = update(
                Definition,
                plan.optimizer,
                self.weights[name],
                factor * mean[name],
                self.slots[name],
                lr * group.scale,
                group.decay,
                plan.optimizer.numbers(count),
            )
        if plan.ema:
            d = plan.ema * (1 - np.exp(-count / EMA_WARMUP))
            self.ema = {name: d * self.ema[name] + (1 - d) * self.weights[name] for name in self.weights}


def gradients(random, plan, arrays, scale):
    return {n: (scale * random.standard_normal(arrays[n].shape)).astype(np.float32) for n in plan.groups}


CASES = [
    (name, variant)
    if variant == "decay" or name in ("momentum", "adamw")  # a trainer computes the others alike for all optimizers
    else pytest.param(name, variant, marks=pytest.mark.nightly_in("mindspore", "jax"))
    for name in [*SLOTS, "momentum, nesterov"]
    for variant in VARIANTS
]
CASES += [(name, "compiled") for name in ("adamw", "momentum, nesterov")]  # ten seconds each in MindSpore


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_makes_the_weights_of_the_definition(framework, make, name, variant):
    optimizer, fields, grouping = COMPILED if variant == "compiled" else VARIANTS[variant]
    name, nesterov = name.removesuffix(", nesterov"), name.endswith("nesterov")
    plan = Plan(Optimizer(name, nesterov=nesterov, **optimizer), groups(MODEL, **grouping), **fields)
    arrays = weights.initial(MODEL, 1)
    definition, random = Definition(arrays, plan), np.random.default_rng(3)
    schedule = Schedule("cosine_decay", 0.02, steps=5, epochs=4, warmup_epochs=1, warmup_factor=0.1, decay_epochs=3)
    net = make(MODEL, arrays)
    training = trainer(framework, net, plan)
    for count in range(1, UPDATES + 1):
        lr = schedule(count - 1)
        fed = [gradients(random, plan, arrays, 0.1) for _ in range(plan.accumulate)]
        definition.update(count, lr, fed)
        for one in fed:
            share = np.float32(plan.loss_scale / plan.accumulate)
            training.feed({key: share * array for key, array in one.items()})
        training.update(lr)
    check(training.dumped(), definition.weights)
    for i, slot in enumerate(plan.optimizer.slots):
        check(training.slots()[slot], {key: slots[i] for key, slots in definition.slots.items()}, slot)
    if plan.ema:
        check(training.averaged, definition.ema)


def check(came, wanted, what="weights"):
    assert list(came) == [name for name in came if name in wanted]
    assert set(came) == set(wanted)
    for name, array in wanted.items():
        error = np.linalg.norm(came[name] - array) / max(np.linalg.norm(array), 1e-12)
        assert error <= TOLERANCE or np.abs(came[name] - array).max() < 1e-9, (what, name, error)


@pytest.mark.parametrize("name", SLOTS)
def test_goes_on_from_a_saved_state(framework, make, name):
    """A new network and a new trainer stand for a new process."""
    plan = Plan(Optimizer(name), groups(MODEL, 0.01), ema=0.99)
    arrays, random = weights.initial(MODEL, 1), np.random.default_rng(3)
    fed = [gradients(random, plan, arrays, 0.1) for _ in range(6)]

    def run(training, part):
        for one in part:
            training.feed(one)
            training.update(0.01)
        return training

    whole = run(trainer(framework, make(MODEL, arrays), plan), fed)
    first = run(trainer(framework, make(MODEL, arrays), plan), fed[:3])
    second = trainer(framework, make(MODEL, first.dumped()), plan)
    second.restore(first.state())
    run(second, fed[3:])
    for name, array in whole.dumped().items():
        assert np.array_equal(second.dumped()[name], array), name
    for name, array in whole.state().items():
        assert np.array_equal(second.state()[name], array), name


def test_another_optimizers_state_is_refused(framework, make):
    arrays = weights.initial(MODEL, 1)
    adam = trainer(framework, make(MODEL, arrays), Plan(Optimizer("adam"), groups(MODEL)))
    lion = trainer(framework, make(MODEL, arrays), Plan(Optimizer("lion"), groups(MODEL)))
    with pytest.raises(TrainingError, match="state is not lion's"):
        lion.restore(adam.state())


def test_an_overflow_skips_the_update(framework, make):
    arrays = weights.initial(MODEL, 1)
    plan = Plan(Optimizer("momentum"), groups(MODEL), loss_scale=8.0, dynamic=True)
    training = trainer(framework, make(MODEL, arrays), plan)
    bad = gradients(np.random.default_rng(3), plan, arrays, 1)
    bad["head.fc.bias"][2] = np.inf
    training.feed(bad)
    training.update(0.1)
    assert (training.updates, training.scale) == (0, 4.0)
    assert all(np.array_equal(training.dumped()[name], array) for name, array in arrays.items())
    good = gradients(np.random.default_rng(4), plan, arrays, 1)
    training.feed(good)
    training.update(0.1)
    assert training.updates == 1
    expected = arrays["head.fc.bias"] - 0.1 * good["head.fc.bias"] / 4
    assert np.allclose(training.dumped()["head.fc.bias"], expected, atol=1e-6)


@pytest.mark.parametrize("name", SCHEDULES)
def test_rates_reach_the_optimizer(framework, make, name):
    """Plain SGD with a constant gradient adds up the schedule's rates."""
    warmup = 0 if name in ("one_cycle", "cyclic") else 1
    schedule = Schedule(name, 0.1, 4, 5, warmup_epochs=warmup, decay_epochs=2, milestones=(1, 3), num_cycles=2)
    arrays = weights.initial(MODEL, 1)
    plan = Plan(Optimizer("sgd", momentum=0.0), groups(MODEL))
    training = trainer(framework, make(MODEL, arrays), plan)
    one = gradients(np.random.default_rng(3), plan, arrays, 0.1)
    for step in range(UPDATES):
        training.feed(one)
        training.update(schedule(step))
    total = sum(map(schedule, range(UPDATES)))
    check(training.dumped(), {n: a - total * one[n].astype(float) if n in one else a for n, a in arrays.items()})


def test_a_definition_equals_other_libraries_optimizers(framework):
    """The definition itself, against optimizers we did not write, in float64."""
    if framework != "torch":
        pytest.skip("they are PyTorch's and timm's")
    import torch
    from publishers import import_torchvision

    import_torchvision()
    from timm.optim import Lamb, Lion, RMSpropTF

    o = torch.optim
    others = {
        "sgd": lambda p: o.SGD(p, 0.02, 0.9, weight_decay=0.1),
        "momentum": lambda p: o.SGD(p, 0.02, 0.9, weight_decay=0.1),
        "adam": lambda p: o.Adam(p, 0.02, weight_decay=0.1),
        "adamw": lambda p: o.AdamW(p, 0.02, weight_decay=0.1),
        "nadam": lambda p: o.NAdam(p, 0.02, weight_decay=0.1, momentum_decay=4e-3),
        "lion": lambda p: Lion(p, 0.02, weight_decay=0.1),
        "lamb": lambda p: Lamb(p, 0.02, weight_decay=0.1, max_grad_norm=None, eps=1e-6),
        "rmsprop": lambda p: RMSpropTF(p, 0.02, alpha=0.9, eps=1e-10, momentum=0.9, weight_decay=0.1),
        "adagrad": lambda p: o.Adagrad(p, 0.02, weight_decay=0.1, initial_accumulator_value=0.1, eps=1e-10),
    }
    arrays = weights.initial(MODEL, 1)
    for name in SLOTS:
        plan = replace(Plan(Optimizer(name)), groups=groups(MODEL, weight_decay=0.1))
        definition, random = Definition(arrays, plan), np.random.default_rng(3)
        parameters = {key: torch.nn.Parameter(torch.from_numpy(arrays[key].astype(np.float64))) for key in plan.groups}
        other = others[name](parameters.values())
        for count in range(1, UPDATES + 1):
            one = gradients(random, plan, arrays, 0.1)
            definition.update(count, 0.02, [one])
            for key, parameter in parameters.items():
                parameter.grad = torch.from_numpy(one[key].astype(np.float64))
            other.step()
        for key, parameter in parameters.items():
            # PyTorch keeps nadam's product of momenta in float32.
            close = {"rtol": 1e-6, "atol": 1e-8} if name == "nadam" else {"rtol": 1e-9, "atol": 1e-12}
            assert np.allclose(parameter.detach().numpy(), definition.weights[key], **close), (name, key)
