"""Folders with weights: those of the Hugging Face hub, with timm's config.json, and those of Orbax.

A folder of the hub has `model.safetensors`, or `model.safetensors.index.json` and the shards that it lists; or the same
with `pytorch_model.bin`. config.json says how the network is fed and what its classes are called, in `pretrained_cfg`
or at the top level.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from weights import formats
from weights.formats import orbax
from weights.formats.tensors import Contents
from zoo.errors import WeightsError
from zoo.language.model import PILLOW, Model
from zoo.language.trace import trace

INDEX = ".index.json"
FILES = ("model.safetensors", f"model.safetensors{INDEX}", "pytorch_model.bin", f"pytorch_model.bin{INDEX}")
"""The files that a folder may keep its weights in, in order of preference."""

CONFIG = "config.json"
SHARD = re.compile(r"(.+)-\d{5}-of-\d{5}(\.safetensors|\.bin)")
LARGEST_JSON = 16 << 20
"""The most bytes of a config.json or an index; the names of 20,000 classes take 1 MB."""

MOST_SHARDS = 1000

COMPRESSION = 16
"""The largest ratio of compression that is accepted for Zarr; trained weights become a tenth smaller."""


@dataclass(frozen=True)
class Files:
    """What was found at a path: the contents, the files that they come from, and the config.json beside these.

    packed  how many times as large as the files the contents may be; above 1 for compressed files
    """

    contents: Contents
    paths: tuple[Path, ...]
    config: Path | None = None
    packed: int = 1

    @property
    def size(self) -> int:
        """The most bytes that the contents may have."""
        return self.packed * sum(path.stat().st_size for path in self.paths)


def holds_weights(path: Path) -> bool:
    """Whether a path is a folder that holds weights under one of the hub's names, or Orbax's."""
    return path.is_dir() and any((path / name).is_file() for name in (*FILES, orbax.METADATA))


def read(path: Path) -> Files:
    """The contents of a checkpoint file, a shard's whole checkpoint, or a folder. Raises WeightsError."""
    main = path
    if path.is_dir():
        main = next((path / name for name in (*FILES, orbax.METADATA) if (path / name).is_file()), path)
        if main == path:
            raise WeightsError(f"{path}: a folder without {', '.join(FILES[:-1])} or {FILES[-1]}: name the file in it")
    if main.name == orbax.METADATA:
        paths = tuple(sorted(each for each in main.parent.rglob("*") if each.is_file()))
        return Files(orbax.read(main), paths, packed=COMPRESSION)
    if shard := SHARD.fullmatch(main.name):
        main = main.with_name(f"{shard[1]}{shard[2]}{INDEX}")
        if not main.is_file():
            raise WeightsError(f"{path}: one of several shards; {main.name}, which lists them all, is not beside it")
    config = main.with_name(CONFIG)
    found = config if main.name in FILES and config.is_file() else None
    if main.name.endswith(INDEX):
        return Files(*_shards(main), found)
    return Files(formats.read(main), (main,), found)


def shards(index: Path) -> list[str]:
    """The names of the files that an index lists; none for a file that is no index. Raises WeightsError."""
    return sorted(set(_weight_map(index).values())) if index.name.endswith(INDEX) else []


def _weight_map(index: Path) -> dict[str, str]:
    """The file of each tensor that an index lists."""
    listed = _read_json(index).get("weight_map")
    if not isinstance(listed, dict) or not all(isinstance(name, str) for name in listed.values()) or not listed:
        raise WeightsError(f'{index}: expected "weight_map", an object with the file of each tensor')
    names = set(listed.values())
    for name in names:
        if not SHARD.fullmatch(name) or Path(name).name != name:
            raise WeightsError(
                f"{index}: {name[:80]!r} is not the name of a shard, as model-00001-of-00002.safetensors"
            )
    if len(names) > MOST_SHARDS:
        raise WeightsError(f"{index}: lists {len(names)} shards, expected at most {MOST_SHARDS}")
    return listed


def _shards(index: Path) -> tuple[Contents, tuple[Path, ...]]:
    """The tensors of all shards that an index lists, and their files."""
    listed, names = _weight_map(index), shards(index)
    contents = {name: formats.read(index.with_name(name)) for name in names}
    tree: dict[str, Any] = {}
    for tensor, name in listed.items():
        if tensor not in contents[name].tree:
            raise WeightsError(f"{index}: {tensor[:80]!r} is not in {name}, where it should be")
        tree[tensor] = contents[name].tree[tensor]
    first = contents[names[0]]
    return Contents(first.format, tree, first.metadata), tuple(index.with_name(name) for name in names)


@dataclass(frozen=True)
class Config:
    """What a config.json says: changes to the size and the preprocessing, names of classes, and what it leaves open."""

    size: int | None
    crop_pct: float | None
    preprocess: Mapping[str, Any]
    class_names: tuple[str, ...]
    architecture: str
    notes: tuple[str, ...]

    @property
    def feeds(self) -> bool:
        """Whether it says anything about how the network is fed."""
        return bool(self.size or self.crop_pct or self.preprocess)

    def applied(self, model: Model) -> Model:
        """The model with the size and preprocessing of the file. Raises SpecError for impossible values."""
        size = self.size or model.size
        resize = model.preprocess.resize * size // model.size
        if self.crop_pct:
            resize = math.floor(size / self.crop_pct)
            changes = {"fit": "crop", **self.preprocess}
        else:
            changes = dict(self.preprocess)
        return replace(model, size=size, preprocess=replace(model.preprocess, resize=resize, **changes))


def read_config(path: Path) -> Config:
    """What a config.json says. Raises WeightsError when it is not one; values that cannot be used are noted."""
    document = _read_json(path)
    nested = document.get("pretrained_cfg")
    given = {**document, **(nested if isinstance(nested, dict) else {})}
    notes: list[str] = []
    size, crop, preprocess = _size(given, notes), _crop(given, notes), _channels(given, notes)
    interpolation = given.get("interpolation")
    if interpolation in ("bilinear", "bicubic"):
        preprocess["interpolation"] = interpolation
    elif interpolation is not None:
        notes.append(f"interpolation {_short(interpolation)} is not supported")
    expected = {
        "input_size": size,
        "crop_pct": crop,
        **{k: preprocess.get(k) for k in ("mean", "std", "interpolation")},
    }
    open_ = [name for name, value in expected.items() if value is None]
    if open_ and len(open_) < len(expected):
        notes.append(f"it does not give {', '.join(open_)} in a form that is used: the publisher's default is taken")
    architecture = given.get("architecture")
    return Config(
        size,
        crop,
        preprocess,
        _names(given),
        architecture[:80] if isinstance(architecture, str) else "",
        tuple(notes),
    )


def _size(given: Mapping[str, Any], notes: list[str]) -> int | None:
    match given.get("input_size"):
        case [int(), int() as height, int() as width] if height == width and 0 < height < 1 << 16:
            return height
        case None:
            return None
        case other:
            notes.append(f"input_size {_short(other)} is not supported: expected [channels, side, side]")
            return None


def _crop(given: Mapping[str, Any], notes: list[str]) -> float | None:
    crop, mode = given.get("crop_pct"), given.get("crop_mode", "center")
    if mode != "center":
        notes.append(f"crop_mode {_short(mode)} is not supported: expected center")
    if isinstance(crop, int | float) and 0.01 < crop <= 1:
        return float(crop)
    if crop is not None:
        notes.append(f"crop_pct {_short(crop)} is not supported: expected a number up to 1")
    return None


def _channels(given: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    """Mean and standard deviation of the channels, both of pixels from 0 to 1."""
    found: dict[str, Any] = {}
    for name, low in (("mean", -1e6), ("std", 1e-6)):
        match given.get(name):
            case [int() | float(), int() | float(), int() | float()] as values if all(low <= v <= 1e6 for v in values):
                found[name] = tuple(map(float, values))
            case None:
                pass
            case other:
                notes.append(f"{name} {_short(other)} is not supported: expected three numbers")
    return found


def _names(given: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the classes: timm's `label_names`, or the values of `id2label`, in order."""
    names = given.get("label_names")
    by_number = given.get("id2label")
    if not isinstance(names, list) and isinstance(by_number, dict):
        names = [by_number.get(str(i)) for i in range(len(by_number))]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return ()
    return tuple(names)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise WeightsError(f"{path}: {path.stat().st_size:,} bytes: expected at most {LARGEST_JSON:,}")
        document = json.loads(path.read_bytes())
    except (OSError, RecursionError, ValueError) as error:
        reason = getattr(error, "strerror", None) or f"not JSON: {type(error).__name__}: {str(error)[:80]}"
        raise WeightsError(f"{path}: {reason}") from None
    if not isinstance(document, dict):
        raise WeightsError(f"{path}: expected a JSON object, not a {type(document).__name__}")
    return document


def _short(value: Any) -> str:
    text = repr(value) if isinstance(value, str | int | float) else type(value).__name__
    if isinstance(value, list):
        text = str([v if isinstance(v, int | float) else "..." for v in value[:4]])
    return text[:60]


def timm_config(model: Model) -> dict[str, Any]:
    """The input size and preprocessing, as `timm.data.resolve_data_config` reads them.

    timm resizes with Pillow: its nearest to "torch_bilinear" and "tf1_bilinear" is "bilinear".
    """
    preprocess, first = model.preprocess, trace(model).first_conv
    return {
        "input_size": (model.in_channels, model.size, model.size),
        "num_classes": model.num_classes,
        "interpolation": preprocess.interpolation if preprocess.interpolation in PILLOW else "bilinear",
        "crop_pct": model.size / preprocess.resize,
        "crop_mode": "squash" if preprocess.fit == "stretch" else "center",
        "mean": preprocess.mean[: model.in_channels],
        "std": preprocess.std[: model.in_channels],
        "first_conv": f"{first.path}.conv" if first else "",
        "classifier": "head.fc",
    }


def config(
    model: Model, architecture: str, class_names: Sequence[str], keys: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """A config.json for the network, as timm writes it: `read_config` reads it, and so does timm.

    `keys` maps canonical names to the names of tensors in the weight file, if these differ.
    """
    given = timm_config(model)
    for module in ("first_conv", "classifier"):
        name = f"{given[module]}.weight"
        given[module] = (keys or {}).get(name, name).removesuffix(".weight")
    document: dict[str, Any] = {
        "architecture": architecture,
        "num_classes": model.num_classes,
        "num_features": trace(model).stages[model.stages[-1].name].channels,
        "pretrained_cfg": given | {"custom_load": False, "fixed_input_size": False},
    }
    return document | ({"label_names": list(class_names)} if class_names else {})
