"""From flags to what a run is made of: datasets, network, preprocessing, plan, schedule. Everything that can be wrong
is found here, before any long work starts.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import weights
from weights.checkpoints import Checkpoint
from zoo.data import Augment, Dataset, Evaluate, ImageFolder, Loader, Mixing, open_dataset
from zoo.errors import TrainingError
from zoo.frameworks import FRAMEWORKS
from zoo.language.model import Model, Preprocess, configure
from zoo.language.trace import InputCheck, trace
from zoo.training.flags import Arguments
from zoo.training.optimizers import Optimizer
from zoo.training.plan import Plan, groups
from zoo.training.processes import Processes
from zoo.training.schedules import Schedule

logger = logging.getLogger("zoo")

CHECKPOINTS = (".ckpt", ".safetensors", ".pth", ".pt", ".bin", ".pdparams", ".h5", ".keras")
"""What is taken for a checkpoint in a folder that --ckpt_path names."""

AREA = "area"


@dataclass(frozen=True)
class Network:
    """The network of a run, and the file it begins with: its weights, and how it is fed, are the file's own."""

    model: Model
    opened: Checkpoint | None

    def arrays(self, seed: int) -> dict[str, Any]:
        """Its weights: the file's, adapted where the flags want another variant, or drawn from the seed."""
        if self.opened is None:
            return dict(weights.initial(self.model, seed))
        arrays, done = self.opened.arrays_for(self.model, seed)
        for line in done:
            logger.warning("%s: %s", self.opened.path, line)
        return arrays


def dataset(a: Arguments, split: str) -> Dataset:
    """The dataset of the flags; without the images of --blacklist in validation. Raises ZooError."""
    opened = open_dataset(a.dataset, a.data_dir, split, download=a.dataset_download)
    if split == a.val_split and a.blacklist:
        try:
            lines = Path(a.blacklist).read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "not text"
            raise TrainingError(f"--blacklist {a.blacklist}: cannot read it: {reason}") from None
        opened = opened.without(line.strip() for line in lines if line.strip() and not line.startswith("#"))
        if not len(opened):
            raise TrainingError(f"--blacklist {a.blacklist}: it leaves no image of {a.dataset}, {split}")
    return opened if a.num_samples is None else opened.take(a.num_samples)


def held_out(a: Arguments, data: Dataset) -> Dataset:
    """The split to validate on while training on `data`, its labels those of the same names there. Raises ZooError."""
    opened = dataset(a, a.val_split)
    if isinstance(opened, ImageFolder) and isinstance(data, ImageFolder) and opened.root == data.root:
        raise TrainingError(
            f"{data.root}: {a.train_split} and {a.val_split} are the same images: put them into folders of these "
            "names, or leave out --val_while_train"
        )
    return opened.numbered_by(data.classes, f"the split {a.train_split}")


def by_name(data: Dataset, opened: Checkpoint | None) -> Dataset:
    """The dataset with the labels that a checkpoint of train.py has for its classes. Raises InputError."""
    names = opened.metadata.get("class_names", "") if opened else ""
    try:
        known = json.loads(names) if names else None
    except ValueError:
        known = None
    if not isinstance(known, list) or not all(isinstance(name, str) for name in known):
        return data
    return data.numbered_by(known, "the checkpoint")


def network(a: Arguments, data: Dataset, checkpoint: str | Path | None = None, processes: int = 1) -> Network:
    """The network of the flags for the classes of `data`, to be read from `checkpoint` if there is one.

    Its classes are --num_classes', or the dataset's; in validation the checkpoint's own. Raises ZooError where the
    flags, the file and the dataset do not go together.
    """
    wanted = weights.resolve(a.model)
    opened = None if checkpoint is None else weights.open_checkpoint(checkpoint, model=wanted, ema=_averaged(a))
    held = wanted if opened is None else opened.model
    if a.program == "validate" and opened:
        if a.num_classes not in (None, held.num_classes):
            raise TrainingError(
                f"{checkpoint}: a network of {held.num_classes} classes: leave out --num_classes {a.num_classes}"
            )
        if held.num_classes < len(data.classes):
            raise TrainingError(
                f"{checkpoint}: a network of {held.num_classes} classes, and {a.dataset} has {len(data.classes)}"
            )
    classes = a.num_classes or (held.num_classes if opened and a.program == "validate" else len(data.classes))
    if classes < len(data.classes):
        raise TrainingError(
            f"{a.dataset} has {len(data.classes)} classes, labels 0 to {len(data.classes) - 1}, and the network "
            f"{classes}: give --num_classes {len(data.classes)}"
        )
    model = configure(
        wanted,
        num_classes=classes,
        in_channels=a.in_channels,
        drop_rate=a.drop_rate,
        aux=a.program == "train" and a.aux_factor > 0,
        width=(held.width if a.width is None else a.width) / wanted.width,
    )
    model = replace(model, size=held.size, preprocess=held.preprocess)
    if a.image_resize is not None or not _plain(a):
        model = replace(model, preprocess=_preprocess(a, model), size=a.image_resize or model.size)
    size = model.size
    InputCheck(model)((2, model.in_channels, size, size), a.program == "train")
    last = 0 if a.drop_remainder else len(data) % (a.batch_size * processes)
    if a.program == "train" and 0 < last < processes:
        raise TrainingError(
            f"{a.dataset}: the last batch of an epoch has {last} images for {processes} processes: leave it out with "
            "--drop_remainder, or take another --batch_size"
        )
    if a.program == "train" and 1 in (a.batch_size, last // processes):
        for op in trace(model, size, size).ops:
            if getattr(op.node, "norm", False) and op.outputs.height * op.outputs.width == 1:
                raise TrainingError(
                    f"a batch of 1 image at {size} pixels: batch norm of {op.path} has one value a channel to "
                    "normalise: take another --batch_size, or a larger --image_resize"
                )
    return Network(model, opened)


def plan(a: Arguments, model: Model) -> Plan:
    """What the flags do to the weights of `model`."""
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
    """Whether to compile: as --mode says; by default in MindSpore only, where it pays on a CPU and compiles fast."""
    return FRAMEWORKS[a.backend].compiles_by_default if a.mode is None else bool(a.mode == 0)


def schedule(a: Arguments, steps: int) -> Schedule:
    """The learning rates of the flags, for epochs of so many steps."""
    if a.warmup_epochs >= a.epoch_size:
        raise TrainingError(f"--warmup_epochs {a.warmup_epochs}: it must end before --epoch_size {a.epoch_size}")
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


def training_loader(a: Arguments, data: Dataset, model: Model, processes: Processes) -> Loader:
    """Shuffled, augmented, mixed batches of the training set."""
    how = model.preprocess
    augment = Augment(
        size=model.size,
        in_channels=model.in_channels,
        scale=a.scale,
        ratio=a.ratio,
        hflip=a.hflip,
        vflip=a.vflip,
        color_jitter=a.color_jitter,
        interpolation=a.interpolation or how.interpolation,
        auto_augment=a.auto_augment,
        re_prob=a.re_prob,
        re_scale=a.re_scale,
        re_ratio=a.re_ratio,
        re_value=a.re_value,
        re_max_attempts=a.re_max_attempts,
        mean=tuple(255 * value for value in how.mean),
        std=tuple(255 * value for value in how.std),
        channels=how.channels,
    )
    loader = Loader(
        data,
        augment,
        a.batch_size,
        seed=a.seed,
        shuffle=a.shuffle,
        drop_remainder=a.drop_remainder,
        workers=a.num_parallel_workers,
        repeats=a.aug_repeats,
        splits=a.aug_splits,
        mixing=Mixing(model.num_classes, a.mixup, a.cutmix, a.cutmix_prob, a.label_smoothing),
        share=(processes.rank, processes.size),
        unreadable="raise" if a.strict else "replace",
    )
    if not len(loader):
        together = f" on each of {processes.size} processes" if processes.size > 1 else ""
        raise TrainingError(
            f"--batch_size {a.batch_size}{together}: {a.dataset} has {len(data)} images, which make no batch: take a "
            "smaller one, or --drop_remainder no"
        )
    return loader


def validation_loader(a: Arguments, data: Dataset, model: Model, processes: Processes) -> Loader:
    """All images once, the last batch as small as it is."""
    return Loader(
        data,
        Evaluate(model, model.size),
        a.batch_size,
        seed=a.seed,
        shuffle=a.eval_shuffle,
        drop_remainder=False,
        workers=a.num_parallel_workers,
        share=(processes.rank, processes.size),
        unreadable="raise" if a.strict else "skip",
    )


def checkpoints(paths: Iterable[str], flag: str = "--ckpt_path") -> Iterator[Path]:
    """The files of --ckpt_path: as given, or those of a folder, by name. Raises TrainingError, naming the flag."""
    for given in paths:
        path = Path(given)
        if not path.exists():  # mindcv's documents write -best, its code _best
            other = path.with_name(path.name.replace("-best.", "_best."))
            other = other if other.exists() else path.with_name(path.name.replace("_best.", "-best."))
            if not other.exists():
                raise TrainingError(f"{flag} {given}: no such file or folder")
            path = other
        if not path.is_dir():
            yield path
            continue
        found = sorted(p for p in path.iterdir() if p.suffix in CHECKPOINTS and not p.name.startswith(("optim_", ".")))
        if not found:
            raise TrainingError(f"{flag} {given}: no checkpoint in it: none of {', '.join(CHECKPOINTS)}")
        yield from found


def _averaged(a: Arguments) -> bool:
    """--ema judges the average; train.py's own files hold it where there is one."""
    return a.program == "validate" and bool(a.ema)


def _plain(a: Arguments) -> bool:
    return all(getattr(a, name) is None for name in ("interpolation", "mean", "std", "crop_pct"))


def _preprocess(a: Arguments, model: Model) -> Preprocess:
    """The model's, but for what the flags say; at another size the shorter side is resized in proportion."""
    how = model.preprocess
    size = a.image_resize or model.size
    if a.interpolation not in (None, "bilinear", "bicubic"):
        raise TrainingError(f"--interpolation {a.interpolation}: validation resizes by bilinear or bicubic")
    return Preprocess(
        round(size / a.crop_pct) if a.crop_pct else round(how.resize * size / model.size),
        a.interpolation or how.interpolation,
        _three(a.mean, how.mean),
        _three(a.std, how.std),
        how.channels,
    )


def _three(given: tuple[float, ...] | None, own: tuple[float, float, float]) -> tuple[float, float, float]:
    """Flags are on a scale of 0 to 255."""
    if given is None:
        return own
    values = tuple(value / 255 for value in (given * 3 if len(given) == 1 else given))
    return cast("tuple[float, float, float]", values)
