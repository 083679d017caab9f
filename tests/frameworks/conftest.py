"""Fixtures for the framework under test and its backend."""

import pytest

from backends import get


@pytest.fixture(scope="session")
def framework(request):
    """Its name: torch, mindspore, paddle or jax."""
    return request.config.getoption("--framework")


@pytest.fixture(scope="session")
def backend(framework):
    return get(framework)


@pytest.fixture
def make(backend):
    """A network of a Model with the given canonical weights, in eval mode."""

    def make(model, arrays):
        net = backend.build(model)
        backend.load(net, arrays)
        return net

    return make
