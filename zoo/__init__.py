"""The Inception family, specified once, built natively by PyTorch, MindSpore, Paddle and JAX.

>>> import zoo
>>> net = zoo.build("inception_v4", backend="torch")

Names are imported on first use, so that `import zoo` needs nothing but the standard library.
"""

import importlib
from typing import TYPE_CHECKING, Any

from zoo.errors import BackendError, InputError, SpecError, UnavailableError, WeightsError, ZooError
from zoo.processor import prepare_numpy
from zoo.version import __version__

if TYPE_CHECKING:
    from weights import resolve as spec
    from zoo.builder import build
    from zoo.cards.facts import info
    from zoo.catalogue import list_models, register
    from zoo.data.images import preprocess
    from zoo.fidelity import fid
    from zoo.language.document import from_json, to_json
    from zoo.prediction import predict

prepare_numpy()

_HOMES = {  # the module that defines each name; after ":" its name there, if that differs
    "build": "zoo.builder",
    "fid": "zoo.fidelity.compare",
    "from_json": "zoo.language.document",
    "info": "zoo.cards.facts",
    "list_models": "zoo.catalogue",
    "predict": "zoo.prediction",
    "preprocess": "zoo.data.images",
    "register": "zoo.catalogue",
    "spec": "weights:resolve",
    "to_json": "zoo.language.document",
}

__all__ = [
    "BackendError",
    "InputError",
    "SpecError",
    "UnavailableError",
    "WeightsError",
    "ZooError",
    "__version__",
    "build",
    "fid",
    "from_json",
    "info",
    "list_models",
    "predict",
    "preprocess",
    "register",
    "spec",
    "to_json",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'zoo' has no attribute {name!r}")
    module, _, other = _HOMES[name].partition(":")
    return getattr(importlib.import_module(module), other or name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
