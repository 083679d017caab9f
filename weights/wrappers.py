"""Removing what publishers and training loops store around the weights, with a report of what was removed."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any, NamedTuple

from weights.formats.pickles import NumpyArray
from weights.formats.tensors import Tensor
from zoo.errors import WeightsError

STATES = ("state_dict", "model", "model_state_dict", "model_state", "network", "net", "params", "weights", "module")
AVERAGES = ("state_dict_ema", "model_ema", "ema_state_dict", "ema", "averaged")
"""Keys of dictionaries in the file that hold the weights, and their moving average."""

PREFIXES = ("module.", "_orig_mod.", "_layers.")
"""Prefixes of every name in files of nn.DataParallel, torch.compile and paddle.DataParallel."""

DEEPEST = 4
"""How many nested dictionaries around the weights are opened."""

AVERAGE_PREFIX = "ema."


class Unwrapped(NamedTuple):
    """The weights by name; a line for each thing that was removed; whether the file also has their moving average."""

    tensors: dict[str, Tensor]
    removed: list[str]
    has_average: bool


def unwrap(tree: Mapping[Any, Any], ema: bool = False) -> Unwrapped:
    """The weights in a file; with `ema`, their moving average.

    Raises WeightsError when there are no tensors, or no moving average.
    """
    removed: list[str] = []
    found, averaged, has_average = tree, False, False
    for _ in range(DEEPEST):
        averages = [key for key in AVERAGES if _holds_tensors(found.get(key))]
        states = [key for key in STATES if _holds_tensors(found.get(key))]
        has_average = has_average or bool(averages)
        if ema and not averaged and averages:
            key, averaged = averages[0], True
        elif states:
            key = states[0]
        elif _no_weights(found) and len(only := [key for key, value in found.items() if _tensors(value)]) == 1:
            key = only[0]
        else:
            break
        others = [str(other) for other in found if other != key]
        removed.append(f"the dictionary around {str(key)[:80]!r}" + (f", with {some(others)}" if others else ""))
        found = found[key]
    tensors = _tensors(found)
    average = {key.removeprefix(AVERAGE_PREFIX): t for key, t in tensors.items() if key.startswith(AVERAGE_PREFIX)}
    if ema and not averaged:
        if not average:
            raise WeightsError("it holds no moving average of the weights: leave out ema (--ema)")
        tensors |= average
    if not tensors:
        raise WeightsError(f"it holds no tensors, only {some([str(key) for key in found]) or 'an empty dictionary'}")
    others = [str(key) for key in found if key not in tensors]
    if others:
        removed.append(f"entries that are not tensors: {some(others)}")
    tensors = _without_training(tensors, removed)
    while (prefix := _common_prefix(tensors)) is not None:
        removed.append(f"the prefix {prefix!r}")
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
        tensors = _without_training(tensors, removed)
    if not tensors:
        raise WeightsError(f"it holds no weights, only {'; '.join(removed)}")
    return Unwrapped(tensors, removed, has_average or bool(average))


def _common_prefix(tensors: Mapping[str, Tensor]) -> str | None:
    """The prefix among `PREFIXES` that all names have."""
    return next((p for p in PREFIXES if tensors and all(name.startswith(p) for name in tensors)), None)


def _without_training(tensors: dict[str, Tensor], removed: list[str]) -> dict[str, Tensor]:
    """The tensors without counters of batches, the optimizer's state, and single numbers."""
    states = _state_prefixes(tensors)
    slots = [name for name in tensors if name.partition(".")[0] in states]
    counters = [name for name in tensors if name.endswith("num_batches_tracked")]
    scalars = [n for n, t in tensors.items() if "." not in n and "/" not in n and len(t.shape) <= 1]
    if counters:
        removed.append(f"{len(counters)} counters, num_batches_tracked")
    if slots:
        removed.append(f"{len(slots)} tensors of an optimizer or a moving average: {some(slots)}")
    if scalars:
        removed.append(f"numbers of the training loop: {some(scalars)}")
    unwanted = {*slots, *counters, *scalars}
    return {name: tensor for name, tensor in tensors.items() if name not in unwanted}


def _state_prefixes(tensors: Mapping[str, Tensor]) -> set[str]:
    """First components of names that belong to an optimizer's state: moments.a.b where a.b has the same shape.

    MindSpore saves it beside the weights. All names with that first component must have such a counterpart:
    AuxLogits.fc.bias has one (fc.bias), but AuxLogits.conv0 has none, so AuxLogits is a part of the network.
    """
    all_matched: dict[str, bool] = {}
    for name, tensor in tensors.items():
        word, dot, rest = name.partition(".")
        counterpart = tensors.get(rest)
        matched = bool(dot) and counterpart is not None and counterpart.shape == tensor.shape
        all_matched[word] = all_matched.get(word, True) and matched
    return {word for word, matched in all_matched.items() if matched} | {AVERAGE_PREFIX.removesuffix(".")}


def _holds_tensors(value: Any) -> bool:
    """Whether a value is a dictionary with tensors, or with a key under which they are usually kept."""
    return isinstance(value, Mapping) and (bool(_tensors(value)) or any(key in value for key in STATES))


def _no_weights(value: Mapping[Any, Any]) -> bool:
    """Whether a dictionary holds no tensors but single numbers, as training loops keep them."""
    return all(prod(tensor.shape) <= 1 for tensor in _tensors(value).values())


def _tensors(value: Any) -> dict[str, Tensor]:
    if not isinstance(value, Mapping):
        return {}
    leaves = ((name, _leaf(leaf)) for name, leaf in value.items() if isinstance(name, str))
    return {name: leaf for name, leaf in leaves if leaf is not None}


def _leaf(value: Any) -> Tensor | None:
    """The tensor in a value: a tensor, a NumPy array, or Paddle's pair of a name and an array; None for others."""
    if isinstance(value, tuple) and len(value) == 2:
        value = value[1]
    if isinstance(value, NumpyArray):
        value = getattr(value, "tensor", None)
    return value if isinstance(value, Tensor) else None


def some(names: list[str], count: int = 3) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(name[:80] for name in names[:count]) + more
