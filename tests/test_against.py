"""`zoo parity --against` as a user runs it: a network of their own in a file, a TorchScript or ONNX file."""

import json
import subprocess
import sys

import numpy as np
import pytest
from support import SMALL

import weights
import zoo
from zoo.commands import main
from zoo.errors import InputError
from zoo.language.model import configure
from zoo.parity import assert_same, compare_network

OWN = '''
import torch
from torch import nn
from torch.nn import functional as F


class Unit(nn.Module):
    def __init__(self, i, o, k, **more):
        super().__init__()
        self.convolution = nn.Conv2d(i, o, k, bias=False, **more)
        self.norm = nn.BatchNorm2d(o, eps=EPS)

    def forward(self, x, relu=True):
        y = self.norm(self.convolution(x))
        return F.relu(y, inplace=True) if relu else y


class Own(nn.Module):
    """tests/small.json by hand, with names of its own, functions in place of modules, and ReLUs in place."""

    def __init__(self, scale=0.5, counted=False):
        super().__init__()
        self.first = Unit(3, 8, 3, stride=2, padding=1)
        self.a, self.b, self.c = Unit(8, 8, 1), Unit(8, 8, 1), Unit(8, 16, 3, padding=1)
        self.d = Unit(8, 8, 1)
        self.deep, self.wide = Unit(32, 32, 3, padding=1, groups=32), Unit(32, 32, 1)
        self.classify = nn.Linear(32, 10)
        self.scale, self.counted = scale, counted

    def forward(self, x):
        x = F.max_pool2d(self.first(x), 3, 2, 1)
        pooled = F.avg_pool2d(x, 3, 1, 1, count_include_pad=self.counted)
        x = torch.cat([self.a(x), self.c(self.b(x)), self.d(pooled)], 1)
        x = F.relu(x + self.scale * self.wide(self.deep(x, False), False))
        return self.classify(x.mean((2, 3)))


def counted():
    return Own(counted=True)


def twice():
    net = Own()
    net.d = nn.Sequential(net.d, Unit(8, 8, 1))
    return net


def once():
    net = Own()
    net.b = nn.Identity()
    return net


def lazy():
    raise RuntimeError("no weights here")


number = 5
'''


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "own.py").write_text(OWN.replace("EPS", "1e-3"))
    (tmp_path / "other.py").write_text(OWN.replace("EPS", "1e-5"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words, model=SMALL):
    return main(["parity", str(model), "--against", *map(str, words)])


def test_a_network_of_one_s_own(folder, capsys):
    assert run("own:Own", "--json", "-") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["ok"], document["first"], document["cause"], document["change"]) == (True, None, None, None)
    assert (document["model"], document["against"], document["framework"]) == ("small", "own:Own", "torch")
    assert 0 < document["max_rel_error"] <= document["band"] < 1e-5
    assert run("own:Own") == 0
    assert "own:Own is small: every operation and the logits agree." in capsys.readouterr().out


def test_a_cause_is_named_and_proved(folder, capsys):
    assert run("own:counted", "--json", "-") == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["ok"], document["cause"], document["proved"]) == (False, "count_include_pad", True)
    assert document["first"]["path"] == "mixed.branch2.1"
    assert document["first"]["name"] == "d.convolution"
    assert document["first"]["error"] > 100 * document["first"]["band"]
    assert document["change"] == "mixed.branch2.0: count_include_pad=True where the spec has False"
    assert document["left"] == []
    assert run("other:Own") == 1
    out = capsys.readouterr().out
    assert "Cause: eps, at batch norm: eps=1e-05 where the spec has 0.001." in out
    assert "Proved: with this change to the spec no difference is left." in out


@pytest.mark.parametrize(
    ("target", "cause", "change"),
    [
        ("own:twice", "repeated_layer", "mixed.branch2.1: the network has another one after it"),
        ("own:once", "missing_layer", "mixed.branch1.0: the network does not have it"),
    ],
)
def test_a_layer_more_or_less(folder, capsys, target, cause, change):
    assert run(target, "--json", "-") == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["cause"], document["change"], document["proved"]) == (cause, change, True)
    assert document["left"] == []


def test_a_checkpoint_s_weights_are_put_into_it(folder, capsys):
    model = configure(zoo.spec(SMALL), aux=False)
    arrays = weights.calibrated(model)
    weights.write(folder / "w.safetensors", arrays, model)
    assert run("own:Own", "--checkpoint", "w.safetensors", "--json", "-") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["weights"] == "w.safetensors"
    assert run("own:counted", "--checkpoint", "w.safetensors") == 1
    assert "count_include_pad" in capsys.readouterr().out


def test_a_reproduction_runs_without_this_project(folder, capsys):
    assert run("other:Own", "--repro", "repro") == 1
    names = sorted(path.name for path in (folder / "repro").iterdir())
    assert names == ["jax_norm.py", "mindspore_norm.py", "operation.npz", "paddle_norm.py", "torch_norm.py"]
    command = [sys.executable, "-I", "torch_norm.py"]
    said = subprocess.run(command, cwd=folder / "repro", capture_output=True, text=True, check=True).stdout
    first, second = (float(line.rpartition(" ")[2]) for line in said.splitlines())
    assert first < 1e-6 < 1e-4 < second


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
@pytest.mark.parametrize("suffix", [".pt", ".pt2", ".onnx"])
def test_a_file_with_a_graph(folder, capsys, suffix):
    import torch

    sys.path.insert(0, str(folder))
    try:
        import own

        net, images = own.counted().eval(), torch.rand(1, 3, 32, 32)
        path = folder / f"net{suffix}"
        if suffix == ".pt":
            torch.jit.trace(net, images).save(str(path))
        elif suffix == ".pt2":
            torch.export.save(torch.export.export(net, (images,)), path)
        else:
            torch.onnx.export(net, (images,), str(path), dynamo=False)
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop("own", None)
    assert run(path) == 1
    assert "count_include_pad, at mixed.branch2.0" in capsys.readouterr().out


def test_a_network_of_another_shape(folder, capsys):
    assert run("own:Own", "--json", "-", model="googlenet") == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["ok"], document["cause"], document["max_rel_error"]) == (False, None, None)
    assert document["first"]["kind"] in ("conv", "missing", "input")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("own:Missing", "own:Missing: expected package.module:function, but module 'own' has no attribute 'Missing'"),
        ("nowhere:x", "nowhere:x: expected package.module:function, but No module named 'nowhere'"),
        ("own:number", "own:number: calling it without arguments failed: TypeError: 'int' object is not callable"),
        ("own:lazy", "own:lazy: calling it without arguments failed: RuntimeError: no weights here"),
        ("own", "own: expected package.module:function, or a file that ends in .pt, .pth, .pt2, .onnx, .json, .mindir"),
        ("gone.onnx", "gone.onnx: there is no such file"),
        ("text.onnx", "text.onnx: not a valid ONNX model"),
        ("text.pt", "text.pt: expected a TorchScript file, but PyTorch says:"),
        ("text.json", "text.json: expected its weights beside it, in text.pdiparams"),
        ("text.mindir", "text.mindir: not a MindIR file"),
        ("own:Own --rename gone.json", "gone.json: cannot read the table of names: No such file or directory"),
        ("own:Own --rename text.json", "text.json: expected a JSON object of names, but it is not JSON"),
        ("text.pt2", "text.pt2: not a readable zip archive"),
        ("own:Own --framework tf", "--framework tf: expected one of torch, mindspore, paddle, jax"),
        ("own:Own --framework paddle", "expected a paddle.nn.Layer, not Own"),
        ("own:Own --layers", "--layers does not go with --against"),
        ("own:Own --repeat 5", "--repeat does not go with --against"),
        ("own:Own --seed 1", "--seed does not go with --against"),
    ],
)
def test_bad_targets(folder, capsys, words, message):
    for name in ("text.onnx", "text.pt", "text.pt2", "text.json", "text.mindir"):
        (folder / name).write_text("no network")
    assert run(*words.split()) == 2
    error = capsys.readouterr().err
    assert error.count("zoo: error:") == 1
    assert message in error


def test_flags_without_against(folder, capsys):
    assert main(["parity", "googlenet", "inception_v3", "--against", "own:Own"]) == 2
    assert "--against compares one network with one model: name one" in capsys.readouterr().err
    assert main(["parity", str(SMALL), "--framework", "torch"]) == 2
    assert "--framework, --rename, --training and --repro go with --against" in capsys.readouterr().err


def test_a_biased_running_variance():
    """As Paddle's own batch norm keeps it."""
    import torch

    class Biased(torch.nn.BatchNorm2d):
        def forward(self, x):
            old, count = self.running_var.clone(), x.numel() // x.shape[1]
            y = super().forward(x)
            if self.training:
                added = self.running_var - (1 - self.momentum) * old
                self.running_var.copy_((1 - self.momentum) * old + added * (count - 1) / count)
            return y

    net = zoo.build(SMALL, "torch")
    assert_same(net, SMALL, training=True)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.__class__ = Biased
    document = compare_network(net, SMALL, training=True)
    assert [cause["cause"] for cause in document["causes"]] == ["running_variance"]
    assert (document["left"], document["first"]["detail"]) == ([], "running variance")
    for module in net.modules():
        if isinstance(module, Biased):
            module.momentum = 0.25
    causes = [cause["cause"] for cause in compare_network(net, SMALL, training=True)["causes"]]
    assert causes == ["bn_momentum", "running_variance"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_batch_norms_that_training_does_not_update():
    """Frozen ones are differences; a network traced in eval mode has no others."""
    import torch

    net = zoo.build(SMALL, "torch")
    net.mixed.branch0.bn.train = lambda mode=True: net.mixed.branch0.bn
    document = compare_network(net, SMALL, training=True)
    assert not document["ok"]
    (finding,) = document["left"]
    assert (finding["path"], finding["detail"]) == ("mixed.branch0", "its running statistics are not updated")
    traced = torch.jit.trace(zoo.build(SMALL, "torch").eval(), torch.rand(1, 3, 32, 32))
    assert len(compare_network(traced, SMALL, training=True)["left"]) == 7


def test_auxiliary_logits_in_the_wrong_order():
    import torch

    class Swapped(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = zoo.build("googlenet", "torch", width=0.25, num_classes=10, aux=True)

        def forward(self, x):
            outputs = self.net(x)
            return (outputs[0], outputs[2], outputs[1]) if self.training else outputs

    model = configure(zoo.spec("googlenet"), width=0.25, num_classes=10)
    net = Swapped()
    assert_same(net.net, model, training=True)
    document = compare_network(net, model, training=True)
    assert (document["cause"], document["proved"], document["left"]) == ("aux_swapped", True, [])
    assert "come as aux2, aux1 where the spec has aux1, aux2" in document["change"]


def test_a_table_of_names(folder, capsys):
    """A table that swaps two convolutions makes them differ; without it the alignment finds the same network."""
    net = zoo.build(SMALL, "torch", seed=1)
    first, second = "mixed.branch0.conv", "mixed.branch1.0.conv"
    assert compare_network(net, SMALL, rename={first: first, f"{second}.weight": f"{second}.weight"})["ok"]
    document = compare_network(net, SMALL, rename={first: second, second: first})
    assert not document["ok"]
    assert document["first"]["path"].startswith("mixed.branch")
    for table, message in (
        ({"mixed.branch0.cnov": "a"}, "small has no operation 'mixed.branch0.cnov': did you mean mixed.branch0.conv"),
        ({first: "stem.convolution"}, "0 operations of the network are called 'stem.convolution', expected one"),
        ({first: 3}, "expected a JSON object"),
        ({first: "head.fc"}, r"'head.fc' cannot be 'mixed.branch0.conv': its weight is \[10, 32\]"),
        ({first: "stem.0.bn"}, r"its weight is \[8\], that of the spec \[8, 8, 1, 1\]"),
    ):
        with pytest.raises(InputError, match=message):
            compare_network(net, SMALL, rename=table)
    (folder / "names.json").write_text(json.dumps({"stem.0.conv": "stem.conv"}))
    assert run("own:Own", "--rename", "names.json") == 2
    assert "are called 'stem.conv', expected one" in capsys.readouterr().err


def test_a_cause_at_several_places_at_once(folder, capsys):
    text = (folder / "own.py").read_text()
    text = text.replace("F.relu(y, inplace=True) if relu else y", "y").replace("x = F.relu(x +", "x = (x +")
    (folder / "linear.py").write_text(text)
    assert run("linear:Own", "--json", "-") == 1
    document = json.loads(capsys.readouterr().out)
    assert {cause["cause"] for cause in document["causes"]} == {"missing_relu"}
    assert document["left"] == []
    assert np.isfinite(document["max_rel_error"])


def test_the_fixture_of_the_pytest_plugin(folder, monkeypatch):
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    (folder / "test_own.py").write_text(
        "import own\n\n"
        f"def test_same(parity):\n    parity(own.Own(), {str(SMALL)!r})\n\n"
        f"def test_other(parity):\n    parity(own.counted(), {str(SMALL)!r})\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_own.py"]
    said = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False).stdout
    assert "1 failed, 1 passed" in said
    assert "Cause: count_include_pad, at mixed.branch2.0" in said


def test_the_setting_of_the_pytest_plugin(folder, monkeypatch):
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    lines = [
        f"own:Own {SMALL}",
        f"own:counted {SMALL} framework=torch training=true",
        f"own:Own {SMALL} colour=red",
        "own:Own",
    ]
    (folder / "pytest.ini").write_text("[pytest]\nparity =\n" + "".join(f"    {line}\n" for line in lines))
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", "--parity", "-m", "parity"]
    said = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False).stdout
    assert "3 failed, 1 passed" in said
    assert "Cause: count_include_pad, at mixed.branch2.0" in said
    assert "'colour=red': expected option=value, of framework, checkpoint" in said
    assert "'own:Own': expected package.module:function MODEL [option=value ...]" in said
    assert "Traceback" not in said
