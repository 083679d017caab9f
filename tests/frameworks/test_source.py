"""Networks as files of Python (`zoo source`): they equal the built networks to the bit, and do not import zoo."""

import ast
import importlib.util
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from support import CONCEPTS, FULL, batch, calibrated, error, narrow
from test_contract import native, numpy, training, without_dropout

import weights
from zoo.language.model import Model, Norm, Preprocess, configure, stages
from zoo.language.nodes import Conv, Depthwise, Head, MaxPool, Residual, concat, repeat, transform
from zoo.language.rewrites import deployable
from zoo.models import MODELS
from zoo.source.dialect import dialect_of
from zoo.source.write import source

ALLOWED = {
    "torch": {"torch"},
    "mindspore": {"mindspore", "numpy"},
    "paddle": {"paddle"},
    "jax": {"flax", "jax", "numpy", "pathlib"},
}
OWN = Model(
    "own",
    stages=stages(
        stem=Conv(8, 3, 2),
        wide=concat(
            Depthwise(5, dilation=2) >> Conv(8, norm=False, bias=True), Conv(4, 2, 1, "same"), MaxPool(2, 1, "same")
        ),
        again=Residual(Conv(20, 3, act=False), scale=1 / 7, act=True) >> Conv(12),
        wider=repeat(Residual(Conv(16, 3), Conv(16), act=True), 3),
    ),
    head=Head(hidden=16, dropout=0.1, act=False),
    norm=Norm(eps=1 / 300, decay=0.8),
    size=33,
    num_classes=5,
    preprocess=Preprocess(resize=40),
)
"""Features that no published network has: dilated and even kernels, equal blocks with different inputs, numbers of
many digits."""


def module(text, folder):
    """The file as a module."""
    path = folder / "network.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location("network_of_its_own", path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def written(framework, model, folder):
    """The network of the file, with the calibrated weights, as its user loads them."""
    suffix = dialect_of(framework).suffix
    weights.write(folder / f"net{suffix}", calibrated(model), model, to=framework)
    return module(source(model, framework), folder).load(str(folder / f"net{suffix}"))


def run(net, x):
    """The network's output, in JAX compiled as in `predict`, because XLA rounds differently from single operations."""
    if hasattr(net, "deterministic"):
        from flax import nnx

        return nnx.jit(lambda net, x: net(x))(net, x)
    return net(x)


def nightly(name):
    """Mark a network to be tested only nightly: all but three, where building or compiling a network takes seconds."""
    if name in ("googlenet.mindcv", "inception_v3", "xception41p"):
        return ()
    return pytest.mark.nightly_in("jax", "mindspore", *(() if name in (*FULL, *CONCEPTS) else ("paddle",)))


NAMES = [pytest.param(name, marks=nightly(name)) for name in MODELS]


@pytest.mark.parametrize("name", [*NAMES, OWN], ids=lambda value: value if isinstance(value, str) else value.name)
def test_equals_the_built_network_to_the_bit(framework, backend, make, tmp_path, name):
    model = narrow(name) if isinstance(name, str) else name
    x = batch(model, model.size, count=2)
    ours = backend.predict(make(model, calibrated(model)), x)["logits"]
    theirs = numpy(run(written(framework, model, tmp_path), native(make(model, calibrated(model)), x)))
    assert np.array_equal(theirs, ours)


def test_files_are_short_formatted_linted_and_need_the_framework_only(framework, tmp_path):
    for name, model in MODELS.items():
        text = source(model, framework)
        imported = {
            (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name).partition(".")[0]
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Import | ast.ImportFrom)
        }
        assert imported <= ALLOWED[framework]
        longest = 300 if name == "inception_v4" else 340
        assert text.count("\n") < longest + 50 * (framework == "jax")  # Flax has functions where others have layers
        (tmp_path / f"{name}.py").write_text(text)
    for command in (("format", "--check"), ("check", "--select", "E,F,W,I,B,D4", "--ignore", "B905,D401,D413")):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--isolated", tmp_path], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "name", ["googlenet", pytest.param("inception_v3", marks=pytest.mark.nightly_in("mindspore", "jax"))]
)
def test_training_returns_the_auxiliary_logits_too(framework, backend, make, tmp_path, name):
    """As the built network does, with dropout off."""
    model = configure(narrow(name), drop_rate=0.0)
    model = replace(model, aux=tuple(replace(aux, node=transform(aux.node, without_dropout)) for aux in model.aux))
    ours, theirs = make(model, calibrated(model)), written(framework, model, tmp_path)
    x = native(ours, batch(model, model.size, count=2))
    for one, other in zip(training(theirs)(x), training(ours)(x), strict=True):
        assert error(numpy(one), numpy(other)) <= 1e-6


@pytest.mark.parametrize(
    "name",
    [
        *("googlenet", "xception41p"),
        pytest.param("inception_resnet_v1", marks=pytest.mark.nightly_in("mindspore", "jax")),
    ],
)
def test_rewritten_networks(framework, backend, make, tmp_path, name):
    """With batch norm and scales folded into convolutions."""
    original = configure(narrow(name), aux=False)
    model, arrays = deployable(original, calibrated(original))
    assert model.norm is None or name == "xception41p"
    suffix = dialect_of(framework).suffix
    weights.write(tmp_path / f"net{suffix}", arrays, model, to=framework)
    ours, x = make(model, arrays), batch(model, 107)
    theirs = module(source(model, framework), tmp_path).load(str(tmp_path / f"net{suffix}"))
    assert np.array_equal(numpy(run(theirs, native(ours, x))), backend.predict(ours, x)["logits"])


def test_taps_and_classes(framework, backend, make, tmp_path):
    model = configure(MODELS["inception_v4"], width=0.25, taps=("mixed_5e", "mixed_6h"))
    x = batch(model, 107)
    arrays = weights.restrict(calibrated(narrow("inception_v4")), model, narrow("inception_v4"))
    ours = make(model, arrays)
    theirs = module(source(model, framework), tmp_path)
    suffix = dialect_of(framework).suffix
    weights.write(tmp_path / f"net{suffix}", arrays, model, to=framework)
    maps = run(theirs.load(str(tmp_path / f"net{suffix}")), native(ours, x))
    for tapped, (_, expected) in zip(maps, backend.predict(ours, x).items(), strict=True):
        assert np.array_equal(numpy(tapped), expected)


def test_a_file_runs_where_this_project_is_not_installed(framework, tmp_path):
    model = narrow("googlenet")
    suffix = dialect_of(framework).suffix
    weights.write(tmp_path / f"net{suffix}", calibrated(model), model, to=framework)
    (tmp_path / "network.py").write_text(source(model, framework))
    code = (
        "import sys\n"
        "for name in ('zoo', 'weights', 'backends'): sys.modules[name] = None\n"
        f"import network; net = network.load('net{suffix}')\n"
        "assert net.deterministic if hasattr(net, 'deterministic') else not net.training"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
