"""The flags: mindcv's defaults, how values are read, which are refused and how, and saving and reading them."""

import ast
import copy
import dataclasses
import logging
import pickle
from pathlib import Path
from types import UnionType
from typing import Literal, Union, get_args, get_origin, get_type_hints

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from test_imports import loaded_by

import zoo.training.recipe
from zoo.catalogue import list_models
from zoo.errors import TrainingError
from zoo.frameworks import FRAMEWORKS
from zoo.training.flags import FLAGS, Arguments, changes, parse, remarks, save_yaml, to_yaml
from zoo.training.flags.table import GROUPS

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))
V4 = "--model=inception_v4"

MINDCV = """
distribute=False val_while_train=False val_interval=1 log_interval=100 seed=42
dataset='imagenet' data_dir='./' train_split='train' val_split='val' dataset_download=False num_parallel_workers=8
shuffle=True num_samples=None batch_size=128 drop_remainder=True
scale=(0.08,1.0) ratio=(0.75,1.333) hflip=0.5 vflip=0.0 color_jitter=0.4 auto_augment=None aug_splits=0 re_prob=0.0
re_scale=(0.02,0.33) re_ratio=(0.3,3.3) re_value=0 re_max_attempts=10 mixup=0.0 cutmix=0.0 cutmix_prob=1.0 aug_repeats=0
num_classes=None in_channels=3 drop_rate=None drop_path_rate=None pretrained=False ckpt_path='' resume_opt=False
keep_checkpoint_max=10 ckpt_save_dir='./ckpt' ckpt_save_interval=1 ckpt_save_policy='latest_k' epoch_size=90
dataset_sink_mode=True ema=False ema_decay=0.9999 clip_grad=False clip_value=15.0 layer_decay=None
gradient_accumulation_steps=1 opt='adam' momentum=0.9 weight_decay=1e-6 use_nesterov=False
weight_decay_filter='disable' scheduler='cosine_decay' lr=0.001 min_lr=1e-6 warmup_epochs=3 warmup_factor=0.0
decay_epochs=100 decay_rate=0.9 multi_step_decay_milestones=(30,60,90) lr_epoch_stair=False num_cycles=1 cycle_decay=1.0
loss='CE' label_smoothing=0.0 aux_factor=0.0 reduction='mean' amp_level='O0' val_amp_level='O0' amp_cast_list=None
loss_scale_type='fixed' loss_scale=1.0 drop_overflow_update=False eval_shuffle=False
"""
OURS = {"mode", "image_resize", "interpolation", "mean", "std", "crop_pct", "eps", "device_target", "model"}
"""mindcv's flags whose default here is None."""


@pytest.fixture
def warnings(caplog):
    """What was logged, as one text."""
    caplog.set_level(logging.WARNING, logger="zoo")
    return lambda: "\n".join(caplog.messages)


def recipe(folder, text):
    (folder / "recipe.yaml").write_text(text)
    return str(folder / "recipe.yaml")


def test_defaults_are_mindcvs():
    values = parse([V4]).values
    mindcv = {name: ast.literal_eval(value) for name, _, value in (word.partition("=") for word in MINDCV.split())}
    assert len(mindcv) + len(OURS) == 86
    assert {name: values[name] for name in mindcv} == mindcv | {"ckpt_path": FLAGS["ckpt_path"].type.read("")}
    assert {name: values[name] for name in OURS - {"model"}} == dict.fromkeys(OURS - {"model"})


def test_a_name_is_in_the_table_once():
    names = [field.name for group in GROUPS for field in dataclasses.fields(group)]
    assert names == list(FLAGS)
    assert len(set(names)) == len(names)
    synonyms = [synonym for row in FLAGS.values() for synonym in row.synonyms]
    assert len(set(synonyms)) == len(synonyms)
    assert not set(synonyms) & set(names)


def test_defaults_are_what_their_types_read():
    for row in FLAGS.values():
        if row.name != "model":  # it has no default
            assert row.type.read(row.default) == row.default, row.name


def test_values_are_of_the_types_that_the_fields_declare():
    """The annotated types are those that the flags' parsers return."""
    declared = get_type_hints(Arguments)
    for words in ([V4], [V4, *ALL.split()]):
        arguments = parse(words, "validate")
        for name in FLAGS:
            value, hint = getattr(arguments, name), declared[name]
            assert fits(value, hint), f"{name}: {value!r} is no {hint}"


ALL = (
    "--device=gpu:1 --device_target=Ascend --mode=0 --num_samples=3 --blacklist=a --class_map=b --image_resize=9 "
    "--color_jitter=.1,.2,.3 --interpolation=area --auto_augment=3a --re_value=random --mean=1,2,3 --std=1 "
    "--crop_pct=1 --num_classes=7 --width=2 --drop_rate=0 --drop_path_rate=0 --ckpt_path a b --resume --freeze=a,b "
    "--ckpt_save_policy=None --layer_decay=1 --eps=1 --amp_cast_list=x --json=a --scale=0.1,1"
)


def fits(value, hint):
    """Whether a value is of an annotated type: unions, literals and tuples of simple types."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return value in arguments
    if origin in (Union, UnionType):
        return any(fits(value, one) for one in arguments)
    if origin is tuple and isinstance(value, tuple):
        several = arguments[:1] * len(value) if arguments[1:] == (...,) else arguments
        return len(several) == len(value) and all(map(fits, value, several))
    return type(value) is hint


def test_the_document_s_commands(warnings):
    words = "--model=inception_v4 --pretrained --opt=momentum --lr=0.001 dataset=cifar10 --num_classes=10 --dataset_download"  # noqa: E501
    train = parse(words.split())
    assert (train.model, train.pretrained, train.opt, train.lr) == ("inception_v4", True, "momentum", 0.001)
    assert (train.dataset, train.num_classes, train.dataset_download) == ("cifar10", 10, True)
    assert warnings() == "dataset=cifar10: read as --dataset=cifar10"
    words = "--model=inception_v4 --dataset=imagenet --val_split=val"
    assert parse([*words.split(), "--pretrained"], "validate").pretrained
    path = parse([*words.split(), "--ckpt_path=./ckpt/inception_v4-best.ckpt"], "validate").ckpt_path
    assert path == ("./ckpt/inception_v4-best.ckpt",)


VALUES = [
    ("--ema", "ema", True),
    ("--ema True", "ema", True),
    ("--ema yes", "ema", True),
    ("--ema=1", "ema", True),
    ("--ema ON", "ema", True),
    ("--shuffle False", "shuffle", False),
    ("--shuffle no", "shuffle", False),
    ("--shuffle 0", "shuffle", False),
    ("--shuffle off", "shuffle", False),
    ("--drop_overflow_update False", "drop_overflow_update", False),
    ("--scale 0.08 1", "scale", (0.08, 1.0)),
    ("--scale (0.08, 1.0)", "scale", (0.08, 1.0)),
    ("--scale=0.08,1", "scale", (0.08, 1.0)),
    ("--scale=[.08,1]", "scale", (0.08, 1.0)),
    ("--scale 1 1", "scale", (1.0, 1.0)),
    ("--mean 123.675 116.28 103.53", "mean", (123.675, 116.28, 103.53)),
    ("--std 1", "std", (1.0,)),
    ("--multi_step_decay_milestones 3 6 9", "multi_step_decay_milestones", (3, 6, 9)),
    ("--color_jitter 0.3", "color_jitter", 0.3),
    ("--color_jitter 0.3 0.2 0.1", "color_jitter", (0.3, 0.2, 0.1)),
    ("--re_value random", "re_value", "random"),
    ("--re_value 1 2 3", "re_value", (1.0, 2.0, 3.0)),
    ("--num_classes None", "num_classes", None),
    ("--drop_rate 0", "drop_rate", 0.0),
    ("--ckpt_save_policy None", "ckpt_save_policy", None),
    ("--aug_splits 0", "aug_splits", 0),
    ("--opt AdamW", "opt", "adamw"),
    ("--loss bce", "loss", "BCE"),
    ("--amp_level o2", "amp_level", "O2"),
    ("--scheduler warmup_cosine_decay", "scheduler", "cosine_decay"),
    ("--freeze stem,mixed_5* --freeze head", "freeze", ("stem", "mixed_5*", "head")),
    ("--resume", "resume", "auto"),
    ("--resume ckpt/state.ckpt", "resume", "ckpt/state.ckpt"),
    ("--resume no", "resume", None),
    ("--device GPU:1", "device", "gpu:1"),
    ("--device_target gpu", "device", "gpu"),
    ("--device_target Ascend", "device", None),
    ("--device cpu --device_target GPU", "device", "cpu"),
    ("--data_dir a=b", "data_dir", "a=b"),
    ("--lr 1 --lr 2", "lr", 2.0),
]


@pytest.mark.parametrize(("words", "name", "value"), VALUES, ids=[words for words, _, _ in VALUES])
def test_values_of_the_command_line(words, name, value):
    read = getattr(parse([V4, *words.split()]), name)
    assert (read, type(read)) == (value, type(value))


def test_checkpoints_to_judge_may_be_many():
    words = [V4, "--ckpt_path", "a.ckpt", "runs/", "--ckpt_path=b,c.pth"]
    assert parse(words, "validate").ckpt_path == ("a.ckpt", "runs/", "b,c.pth")


YAML = [
    ("lr: 1e-5", "lr", 1e-5),
    ("lr: 1", "lr", 1.0),
    ("loss_scale: 1024", "loss_scale", 1024.0),
    ("scale: [0.08, 1.0]", "scale", (0.08, 1.0)),
    ("scale: (0.08, 1.0)", "scale", (0.08, 1.0)),
    ("color_jitter: [0.4, 0.4, 0.4]", "color_jitter", (0.4, 0.4, 0.4)),
    ("shuffle: off", "shuffle", False),
    ("num_classes: None", "num_classes", None),
    ("num_classes: null", "num_classes", None),
    ("ckpt_save_policy: None", "ckpt_save_policy", None),
    ("resume: true", "resume", "auto"),
    ("resume: false", "resume", None),
    ("ckpt_path: ''", "ckpt_path", ()),
    ("ckpt_path: a.ckpt", "ckpt_path", ("a.ckpt",)),
    ("ckpt_path: []", "ckpt_path", ()),
    ("freeze: [stem, 'mixed_5*']", "freeze", ("stem", "mixed_5*")),
    ("aug_splits: 3\nauto_augment: autoaug", "aug_splits", 3),
    ("json: result.json", "lr", 0.001),
    ("config: other.yaml", "lr", 0.001),
    ("", "lr", 0.001),
]


@pytest.mark.parametrize(("text", "name", "value"), YAML, ids=[text for text, _, _ in YAML])
def test_values_of_a_recipe(tmp_path, text, name, value):
    read = getattr(parse([V4, "-c", recipe(tmp_path, text)]), name)
    assert (read, type(read)) == (value, type(value))


def test_default_then_recipe_then_command_line(tmp_path):
    path = recipe(tmp_path, "model: googlenet\nlr: 0.1\nbatch_size: 8\ndevice: gpu\n")
    arguments = parse(["--config", path, "--lr=0.2", "--device_target=CPU"])
    assert (arguments.model, arguments.lr, arguments.batch_size) == ("googlenet", 0.2, 8)
    assert (arguments.epoch_size, arguments.device) == (90, "cpu")
    assert arguments.config == path
    assert arguments.given == {"model", "lr", "batch_size", "device", "device_target"}
    assert arguments.typed == {"lr", "device_target"}


def test_the_command_line_s_weights_go_before_the_recipe_s(tmp_path):
    fine_tuned = recipe(tmp_path, "pretrained: true")
    arguments = parse([V4, "-c", fine_tuned, "--ckpt_path=best.ckpt"], "validate")
    assert (arguments.pretrained, arguments.ckpt_path) == (False, ("best.ckpt",))
    resumed = recipe(tmp_path, "ckpt_path: best.ckpt")
    assert parse([V4, "-c", resumed, "--pretrained"]).ckpt_path == ()
    assert parse([V4, "-c", resumed], "validate").ckpt_path == ("best.ckpt",)


ERRORS = [
    ("--lr=1", "--model is required: a name that `zoo list` shows, e.g. inception_v4"),
    ("--model=inception-v4", "--model: unknown model 'inception-v4': did you mean inception_v4"),
    ("--model=resnet50", "--model: unknown model 'resnet50': `zoo list` shows all names"),
    (f"{V4} --lr=nan", "--lr: expected a number in [0, inf), not 'nan'"),
    (f"{V4} --lr=inf", "--lr: expected a number in [0, inf), not 'inf'"),
    (f"{V4} --lr", "--lr: expected one argument (see train.py --help)"),
    (f"{V4} --batch_size=0", "--batch_size: expected an integer in [1, inf), not '0'"),
    (f"{V4} --batch_size=1.5", "--batch_size: expected an integer in [1, inf), not '1.5'"),
    (f"{V4} --label_smoothing=1", "--label_smoothing: expected a number in [0, 1), not '1'"),
    (f"{V4} --ema_decay=1", "--ema_decay: expected a number in (0, 1), not '1'"),
    (f"{V4} --ema_decay=0", "--ema_decay: expected a number in (0, 1), not '0'"),
    (f"{V4} --num_classes=0", "--num_classes: expected None or an integer in [1, inf), not '0'"),
    (f"{V4} --ema=maybe", "--ema: expected yes or no, not 'maybe'"),
    (f"{V4} --scale 0.2", "--scale: expected two numbers, each a number in (0, 1], in rising order, e.g. 0.08 1, not"),
    (f"{V4} --scale 1 0.5", "in rising order, e.g. 0.08 1, not '1 0.5'"),
    (f"{V4} --scale 0.1 x", "not '0.1 x'"),
    (f"{V4} --multi_step_decay_milestones 30 30", "in rising order, e.g. 30 60 90, not '30 30'"),
    (f"{V4} --mean 1 2", "--mean: expected one number or 3, as --in_channels says, not 2"),
    (f"{V4} --opt=sdg", "--opt: expected one of sgd, momentum, adam, adamw, lion, rmsprop, adagrad, lamb, nadam, not"),
    (f"{V4} --amp_level=O4", "--amp_level: expected one of O0, O1, O2, O3, not 'O4'"),
    (f"{V4} --device=tpu", "--device: expected None or cpu, gpu or gpu:1, not 'tpu'"),
    (f"{V4} --aug_splits=2", "--aug_splits: expected 0 or 3, not '2'"),
    (f"{V4} --aug_splits=3", "--aug_splits 3: needs a policy to augment by: give --auto_augment"),
    (f"{V4} --pretrained --ckpt_path=x", "--pretrained and --ckpt_path: expected one source of weights, not both"),
    (f"{V4} --momentun=1", "--momentun: no such flag; did you mean --momentum"),
    (f"{V4} --learning_rate=1", "--learning_rate: no such flag; did you mean --lr?"),
    (f"{V4} --epochs=1", "--epochs: no such flag; did you mean --epoch_size?"),
    (f"{V4} --crop_pct=1.1", "--crop_pct: expected None or a number in (0, 1], not '1.1'"),
    (f"{V4} --ckpt_path a b", "--ckpt_path: expected one checkpoint to start from, not 2: a b"),
    (f"{V4} momentun=1", "--momentun: no such flag; did you mean --momentum"),
    (f"{V4} --ckpt_save_d=1", "--ckpt_save_d: no such flag; did you mean --ckpt_save_dir"),
    (f"{V4} --json=x", "--json: a flag of validate.py only"),
    (f"{V4} cifar10", "cifar10: unexpected; flags are given as --name value"),
    ("-c /nowhere.yaml", "/nowhere.yaml: cannot read the recipe: No such file or directory"),
]


@pytest.mark.parametrize(("words", "message"), ERRORS, ids=[words for words, _ in ERRORS])
def test_errors_of_the_command_line(words, message):
    with pytest.raises(TrainingError) as caught:
        parse(words.split())
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


YAML_ERRORS = [
    ("model: inception_v4\n\nmomentun: 0.9", "line 3: momentun: no such flag; did you mean momentum"),
    ("model: inception_v4\nlr: fast", "line 2: lr: expected a number in [0, inf), not 'fast'"),
    ("lr: true", "line 1: lr: expected a number in [0, inf), not True"),
    ("batch_size: 32.0", "line 1: batch_size: expected an integer in [1, inf), not 32.0"),
    ("dataset: 5", "line 1: dataset: expected text, not 5"),
    ("scale: [0.1, {}]", "line 1: scale: expected two numbers"),
    ("lr: 1\nlr: 2", "line 2: lr occurs twice"),
    ("lr: [1", "line 1: not YAML: "),
    ("- lr", "line 1: expected a recipe, `flag: value` line by line"),
    ("lr: 2020-13-45", "not YAML: month must be in 1..12"),
    ("lr: !!python/name:os.system", "line 1: not YAML: could not determine a constructor"),
    ("json: [1]", "line 1: json: expected None or text"),
    ("learning_rate: 1", "line 1: learning_rate: no such flag; did you mean lr?"),
    ("pretrained: yes\nckpt_path: x", "--pretrained and --ckpt_path: expected one source"),
    ("a: \x07", "not YAML: unacceptable character"),
]


@pytest.mark.parametrize(("text", "message"), YAML_ERRORS, ids=[text for text, _ in YAML_ERRORS])
def test_errors_of_a_recipe(tmp_path, text, message):
    with pytest.raises(TrainingError) as caught:
        parse([V4, "-c", recipe(tmp_path, text)])
    assert message in str(caught.value)


def test_a_recipe_that_is_no_text(tmp_path):
    (tmp_path / "recipe.yaml").write_bytes(b"\xff\xfe\xfd")
    with pytest.raises(TrainingError, match="not YAML"):
        parse([V4, "-c", str(tmp_path / "recipe.yaml")])


def test_flags_without_effect():
    words = "--drop_path_rate=0.1 --dataset_sink_mode=no --aux_factor=0.4 --num_cycles=2 --scheduler=constant --lr=1"
    assert remarks(parse([V4, *words.split()])) == [
        "--drop_path_rate has no effect on Inception networks: none of them drops paths.",
        "--dataset_sink_mode has no effect as every framework is fed by one input pipeline.",
        "--num_cycles has no effect with --scheduler constant.",
        "--aux_factor has no effect on inception_v4, which has no auxiliary heads.",
    ]


def test_flags_without_effect_are_no_matter_where_they_are_the_default_or_the_recipe_s(tmp_path):
    path = recipe(tmp_path, "drop_path_rate: 0.1\naux_factor: 0.4")
    assert remarks(parse([V4, "-c", path, "--dataset_sink_mode", "--clip_value=15"])) == []


@pytest.mark.parametrize(
    ("words", "flag"),
    [
        ("--model=inception_v3", "--aux_factor=0.4"),
        ("--opt=rmsprop", "--eps=1"),
        ("--scheduler=step_decay", "--decay_epochs=2"),
        ("--re_prob=0.2", "--re_value=random"),
        ("--cutmix=1", "--cutmix_prob=0.5"),
        ("--amp_level=O2", "--loss_scale=1024"),
        ("--ema", "--ema_decay=0.9"),
        ("--clip_grad", "--clip_value=2"),
        ("--val_while_train", "--val_interval=2"),
    ],
)
def test_flags_that_have_an_effect_where_they_apply(words, flag):
    assert remarks(parse([V4, *words.split(), flag])) == []
    assert len(remarks(parse([V4, "--opt=momentum", "--scheduler=constant", flag]))) == 1


def test_validate_takes_train_s_flags(tmp_path, warnings):
    path = recipe(tmp_path, "lr: 0.1\nopt: momentum")
    assert parse([V4, "-c", path], "validate").lr == 0.1
    assert warnings() == ""
    assert len(remarks(parse([V4, "--mode=0"]))) == 1
    assert remarks(parse([V4, "--opt=sgd", "--lr=1", "--ema_decay=0.9"], "validate")) == []
    assert warnings() == "validate.py ignores --opt, --lr, --ema_decay: for training only"


@pytest.mark.parametrize("columns", [80, 200])
@pytest.mark.parametrize(
    ("script", "shown", "hidden"), [("train", "--lr ", "--json"), ("validate", "--json ", "--lr ")]
)
def test_help_fits_the_terminal(capsys, monkeypatch, script, shown, hidden, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    with pytest.raises(SystemExit) as caught:
        parse(["--help"], script)
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert shown in out
    assert hidden not in out
    assert "(default: the network's own; mindcv: 224)" in " ".join(out.split())
    assert columns // 2 < max(map(len, out.splitlines())) <= columns


@pytest.mark.parametrize(
    ("words", "end"),
    [("--epoch_size=8", "0.00099"), ("--epoch_size=8 --decay_epochs=6", ""), ("--epoch_size=90", ""),
     ("--epoch_size=8 --scheduler=step_decay", ""), ("--epoch_size=8 --min_lr=0.001", "")],
)  # fmt: skip
def test_a_cosine_that_the_run_does_not_finish_is_named_once(words, end):
    found = remarks(parse([V4, *words.split()]))
    wanted = (
        f"--decay_epochs 100: the run ends after 6 epochs of the cosine, with the learning rate still at {end}; "
        "--decay_epochs 6 makes it end at --min_lr."
    )
    assert found == ([wanted] if end else [])


def texts():
    return st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda text: text.lower() not in ("none", "null"))


NUMBERS = st.floats(0.01, 0.99)
CHANGES = st.fixed_dictionaries(
    {"model": st.sampled_from(list_models())},
    optional={
        "backend": st.sampled_from(list(FRAMEWORKS)),
        "device": st.sampled_from([None, "cpu", "gpu:1"]),
        "lr": st.floats(0, 1e30),
        "weight_decay": st.floats(0, 1e-300),
        "batch_size": st.integers(1, 10**12),
        "num_classes": st.none() | st.integers(1, 2000),
        "scale": st.tuples(NUMBERS, NUMBERS).map(sorted),
        "mean": st.none() | st.tuples(*[st.floats(0, 255)] * 3),
        "re_value": st.just("random") | st.floats(0, 255) | st.tuples(*[st.floats(0, 255)] * 3),
        "color_jitter": st.floats(0, 9) | st.tuples(*[st.floats(0, 9)] * 3),
        "multi_step_decay_milestones": st.sets(st.integers(1, 999), min_size=1).map(sorted),
        "ema": st.booleans(),
        "data_dir": st.text(st.characters(codec="utf-8")),
        "resume": st.none() | st.just("auto"),
        "auto_augment": st.none() | texts(),
        "freeze": st.lists(st.from_regex(r"[a-z*.0-9_]+", fullmatch=True)),
        "opt": st.sampled_from(["sgd", "adamw", "rmsprop"]),
        "ckpt_save_policy": st.sampled_from([None, "top_k", "latest_k"]),
    },
)


@given(CHANGES, st.sampled_from(["train", "validate"]))
@settings(max_examples=60, deadline=None)
def test_what_is_saved_comes_back(tmp_path_factory, changes, script):
    arguments = parse([V4], script).replace(**changes)
    path = tmp_path_factory.mktemp("saved") / "saved.yaml"
    save_yaml(arguments, path)
    again = parse(["-c", str(path)], script)
    assert again == arguments
    assert to_yaml(again) == to_yaml(arguments)
    assert {key: type(value) for key, value in again.values.items()} == {
        key: type(value) for key, value in arguments.values.items()
    }


def test_what_is_saved_is_grouped_and_for_both_scripts(tmp_path):
    arguments = parse([V4, "--lr=0.3", "--freeze", "stem", "--data_dir", "ü\udcff"])
    save_yaml(arguments, tmp_path / "inception_v4.yaml")
    text = (tmp_path / "inception_v4.yaml").read_text()
    assert text.startswith("# train.py -c THIS_FILE\n\n# System\nbackend: torch\n")
    assert "\n# Learning rate\nscheduler: cosine_decay\nlr: 0.3\n" in text
    assert "\nscale: [0.08, 1.0]\n" in text
    assert yaml.safe_load(text)["freeze"] == ["stem"]
    judged = parse(["-c", str(tmp_path / "inception_v4.yaml"), "--ckpt_path", "a", "b"], "validate")
    assert (judged.lr, judged.data_dir, judged.ckpt_path) == (0.3, "ü\udcff", ("a", "b"))
    with pytest.raises(TrainingError, match=r"/nowhere/x\.yaml: cannot write the flags there: No such file"):
        save_yaml(arguments, "/nowhere/x.yaml")


def test_nothing_is_imported_that_a_run_does_not_need():
    code = "from zoo.training import flags, metrics, report; flags.parse(['--model=inception_v4'])"
    assert not loaded_by(code) & {*FRAMEWORKS, "yaml", "rich", "matplotlib", "tensorboardX", "google"}


def test_arguments_are_a_value():
    arguments = parse([V4])
    assert arguments == parse([V4, "--lr=0.001"])
    assert arguments != arguments.replace(lr=1)
    assert arguments.replace(lr="1e-5", scale=[0.5, 1]).scale == (0.5, 1.0)
    assert arguments != parse([V4], "validate")
    assert pickle.loads(pickle.dumps(arguments)) == copy.deepcopy(arguments) == arguments
    with pytest.raises(AttributeError, match="no attribute 'learning_rate'"):
        arguments.learning_rate  # noqa: B018
    with pytest.raises(TrainingError, match="lr: expected a number"):
        arguments.replace(lr=-1)


@pytest.mark.parametrize("script", ["train", "validate"])
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_project_s_recipes(path, script, warnings):
    arguments = parse(["-c", str(path)], script)
    assert path.stem in ("digits", "cifar10") or arguments.model in (path.stem, path.stem.partition(".")[0])
    assert warnings() == ""
    assert path.read_text().startswith("# ")


def test_the_project_s_recipes_have_names(tmp_path, monkeypatch):
    """From any folder; a file of the same name takes precedence."""
    monkeypatch.chdir(tmp_path)
    assert parse(["-c", "digits"]).dataset == "digits"
    assert parse(["-c", "inception_v3.keras"]).model == "inception_v3.keras"
    with pytest.raises(TrainingError, match="digit: cannot read the recipe: No such file"):
        parse(["-c", "digit"])
    (tmp_path / "digits").write_text("model: googlenet\ndataset: cifar10\n")
    assert parse(["-c", "digits"]).dataset == "cifar10"


def test_every_network_has_a_recipe():
    """Except for the one that compares sets of images, which nobody trains."""
    assert set(list_models()) - {"inception_v3.fid"} <= {path.stem for path in CONFIGS}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_project_s_recipes_set_no_unused_flag(path):
    words = [f"--{key}={value}".replace(", ", ",") for key, value in yaml.safe_load(path.read_text()).items()]
    assert remarks(parse(words)) == []


@pytest.mark.parametrize(
    ("words", "epochs"),
    [("--epoch_size 8", 2), ("--epoch_size 90", 3), ("--epoch_size 2", 0), ("--scheduler one_cycle", 0)],
)
def test_the_warm_up_that_is_not_given_is_resolved_once(tmp_path, words, epochs):
    """So a run that resumes from its own recipe keeps its schedule."""
    first = parse(f"--model googlenet {words}".split())
    save_yaml(first, tmp_path / "a.yaml")
    again = parse(["-c", str(tmp_path / "a.yaml")])
    assert first.warmup_epochs == again.warmup_epochs == epochs
    assert zoo.training.recipe.schedule(first, 10) == zoo.training.recipe.schedule(again, 10)


def test_what_changes_a_run_is_named():
    first, then = (
        parse(["--model", "googlenet", *words.split()])
        for words in ("--lr 0.1 --batch_size 8", "--lr 0.2 --batch_size 16 --backend paddle")
    )
    assert changes(then, to_yaml(first)) == ["--lr 0.2 (was 0.1)"]
