"""From flags to the network, its preprocessing, the plan and the schedule of a run.

Flags that do not go together are reported here and in `zoo.training.inputs`, before any long work starts.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import weights
from weights import hub, published
from weights.checkpoints import Checkpoint
from weights.remote import is_address
from zoo.data import Dataset
from zoo.errors import TrainingError
from zoo.frameworks import FRAMEWORKS
from zoo.language.model import PILLOW, Model, Preprocess, configure
from zoo.language.trace import InputCheck
from zoo.training.flags import Arguments
from zoo.training.optimizers import Optimizer
from zoo.training.plan import Plan, groups
from zoo.training.schedules import Schedule

logger = logging.getLogger("zoo")

CHECKPOINTS = (".ckpt", ".safetensors", ".pth", ".pt", ".bin", ".pdparams", ".h5", ".keras")
"""Suffixes of the files that count as checkpoints in a folder that --ckpt_path names."""


@dataclass(frozen=True)
class Network:
    """The network of a run, and the file, if any, from which it has its weights, input size and preprocessing."""

    model: Model
    opened: Checkpoint | None

    def arrays(self, seed: int) -> dict[str, Any]:
        """The weights: the file's, adapted if the flags ask for another variant, or drawn from the seed."""
        if self.opened is None:
            return dict(weights.initial(self.model, seed))
        arrays, done = self.opened.arrays_for(self.model, seed)
        for line in done:
            logger.warning("%s: %s", self.opened.path, line)
        return arrays


def network(a: Arguments, data: Dataset, checkpoint: str | Path | None = None) -> Network:
    """The network of the flags for the classes of `data`, with the weights of `checkpoint` if one is given.

    The number of classes is --num_classes or the dataset's; in validation it is the checkpoint's own. Raises ZooError
    if the flags, the file and the dataset do not go together.
    """
    wanted = weights.resolve(a.model)
    opened = None
    if checkpoint is not None:
        classes = a.num_classes or len(data.classes) if a.script == "train" else None
        opened = weights.open_checkpoint(checkpoint, model=wanted, ema=_averaged(a), num_classes=classes)
    held = wanted if opened is None else opened.model
    classes = a.num_classes or len(data.classes)
    if a.script == "validate" and opened:
        classes = weights.usual_classes(held)
        if a.num_classes not in (None, classes):
            raise TrainingError(
                f"{checkpoint}: a network of {classes} classes: leave out --num_classes {a.num_classes}"
            )
    elif classes < len(data.classes):
        raise TrainingError(
            f"{data.name} has {len(data.classes)} classes, labels 0 to {len(data.classes) - 1}, and the network has "
            f"{classes}: give --num_classes {len(data.classes)}"
        )
    model = configure(
        wanted,
        num_classes=classes,
        in_channels=a.in_channels,
        drop_rate=a.drop_rate,
        aux=a.script == "train" and a.aux_factor > 0 and bool(wanted.aux),
        width=(held.width if a.width is None else a.width) / wanted.width,
    )
    model = replace(model, size=held.size, preprocess=held.preprocess)
    if a.script == "validate" and opened and not opened.preprocess_from and _plain(a):
        logger.warning(
            "%s does not say how images are fed; as usual for %s: %s",
            opened.path,
            held.name,
            model.preprocess.describe(model.size),
        )
    if a.image_resize is not None or not _plain(a):
        model = replace(model, preprocess=_preprocess(a, model), size=a.image_resize or model.size)
    size = model.size
    InputCheck(model)((2, model.in_channels, size, size), a.script == "train")
    return Network(model, opened)


def plan(a: Arguments, model: Model) -> Plan:
    """The flags as a plan for the weights of `model`."""
    dynamic = a.loss_scale_type == "dynamic" or (a.loss_scale_type == "auto" and a.amp_level != "O0")
    return Plan(
        Optimizer(a.opt, a.momentum, a.use_nesterov, a.eps),
        groups(model, a.weight_decay, a.weight_decay_filter, a.layer_decay, a.freeze),
        loss=a.loss,
        reduction=a.reduction,
        aux_factor=a.aux_factor,
        clip=a.clip_value if a.clip_grad else None,
        accumulate=a.gradient_accumulation_steps,
        ema=a.ema_decay if a.ema else None,
        half=a.amp_level != "O0",
        loss_scale=a.loss_scale,
        dynamic=dynamic,
        drop_overflow=a.drop_overflow_update,
        graph=graph(a),
    )


def graph(a: Arguments) -> bool:
    """Whether to compile: --mode; by default only in MindSpore and JAX, where compiling is fast and pays on a CPU."""
    row = FRAMEWORKS.get(a.backend)
    return bool(row and row.compiles_by_default) if a.mode is None else bool(a.mode == 0)


def schedule(a: Arguments, steps: int) -> Schedule:
    """The learning rates of the flags, for epochs of `steps` steps."""
    if a.warmup_epochs >= a.epoch_size:
        raise TrainingError(
            f"--warmup_epochs {a.warmup_epochs}: the warm-up must end before --epoch_size {a.epoch_size}"
        )
    return Schedule(
        a.scheduler,
        a.lr,
        steps,
        a.epoch_size,
        a.min_lr,
        a.warmup_epochs,
        a.warmup_factor,
        a.decay_epochs,
        a.decay_rate,
        a.multi_step_decay_milestones,
        a.num_cycles,
        a.cycle_decay,
        a.lr_epoch_stair,
    )


def checkpoints(paths: Iterable[str], flag: str = "--ckpt_path") -> Iterator[Path]:
    """The files that a flag names; for a folder all its checkpoints, sorted. Raises TrainingError, with the flag.

    A folder whose files have the hub's names is one checkpoint.

    Names of published weights and addresses (`weights.remote`) stay as they are.
    """
    for given in paths:
        path = Path(given)
        if is_address(given) or (published.find(given) and not path.exists()):
            yield path
            continue
        if not path.exists():  # mindcv's documents write -best, its code _best
            other = path.with_name(path.name.replace("-best.", "_best."))
            other = other if other.exists() else path.with_name(path.name.replace("_best.", "-best."))
            if not other.exists():
                raise TrainingError(f"{flag} {given}: no such file or folder")
            path = other
        if not path.is_dir() or hub.holds_weights(path):
            yield path
            continue
        found = sorted(p for p in path.iterdir() if p.suffix in CHECKPOINTS and not p.name.startswith(("optim_", ".")))
        if not found:
            raise TrainingError(f"{flag} {given}: no checkpoint in it: none of {', '.join(CHECKPOINTS)}")
        yield from found


def _averaged(a: Arguments) -> bool:
    """Whether to evaluate the moving average in the file. train.py writes the average as the weights."""
    return a.script == "validate" and bool(a.ema)


def _plain(a: Arguments) -> bool:
    return all(getattr(a, name) is None for name in ("interpolation", "mean", "std", "crop_pct"))


def _preprocess(a: Arguments, model: Model) -> Preprocess:
    """The model's preprocessing, changed by the flags; at another size the shorter side is scaled in proportion."""
    how = model.preprocess
    size = a.image_resize or model.size
    if a.interpolation not in (None, *PILLOW):
        raise TrainingError(f"--interpolation {a.interpolation}: validation resizes with {' or '.join(PILLOW)} only")
    if a.crop_pct:
        filtered = how.interpolation if how.interpolation in PILLOW else "bilinear"
        how = replace(how, fit="crop", interpolation=filtered, resize=round(size / a.crop_pct))
    else:
        how = replace(how, resize=round(how.resize * size / model.size))
    interpolation = cast("Any", a.interpolation or how.interpolation)
    return replace(how, interpolation=interpolation, mean=_three(a.mean, how.mean), std=_three(a.std, how.std))


def _three(given: tuple[float, ...] | None, own: tuple[float, float, float]) -> tuple[float, float, float]:
    """The value of a flag, one number or three, converted from the scale of 0 to 255 to that of 0 to 1."""
    if given is None:
        return own
    values = tuple(value / 255 for value in (given * 3 if len(given) == 1 else given))
    return cast("tuple[float, float, float]", values)
