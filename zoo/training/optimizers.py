"""The meaning of `--opt`: each optimizer is written once, as arithmetic on one tensor, for tensors of any framework.

A rule takes a parameter p, its gradient g, the optimizer's tensors for that parameter ("slots"), the numbers of this
update and the optimizer's constants; it returns the new p and slots. The operations are +, -, *, /, and `sqrt`, `sign`,
`norm` and `where` from the module given as `xp`. So the same lines run in float64 NumPy, with which
`tests/frameworks/test_optimizers.py` compares every backend, and in backends whose framework has no such optimizer.

Frameworks disagree about some of them (docs/training.md has the table). Here they mean:

    sgd, momentum   v = momentum v + g; p -= lr v, or lr (g + momentum v) with Nesterov. lr outside the buffer.
    adam, adamw     epsilon is added to the square root of the corrected v (Kingma and Ba 2015, algorithm 1). adam's
                    weight decay goes into the gradient, adamw's shrinks the weights by lr * decay.
    rmsprop         TensorFlow's, which trained the Inceptions: mean squares start at 1, epsilon inside the root, lr
                    inside the momentum buffer.
    adagrad         TensorFlow's and MindSpore's: sums start at 0.1; epsilon outside the root.
    nadam           Dozat 2016 with the momentum schedule of PyTorch, Paddle and mindcv.
    lion            Chen et al. 2023, https://arxiv.org/abs/2302.06675, algorithm 2; decoupled weight decay.
    lamb            You et al. 2020, https://arxiv.org/abs/1904.00962, corrected moments; trust ratio 1 if either
                    norm is 0; no clipping of its own.

Weight decay is added to the gradient (L2), except with adamw, lion and lamb.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from zoo.errors import TrainingError

BETAS = {"lion": (0.9, 0.99)}
EPS = {"rmsprop": 1e-10, "adagrad": 1e-10, "lamb": 1e-6}
SLOTS: dict[str, dict[str, float]] = {
    "sgd": {"momentum": 0.0},
    "momentum": {"momentum": 0.0},
    "adam": {"mean": 0.0, "square": 0.0},
    "adamw": {"mean": 0.0, "square": 0.0},
    "nadam": {"mean": 0.0, "square": 0.0},
    "lamb": {"mean": 0.0, "square": 0.0},
    "lion": {"mean": 0.0},
    "rmsprop": {"square": 1.0, "momentum": 0.0},
    "adagrad": {"square": 0.1},
}
"""The slots of each optimizer, and their initial values."""

DECOUPLED = ("adamw", "lion", "lamb")
"""Optimizers whose weight decay is not added to the gradient."""

RMS_DECAY = 0.9
"""Decay of the mean squares: the default of MindSpore and TF-slim, and the value of the Inception papers."""

NADAM_DECAY = 4e-3
"""Decay of nadam's momentum schedule: the default of PyTorch, Paddle and mindcv."""


@dataclass(frozen=True)
class Optimizer:
    """An optimizer and its constants; None for `eps` and `betas` means the optimizer's own.

    Raises TrainingError for an unknown name, and for Nesterov's momentum with an optimizer that has none.
    """

    name: str = "momentum"
    momentum: float = 0.9
    nesterov: bool = False
    eps: float | None = None
    betas: tuple[float, float] | None = None
    rests: tuple[float, float] = field(init=False)
    """1 - betas in double precision: MindSpore's compiler would subtract in float32, with an error of 1.3e-5."""

    def __post_init__(self) -> None:
        if self.name not in SLOTS:
            raise TrainingError(f"unknown optimizer {self.name!r}: expected one of {', '.join(SLOTS)}")
        if self.nesterov and self.name not in ("sgd", "momentum"):
            better = "; nadam is Adam with Nesterov's momentum" if self.name.startswith("adam") else ""
            raise TrainingError(f"--use_nesterov goes with sgd and momentum, not with {self.name}{better}")
        if self.nesterov and not self.momentum:
            raise TrainingError("--use_nesterov needs a --momentum above 0")
        object.__setattr__(self, "eps", EPS.get(self.name, 1e-8) if self.eps is None else self.eps)
        beta1, beta2 = self.betas or BETAS.get(self.name, (0.9, 0.999))
        object.__setattr__(self, "betas", (beta1, beta2))
        object.__setattr__(self, "rests", (1 - beta1, 1 - beta2))

    @property
    def slots(self) -> dict[str, float]:
        """Names of the tensors that it keeps for each parameter, and their initial values."""
        return SLOTS[self.name]

    @property
    def decoupled(self) -> bool:
        """Whether weight decay shrinks the weights directly instead of being added to the gradient."""
        return self.name in DECOUPLED

    def numbers(self, update: int) -> tuple[float, ...]:
        """The numbers `n` of a rule that depend on the update (counted from 1), in double precision."""
        assert self.betas is not None
        beta1, beta2 = self.betas
        if self.name in ("adam", "adamw", "lamb"):
            return 1 / (1 - beta1**update), 1 / math.sqrt(1 - beta2**update)
        if self.name == "nadam":
            now, after = (beta1 * (1 - 0.5 * 0.96 ** (t * NADAM_DECAY)) for t in (update, update + 1))
            # after 400 factors below 0.9 the product is negligible beside 1
            product = math.prod(beta1 * (1 - 0.5 * 0.96 ** (t * NADAM_DECAY)) for t in range(1, min(update, 400) + 1))
            return (1 - now) / (1 - product), after / (1 - product * after), 1 / math.sqrt(1 - beta2**update)
        return ()


def update(xp: Any, o: Optimizer, p: Any, g: Any, slots: tuple[Any, ...], lr: Any, decay: Any, n: Any) -> Any:
    """Update one parameter: (new p, new slots). `decay` is the weight decay, `n` the numbers of this update."""
    if not o.decoupled:
        g = g + decay * p
    elif o.name != "lamb":
        p = p - (lr * decay) * p
    return RULES[o.name](xp, o, p, g, slots, lr, decay, n)


def _momentum(xp: Any, o: Optimizer, p: Any, g: Any, slots: Any, lr: Any, decay: Any, n: Any) -> Any:
    v = o.momentum * slots[0] + g
    return p - lr * (g + o.momentum * v if o.nesterov else v), (v,)


def _moments(o: Optimizer, g: Any, slots: Any) -> Any:
    (beta1, beta2), (rest1, rest2) = o.betas or (0.0, 0.0), o.rests
    return beta1 * slots[0] + rest1 * g, beta2 * slots[1] + rest2 * (g * g)


def _adam(xp: Any, o: Optimizer, p: Any, g: Any, slots: Any, lr: Any, decay: Any, n: Any) -> Any:
    m, v = _moments(o, g, slots)
    return p - (lr * n[0]) * (m / (xp.sqrt(v) * n[1] + o.eps)), (m, v)


def _nadam(xp: Any, o: Optimizer, p: Any, g: Any, slots: Any, lr: Any, decay: Any, n: Any) -> Any:
    m, v = _moments(o, g, slots)
    return p - lr * ((n[0] * g + n[1] * m) / (xp.sqrt(v) * n[2] + o.eps)), (m, v)


def _lamb(xp: Any, o: Optimizer, p: Any, g: Any, slots: Any, lr: Any, decay: Any, n: Any) -> Any:
    m, v = _moments(o, g, slots)
    step = (m * n[0]) / (xp.sqrt(v) * n[1] + o.eps) + decay * p
    weights, steps = xp.norm(p), xp.norm(step)
    zero = (weights == 0) | (steps == 0)
    return p - lr * xp.where(zero, 1.0, weights / xp.where(zero, 1.0, steps)) * step, (m, v)


def _lion(xp: Any, o: Optimizer, p: Any, g: Any, slots: Any, lr: Any, decay: Any, n: Any) -> Any:
    (beta1, beta2), (rest1, rest2) = o.betas or (0.0, 0.0), o.rests
    direction = xp.sign(beta1 * slots[0] + rest1 * g)
    return p - lr * direction, (beta2 * slots[0] + rest2 * g,)


def _rmsprop(xp: Any, o: Optimizer, p: Any, g: Any, slots: Any, lr: Any, decay: Any, n: Any) -> Any:
    square = RMS_DECAY * slots[0] + (1 - RMS_DECAY) * (g * g)
    v = o.momentum * slots[1] + lr * (g / xp.sqrt(square + o.eps))
    return p - v, (square, v)


def _adagrad(xp: Any, o: Optimizer, p: Any, g: Any, slots: Any, lr: Any, decay: Any, n: Any) -> Any:
    square = slots[0] + g * g
    return p - lr * (g / (xp.sqrt(square) + o.eps)), (square,)


RULES: dict[str, Callable[..., Any]] = {
    "sgd": _momentum,
    "momentum": _momentum,
    "adam": _adam,
    "adamw": _adam,
    "nadam": _nadam,
    "lamb": _lamb,
    "lion": _lion,
    "rmsprop": _rmsprop,
    "adagrad": _adagrad,
}
