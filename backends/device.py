"""Devices: "cpu", "gpu" or "gpu:1", the same names for every framework."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from zoo.errors import BackendError, UnavailableError


@dataclass(frozen=True)
class Device:
    kind: Literal["cpu", "gpu"]
    index: int = 0

    def __str__(self) -> str:
        return "cpu" if self.kind == "cpu" else f"gpu:{self.index}"


def parse(name: str | None) -> Device | None:
    """The device called `name`; None, the framework's default, stays None. Raises BackendError for unknown names."""
    if name is None:
        return None
    if name == "cpu":
        return Device("cpu")
    if isinstance(name, str) and (match := re.fullmatch(r"gpu(?::(\d+))?", name)):
        return Device("gpu", int(match[1] or 0))
    raise BackendError(f"unknown device {name!r}: expected 'cpu', 'gpu' or 'gpu:1'")


def require(device: Device, framework: str, version: str, gpus: Callable[[], int]) -> None:
    """Raise UnavailableError if `device` is a GPU beyond the `gpus()` that the framework sees."""
    if device.kind == "gpu" and device.index >= gpus():
        raise UnavailableError(
            f"{framework}: no device {device}: this build of {framework} {version} sees {gpus()} GPUs"
        )
