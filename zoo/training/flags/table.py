"""The flags of train.py and validate.py: mindcv's, with its names and defaults, and this project's own.

Each field of the classes below is a flag. The field says everything about it once: the command line, --help, the keys
of a YAML recipe, the ranges that are checked, the warnings and the recipe that a run saves are all made from it. There
are three differences from mindcv's config.py: tuples and booleans are read as such; None stands for the value that the
network, its weights, the optimizer or the machine suggest (mode, image_resize, interpolation, mean, std, crop_pct, eps,
device_target); and --model has no default.
"""

from __future__ import annotations

import difflib
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from typing import Any, Literal

import weights
from zoo.errors import TrainingError
from zoo.frameworks import DTYPES, FRAMEWORKS, RUNTIMES
from zoo.training.flags.flag import (
    Condition,
    Flag,
    Script,
    flag,
    never,
    train,
    validate,
    with_any,
    with_optimizer,
    with_schedule,
)
from zoo.training.flags.types import (
    ABOVE_0,
    AMP,
    BELOW_1,
    COUNT,
    COUNT_OR_0,
    DEVICE,
    FILE,
    FILES,
    FOLDER,
    FROM_0,
    NAMES,
    PIXEL,
    RESUME,
    SHARE,
    SPLITS,
    SWITCH,
    TEXT,
    choice,
    either,
    integer,
    number,
    optional,
    several,
)

HALF = Condition(lambda a: a.amp_level != "O0", "at --amp_level O0, in float32")


def _one_a_channel(name: str) -> Callable[[Arguments], str]:
    def check(a: Arguments) -> str:
        given = getattr(a, name)
        if not given or len(given) in (1, a.in_channels):
            return ""
        return f": expected one number or {a.in_channels}, as --in_channels says, not {len(given)}"

    return check


def _no_half_weights(name: str) -> Callable[[Arguments], str]:
    reason = "weights and batch norm in half precision mean something else in every framework; O2 is as fast"
    return lambda a: f" O3: {reason}" if getattr(a, name) == "O3" else ""


def _one_file(a: Arguments) -> str:
    if a.script == "validate" or len(a.ckpt_path) <= 1:
        return ""
    return f": expected one checkpoint to start from, not {len(a.ckpt_path)}: {' '.join(a.ckpt_path)}"


def _can_train(a: Arguments) -> str:
    if a.script == "validate" or a.backend in FRAMEWORKS:
        return ""
    return f" {a.backend}: runs in inference only: train with {' or '.join(FRAMEWORKS)}"


def _calibrated(a: Arguments) -> str:
    if a.dtype != "int8" or a.calibration is not None:
        return ""
    return " int8: give --calibration too: a folder of images, or a number of training images"


# fmt: off
@dataclass(frozen=True)
class System:
    """System"""

    backend: str = flag("torch", choice(*FRAMEWORKS, *RUNTIMES), "what runs the network; onnx and openvino: inference "
                        "only", learning=False, synonyms=("framework",), needs=_can_train)
    device: str | None = flag(None, optional(DEVICE), "device that runs the network", "a GPU if there is one",
                              learning=False)
    device_target: str | None = flag(
        None, optional(choice("CPU", "GPU", "Ascend")), "alias of --device, as in mindcv", "as --device",
        learning=False, used=Condition(lambda a: a.device_target != "Ascend", "for Ascend, which is not supported"))
    mode: int | None = flag(None, optional(integer("[0, 1]")), "0: compiled graph, 1: eager",
                            "0 in MindSpore and JAX, else 1; validate.py without it runs an engine", learning=False)
    engine: str | None = validate(
        None, optional(choice("deploy", "module")), "deploy: the fastest way that the framework has; module: its own "
        "module, as --mode and --val_amp_level say", "module on a GPU and with one of those, otherwise deploy")
    dtype: Literal["fp32", "tf32", "bf16", "fp16", "int8"] = validate(
        "fp32", choice(*DTYPES), "arithmetic of the engine, if the backend has it", needs=_calibrated)
    calibration: str | None = validate(
        None, optional(TEXT), "for int8: images on which activations are measured, at most 256: a folder, or a number "
        "of images of --train_split",
        used=Condition(lambda a: a.dtype == "int8", "at --dtype {dtype}"))
    distribute: bool = flag(False, SWITCH, "run as one of several processes of torchrun, msrun, Paddle's or JAX's "
                            "launcher", learning=False)
    val_while_train: bool = train(False, SWITCH, "validate during training", learning=False)
    val_interval: int = train(1, COUNT, "validate every N epochs", learning=False, used=with_any("val_while_train"))
    log_interval: int = flag(100, COUNT, "log every N steps", learning=False)
    seed: int = flag(42, integer("[0, 4294967295]"), "seed of weights, order and augmentation")
    progress: Literal["auto", "bar", "log", "none"] = flag(
        "auto", choice("auto", "bar", "log", "none"), "auto: a bar on a terminal, otherwise lines", learning=False)
    tensorboard: bool = train(False, SWITCH, "write scalars for TensorBoard too", learning=False)


@dataclass(frozen=True)
class Data:
    """Data"""

    dataset: str = flag("imagenet", TEXT, "name of the dataset")
    data_dir: str = flag("./", FOLDER, "folder of the dataset, or to download it to", learning=False)
    train_split: str = train("train", TEXT, "split to train on")
    val_split: str = flag("val", TEXT, "split to validate on; datasets without val use test", learning=False)
    dataset_download: bool = flag(False, SWITCH, "download the dataset if it is not in --data_dir", learning=False)
    num_parallel_workers: int = flag(8, COUNT_OR_0, "threads that read and augment images; 0: none", learning=False,
                                     synonyms=("workers", "num_workers"))
    shuffle: bool = train(True, SWITCH, "use a new order in each epoch")
    num_samples: int | None = flag(None, optional(COUNT), "use only N images", "all")
    batch_size: int = flag(128, COUNT, "images in a batch, on each device", learning=False)
    drop_remainder: bool = train(True, SWITCH, "leave out the last batch of an epoch if it is incomplete")
    aug_repeats: int = train(0, COUNT_OR_0, "how often each image occurs in an epoch, augmented anew; 0 and 1: once")
    eval_shuffle: bool = flag(False, SWITCH, "validate in random order", learning=False)
    strict: bool = flag(False, SWITCH, "stop at an image that cannot be read instead of skipping it", learning=False)
    blacklist: str | None = flag(None, optional(FILE), "text file with names of images to leave out of validation",
                                 learning=False)
    class_map: str | None = validate(
        None, optional(FILE), "JSON or CSV that maps the dataset's class folders to the network's class numbers")


@dataclass(frozen=True)
class Preprocessing:
    """Augmentation and preprocessing"""

    image_resize: int | None = flag(None, optional(COUNT), "side of the input, in pixels",
                                    "the network's own; mindcv: 224", synonyms=("image_size", "img_size"))
    scale: tuple[float, float] = train((0.08, 1.0), several(number("(0, 1]"), "0.08 1", 2, operator.le),
                                       "area of a random crop, as a share of the image")
    ratio: tuple[float, float] = train((0.75, 1.333), several(ABOVE_0, "0.75 1.333", 2, operator.le),
                                       "aspect ratio of a random crop, width over height")
    hflip: float = train(0.5, SHARE, "probability of a horizontal flip")
    vflip: float = train(0.0, SHARE, "probability of a vertical flip")
    color_jitter: float | tuple[float, ...] = train(
        0.4, either(several(FROM_0, "0.4 0.4 0.4", 3), FROM_0),
        "largest relative change of brightness, contrast and saturation; one number or three")
    interpolation: Literal["nearest", "bilinear", "bicubic", "area", "lanczos"] | None = flag(
        None, optional(choice("nearest", "bilinear", "bicubic", "area", "lanczos")), "how images are resized",
        "that of the weights, or the network's own; mindcv: bilinear")
    auto_augment: str | None = train(None, optional(TEXT),
                                     "augmentation policy: randaug-m7-mstd0.5, autoaug, autoaugr, 3a, augmix, ...")
    aug_splits: int = train(0, SPLITS, "number of differently augmented views of each image",
                            needs=lambda a: " 3: needs a policy to augment by: give --auto_augment"
                            if a.aug_splits and a.auto_augment is None else "")
    re_prob: float = train(0.0, SHARE, "probability of erasing a random rectangle")
    re_scale: tuple[float, float] = train((0.02, 0.33), several(number("(0, 1]"), "0.02 0.33", 2, operator.le),
                                          "area of the rectangle, as a share of the image", used=with_any("re_prob"))
    re_ratio: tuple[float, float] = train((0.3, 3.3), several(ABOVE_0, "0.3 3.3", 2, operator.le),
                                          "aspect ratio of the rectangle", used=with_any("re_prob"))
    re_value: float | tuple[float, ...] | Literal["random"] = train(
        0.0, either(choice("random"), several(PIXEL, "124 116 104", 3), PIXEL),
        "value of the erased pixels: a number, three numbers, or random", used=with_any("re_prob"))
    re_max_attempts: int = train(10, COUNT, "attempts to place the rectangle within the image",
                                 used=with_any("re_prob"))
    mean: tuple[float, ...] | None = flag(
        None, optional(several(PIXEL, "123.675 116.28 103.53")), "mean to subtract, one number a channel",
        "that of the weights, or the network's own; mindcv: 123.675 116.28 103.53", needs=_one_a_channel("mean"))
    std: tuple[float, ...] | None = flag(
        None, optional(several(number("(0, 255]"), "58.395 57.12 57.375")), "standard deviation to divide by",
        "that of the weights, or the network's own; mindcv: 58.395 57.12 57.375", needs=_one_a_channel("std"))
    crop_pct: float | None = flag(
        None, optional(number("(0, 1]")), "side of the input over the shorter side after resizing, in validation",
        "that of the weights, or the network's own; mindcv: 0.875")
    mixup: float = train(0.0, FROM_0, "alpha of the beta distribution of mixup's weights; 0: off")
    cutmix: float = train(0.0, FROM_0, "alpha of the beta distribution of cutmix's area; 0: off")
    cutmix_prob: float = train(1.0, SHARE, "probability of mixup or cutmix in a batch",
                               used=with_any("mixup", "cutmix"))


@dataclass(frozen=True)
class Network:
    """Model and checkpoints"""

    model: str = flag("", TEXT, "network, required: a name of `zoo list`, package.module:NAME, a .json document or a "
                      "checkpoint",
                      learning=False, synonyms=("arch", "net"))
    num_classes: int | None = flag(None, optional(COUNT), "number of classes", "the dataset's")
    in_channels: int = flag(3, COUNT, "channels of the input")
    width: float | None = flag(None, optional(number("(0, 16]")), "factor on all channel counts",
                               "that of the weights, or 1")
    drop_rate: float | None = flag(None, optional(BELOW_1), "dropout rate before the classifier", "the network's own",
                                   synonyms=("dropout",))
    drop_path_rate: float | None = flag(
        None, optional(BELOW_1), "accepted for other recipes of mindcv: no Inception network drops paths",
        used=Condition(lambda a: not a.drop_path_rate, "on Inception networks: none of them drops paths"))
    pretrained: bool = flag(False, SWITCH, "start from the publisher's weights", learning=False)
    ckpt_path: tuple[str, ...] = flag(
        (), FILES, "train.py: checkpoint of any source to start from; validate.py: checkpoints to evaluate, or folders",
        learning=False, needs=_one_file, synonyms=("checkpoint", "checkpoint_path", "weights"))
    resume: str | None = train(
        None, RESUME, "resume a run from a state file, or without a value from the newest state in --ckpt_save_dir",
        learning=False)
    resume_opt: bool = train(False, SWITCH, "with --ckpt_path: resume the optimizer's state too", learning=False)
    freeze: tuple[str, ...] = train((), NAMES, "what is not trained: stages, parameter name patterns, all_but_head")
    keep_checkpoint_max: int = train(10, COUNT, "number of checkpoints to keep", learning=False)
    ckpt_save_dir: str = train("./ckpt", FOLDER, "folder for checkpoints and logs", learning=False,
                               synonyms=("output", "output_dir", "save_dir"))
    ckpt_save_interval: int = train(1, COUNT, "save a checkpoint every N epochs", learning=False)
    ckpt_save_policy: str | None = train("latest_k", optional(choice("latest_k", "top_k")),
                                         "which checkpoints to keep; None: all", learning=False)
    keep_state_max: int = train(2, COUNT, "number of states to keep; a run resumes from a state, optim_MODEL.ckpt",
                                learning=False)
    recovery_interval: int = train(0, COUNT_OR_0, "save a state every N batches; 0: only between epochs",
                                   learning=False)
    epoch_size: int = train(90, COUNT, "epochs to train", synonyms=("epochs", "num_epochs"))
    dataset_sink_mode: bool = flag(True, SWITCH, "accepted for recipes of mindcv: all frameworks share one pipeline",
                                   learning=False, used=never("as every framework is fed by one input pipeline"))
    ema: bool = flag(False, SWITCH, "keep and validate a moving average of the weights; validate.py: use a file's")
    ema_decay: float = train(0.9999, number("(0, 1)"), "decay of the moving average per update", used=with_any("ema"))
    clip_grad: bool = train(False, SWITCH, "clip the global norm of the gradients to --clip_value")
    clip_value: float = train(15.0, ABOVE_0, "largest global norm of the gradients", used=with_any("clip_grad"),
                              synonyms=("clip_norm", "grad_clip"))
    layer_decay: float | None = train(None, optional(number("(0, 1]")),
                                      "factor on the learning rate from each stage to the one before it")
    gradient_accumulation_steps: int = train(1, COUNT, "batches whose gradients make one update",
                                             synonyms=("accumulate", "grad_accum_steps"))


@dataclass(frozen=True)
class Optimizer:
    """Optimizer"""

    opt: str = train("adam", choice("sgd", "momentum", "adam", "adamw", "lion", "rmsprop", "adagrad", "lamb", "nadam"),
                     "optimizer", synonyms=("optimizer", "optim"))
    momentum: float = train(0.9, BELOW_1, "momentum of sgd, momentum and rmsprop",
                            used=with_optimizer("sgd", "momentum", "rmsprop"))
    weight_decay: float = train(1e-6, FROM_0, "weight decay: L2; decoupled with adamw, lion and lamb",
                                synonyms=("wd",))
    use_nesterov: bool = train(False, SWITCH, "Nesterov's momentum, with sgd and momentum", synonyms=("nesterov",))
    weight_decay_filter: str = train("disable", choice("disable", "auto", "norm_and_bias"),
                                     "what has no weight decay: nothing, batch norm, batch norm and biases")
    eps: float | None = train(None, optional(ABOVE_0), "epsilon of the adaptive optimizers",
                              "the optimizer's own; rmsprop: 1e-10",
                              used=with_optimizer("adam", "adamw", "nadam", "lamb", "rmsprop", "adagrad"))


@dataclass(frozen=True)
class LearningRate:
    """Learning rate"""

    scheduler: str = train("cosine_decay", choice(
        "constant", "cosine_decay", "exponential_decay", "step_decay", "multi_step_decay", "one_cycle", "cyclic",
        warmup_cosine_decay="cosine_decay"), "learning-rate schedule", synonyms=("sched", "lr_scheduler"))
    lr: float = train(0.001, FROM_0, "peak of the learning rate", synonyms=("learning_rate", "base_lr"))
    min_lr: float = train(1e-6, FROM_0, "learning rate at the end of cosine_decay, one_cycle and cyclic",
                          used=with_schedule("cosine_decay", "one_cycle", "cyclic"))
    warmup_epochs: int = train(3, COUNT_OR_0, "epochs in which the learning rate rises to its peak; by default at most "
                               "a quarter of all epochs")
    warmup_factor: float = train(0.0, SHARE, "share of the peak at which the warm-up starts",
                                 used=with_any("warmup_epochs"))
    decay_epochs: int = train(100, COUNT, "epochs of a cycle of cosine_decay, or between steps",
                              used=with_schedule("cosine_decay", "step_decay"))
    decay_rate: float = train(0.9, ABOVE_0, "factor at each step; exponential_decay: at each epoch",
                              used=with_schedule("exponential_decay", "step_decay", "multi_step_decay"))
    multi_step_decay_milestones: tuple[int, ...] = train(
        (30, 60, 90), several(COUNT, "30 60 90", order=operator.lt), "epochs after the warm-up at which the rate steps",
        used=with_schedule("multi_step_decay"))
    lr_epoch_stair: bool = train(False, SWITCH, "change the learning rate only at the start of an epoch")
    num_cycles: int = train(1, COUNT, "number of cycles, of cosine_decay and cyclic",
                            used=with_schedule("cosine_decay", "cyclic"))
    cycle_decay: float = train(1.0, ABOVE_0, "factor on the peak from cycle to cycle",
                               used=with_schedule("cosine_decay"))


@dataclass(frozen=True)
class Loss:
    """Loss"""

    loss: Literal["CE", "BCE"] = train("CE", choice("CE", "BCE"), "cross-entropy, or binary cross-entropy per class")
    label_smoothing: float = train(0.0, BELOW_1, "share of the target that is spread over all classes",
                                   synonyms=("smoothing",))
    aux_factor: float = train(0.0, FROM_0, "factor on the losses of the auxiliary heads", used=Condition(
        lambda a: bool(weights.resolve(a.model).aux), "on {model}, which has no auxiliary heads"))
    reduction: Literal["mean", "sum"] = train("mean", choice("mean", "sum"), "how the losses of a batch are reduced")


@dataclass(frozen=True)
class Precision:
    """Mixed precision"""

    amp_level: str = train("O0", AMP, "O0: float32; O1, O2: convolutions and matrix products in half precision",
                           needs=_no_half_weights("amp_level"), synonyms=("amp",))
    val_amp_level: str = flag("O0", AMP, "the same for validation", learning=False,
                              needs=_no_half_weights("val_amp_level"))
    amp_cast_list: str | None = train(
        None, optional(TEXT), "accepted for recipes of mindcv: the frameworks have their own lists",
        used=never("as every framework has its own list of what to compute in half precision"))
    loss_scale_type: str = train("fixed", choice("fixed", "dynamic", "auto"), "auto: dynamic with mixed precision",
                                 used=HALF)
    loss_scale: float = train(1.0, ABOVE_0, "factor on the loss, divided out of the gradients; dynamic: the initial "
                              "factor", used=HALF)
    drop_overflow_update: bool = train(False, SWITCH, "skip updates whose gradients overflow")


@dataclass(frozen=True)
class Reports:
    """Reports"""

    json: str | None = validate(None, optional(FILE), "write the result as JSON")
    csv: str | None = validate(None, optional(FILE), "write the figures of each class as CSV")
    confusion: str | None = validate(None, optional(FILE), "write the confusion matrix as CSV")
    predictions: str | None = validate(None, optional(FILE), "write the prediction for each image as CSV")
    bad_images: str = validate("bad_images.csv", FILE, "where to list images that cannot be read")
    per_class: bool = validate(False, SWITCH, "show the figures of every class")
    worst: int = validate(10, COUNT, "how many of the worst classes to show")
    study: bool = validate(False, SWITCH, "evaluate the weights with other epsilons and pooling borders too")
# fmt: on


GROUPS = (System, Data, Preprocessing, Network, Optimizer, LearningRate, Loss, Precision, Reports)


@dataclass(frozen=True)
class Arguments(
    Reports, Precision, Loss, LearningRate, Optimizer, Network, Preprocessing, Data, System
):  # fields come in reverse order
    """The values of all flags. Arguments are equal if their script and values are.

    script  the script they were read for
    config  the YAML file that was read, or ""
    given   names of flags set by that file or on the command line; `typed`: on the command line
    """

    script: Script = "train"
    config: str = field(default="", compare=False)
    given: frozenset[str] = field(default=frozenset(), compare=False)
    typed: frozenset[str] = field(default=frozenset(), compare=False)

    @property
    def values(self) -> dict[str, Any]:
        """The values of the script's flags by name."""
        return {name: getattr(self, name) for name in flags_of(self.script)}

    def replace(self, **changes: Any) -> Arguments:
        """A copy with other values, read like those of a YAML file.

        Raises TrainingError for a value that its flag does not take, KeyError for another name.
        """
        known = flags_of(self.script)
        return replace(self, **{name: read(known[name], value, name) for name, value in changes.items()})


FLAGS: dict[str, Flag] = {
    row.name: replace(row.metadata["flag"], name=row.name) for row in fields(Arguments) if "flag" in row.metadata
}
"""The table: all flags by name."""


@cache
def flags_of(script: Script) -> Mapping[str, Flag]:
    """The flags that a script accepts: validate.py takes those of train.py too, so that one recipe serves both."""
    return {name: row for name, row in FLAGS.items() if script == "validate" or row.script != "validate"}


def groups(script: Script) -> dict[str, list[Flag]]:
    """The flags that a script accepts, by the title of their group."""
    known = flags_of(script)
    return {str(group.__doc__): [known[f.name] for f in fields(group) if f.name in known] for group in GROUPS}


def read(row: Flag, value: Any, where: str) -> Any:
    """The value of a flag. Raises TrainingError, which begins with `where`, for a value that it does not take."""
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
        value = value[0]
    try:
        return row.type.read(value)
    except (ValueError, TypeError, OverflowError):
        given = " ".join(map(str, value)) if isinstance(value, list | tuple) else value
        raise TrainingError(f"{where}: expected {row.type.expected}, not {given!r}") from None


def shown(value: Any) -> str:
    """A value as messages and --help show it."""
    match value:
        case bool():
            return "yes" if value else "no"
        case tuple():
            return " ".join(map(shown, value)) or "none"
        case "":
            return "none"
        case float():
            return f"{value:g}"
        case _:
            return str(value)


def similar(name: str, flags: Mapping[str, Flag], prefix: str = "") -> str:
    """A hint for an unknown flag: the flags with that synonym, or those with similar names; "" if there are none."""
    found = [row.name for row in flags.values() if name in row.synonyms]
    found = found or difflib.get_close_matches(name, flags, n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(f'{prefix}{near}' for near in found)}?" if found else ""
