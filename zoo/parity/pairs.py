"""`zoo diff`: what differs between the specs of two networks, and how far their logits differ with the same weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

import weights
from weights.flavours import pair
from zoo.data.images import preprocess, sample_photographs
from zoo.errors import WeightsError
from zoo.language.diff import differences, same_network
from zoo.language.interpreter import Interpreter
from zoo.language.model import Model
from zoo.language.trace import parameters


def compare(first: str | Model, second: str | Model, run: bool = True) -> dict[str, Any]:
    """The JSON document of `zoo diff`; either network is anything that `weights.resolve` takes.

    `same_network` says whether both compute the same function of the same weights. `differences` lists all differences,
    those of training and preprocessing included. With `run`, and if both have tensors of the same names and shapes,
    `max_rel_difference` is max |a - b| / max |a| over the float64 reference's logits on scikit-learn's photographs,
    both networks with the calibrated weights and the preprocessing of the first; otherwise it is None. `conversions`
    says for each direction whether any weights of one network can be converted to weights of the other with the same
    outputs in inference, and if not, why. Raises SpecError for unknown names, InputError without scikit-learn.
    """
    a, b = weights.resolve(first), weights.resolve(second)
    bare = [replace(model, aux=()) for model in (a, b)]
    shapes = [{name: parameter.shape for name, parameter in parameters(model).items()} for model in bare]
    fit = shapes[0] == shapes[1]
    return {
        "models": [a.name, b.name],
        "asked_for": [first if isinstance(first, str) else a.name, second if isinstance(second, str) else b.name],
        "same_network": same_network(a, b),
        "weights_fit": fit,
        "differences": [difference._asdict() for difference in differences(a, b)],
        "conversions": [_conversion(one, other) for one, other in ((a, b), (b, a))],
        "max_rel_difference": (_run(*bare) if bare[0] != bare[1] else 0.0) if run and fit else None,
    }


def _conversion(first: Model, second: Model) -> dict[str, Any]:
    """Whether weights of one network can be converted to the other exactly in inference, and if not, why."""
    try:
        pair(first, second)
    except WeightsError as error:
        return {"from": first.name, "to": second.name, "exact": False, "why": str(error)}
    return {"from": first.name, "to": second.name, "exact": True, "why": ""}


def _run(a: Model, b: Model) -> float:
    arrays = {name: array.astype(np.float64) for name, array in weights.calibrated(a).items()}
    inputs = np.stack([preprocess(a, photograph) for photograph in sample_photographs()])
    logits = [Interpreter(model, arrays).tape(inputs)["logits"] for model in (a, b)]
    return float(np.abs(logits[0] - logits[1]).max() / np.abs(logits[0]).max())
