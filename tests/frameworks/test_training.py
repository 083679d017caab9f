"""train.py and validate.py in the framework, as a user runs them, and what a training step guarantees."""

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import SMALL, in_one_framework

import weights
import zoo
from backends.training import trainer
from zoo.errors import InputError, TrainingError, UnavailableError
from zoo.language.document import to_json
from zoo.language.model import Model, Norm, Preprocess, configure, stages
from zoo.language.nodes import Conv, Head
from zoo.models import MODELS
from zoo.scripts import train, validate
from zoo.training.flags import parse
from zoo.training.optimizers import Optimizer
from zoo.training.plan import Plan, groups
from zoo.training.run_folder import newest
from zoo.training.state import read_state

MODEL = zoo.spec(SMALL)
GOOGLENET = configure(MODELS["googlenet"], width=0.25, num_classes=10)
RUN = (
    "--image_resize 48 --dataset digits --num_samples 32 --batch_size 16 --lr 0.01 "
    "--opt momentum --scheduler constant --warmup_epochs 0 --aux_factor 0.3 --hflip 0 --mixup 0.2 --log_interval 2 "
    "--num_parallel_workers 2 --mode 1"
)
FLAGS = f"--model {SMALL} --width 2 {RUN}"
GOOGLENET_FLAGS = f"--model googlenet --width 0.25 {RUN}"


@pytest.fixture
def run(framework, tmp_path, capsys):
    """Runs train.py into a folder of the test's with more flags; gives what it printed."""

    def run(folder, *more, flags=FLAGS):
        words = f"{flags} --backend {framework} --ckpt_save_dir {tmp_path / folder}".split()
        assert train.main([*words, *more]) == 0
        return capsys.readouterr().out

    return run


@pytest.fixture(scope="module")
def batch():
    random = np.random.default_rng(0)
    targets = np.eye(10, dtype=np.float32)[random.integers(10, size=8)]
    return random.standard_normal((8, 3, 48, 48)).astype(np.float32), targets


def losses(out):
    return re.findall(r"loss: ([\d.]+), lr", out)


@pytest.mark.nightly_in("mindspore", "jax")
def test_a_run_leaves_what_mindcvs_users_look_for(run, tmp_path, framework):
    """The network is one of mindcv's."""
    more = ("--epoch_size", "2", "--val_while_train", "--ema", "--ema_decay", "0.5", "--tensorboard")
    out = run("a", *more, flags=GOOGLENET_FLAGS)
    assert re.search(r"^Epoch: \[1/2\], batch: \[1/2\], loss: [\d.]+, lr: 0.010000, time: [\d.]+s$", out, re.M)
    assert re.fullmatch(r"\{'Top_1_Accuracy': [\d.]+, 'Top_5_Accuracy': [\d.]+, 'loss': [\d.]+\}", out.splitlines()[-1])
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert names == {
        *("googlenet-1_2.ckpt", "googlenet-2_2.ckpt", "googlenet_best.ckpt"),
        *("optim_googlenet.ckpt", "optim_googlenet-1_2.ckpt", "googlenet.yaml", ".lock"),
        *("result.log", "curves.png", "tensorboard"),
    }
    header, *rows = (line.split() for line in (tmp_path / "a" / "result.log").read_text().splitlines())
    assert header[:4] == ["Epoch", "TrainLoss", "Top_1_Accuracy", "Top_5_Accuracy"]
    assert [row[0] for row in rows] == ["1", "2"]
    saved = parse(["-c", str(tmp_path / "a" / "googlenet.yaml")])
    assert (saved.backend, saved.lr, saved.ema, saved.mixup) == (framework, 0.01, True, 0.2)


def test_a_resumed_run_is_the_undisturbed_one_to_the_bit(run, tmp_path):
    whole = losses(run("whole", "--epoch_size", "2", "--ema"))
    run("broken", "--epoch_size", "1", "--ema")
    rest = losses(run("broken", "--epoch_size", "2", "--ema", "--resume"))
    assert rest == whole[-len(rest) :]
    file = "small-2_2.ckpt"
    assert (tmp_path / "broken" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    one, other = (read_state(tmp_path / folder / "optim_small.ckpt") for folder in ("broken", "whole"))
    assert one.arrays.keys() == other.arrays.keys()
    assert all(array.tobytes() == other.arrays[name].tobytes() for name, array in one.arrays.items())
    assert len((tmp_path / "broken" / "result.log").read_text().splitlines()) == 3


def test_resume_opt_goes_on_from_a_file_named_best(run, tmp_path):
    run("a", "--epoch_size", "1", "--val_while_train")
    out = run("a", "--epoch_size", "2", "--ckpt_path", str(tmp_path / "a" / "small_best.ckpt"), "--resume_opt")
    assert "Epoch: [2/2]" in out
    assert "Epoch: [1/2]" not in out


def test_validation_counts_what_the_reference_counts(run, framework, tmp_path, capsys):
    """One file is evaluated by this framework and by the float64 reference."""
    from backends.processes import Processes
    from backends.reference import network as reference
    from zoo.training import inputs, recipe

    run("a", "--epoch_size", "1")
    file, out = tmp_path / "a" / "small-1_2.ckpt", tmp_path / "out"
    flags = f"--model {SMALL} --dataset digits --num_samples 60 --batch_size 25 --backend {framework} --mode 1"
    reports = f"--json {out}.json --csv {out}.csv --confusion {out}.m.csv --predictions {out}.p.csv"
    assert validate.main(f"{flags} {reports} --ckpt_path {file}".split()) == 0
    assert re.search(r"small-1_2\.ckpt: top-1 [\d.]+% \(\d+ of 60\), top-5 ", capsys.readouterr().out)
    arguments = parse(f"{flags} --ckpt_path {file}".split(), "validate")
    data = inputs.dataset(arguments, "val")
    network = recipe.network(arguments, data, file)
    assert (network.model.size, network.model.width) == (48, 2)
    net = reference.build(network.model)
    reference.load(net, network.arrays(0))
    loader = inputs.validation_loader(arguments, data, network.model, Processes())
    guesses = [reference.predict(net, batch.images)["logits"].argmax(1) for batch in loader.epoch(0)]
    with open(f"{out}.p.csv", newline="") as rows:
        assert [int(row["predicted"]) for row in csv.DictReader(rows)] == np.concatenate(guesses).tolist()
    (figures,) = json.loads((tmp_path / "out.json").read_text())
    assert figures["top1_correct"] == int((np.concatenate(guesses) == data.labels).sum())
    assert figures["images"] == 60


@in_one_framework
def test_the_study_is_one_command(run, framework, tmp_path, capsys):
    run("a", "--epoch_size", "1")
    file = tmp_path / "a" / "small-1_2.ckpt"
    words = f"--model {SMALL} --dataset digits --num_samples 40 --backend {framework} --mode 1 --study"
    assert validate.main(f"{words} --json {tmp_path / 's.json'} --ckpt_path {file}".split()) == 0
    results = json.loads((tmp_path / "s.json").read_text())
    assert [(result["eps"], result["count_include_pad"]) for result in results] == [
        *((1e-3, True), (1e-3, False), (1e-5, True), (1e-5, False))
    ]
    assert len({result["summary"]["loss"] for result in results}) == 4
    assert "eps" in capsys.readouterr().out


def test_frozen_parameters_and_their_statistics_stay(framework, make, batch):
    frozen = ["stem*", "mixed.branch1*", "block.body.0.bn.bias"]
    plan = Plan(Optimizer("adamw"), groups(MODEL, 0.1, freeze=frozen), aux_factor=0.3)
    before = weights.initial(MODEL, 0)
    training = trainer(framework, make(MODEL, before), plan)
    for _ in range(3):
        training.step(*batch, 0.01)
    after = training.dumped()
    for name, array in before.items():
        stays = name.startswith(("stem", "mixed.branch1"))
        stays |= name in {f"block.body.0.bn.{array}" for array in ("bias", "mean", "var")}
        assert np.array_equal(after[name], array) == stays, name


def test_mixed_precision_is_near_single(framework, make, batch):
    model = Model("tiny", stages(stem=Conv(8, 3), body=Conv(16)), Head(), Preprocess(48), size=48, num_classes=10)

    def first(half):
        training = trainer(
            framework, make(model, weights.initial(model, 0)), Plan(Optimizer(), groups(model), half=half)
        )
        return float(training.backward(*batch, 1.0)), training.gradients()["stem.conv.weight"]

    if framework == "paddle":
        with pytest.raises(UnavailableError, match="mixed precision needs a GPU"):
            first(True)
        return
    (loss, gradient), (half_loss, half_gradient) = first(False), first(True)
    assert half_loss != loss
    assert half_loss == pytest.approx(loss, rel=0.01)
    assert np.linalg.norm(half_gradient - gradient) < 0.1 * np.linalg.norm(gradient)  # bfloat16 has eight bits


@in_one_framework
def test_a_loss_that_is_no_number_stops_the_run(framework, tmp_path):
    words = f"{FLAGS} --backend {framework} --ckpt_save_dir {tmp_path} --epoch_size 2 --lr 1e30".split()
    with pytest.raises(TrainingError, match=r"epoch 1, batch \d: the loss is (nan|inf): choose a smaller --lr"):
        train.main(words)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("--num_classes 5", "digits has 10 classes"),
        ("--batch_size 65", "digits has 32 images, too few for a batch"),
        ("--batch_size 65 --freeze nothing", "no such stage or parameter"),
        ("--batch_size 65 --epoch_size 2 --warmup_epochs 2", "must end before"),
        ("--batch_size 65 --val_split dev", "no split 'dev'"),
        ("--image_resize 8", "an input of 8 x 8 pixels does not fit"),
        ("--ckpt_path none.ckpt", "none.ckpt: no such file"),
        ("--freeze nothing", "no such stage or parameter"),
        ("--epoch_size 2 --warmup_epochs 2", "must end before"),
        ("--resume none.ckpt", "none.ckpt: no such file"),
        ("--val_split dev", "no split 'dev'"),
        ("--batch_size 1 --image_resize 32", "batch norm of .* has one value a channel"),
        ("--ckpt_path . --resume_opt", "no checkpoint in it"),
    ],
)
def test_bad_flags_are_found_before_anything_is_written(framework, tmp_path, more, message):
    folder = tmp_path / "never"
    words = f"{GOOGLENET_FLAGS} --epoch_size 1 --val_while_train --backend {framework} --ckpt_save_dir {folder}".split()
    with pytest.raises((TrainingError, InputError), match=message):
        train.main([*words, *more.split()])
    assert not folder.exists()


def test_batches_left_over_make_an_update_by_their_mean(framework, make, batch):
    """A single batch, where three would make an update, has the same effect as with accumulation of one."""

    def after(accumulate):
        plan = Plan(Optimizer("sgd", momentum=0.0), groups(MODEL), accumulate=accumulate, aux_factor=0.3)
        training = trainer(framework, make(MODEL, weights.initial(MODEL, 0)), plan)
        training.seed(1)
        training.step(*batch, 0.01)
        training.flush(0.01)
        training.flush(0.01)
        return training.dumped()

    one, three = after(1), after(3)
    for name, array in one.items():
        assert np.allclose(three[name], array, rtol=1e-4, atol=1e-6), name


@pytest.fixture
def tree(tmp_path):
    """Images of three classes to train on, of two of them to validate on; gives the folder."""
    for split, names in (("train", "abc"), ("val", "ca")):
        for number, name in enumerate(names):
            for k in range(4):
                path = tmp_path / "tree" / split / name / f"{k}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (60, 50), (60 * number, 50 * k, 100)).save(path)
    return tmp_path / "tree"


@in_one_framework
def test_classes_go_by_name_from_training_to_validation(framework, tree, tmp_path, capsys):
    flags = f"--model {SMALL} --image_resize 48 --data_dir"
    words = f"{flags} {tree} --width 2 --batch_size 6 --epoch_size 1 --mode 1 --ckpt_save_dir {tmp_path / 'a'}"
    assert train.main(f"{words} --backend {framework} --val_while_train".split()) == 0
    file = tmp_path / "a" / "small-1_2.ckpt"
    words = f"{flags} {tree} --mode 1 --backend {framework} --ckpt_path {file} --predictions {tmp_path / 'p.csv'}"
    assert validate.main(words.split()) == 0
    with (tmp_path / "p.csv").open(newline="") as rows:
        assert {row["class"] for row in csv.DictReader(rows)} == {"a", "c"}
    (tree / "val" / "a").rename(tree / "val" / "z")
    with pytest.raises(InputError, match=r"z: not among the classes of the checkpoint .*small-1_2\.ckpt"):
        validate.main(words.split())
    with pytest.raises(TrainingError, match="a network of 3 classes: leave out --num_classes 8"):
        validate.main([*words.split(), "--num_classes", "8"])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("--json .", "it is a folder"),
        ("--csv a.csv --predictions a.csv", "two of them name the same file"),
        ("--study --csv a.csv", "does not go with --study"),
        ("--ckpt_path none.ckpt", "no such file"),
        ("--blacklist none.txt", "cannot read it"),
    ],
)
def test_validation_s_bad_flags(framework, more, message):
    with pytest.raises(TrainingError, match=message):
        validate.main(f"--model googlenet --dataset digits --backend {framework} {more}".split())


def test_dropout_s_masks_are_rows_of_their_position(framework, make):
    training = trainer(framework, make(GOOGLENET, weights.initial(GOOGLENET, 0)), Plan(Optimizer(), groups(GOOGLENET)))
    training.seed(7)
    whole = training.masks(64)
    assert {path: mask.shape for path, mask in whole.items()} == {
        "head": (64, 256),
        "aux1.2": (64, 256),
        "aux2.2": (64, 256),
    }
    assert set(np.unique(whole["aux1.2"])) == {np.float32(0), np.float32(1 / (1 - 0.7))}
    assert (whole["aux1.2"] == 0).mean() == pytest.approx(0.7, abs=0.02)
    training.seed(7, 16, 64)
    assert all(np.array_equal(mask, whole[path][16:48]) for path, mask in training.masks(32).items())


def test_the_loss_of_a_mistake_has_no_limit(framework, make, batch):
    """Paddle's own losses, on a CPU, count a logit that is more than 64 below the largest as 64 below it."""
    model = Model("tiny", stages(stem=Conv(8, 3)), Head(), Preprocess(48), size=48, num_classes=10)
    arrays = weights.initial(model, 0)
    arrays["head.fc.weight"][:] = 0
    arrays["head.fc.bias"][:] = logits = np.arange(10, dtype=np.float32) * 50
    training = trainer(framework, make(model, arrays), Plan(Optimizer(), groups(model)))
    targets = np.eye(10, dtype=np.float32)[:4]
    expected = np.logaddexp.reduce(logits.astype(np.float64)) - logits[:4].mean()
    assert float(training.backward(batch[0][:4], targets, 1.0)) == pytest.approx(expected, rel=1e-6)
    assert training.gradients()["head.fc.bias"] == pytest.approx([-0.25] * 4 + [0] * 5 + [1])


def test_dropout_follows_the_seed_compiled_too(framework, make, batch):
    """torch.compile takes a minute here: eager for PyTorch."""
    model = Model("tiny", stages(stem=Conv(8, 3)), Head(dropout=0.5), Preprocess(48), size=48, num_classes=10)
    plan = Plan(Optimizer("sgd", momentum=0.0), groups(model), graph=framework != "torch")
    training = trainer(framework, make(model, weights.initial(model, 0)), plan)

    def loss(seed, count=8):
        training.seed(seed)
        return float(training.step(batch[0][:count], batch[1][:count], 0.0))

    first = loss(1)
    assert loss(2) != first
    small = loss(1, 6)
    assert loss(1) == first
    assert loss(1, 6) == small


class Device:
    """Steps that do nothing, with losses as a GPU has them: reading one waits for the device.

    Records the steps done whenever one is read.
    """

    def __init__(self, monkeypatch, values):
        self.reads, self.steps = [], 0

        def step(training, *arguments):
            self.steps += 1
            return type("Loss", (), {"__float__": lambda loss, k=self.steps: self.read(values[k - 1])})()

        monkeypatch.setattr(train.Trainer, "step", step)

    def read(self, value):
        self.reads.append(self.steps)
        return value


@in_one_framework
def test_losses_are_read_only_when_they_are_due(run, monkeypatch, tmp_path):
    """At the first and the last step, every --log_interval, and before a state is saved: else the GPU would idle."""
    device = Device(monkeypatch, [1.0] * 32)
    single = ("--epoch_size", "1", "--batch_size", "1", "--image_resize", "64")
    run("a", *single, "--log_interval", "10")
    assert device.reads == [1] + [10] * 9 + [20] * 10 + [30] * 10 + [32] * 2
    device.reads, device.steps = [], 0
    run("b", *single, "--log_interval", "100", "--recovery_interval", "8")
    assert device.reads == [1] + [8] * 7 + [16] * 8 + [24] * 8 + [32] * 8
    assert len(read_state(tmp_path / "b" / "optim_small.ckpt").losses) == 32


@in_one_framework
def test_a_loss_that_is_not_finite_is_reported_with_its_own_step_and_nothing_is_saved_after_it(
    framework, monkeypatch, tmp_path
):
    device = Device(monkeypatch, [1.0] * 5 + [float("nan")] + [2.0] * 26)
    words = f"{FLAGS} --backend {framework} --ckpt_save_dir {tmp_path} --epoch_size 1 --batch_size 1 --image_resize 64"
    words += " --log_interval 100 --recovery_interval 4 --shuffle no --drop_remainder no"
    with pytest.raises(
        TrainingError, match=r"epoch 1, batch 6: the loss is nan: .*; the batch: train/00005; the last .*batch 4\)"
    ):
        train.main(words.split())
    assert device.steps == 8
    assert newest(tmp_path, "small").position == (1, 4)


@in_one_framework
def test_resume_in_a_folder_without_a_state_starts_from_the_beginning(run, tmp_path, caplog):
    """Launchers repeat one command after a preemption, also before the first state is written."""
    out = run("a", "--epoch_size", "1", "--resume")
    assert "Epoch: [1/1], batch: [1/2]" in out
    assert caplog.messages == [
        f"--resume: no state of small in {tmp_path / 'a'} yet: the run starts from the beginning"
    ]
    caplog.clear()
    assert "Epoch: [1/2]" not in run("a", "--epoch_size", "2", "--resume")
    assert "from the beginning" not in caplog.text


@in_one_framework
def test_what_is_not_validated_has_no_time_and_is_said(run):
    out = run("a", "--epoch_size", "1")
    assert "no validation: --val_while_train validates on the split val after each epoch" in out
    assert "val: " not in out
    out = run("b", "--epoch_size", "1", "--val_while_train")
    assert "no validation" not in out
    assert re.search(r"train: [\d.]+s, val: [\d.]+s$", out, re.M)


@in_one_framework
def test_the_figure_of_a_resumed_run_has_the_learning_rates_of_all_epochs(run, monkeypatch):
    drawn = []
    monkeypatch.setattr("zoo.training.report.draw", lambda figure, title, epochs, rates: drawn.append(rates))
    run("a", "--epoch_size", "1")
    run("a", "--epoch_size", "2", "--lr", "0.02", "--resume")
    assert drawn[-1] == [(0.5, 0.01), (1.0, 0.01), (1.5, 0.02), (2.0, 0.02)]


OWN = Model("little", stages(stem=Conv(8, 3, stride=2), body=Conv(16)), Head(), Preprocess(48), size=48, num_classes=10)
MODULE = """
from zoo.language import Conv, Head, Model, Preprocess, stages
MODEL = Model(
    "little", stages(stem=Conv(8, 3, stride=2), body=Conv(16)), Head(), Preprocess(48), size=48, num_classes=10
)
"""
LITTLE = "--dataset digits --num_samples 32 --batch_size 16 --warmup_epochs 0 --num_parallel_workers 2 --mode 1"


@pytest.mark.parametrize(
    "kind", ["module", *(pytest.param(kind, marks=in_one_framework) for kind in ("document", "checkpoint"))]
)
def test_a_network_of_one_s_own_is_trained_resumed_and_evaluated(
    framework, tmp_path, monkeypatch, capsys, caplog, kind
):
    """Its files are called by its own name; the run resumes from its own recipe, even without what it was given."""
    monkeypatch.chdir(tmp_path)
    arrays = weights.initial(OWN, 7)
    given = {"module": "mine:MODEL", "document": "net.json", "checkpoint": "net.safetensors"}[kind]
    Path("mine.py").write_text(MODULE)
    Path("net.json").write_text(to_json(OWN))
    weights.write("net.safetensors", arrays, OWN)
    words = [*LITTLE.split(), "--backend", framework, "--ckpt_save_dir", "run", "--lr", "0", "--opt", "sgd"]
    assert train.main([*words, "--model", given, "--epoch_size", "1", "--weight_decay", "0"]) == 0
    names = {path.name for path in Path("run").iterdir()}
    assert names >= {"little.yaml", "little.json", "little-1_2.ckpt", "optim_little.ckpt"}
    began = weights.open_checkpoint("run/little-1_2.ckpt")
    assert began.model == OWN
    same = np.array_equal(began.arrays()["stem.conv.weight"], arrays["stem.conv.weight"])
    assert same == (kind == "checkpoint")

    for path in ("mine.py", "net.json", "net.safetensors"):
        Path(path).unlink()
    assert train.main(["-c", "run/little.yaml", "--resume", "--epoch_size", "2"]) == 0
    assert newest("run", "little").position == (2, 2)
    assert "--model" not in caplog.text  # networks are compared, not their names
    capsys.readouterr()
    judge = ["--dataset", "digits", "--num_samples", "20", "--mode", "1", "--backend", framework]
    assert validate.main([*judge, "--model", "run/little-2_2.ckpt"]) == 0
    assert "run/little-2_2.ckpt: top-1 " in capsys.readouterr().out
    assert validate.main([*judge, "--model", "run/little.json", "--ckpt_path", "run/little-2_2.ckpt"]) == 0

    other = replace(OWN, norm=Norm(1e-5, 0.9))
    Path("other.json").write_text(to_json(other))
    with pytest.raises(TrainingError, match=r"optim_little.ckpt: the state of another network \(little\).*eps 0.001"):
        train.main([*words, "--model", "other.json", "--epoch_size", "3", "--resume"])


def images(folder, *classes):
    for number, name in enumerate(classes):
        for k in range(2):
            path = folder / "val" / name / f"{k}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (60, 50), (60 * number, 50 * k, 100)).save(path)


@pytest.fixture
def judge(framework, tmp_path, monkeypatch):
    """Runs validate.py on a checkpoint of ten classes without names; gives the classes of the images."""
    monkeypatch.chdir(tmp_path)
    weights.write("net.safetensors", weights.initial(OWN, 7), OWN)

    def judge(*more):
        words = f"--model net.safetensors --mode 1 --backend {framework} --data_dir pets --predictions p.csv".split()
        assert validate.main([*words, *more]) == 0
        with open("p.csv", newline="") as rows:
            return [row["class"] for row in csv.DictReader(rows)]

    return judge


def test_folders_that_are_not_the_network_s_classes_are_refused_without_a_mapping(judge, tmp_path):
    images(tmp_path / "pets", "cat", "dog")
    with pytest.raises(
        TrainingError,
        match=r"net.safetensors: a network of 10 classes without their names, and pets, val has 2: .*--class_map",
    ):
        judge()
    for text in ('{"dog": 7, "cat": 2, "eel": 1}', "folder,index\ndog,7\ncat,2\n", "dog,7\ncat,2\n"):
        Path("map").write_text(text)
        assert judge("--class_map", "map", "--json", "f.json", "--confusion", "c.csv") == ["cat", "cat", "dog", "dog"]
        header = Path("c.csv").read_text().splitlines()[0].split(",")
        assert (header[3], header[8], header[1]) == ("cat", "dog", "class 0")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"dog": 7}', "no number for the class cat of pets, val"),
        ('{"dog": 10, "cat": 1}', "dog: expected a number from 0 to 9, not 10"),
        ('{"dog": 1, "cat": 1}', "dog and cat have the same number, 1|cat and dog have the same number, 1"),
        ('{"dog": []}', "expected JSON"),
        ("dog;7", "expected JSON .* or CSV lines FOLDER,NUMBER"),
        ('{"dog": 7', "expected JSON"),
    ],
)
def test_mappings_that_are_refused(judge, tmp_path, text, message):
    images(tmp_path / "pets", "cat", "dog")
    Path("map").write_text(text)
    with pytest.raises(TrainingError, match=f"--class_map map: .*({message})"):
        judge("--class_map", "map")


def test_a_folder_of_one_class_is_validated(judge, tmp_path):
    images(tmp_path / "pets", "cat")
    Path("map").write_text("cat,2")
    assert judge("--class_map", "map") == ["cat", "cat"]
