"""The flags of train.py and validate.py: mindcv's, by its names and with its defaults, and this project's own.

The table `GROUPS` says everything about a flag once; from it come the command line, its --help, the keys of a YAML
recipe, the ranges that are checked, and the recipe that a run saves. What differs from mindcv's config.py: tuples and
booleans are read as what they are; None stands for what the network, its weights, the optimizer or the machine say
(mode, image_resize, interpolation, mean, std, crop_pct, eps, device_target); and --model has no default.
"""

from __future__ import annotations

import argparse
import difflib
import logging
import operator
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, NoReturn

import weights
from zoo.errors import TrainingError, ZooError
from zoo.files import atomic_write
from zoo.training.kinds import (
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
    Kind,
    choice,
    either,
    integer,
    maybe,
    number,
    several,
)

Program = Literal["train", "validate"]

logger = logging.getLogger("zoo")


@dataclass(frozen=True)
class Flag:
    """A row of the table.

    help     completed by the kind's hint, and by `default`
    unset    what a default of None stands for
    program  the one that the flag belongs to, None for both
    """

    name: str
    default: Any
    kind: Kind
    help: str
    unset: str = "none"
    program: Program | None = None


def _train(name: str, default: Any, kind: Kind, help: str, unset: str = "none") -> Flag:
    return Flag(name, default, kind, help, unset, "train")


# fmt: off
GROUPS: dict[str, tuple[Flag, ...]] = {
    "System": (
        Flag("backend", "torch", choice("torch", "mindspore", "paddle"), "the framework that runs the network"),
        Flag("device", None, maybe(DEVICE), "where the network runs", "a GPU where there is one"),
        Flag("device_target", None, maybe(choice("CPU", "GPU", "Ascend")), "mindcv's word for it", "as --device"),
        Flag("mode", None, maybe(integer("[0, 1]")), "0: compiled graph, 1: eager", "0 in MindSpore, else 1"),
        Flag("distribute", False, SWITCH, "one of several processes, started by torchrun, msrun or Paddle's launcher"),
        _train("val_while_train", False, SWITCH, "validate during training"),
        _train("val_interval", 1, COUNT, "epochs from one validation to the next"),
        Flag("log_interval", 100, COUNT, "steps from one line of the log to the next"),
        Flag("seed", 42, integer("[0, 4294967295]"), "of weights, order and augmentation"),
        Flag("progress", "auto", choice("auto", "bar", "log", "none"), "auto: a bar on a terminal, else lines"),
        _train("tensorboard", False, SWITCH, "write scalars for TensorBoard too"),
    ),
    "Data": (
        Flag("dataset", "imagenet", TEXT, "name of the dataset"),
        Flag("data_dir", "./", FOLDER, "folder of the dataset, or to download it to"),
        _train("train_split", "train", TEXT, "part of it to train on"),
        Flag("val_split", "val", TEXT, "part of it to validate on; where there is no val, val means test"),
        Flag("dataset_download", False, SWITCH, "fetch it first if it is not there"),
        Flag("num_parallel_workers", 8, COUNT_OR_0, "threads that read and augment images; 0: none of their own"),
        _train("shuffle", True, SWITCH, "a new order each epoch"),
        Flag("num_samples", None, maybe(COUNT), "take so many images only", "all"),
        Flag("batch_size", 128, COUNT, "images a step, on each device"),
        _train("drop_remainder", True, SWITCH, "leave out the last batch of an epoch where it is smaller"),
        _train("aug_repeats", 0, COUNT_OR_0, "times each image comes in an epoch, augmented anew; 0 and 1: once"),
        Flag("eval_shuffle", False, SWITCH, "validate in random order"),
        Flag("strict", False, SWITCH, "stop at an image that cannot be read, instead of leaving it out"),
        Flag("blacklist", None, maybe(FILE), "lines of image names to leave out of validation"),
    ),
    "Augmentation and preprocessing": (
        Flag("image_resize", None, maybe(COUNT), "input side, pixels", "the network's own; mindcv: 224"),
        _train("scale", (0.08, 1.0), several(number("(0, 1]"), "0.08 1", 2, operator.le), "area of a random crop"),
        _train("ratio", (0.75, 1.333), several(ABOVE_0, "0.75 1.333", 2, operator.le), "its width over its height"),
        _train("hflip", 0.5, SHARE, "probability of a horizontal flip"),
        _train("vflip", 0.0, SHARE, "probability of a vertical flip"),
        _train("color_jitter", 0.4, either(several(FROM_0, "0.4 0.4 0.4", 3), FROM_0),
               "brightness, contrast and saturation change by up to this factor; one number or three"),
        Flag("interpolation", None, maybe(choice("nearest", "bilinear", "bicubic", "area", "lanczos")),
             "how images are resized", "the weights' own, else the network's; mindcv: bilinear"),
        _train("auto_augment", None, maybe(TEXT), "a policy: randaug-m7-mstd0.5, autoaug, autoaugr, 3a, augmix, ..."),
        _train("aug_splits", 0, SPLITS, "augment each image in so many ways"),
        _train("re_prob", 0.0, SHARE, "probability of erasing a rectangle"),
        _train("re_scale", (0.02, 0.33), several(number("(0, 1]"), "0.02 0.33", 2, operator.le), "its area"),
        _train("re_ratio", (0.3, 3.3), several(ABOVE_0, "0.3 3.3", 2, operator.le), "its width over height"),
        _train("re_value", 0.0, either(choice("random"), several(PIXEL, "124 116 104", 3), PIXEL),
               "what fills it: a number, three, or random"),
        _train("re_max_attempts", 10, COUNT, "tries to place it within the image"),
        Flag("mean", None, maybe(several(PIXEL, "123.675 116.28 103.53")), "of the pixels, one a channel, to subtract",
             "the weights' own, else the network's; mindcv: 123.675 116.28 103.53"),
        Flag("std", None, maybe(several(number("(0, 255]"), "58.395 57.12 57.375")), "of the pixels, to divide by",
             "the weights' own, else the network's; mindcv: 58.395 57.12 57.375"),
        Flag("crop_pct", None, maybe(ABOVE_0), "input side over the shorter side after resizing, in validation",
             "the weights' own, else the network's; mindcv: 0.875"),
        _train("mixup", 0.0, FROM_0, "alpha of the mixing weights' beta distribution; 0: off"),
        _train("cutmix", 0.0, FROM_0, "alpha of the pasted area's beta distribution; 0: off"),
        _train("cutmix_prob", 1.0, SHARE, "probability of mixup or cutmix"),
    ),
    "Model and checkpoints": (
        Flag("model", None, maybe(TEXT), "the network, required: a name that `zoo list` shows"),
        Flag("num_classes", None, maybe(COUNT), "number of classes", "the dataset's"),
        Flag("in_channels", 3, COUNT, "channels of the input"),
        Flag("width", None, maybe(number("(0, 16]")), "multiplies the channel counts", "the weights' own, else 1"),
        Flag("drop_rate", None, maybe(BELOW_1), "dropout before the classifier", "the network's own"),
        Flag("drop_path_rate", None, maybe(BELOW_1), "for recipes of other networks: no Inception drops paths"),
        Flag("pretrained", False, SWITCH, "begin with the publisher's weights"),
        _train("ckpt_path", "", FILE, "begin with the weights of this file, of any source"),
        Flag("ckpt_path", (), FILES, "checkpoints to judge, or folders of them; may be repeated", program="validate"),
        _train("resume", None, RESUME, "go on with a run: from a file of it, or the newest state in --ckpt_save_dir"),
        _train("resume_opt", False, SWITCH, "with --ckpt_path: the optimizer's state too"),
        _train("freeze", (), NAMES, "what stays as it is: stages, patterns of parameter names, all_but_head"),
        _train("keep_checkpoint_max", 10, COUNT, "checkpoints to keep"),
        _train("ckpt_save_dir", "./ckpt", FOLDER, "where checkpoints and logs go"),
        _train("ckpt_save_interval", 1, COUNT, "epochs from one checkpoint to the next"),
        _train("ckpt_save_policy", "latest_k", maybe(choice("latest_k", "top_k")), "which to keep; None: all"),
        _train("keep_state_max", 2, COUNT, "states to keep, from which a run goes on: optim_MODEL.ckpt, and before it"),
        _train("recovery_interval", 0, COUNT_OR_0, "batches from one state to the next within an epoch; 0: none"),
        _train("epoch_size", 90, COUNT, "epochs to train for"),
        Flag("dataset_sink_mode", True, SWITCH, "for recipes of mindcv: every framework is fed by one pipeline here"),
        Flag("ema", False, SWITCH, "keep, and validate, a moving average of the weights; validate.py: judge a file's"),
        _train("ema_decay", 0.9999, number("(0, 1)"), "decay of that average a step"),
        _train("clip_grad", False, SWITCH, "scale down gradients above --clip_value"),
        _train("clip_value", 15.0, ABOVE_0, "largest norm of all gradients together"),
        _train("layer_decay", None, maybe(number("(0, 1]")), "factor on the rate from each stage to the one before"),
        _train("gradient_accumulation_steps", 1, COUNT, "batches whose gradients make one update"),
    ),
    "Optimizer": (
        _train("opt", "adam", choice("sgd", "momentum", "adam", "adamw", "lion", "rmsprop", "adagrad", "lamb",
               "nadam"), "the optimizer"),
        _train("momentum", 0.9, BELOW_1, "momentum of sgd, momentum and rmsprop"),
        _train("weight_decay", 1e-6, FROM_0, "L2; decoupled with adamw, lion and lamb"),
        _train("use_nesterov", False, SWITCH, "Nesterov's momentum, of sgd and momentum"),
        _train("weight_decay_filter", "disable", choice("disable", "auto", "norm_and_bias"),
               "what is spared: nothing, batch norm, batch norm and biases"),
        _train("eps", None, maybe(ABOVE_0), "epsilon of the adaptive ones", "the optimizer's own; rmsprop: 1e-10"),
    ),
    "Learning rate": (
        _train("scheduler", "cosine_decay", choice("constant", "cosine_decay", "exponential_decay", "step_decay",
               "multi_step_decay", "one_cycle", "cyclic", warmup_cosine_decay="cosine_decay"), "its course"),
        _train("lr", 0.001, FROM_0, "peak of the learning rate"),
        _train("min_lr", 1e-6, FROM_0, "its end with cosine_decay, one_cycle and cyclic"),
        _train("warmup_epochs", 3, COUNT_OR_0, "epochs in which it climbs to its peak; at most a quarter if not given"),
        _train("warmup_factor", 0.0, SHARE, "what part of the peak it begins with"),
        _train("decay_epochs", 100, COUNT, "epochs of a cosine's cycle, or of a step"),
        _train("decay_rate", 0.9, ABOVE_0, "factor on it at each step; exponential_decay: at each epoch"),
        _train("multi_step_decay_milestones", (30, 60, 90), several(COUNT, "30 60 90", order=operator.lt),
               "epochs after the warm-up at which it is multiplied"),
        _train("lr_epoch_stair", False, SWITCH, "change it at the start of epochs only"),
        _train("num_cycles", 1, COUNT, "cycles, of cosine_decay and cyclic"),
        _train("cycle_decay", 1.0, ABOVE_0, "factor on the peak from cycle to cycle"),
    ),
    "Loss": (
        _train("loss", "CE", choice("CE", "BCE"), "cross-entropy, or a binary one for each class"),
        _train("label_smoothing", 0.0, BELOW_1, "share of the target spread over all classes"),
        _train("aux_factor", 0.0, FROM_0, "factor on the auxiliary heads' losses"),
        _train("reduction", "mean", choice("mean", "sum"), "of the losses of a batch"),
    ),
    "Mixed precision": (
        _train("amp_level", "O0", AMP, "O0: float32; O1, O2: convolutions and products in half precision"),
        Flag("val_amp_level", "O0", AMP, "validation with convolutions and products in half precision: O1, O2"),
        _train("amp_cast_list", None, maybe(TEXT), "for recipes of mindcv: the frameworks have their own lists"),
        _train("loss_scale_type", "fixed", choice("fixed", "dynamic", "auto"), "auto: dynamic with mixed precision"),
        _train("loss_scale", 1.0, ABOVE_0, "factor on the loss, taken out of the gradients; dynamic: the first"),
        _train("drop_overflow_update", False, SWITCH, "skip updates whose gradients overflow"),
    ),
    "Reports": (
        Flag("json", None, maybe(FILE), "write the result as JSON", program="validate"),
        Flag("csv", None, maybe(FILE), "write each class's figures as CSV", program="validate"),
        Flag("confusion", None, maybe(FILE), "write the confusion matrix as CSV", program="validate"),
        Flag("predictions", None, maybe(FILE), "write what each image was taken for as CSV", program="validate"),
        Flag("bad_images", "bad_images.csv", FILE, "where to list images that cannot be read", program="validate"),
        Flag("per_class", False, SWITCH, "show every class's figures", program="validate"),
        Flag("worst", 10, COUNT, "how many of the worst classes to show", program="validate"),
        Flag("study", False, SWITCH, "the same weights with other epsilons and pool borders", program="validate"),
    ),
}
# fmt: on


@dataclass(frozen=True)
class Arguments:
    """The flags' values as attributes, e.g. `arguments.lr`; two are equal when program and values are.

    config  the YAML file that was read, or ""
    given   names of flags set by that file or on the command line; `typed`: on the command line
    """

    program: Program
    values: Mapping[str, Any] = field(hash=False)
    config: str = field(default="", compare=False)
    given: frozenset[str] = field(default=frozenset(), compare=False)
    typed: frozenset[str] = field(default=frozenset(), compare=False)

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__.get("values", {})[name]
        except KeyError:
            raise AttributeError(f"{type(self).__name__} has no flag {name!r}") from None

    def replace(self, **changes: Any) -> Arguments:
        """A copy with other values, read like those of a YAML file. Raises TrainingError, KeyError for other names."""
        flags = _flags(self.program)
        read = {name: _read(flags[name], value, name) for name, value in changes.items()}
        return replace(self, values={**self.values, **read})


def parse(arguments: Sequence[str] | None = None, program: Program = "train") -> Arguments:
    """The flags of a command line (sys.argv's by default) over those of its --config over the defaults.

    Warns, on the logger "zoo", of a bare `key=value` and of flags that the program ignores. --help prints and exits.
    Raises TrainingError for whatever does not make sense, with what was expected and what came.
    """
    flags = _flags(program)
    words = _dashed(sys.argv[1:] if arguments is None else arguments, flags)
    namespace, rest = _parser(program).parse_known_args(words)
    if rest:
        raise _unexpected(rest[0], flags)
    texts = vars(namespace)
    config = texts.pop("config", "")
    typed = {name: _read(flags[name], text, f"--{name}") for name, text in texts.items()}
    filed = _load(config, flags) if config else {}
    values = {flag.name: flag.default for flag in flags.values()} | filed | typed
    values["device"] = _chosen_device(typed, filed)
    _one_source_of_weights(values, flags, typed, filed)
    _check(values)
    if not {"warmup_epochs"} & (typed.keys() | filed.keys()):
        own = values["scheduler"] in ("one_cycle", "cyclic")  # they begin low by themselves
        values["warmup_epochs"] = 0 if own else min(values["warmup_epochs"], values["epoch_size"] // 4)
    ignored = [f"--{name}" for name in typed if program == "validate" and flags[name].program == "train"]
    if ignored:
        logger.warning("validate.py ignores %s: for training only", ", ".join(ignored))
    return Arguments(program, values, config, frozenset(typed | filed), frozenset(typed))


def to_yaml(arguments: Arguments) -> str:
    """All values, by section; given back with --config they make equal Arguments."""
    import yaml

    text = f"# {arguments.program}.py -c THIS_FILE\n"
    for title, group in GROUPS.items():
        values = {flag.name: arguments.values[flag.name] for flag in group if flag.name in arguments.values}
        if values:
            text += f"\n# {title}\n"
        for name, value in values.items():
            style = None if isinstance(value, tuple) else False  # tuples within their line
            text += yaml.safe_dump(
                {name: value}, default_flow_style=style, allow_unicode=str(value).isprintable(), width=10**6
            )
    return text


def save_yaml(arguments: Arguments, path: str | Path) -> None:
    """Write `to_yaml` to a file, whole or not at all; raises TrainingError where it cannot be written."""
    try:
        with atomic_write(path) as part:
            part.write_text(to_yaml(arguments), encoding="utf-8")
    except OSError as error:
        raise TrainingError(f"{path}: cannot write the flags there: {error.strerror}") from None


def remarks(arguments: Arguments) -> list[str]:
    """A sentence for each flag of the command line that changes nothing in this run, or that will take long."""
    flags, sentences = _flags(arguments.program), []
    for name, used, reason in _uses(arguments):
        typed = name in arguments.typed and arguments.values[name] != flags[name].default
        if typed and not used and flags[name].program in (None, arguments.program):
            sentences.append(f"--{name} has no effect {reason}.")
    if arguments.mode == 0 and arguments.backend == "torch" and not str(arguments.device).startswith("gpu"):
        sentences.append(
            "--mode 0: on a CPU torch.compile takes minutes before the first batch; --mode 1 begins at once."
        )
    return sentences


SAME_RUN = {
    *("ckpt_path", "pretrained", "resume", "resume_opt", "keep_checkpoint_max", "keep_state_max", "ckpt_save_dir"),
    *("ckpt_save_interval", "ckpt_save_policy", "recovery_interval", "dataset_sink_mode", "backend", "device"),
    *("device_target", "mode", "distribute", "val_while_train", "val_interval", "val_split", "val_amp_level"),
    *("eval_shuffle", "log_interval", "progress", "tensorboard", "data_dir", "dataset_download", "strict"),
    *("num_parallel_workers", "blacklist", "batch_size"),
}
"""Flags that change nothing in what is learned; batch_size may change with the number of processes."""


def changes(arguments: Arguments, text: str) -> list[str]:
    """What a run learns differently by than by the flags that `to_yaml` wrote: "--lr 0.1 (was 0.01)", ..."""
    import yaml

    flags, before = _flags(arguments.program), yaml.safe_load(text)
    if not isinstance(before, dict):
        return []
    found = []
    for name, value in arguments.values.items():
        if name in before and name not in SAME_RUN:
            was = _read(flags[name], before[name], name)
            if was != value:
                found.append(f"--{name} {_shown(value)} (was {_shown(was)})")
    return found


SCHEDULED = {
    "min_lr": ("cosine_decay", "one_cycle", "cyclic"),
    "decay_epochs": ("cosine_decay", "step_decay"),
    "decay_rate": ("exponential_decay", "step_decay", "multi_step_decay"),
    "multi_step_decay_milestones": ("multi_step_decay",),
    "num_cycles": ("cosine_decay", "cyclic"),
    "cycle_decay": ("cosine_decay",),
}
"""The schedules that read a flag."""

OPTIMIZED = {
    "momentum": ("sgd", "momentum", "rmsprop"),
    "eps": ("adam", "adamw", "nadam", "lamb", "rmsprop", "adagrad"),
}
"""The optimizers that read a flag."""


def _uses(a: Arguments) -> Iterator[tuple[str, bool, str]]:
    """Flags, whether this run reads them, and what to say if it does not."""
    yield "dataset_sink_mode", False, "as every framework is fed by one input pipeline"
    yield "amp_cast_list", False, "as every framework has its own list of what to compute in half precision"
    for name, schedules in SCHEDULED.items():
        yield name, a.scheduler in schedules, f"with --scheduler {a.scheduler}"
    for name, optimizers in OPTIMIZED.items():
        yield name, a.opt in optimizers, f"with --opt {a.opt}"
    for name in ("re_scale", "re_ratio", "re_value", "re_max_attempts"):
        yield name, a.re_prob > 0, "without --re_prob"
    for name in ("loss_scale", "loss_scale_type"):
        yield name, a.amp_level != "O0", "at --amp_level O0, in float32"
    yield "drop_path_rate", not a.drop_path_rate, "on Inception networks: none of them drops paths"
    yield "aux_factor", bool(weights.resolve(a.model).aux), f"on {a.model}, which has no auxiliary heads"
    yield "device_target", a.device_target != "Ascend", "for Ascend, on which this project does not run"
    yield "warmup_factor", a.warmup_epochs > 0, "without --warmup_epochs"
    yield "ema_decay", a.ema, "without --ema"
    yield "clip_value", a.clip_grad, "without --clip_grad"
    yield "cutmix_prob", a.mixup > 0 or a.cutmix > 0, "without --mixup or --cutmix"
    yield "val_interval", a.val_while_train, "without --val_while_train"


@cache
def _flags(program: Program) -> Mapping[str, Flag]:
    """What a program accepts, by name: validate.py takes train.py's too, so that one YAML file serves both."""
    rows = [flag for group in GROUPS.values() for flag in group]
    accepted = {flag.name: flag for flag in rows if program == "validate" or flag.program != "validate"}
    return accepted | {flag.name: flag for flag in rows if flag.program == program}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise TrainingError(f"{message.removeprefix('argument ')} (see {self.prog} --help)")


def _parser(program: Program) -> _Parser:
    what = {"train": "Train a network.", "validate": "Measure how well a network classifies."}[program]
    parser = _Parser(
        prog=f"{program}.py",
        usage=f"{program}.py [-c RECIPE] --model NAME [--FLAG VALUE ...]",
        description=f"{what} Flags and YAML recipes are mindcv's; on/off flags may be given bare.",
        epilog="The flags of train.py are accepted too." if program == "validate" else None,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=32, width=110),
    )
    parser.add_argument("-c", "--config", metavar="FILE", help="YAML recipe; what the command line says goes before it")
    for title, group in GROUPS.items():
        section = parser.add_argument_group(title)
        for flag in group:
            if _flags(program).get(flag.name) is flag:
                bare: dict[str, Any] = {"const": "true"} if flag.kind.nargs == "?" else {}
                section.add_argument(
                    f"--{flag.name}",
                    metavar=flag.kind.metavar,
                    nargs=flag.kind.nargs,
                    action="extend" if flag.kind.repeats else "store",
                    help=_help(flag) if flag.program in (None, program) else argparse.SUPPRESS,
                    **bare,
                )
    return parser


def _help(flag: Flag) -> str:
    default = flag.unset if flag.default is None else _shown(flag.default)
    return f"{flag.help}{flag.kind.hint} (default: {default})".replace("%", "%%")


def _shown(value: Any) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case tuple():
            return " ".join(map(_shown, value)) or "none"
        case "":
            return "none"
        case float():
            return f"{value:g}"
        case _:
            return str(value)


def _dashed(words: Sequence[str], flags: Mapping[str, Flag]) -> list[str]:
    """A bare `key=value` becomes `--key=value`, unless it is the value of the flag before it."""
    result: list[str] = []
    bare = []
    for word in words:
        before = flags.get(result[-1].removeprefix("--")) if result and result[-1].startswith("--") else None
        is_value = before is not None and before.kind.nargs != "?"
        if re.match(r"[a-z]\w*=", word) and not is_value:
            bare.append(word)
            word = f"--{word}"
        result.append(word)
    if bare:
        logger.warning("%s: taken for %s", " ".join(bare), " ".join(f"--{word}" for word in bare))
    return result


def _unexpected(word: str, flags: Mapping[str, Flag]) -> TrainingError:
    if not word.startswith("--"):
        return TrainingError(f"{word}: unexpected; flags are given as --name value")
    name = word[2:].partition("=")[0]
    if name in _flags("validate"):
        return TrainingError(f"--{name}: a flag of validate.py only")
    return TrainingError(f"--{name}: no such flag{_near(name, flags, '--')}")


def _near(name: str, names: Iterable[str], prefix: str = "") -> str:
    found = [f"{prefix}{near}" for near in difflib.get_close_matches(name, names, n=3, cutoff=0.5)]
    return f"; did you mean {' or '.join(found)}?" if found else ""


def _read(flag: Flag, value: Any, where: str) -> Any:
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
        value = value[0]
    try:
        return flag.kind.read(value)
    except (ValueError, TypeError, OverflowError):
        came = " ".join(map(str, value)) if isinstance(value, list | tuple) else value
        raise TrainingError(f"{where}: expected {flag.kind.expected}, not {came!r}") from None


def _load(path: str, flags: Mapping[str, Flag]) -> dict[str, Any]:
    """A recipe's values that this program accepts. Raises TrainingError with the file and the line."""
    known = _flags("validate")
    values: dict[str, Any] = {}
    for key, value, line in _entries(path):
        where = f"{path}: line {line}: "
        if key in values:
            raise TrainingError(f"{where}{key} is there twice")
        if key == "config":  # mindcv saves it among the others
            continue
        if key not in known:
            raise TrainingError(f"{where}{key}: no such flag{_near(key, known)}")
        values[key] = _read(flags.get(key, known[key]), value, f"{where}{key}")
    return {name: value for name, value in values.items() if name in flags}


def _entries(path: str) -> Iterator[tuple[str, Any, int]]:
    """Keys, values and line numbers of a YAML mapping."""
    import yaml

    try:
        loader = yaml.SafeLoader(Path(path).read_text(encoding="utf-8"))
        root = loader.get_single_node()
        if root is None:
            return
        if not isinstance(root, yaml.MappingNode):
            raise TrainingError(f"{path}: line 1: expected a recipe, `flag: value` line by line")
        for key, value in root.value:
            yield str(key.value), loader.construct_object(value, deep=True), key.start_mark.line + 1
    except OSError as error:
        raise TrainingError(f"{path}: cannot read the recipe: {error.strerror}") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise TrainingError(f"{path}: line {line}: not YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise TrainingError(f"{path}: not YAML: {error}") from None


def _chosen_device(*levels: Mapping[str, Any]) -> str | None:
    """What the command line says goes before what the recipe says, and `device` before `device_target`."""
    for level in levels:
        if level.get("device"):
            return str(level["device"])
        if level.get("device_target") in ("CPU", "GPU"):
            return str(level["device_target"]).lower()
    return None


def _one_source_of_weights(values: dict[str, Any], flags: Mapping[str, Flag], *levels: Mapping[str, Any]) -> None:
    """--pretrained or --ckpt_path; the one on the command line goes before the one in the recipe."""
    for level in levels:
        pretrained, path = level.get("pretrained"), level.get("ckpt_path")
        if pretrained and path:
            raise TrainingError("--pretrained and --ckpt_path: expected one source of weights, not both; drop one")
        if pretrained:
            values["ckpt_path"] = flags["ckpt_path"].default
        if path:
            values["pretrained"] = False
        if pretrained or path:
            return


def _check(values: Mapping[str, Any]) -> None:
    """What one flag's kind cannot see."""
    model = values["model"]
    if model is None:
        raise TrainingError("--model is required: a name that `zoo list` shows, e.g. inception_v4")
    try:
        weights.resolve(model)
    except ZooError as error:
        raise TrainingError(f"--model: {error} (`zoo list` shows the names)") from None
    for name in ("mean", "std"):
        if values[name] and len(values[name]) not in (1, values["in_channels"]):
            raise TrainingError(
                f"--{name}: expected one number or {values['in_channels']}, as --in_channels says, "
                f"not {len(values[name])}"
            )
    for name in ("amp_level", "val_amp_level"):
        if values[name] == "O3":
            raise TrainingError(
                f"--{name} O3: weights and batch norm in half precision too mean another thing in every framework; "
                "O2 has the speed of it"
            )
    if values["aug_splits"] and values["auto_augment"] is None:
        raise TrainingError("--aug_splits 3: needs a policy to augment by: give --auto_augment")
