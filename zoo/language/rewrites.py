"""Rewrites: from a model and its weights to another model and weights that compute the same function in inference.

Each takes (model, arrays) and gives (model, arrays); arrays that do not change are shared with the input.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.errors import SpecError
from zoo.language.model import Model

Array = NDArray[Any]


def fold_gammas(model: Model, arrays: Mapping[str, Array]) -> tuple[Model, dict[str, Array]]:
    """Multiply every gamma into the convolution before its batch norm, so that all gammas are 1.

    g (w x - m) / s + b = ((g w) x - g m) / s + b, exact for gammas of either sign. Raises SpecError for a batch norm
    that no convolution comes before (pre-activation) and whose gammas are not 1 already.
    """
    result = dict(arrays)
    for name, gamma in arrays.items():
        if not name.endswith(".bn.weight") or (gamma == 1).all():
            continue
        box = name.removesuffix("bn.weight")
        if f"{box}conv.weight" not in arrays:
            raise SpecError(f"{model.name}: {name} cannot be folded: no convolution comes before it")
        weight = arrays[f"{box}conv.weight"]
        result[f"{box}conv.weight"] = weight * gamma.reshape(-1, *[1] * (weight.ndim - 1))
        result[f"{box}bn.mean"] = arrays[f"{box}bn.mean"] * gamma
        result[name] = np.ones_like(gamma)
    return model, result


def set_epsilon(model: Model, arrays: Mapping[str, Array], eps: float) -> tuple[Model, dict[str, Array]]:
    """Give batch norm another epsilon, and variances that make up for it: var + old = var' + eps.

    Where var' would be negative it becomes 0, and gamma takes the rest: gamma' = gamma sqrt(eps / (var + old)). Raises
    SpecError for a model without batch norm.
    """
    if model.norm is None:
        raise SpecError(f"{model.name}: has no batch norm, so no epsilon")
    result = dict(arrays)
    for name in [name for name in arrays if name.endswith(".bn.var")]:
        box = name.removesuffix("var")
        total = arrays[name].astype(np.float64) + model.norm.eps
        gamma, dtype = arrays[f"{box}weight"], arrays[name].dtype
        result[name] = np.maximum(total - eps, 0).astype(dtype)
        rest = np.where(total < eps, np.sqrt(eps / total), 1)
        result[f"{box}weight"] = (gamma * rest).astype(gamma.dtype)
    return replace(model, norm=replace(model.norm, eps=eps)), result
