"""What a run does to the weights, as a value: optimizer, loss, and what each parameter is in for."""

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
"""Updates over which the average's decay climbs, as in mindcv: decay * (1 - exp(-updates / 2000))."""

SCALE_GROWTH = 2000
"""Updates without overflow after which a dynamic loss scale is doubled (all three's default)."""


@dataclass(frozen=True)
class Group:
    """What one parameter is trained with: its weight decay, and what its learning rate is multiplied by."""

    decay: float = 0.0
    scale: float = 1.0


@dataclass(frozen=True)
class Plan:
    """A training step's arithmetic, alike for all frameworks.

    groups      by canonical name, for every parameter that is trained; the others stay as they are, and batch norms
                whose gamma or beta is not trained normalise by their running statistics
    loss        CE: -sum_k t_k log softmax(z)_k; BCE: binary cross-entropy of every class's logit, over soft targets t
    reduction   over the batch (CE) or over all its logits (BCE)
    aux_factor  what each auxiliary head's loss is multiplied by before it is added
    clip        the global norm above which gradients are scaled down to it
    accumulate  batches whose gradients are averaged into one update
    ema         decay of the weights' moving average, batch-norm statistics included
    half        convolutions and matrix products in half precision, as the framework's automatic mixed precision has
                it: float16, in PyTorch on a CPU bfloat16; weights, batch norm's statistics and losses stay float32
    loss_scale  what the loss is multiplied by before, and gradients divided by after, the backward pass; `dynamic`
                halves it, and skips the update, at an overflow; `drop_overflow` skips the update only
    graph       compile (torch.compile, GRAPH mode, to_static) rather than run eagerly
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
    """Canonical names of what a gradient reaches: everything but batch norm's running statistics."""
    return [name for name in parameters(model) if not name.endswith((".bn.mean", ".bn.var"))]


def groups(
    model: Model,
    weight_decay: float = 0.0,
    decay_filter: str = "disable",
    layer_decay: float | None = None,
    freeze: Sequence[str] = (),
) -> dict[str, Group]:
    """Each trained parameter's group.

    decay_filter  disable: all weights decay; auto: all but batch norm's; norm_and_bias: all but batch norm's and biases
    layer_decay   each stage's learning rate is this times the next one's; the head and auxiliary heads have the full
    freeze        stages (`stem`), patterns of names (`mixed_5*`, `*.bn.*`), or `all_but_head`, which leaves
                  classifiers, auxiliary heads included

    Raises TrainingError for a pattern that fits nothing, and when nothing is left to train.
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
