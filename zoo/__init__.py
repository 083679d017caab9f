"""The Inception family, specified once, built natively by PyTorch, MindSpore and Paddle.

>>> import zoo
>>> net = zoo.build("inception_v4", backend="torch")
"""

from zoo.builder import build
from zoo.catalogue import info, list_models, spec
from zoo.errors import BackendError, InputError, SpecError, UnavailableError, WeightsError, ZooError
from zoo.version import __version__

__all__ = [
    "BackendError",
    "InputError",
    "SpecError",
    "UnavailableError",
    "WeightsError",
    "ZooError",
    "__version__",
    "build",
    "info",
    "list_models",
    "spec",
]
