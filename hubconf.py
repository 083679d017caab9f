"""Networks for torch.hub, from a checkout of this project:

    net = torch.hub.load("path/to/checkout", "inception_v3.mindcv", source="local", num_classes=10)

Entries are the names of networks (`zoo list`) and of published weights (`zoo list --pretrained`), which are downloaded.
Arguments are those of `zoo.build`, except for the backend.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import zoo
from weights.published import PUBLISHED

dependencies = ["numpy", "safetensors", "torch"]


def _entries() -> Iterator[tuple[str, Callable[..., Any]]]:
    for name in zoo.list_models():
        entry = partial(zoo.build, name, "torch")
        entry.__doc__ = f"{name}; see `zoo info {name}`. Arguments are those of zoo.build."
        yield name, entry
    for name, row in PUBLISHED.items():
        entry = partial(zoo.build, name, "torch", pretrained=True)
        entry.__doc__ = f"{row.model} with the weights {name}. Arguments are those of zoo.build."
        yield name, entry


globals().update(_entries())
