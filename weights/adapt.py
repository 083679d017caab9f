"""Adapting weights to a variant of their network: other classes, other input channels, auxiliary heads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weights.initial import initial
from weights.manifest import restrict
from zoo.errors import WeightsError
from zoo.language.model import Model
from zoo.language.trace import parameters, trace

Array = NDArray[Any]
IMAGENET = 1000


def usual_classes(held: Model) -> int:
    """The number of classes to build a network with for weights of `held`: the same, but 1000 for 1001."""
    return IMAGENET if held.num_classes == IMAGENET + 1 else held.num_classes


def adapt(arrays: Mapping[str, Array], held: Model, wanted: Model, seed: int = 0) -> tuple[dict[str, Array], list[str]]:
    """The weights of `held` adapted to its variant `wanted`, and a line for each thing that was done.

    1001 classes become 1000 by removing the first, background. For any other number of classes all classifiers,
    auxiliary ones too, are new, made from `seed`; so are auxiliary heads that `held` does not have. Raises WeightsError
    for another width and for input channels that cannot be adapted.
    """
    result, done = restrict(arrays, wanted, held), []
    if held.width != wanted.width and not _same_channels(held, wanted):
        raise WeightsError(
            f"{held.name}: the weights have width {held.width:g}, not {wanted.width:g}: pass width={held.width:g}"
        )
    classifiers = [n for n in parameters(wanted) if n.endswith((".fc.weight", ".fc.bias")) and n in result]
    if held.num_classes == IMAGENET + 1 and wanted.num_classes == IMAGENET:
        result |= {name: result[name][1:] for name in classifiers}
        done.append("the first of 1001 classes, background, left out")
    elif held.num_classes != wanted.num_classes and classifiers:
        result = {name: array for name, array in result.items() if name not in classifiers}
        done.append(
            f"{wanted.num_classes} classes, and {held.num_classes} in the file: "
            f"all classifiers are new, made from seed {seed}"
        )
    if held.in_channels != wanted.in_channels:
        first = trace(wanted).first_conv
        if first is None:
            raise WeightsError(f"{wanted.name}: no convolution reads the image: its channels cannot be adapted")
        weight = f"{first.path}.conv.weight"
        result[weight] = adapt_channels(result[weight], wanted.in_channels)
        done.append(f"the first convolution adapted from {held.in_channels} to {wanted.in_channels} input channels")
    if wanted.aux and not held.aux:
        heads = ", ".join(aux.name for aux in wanted.aux)
        done.append(f"no auxiliary heads in the file: {heads} made anew from seed {seed}")
    if missing := parameters(wanted).keys() - result.keys():
        fresh = initial(wanted, seed)
        result |= {name: fresh[name] for name in missing}
    return result, done


def _same_channels(held: Model, wanted: Model) -> bool:
    """Whether two widths give the same channel counts, which are rounded to multiples of 8."""
    same = replace(wanted, num_classes=held.num_classes, in_channels=held.in_channels)
    ours, theirs = parameters(held), parameters(same)
    return all(theirs[name].shape == ours[name].shape for name in theirs if name in ours)


def adapt_channels(weight: Array, channels: int) -> Array:
    """The first convolution's weight [out, 3, height, width] for other input channels, as timm's adapt_input_conv.

    For one channel the three are summed: a grey image then gives the same output as its three equal channels did. For
    other numbers they are repeated in turn and scaled by 3 / channels. Raises WeightsError for
    several channels where there are not three now.
    """
    held = weight.shape[1]
    if channels == 1:
        return np.asarray(weight.sum(axis=1, keepdims=True, dtype=weight.dtype))
    if held != 3:
        raise WeightsError(f"{held} input channels cannot become {channels}: only 3 can; pass in_channels={held}")
    repeated = np.tile(weight, (1, -(-channels // 3), 1, 1))[:, :channels]
    return np.asarray(repeated * weight.dtype.type(3 / channels))
