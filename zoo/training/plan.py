"""The arithmetic of a training run as a value: optimizer, loss, and the settings of each parameter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal

from zoo.errors import TrainingError
from zoo.language.model import Model
from zoo.language.trace import parameters
from zoo.training.optimizers import Optimizer

EMA_WARMUP = 2000
"""Updates over which the decay of the average rises, as in mindcv: decay * (1 - exp(-updates / 2000))."""

SCALE_GROWTH = 2000
"""Updates without overflow after which a dynamic loss scale is doubled, as in PyTorch, MindSpore and Paddle."""


@dataclass(frozen=True)
class Group:
    """The settings of one parameter: its weight decay, and the factor on its learning rate."""

    decay: float = 0.0
    scale: float = 1.0


@dataclass(frozen=True)
class Plan:
    """The arithmetic of a training step, the same in all frameworks.

    groups      by canonical name, for every parameter that is trained. The others are frozen, and a batch norm whose
                gamma or beta is frozen normalises with its running statistics
    loss        CE: -sum_k t_k log softmax(z)_k; BCE: binary cross-entropy of every class's logit, over soft targets t
    reduction   of the losses, over the batch (CE) or over all its logits (BCE)
    aux_factor  factor on the loss of each auxiliary head, which is added to the main loss
    clip        the largest global norm of the gradients; larger ones are scaled down
    accumulate  batches whose gradients are averaged into one update
    ema         decay of the weights' moving average, batch-norm statistics included
    half        convolutions and matrix products in half precision, by the framework's automatic mixed precision:
                float16, in PyTorch and JAX on a CPU bfloat16; weights, batch-norm statistics and losses stay float32
    loss_scale  factor on the loss, divided out of the gradients after the backward pass; at an overflow, `dynamic`
                halves it and skips the update, `drop_overflow` only skips the update
    graph       whether to compile (torch.compile, GRAPH mode, to_static, jit) instead of running eagerly
    """

    optimizer: Optimizer
    groups: dict[str, Group] = field(default_factory=dict)
    loss: Literal["CE", "BCE"] = "CE"
    reduction: Literal["mean", "sum"] = "mean"
    aux_factor: float = 0.0
    clip: float | None = None
    accumulate: int = 1
    ema: float | None = None
    half: bool = False
    loss_scale: float = 1.0
    dynamic: bool = False
    drop_overflow: bool = False
    graph: bool = False


def trainable(model: Model) -> list[str]:
    """Canonical names of the tensors that have a gradient: all but the running statistics of batch norm."""
    return [name for name in parameters(model) if not name.endswith((".bn.mean", ".bn.var"))]


def groups(
    model: Model,
    weight_decay: float = 0.0,
    decay_filter: str = "disable",
    layer_decay: float | None = None,
    freeze: Sequence[str] = (),
) -> dict[str, Group]:
    """The group of each parameter that is trained.

    decay_filter  which parameters have weight decay. disable: all; auto: all but batch norm; norm_and_bias: all but
                  batch norm and biases
    layer_decay   factor on the learning rate from each stage to the one before it; heads have the full learning rate
    freeze        stages (`stem`), patterns of parameter names (`mixed_5*`, `*.bn.*`), or `all_but_head`, after which
                  only the classifiers are trained, those of auxiliary heads included

    Raises TrainingError for a pattern that matches nothing, and if nothing is left to train.
    """
    names = trainable(model)
    frozen: set[str] = set()
    heads = ("head", *(aux.name for aux in model.aux))
    for pattern in freeze:
        if pattern == "all_but_head":
            fits = {name for name in names if name.partition(".")[0] not in heads}
        else:
            fits = {n for n in names if fnmatchcase(n, pattern) or fnmatchcase(n.partition(".")[0], pattern)}
        if not fits:
            raise TrainingError(
                f"--freeze {pattern}: {model.name} has no such stage or parameter; its stages are "
                f"{', '.join(model.parts)}"
            )
        frozen |= fits
    if frozen >= set(names):
        raise TrainingError(f"--freeze {' '.join(freeze)}: nothing is left to train")
    depth = {stage.name: len(model.stages) - i for i, stage in enumerate(model.stages)}

    def group(name: str) -> Group:
        spared = {"disable": (), "auto": (".bn.weight", ".bn.bias"), "norm_and_bias": (".bn.weight", ".bias")}
        scale = 1.0 if layer_decay is None else layer_decay ** depth.get(name.partition(".")[0], 0)
        return Group(0.0 if name.endswith(spared[decay_filter]) else weight_decay, scale)

    return {name: group(name) for name in names if name not in frozen}
