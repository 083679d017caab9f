"""Workers: what they return, and how they fail."""

import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support import batch, calibrated, error, expected

from backends import forkserver, worker
from zoo.errors import BackendError, InputError, UnavailableError, WeightsError
from zoo.frameworks import FRAMEWORKS
from zoo.language import AvgPool, Conv, Head, Model, Norm, Preprocess, concat, configure, stages
from zoo.models import MODELS

SMALL = configure(MODELS["googlenet"], width=0.25, num_classes=10)
INPUT = batch(SMALL, 64)


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Put a package of this name and text before the real one, for workers only."""

    def fake(name, text):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(text)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return fake


@pytest.mark.parametrize("backend", [*FRAMEWORKS, "reference"])
def test_a_worker_brings_everything_back(backend):
    arrays = calibrated(SMALL)
    result = worker.run(backend, SMALL, arrays, INPUT, tape=True, dump=True)
    for key, value in expected(SMALL, arrays, INPUT).items():
        assert error(result.outputs[key], value) <= 1e-5
    assert all(np.array_equal(result.dump[key], array) for key, array in arrays.items())
    assert set(result.seconds) == {"import", "build", "load", "run"}
    assert result.version[0].isdigit()
    assert 1e7 < result.memory < 3e9


def test_one_that_dies_shows_its_last_words(fake):
    fake("torch", "import os, sys\nfor i in range(9): print('line', i, file=sys.stderr, flush=True)\nos.abort()")
    with pytest.raises(BackendError) as caught:
        worker.run("torch", SMALL, calibrated(SMALL), INPUT)
    assert str(caught.value) == "torch: its worker died of SIGABRT: line 4 | line 5 | line 6 | line 7 | line 8"


def test_one_that_hangs_is_ended(fake):
    fake("torch", "import sys, time\nprint('waiting for a lock', file=sys.stderr, flush=True)\ntime.sleep(600)")
    with pytest.raises(BackendError, match=r"torch: its worker did not finish within 2 s: waiting for a lock"):
        worker.run("torch", SMALL, calibrated(SMALL), INPUT, timeout=2)


def test_one_with_an_unforeseen_error_shows_it(fake):
    fake("torch", "")
    with pytest.raises(BackendError, match=r"torch: its worker ended with status 1: .*cannot import name 'Tensor'"):
        worker.run("torch", SMALL, calibrated(SMALL), INPUT)


@pytest.mark.parametrize("error", ["ImportError", "OSError", "RuntimeError"])
def test_a_framework_that_does_not_import_has_failed(fake, error):
    """It is not merely unavailable, which would be skipped."""
    fake("torch", f"raise {error}('libgomp.so.1 is missing')")
    with pytest.raises(BackendError, match=r"torch is installed but cannot be imported: libgomp.so.1") as caught:
        worker.run("torch", SMALL, calibrated(SMALL), INPUT)
    assert not isinstance(caught.value, UnavailableError)


OWN = Model(
    name="own",
    stages=stages(stem=Conv(16, 3, 2), mixed=concat(Conv(8), AvgPool(count_include_pad=True) >> Conv(8))),
    head=Head(),
    preprocess=Preprocess(resize=72),
    norm=Norm(eps=0.01),
    size=64,
    num_classes=10,
)


@pytest.mark.parametrize("backend", ["torch", "reference"])
@pytest.mark.parametrize(
    "model",
    [
        replace(SMALL, norm=Norm(eps=0.5)),
        replace(SMALL, aux=SMALL.aux[1:], size=224),
        configure(replace(SMALL, aux=()), width=0.5),
        OWN,
    ],
    ids=["another epsilon", "one auxiliary head of two", "a width of a width", "a model of one's own"],
)
def test_any_model_is_run_as_it_is(backend, model):
    """Not as the published network of its name."""
    arrays, x = calibrated(model), batch(model, model.size)
    outputs = worker.run(backend, model, arrays, x, tape=True).outputs
    reference = expected(model, arrays, x)
    assert outputs.keys() == reference.keys()
    for name, value in reference.items():
        assert error(outputs[name], value) <= 1e-5, name


def test_its_errors_keep_their_class():
    with pytest.raises(InputError, match="8 x 8 pixels is too small"):
        worker.run("reference", SMALL, calibrated(SMALL), batch(SMALL, 8))
    with pytest.raises(WeightsError, match="305 missing"):
        worker.run("reference", SMALL, {"x": INPUT}, INPUT)


def test_nothing_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    worker.run("reference", SMALL, calibrated(SMALL), INPUT)
    with pytest.raises(InputError):
        worker.run("reference", SMALL, calibrated(SMALL), batch(SMALL, 8))
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux only")
def test_one_import_serves_many_jobs_in_one_environment(monkeypatch):
    def job():
        worker.run("reference", SMALL, calibrated(SMALL), INPUT)
        return forkserver.server("reference")._process.pid

    first = job()
    assert job() == first
    monkeypatch.setenv("SOME_VARIABLE", "1")
    another = job()
    assert another not in (first, os.getpid())
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)
    os.kill(another, signal.SIGKILL)
    forkserver.server("reference")._process.wait()
    assert job() != another


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux only")
def _runs(stat: Path) -> bool:
    try:
        return " Z " not in stat.read_text()
    except OSError:
        return False


def test_a_job_that_hangs_or_dies_takes_no_other_with_it(tmp_path):
    """The job's own processes end with it; the server continues."""
    (tmp_path / "mine.py").write_text(
        "import os, subprocess, time\n\n\n"
        "def hang(path):\n"
        "    child = subprocess.Popen(['sleep', '600'])\n"
        "    open(path, 'w').write(str(child.pid))\n"
        "    time.sleep(600)\n\n\n"
        "def die(path):\n"
        "    os.abort()\n"
    )
    (tmp_path / "job").mkdir()
    job = {"folder": str(tmp_path), "images": [str(tmp_path / "pid")]}

    def call(function, timeout):
        worker.call("preprocess", "reference", SMALL, tmp_path / "job", job | {"target": f"mine:{function}"}, timeout)

    with pytest.raises(BackendError, match="did not finish within 3 s"):
        call("hang", 3)
    server = forkserver.server("reference")._process.pid
    child = Path(f"/proc/{(tmp_path / 'pid').read_text()}/stat")
    deadline = time.monotonic() + 60
    while _runs(child):  # a killed process may take a moment to end, and nobody waits for this one
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with pytest.raises(BackendError, match="died of SIGABRT"):
        call("die", 60)
    worker.run("reference", SMALL, calibrated(SMALL), INPUT)
    assert forkserver.server("reference")._process.pid == server
