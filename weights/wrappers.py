"""What publishers and training loops wrap around the weights: taken off, and reported."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from weights.formats.pickles import NumpyArray
from weights.formats.tensors import Tensor
from zoo.errors import WeightsError

STATES = ("state_dict", "model", "model_state_dict", "model_state", "network", "net", "params", "weights", "module")
AVERAGES = ("state_dict_ema", "model_ema", "ema_state_dict", "ema", "averaged")
"""Keys of a dictionary within the file: the weights, and their moving average."""

PREFIXES = ("module.", "_orig_mod.", "_layers.")
"""Before every name: nn.DataParallel, torch.compile, paddle.DataParallel."""

DEEPEST = 4


def unwrap(tree: Mapping[Any, Any], ema: bool = False) -> tuple[dict[str, Tensor], list[str]]:
    """The weights in a file by name, and what was taken off: a line each.

    With `ema`, the moving average of the weights instead. Raises WeightsError when there are no tensors, or no average.
    """
    removed: list[str] = []
    found, averaged = tree, False
    for _ in range(DEEPEST):
        averages = [key for key in AVERAGES if _holds(found.get(key))]
        states = [key for key in STATES if _holds(found.get(key))]
        if ema and not averaged and averages:
            key, averaged = averages[0], True
        elif states:
            key = states[0]
        elif not _tensors(found) and len(only := [key for key, value in found.items() if _tensors(value)]) == 1:
            key = only[0]
        else:
            break
        others = [str(other) for other in found if other != key]
        removed.append(f"the dictionary around {str(key)[:80]!r}" + (f", with {_some(others)}" if others else ""))
        found = found[key]
    tensors = _tensors(found)
    if ema and not averaged:
        average = {key.removeprefix("ema."): tensor for key, tensor in tensors.items() if key.startswith("ema.")}
        if not average:
            raise WeightsError("no moving average of the weights in it: leave out ema")
        tensors |= average
    if not tensors:
        raise WeightsError(f"no tensors in it, but {_some([str(key) for key in found]) or 'nothing'}")
    others = [str(key) for key in found if key not in tensors]
    if others:
        removed.append(f"what is no tensor: {_some(others)}")
    tensors = _without_training(tensors, removed)
    while (stripped := strip(tensors, PREFIXES, removed)) is not None:
        tensors = _without_training(stripped, removed)
    if not tensors:
        raise WeightsError(f"no weights in it, but {'; '.join(removed)}")
    return tensors, removed


def strip(tensors: dict[str, Tensor], prefixes: Iterable[str], removed: list[str]) -> dict[str, Tensor] | None:
    """The tensors without the first of these prefixes that all of them have; None when there is none."""
    for prefix in prefixes:
        if tensors and all(name.startswith(prefix) for name in tensors):
            removed.append(f"the prefix {prefix!r}")
            return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return None


def _without_training(tensors: dict[str, Tensor], removed: list[str]) -> dict[str, Tensor]:
    states = _states(tensors)
    slots = [name for name in tensors if name.partition(".")[0] in states]
    counters = [name for name in tensors if name.endswith("num_batches_tracked")]
    scalars = [n for n, t in tensors.items() if "." not in n and "/" not in n and len(t.shape) <= 1]
    if counters:
        removed.append(f"{len(counters)} counters, num_batches_tracked")
    if slots:
        removed.append(f"{len(slots)} tensors of an optimizer or a moving average: {_some(slots)}")
    if scalars:
        removed.append(f"numbers of the training loop: {_some(scalars)}")
    unwanted = {*slots, *counters, *scalars}
    return {name: tensor for name, tensor in tensors.items() if name not in unwanted}


def _states(tensors: Mapping[str, Tensor]) -> set[str]:
    """First words of names that stand before the names of other tensors only: moments.a.b beside a.b, for all a.b.

    So MindSpore saves an optimizer's state beside the weights. AuxLogits.fc.bias beside fc.bias is none, as
    AuxLogits.conv0 has no other.
    """
    found: dict[str, bool] = {}
    for name, tensor in tensors.items():
        word, dot, rest = name.partition(".")
        beside = tensors.get(rest)
        found[word] = found.get(word, True) and bool(dot) and beside is not None and beside.shape == tensor.shape
    return {word for word, all_are in found.items() if all_are} | {"ema"}


def _holds(value: Any) -> bool:
    """Whether it is a dictionary with tensors, or with a dictionary that may have some."""
    return isinstance(value, Mapping) and (bool(_tensors(value)) or any(key in value for key in STATES))


def _tensors(value: Any) -> dict[str, Tensor]:
    if not isinstance(value, Mapping):
        return {}
    leaves = ((name, _leaf(leaf)) for name, leaf in value.items() if isinstance(name, str))
    return {name: leaf for name, leaf in leaves if leaf is not None}


def _leaf(value: Any) -> Tensor | None:
    """The tensor; of PyTorch, of NumPy, or a pair of Paddle's: its own name, and an array."""
    if isinstance(value, tuple) and len(value) == 2:
        value = value[1]
    if isinstance(value, NumpyArray):
        value = getattr(value, "tensor", None)
    return value if isinstance(value, Tensor) else None


def _some(names: list[str], count: int = 3) -> str:
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(name[:80] for name in names[:count]) + more
