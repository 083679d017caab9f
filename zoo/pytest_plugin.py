"""A pytest plugin with which other projects check their own networks.

The fixture `parity`, in a test of your own:

    def test_my_network(parity):
        parity(build_my_network(), "inception_v3")

And `pytest --parity`, which makes a test of each line of the setting `parity`, e.g. in pyproject.toml:

    [tool.pytest.ini_options]
    parity = [
        "mypackage.nets:build inception_v3",
        "mypackage.nets_ms:build inception_v3 framework=mindspore checkpoint=net.ckpt training=true",
    ]

A line has package.module:function (or a file), a model, and options of `zoo.parity.against`. Each network runs in a
process of its own, so that one run of pytest can check several frameworks. These tests have the marker `parity`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

OPTIONS: dict[str, Callable[[str], Any]] = {
    "framework": str,
    "checkpoint": str,
    "rename": str,
    "size": int,
    "batch": int,
    "training": lambda text: {"true": True, "false": False}[text],
}
"""Options of a line, and how their values are read."""


@pytest.fixture(scope="session")
def parity() -> Callable[..., None]:
    """`zoo.parity.assert_same`: fails the test, with the place and the cause, unless a network is that of a spec."""
    from zoo.parity import assert_same

    return assert_same


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("inception-zoo")
    group.addoption("--parity", action="store_true", help="compare the networks of the setting `parity` with the zoo's")
    parser.addini("parity", "networks to compare: package.module:function MODEL [option=value ...]", "linelist", [])


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "parity: compares a network of the setting `parity` (pytest --parity)")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--parity"):
        items.extend(Comparison.from_parent(session, name=line) for line in config.getini("parity"))


class Comparison(pytest.Item):
    """A line of the setting."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.add_marker("parity")

    def runtest(self) -> None:
        from zoo.parity import against
        from zoo.parity.describe import describe

        target, model, options = read_line(self.name)
        document = against(model, target, **options)
        if not document["ok"]:
            raise AssertionError("\n".join(describe(document)))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> str:
        """The verdict or the error, without a traceback, which would show none of the user's code."""
        return str(excinfo.value)

    def reportinfo(self) -> tuple[str, None, str]:
        return "parity", None, self.name


def read_line(line: str) -> tuple[str, str, dict[str, Any]]:
    """The target, the model and the options of a line. Raises pytest.UsageError for a malformed line."""
    words = line.split()
    if len(words) < 2:
        raise pytest.UsageError(f"parity: {line!r}: expected package.module:function MODEL [option=value ...]")
    options = {}
    for word in words[2:]:
        name, _, value = word.partition("=")
        try:
            options[name] = OPTIONS[name](value)
        except (KeyError, ValueError):
            known = ", ".join(OPTIONS)
            raise pytest.UsageError(f"parity: {line!r}: {word!r}: expected option=value, of {known}") from None
    return words[0], words[1], options
