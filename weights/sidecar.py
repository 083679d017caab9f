"""The .json beside a weight file whose format holds tensors alone: network, input size, preprocessing, class names.

`net.pth` has `net.pth.json`. It holds what a canonical file's metadata hold (weights/store.py) as plain JSON, with
`input_size` and `preprocess` apart from the spec so that they are easily read and changed. A fingerprint ties it to its
weights: beside other weights it is ignored.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from weights.formats.tensors import Tensor
from zoo.errors import WeightsError
from zoo.files import atomic_write
from zoo.language.model import Model

FORMAT, VERSION = "inception-zoo weights", 1
LARGEST = 32 << 20
"""Bytes; the longest spec has 16 MB."""

TEXTS = ("model", "names", "source", "licence", "preprocess_assumed")
"""Metadata that are plain strings."""


def path_of(path: Path) -> Path:
    """Where the sidecar of a weight file is."""
    return path.with_name(f"{path.name}.json")


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of all names, types and shapes, and of the elements of vectors: biases and statistics of batch norm.

    Vectors change with any training, and are a thousandth of the weights.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name}\0{tensor.dtype}\0{list(tensor.shape)}\0".encode(errors="surrogatepass"))
        if len(tensor.shape) <= 1:
            digest.update(np.ascontiguousarray(tensor.read()).tobytes())
    return digest.hexdigest()


def write(path: Path, metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> None:
    """Write the sidecar of a weight file, atomically; `metadata` are those of a canonical file. Raises OSError."""
    document = json.loads(metadata["spec"])
    size, preprocess = document.pop("size", Model.size), document.pop("preprocess")
    names = json.loads(metadata.get("class_names") or "[]")
    content = {
        "format": FORMAT,
        "version": VERSION,
        **{key: metadata[key] for key in TEXTS if metadata.get(key)},
        **({"class_names": names} if names else {}),
        "input_size": size,
        "preprocess": preprocess,
        "fingerprint": fingerprint(tensors),
        "spec": document,
    }
    with atomic_write(path_of(path)) as part:
        part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """The metadata in the sidecar of a weight file with these tensors; empty where there is none.

    Raises WeightsError for a file that is not a sidecar, or is one of other weights.
    """
    sidecar = path_of(path)
    if not sidecar.is_file():
        return {}
    try:
        if sidecar.stat().st_size > LARGEST:
            raise WeightsError(f"{sidecar.name} is larger than {LARGEST:,} bytes")
        content = json.loads(sidecar.read_bytes())
    except (OSError, RecursionError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not JSON"
        raise WeightsError(f"{sidecar.name} cannot be read: {reason}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT or content.get("version") != VERSION:
        raise WeightsError(
            f'{sidecar.name} is not a description of weights with "format": "{FORMAT}", version {VERSION}'
        )
    if content.get("fingerprint") != fingerprint(tensors):
        raise WeightsError(f"{sidecar.name} describes other weights")
    return _metadata(content, sidecar.name)


def _metadata(content: Mapping[str, Any], name: str) -> dict[str, str]:
    spec, classes = content.get("spec"), content.get("class_names", [])
    if not isinstance(spec, dict) or not isinstance(content.get("preprocess"), dict) or not isinstance(classes, list):
        raise WeightsError(f"{name} has no spec, no preprocess, or class_names that are not a list")
    size = {"size": content["input_size"]} if "input_size" in content else {}
    texts = {key: content[key] for key in TEXTS if isinstance(content.get(key), str)}
    document = {**spec, **size, "preprocess": content["preprocess"]}
    return {**texts, "spec": json.dumps(document), **({"class_names": json.dumps(classes)} if classes else {})}
