"""Two kinds of tests: those that need no framework, and `tests/frameworks`, which runs once for each framework.

`pytest tests` runs the first, `pytest tests/frameworks --framework torch` (mindspore, paddle, jax) the second: the
frameworks cannot all be imported into one process.
"""

import os

import pytest

from zoo.frameworks import FRAMEWORKS


def pytest_addoption(parser):
    parser.addoption("--framework", choices=tuple(FRAMEWORKS), help="run tests/frameworks in this framework")


def pytest_configure(config):
    """Let XLA compile quickly rather than well: tests wait for the compiler more than for the compiled programs."""
    os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")


def pytest_ignore_collect(collection_path, config):
    if "frameworks" not in collection_path.parts:
        return None
    framework = config.getoption("--framework")
    if framework is None:
        return True
    alone = collection_path.stem.removeprefix("test_").partition("_")[0]
    return True if alone in FRAMEWORKS and alone != framework else None


@pytest.hookimpl(tryfirst=True)  # before `-m` looks for marks
def pytest_collection_modifyitems(config, items):
    framework = config.getoption("--framework")
    for item in items:
        if any(framework in mark.args for mark in item.iter_markers("nightly_in")):
            item.add_marker(pytest.mark.nightly)


@pytest.fixture(autouse=True, scope="session")
def quiet_progress():
    """Nothing in the suite talks to a terminal."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TERM", "dumb")
        patch.delenv("COLUMNS", raising=False)
        yield
