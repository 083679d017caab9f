"""What `predict` does in the same way in all backends."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.errors import InputError


def float32(x: Any) -> NDArray[np.float32]:
    """The batch, which must be a float32 array, in C order. Raises InputError for anything else."""
    if not isinstance(x, np.ndarray) or x.dtype != np.float32:
        raise InputError(
            f"expected a float32 array, not {getattr(x, 'dtype', type(x).__name__)}: use x.astype('float32')"
        )
    return np.ascontiguousarray(x)


def tape(net: Any, x: Any) -> dict[str, Any]:
    """Run the network stage by stage: the outputs of its stages, "logits", and auxiliary logits, each by name."""
    outputs = {}
    for stage in net.spec.stages:
        x = outputs[stage.name] = getattr(net, stage.name)(x)
    if net.spec.head is not None:
        outputs["logits"] = net.head(x)
    for aux in net.spec.aux:
        outputs[aux.name] = getattr(net, aux.name)(outputs[aux.after])
    return outputs
