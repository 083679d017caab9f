"""PyTorch's fast inference."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from backends.torch.network import Network


def autocast(device: torch.device) -> torch.autocast:
    """PyTorch's mixed precision: float16 on a GPU, bfloat16 on a CPU."""
    return torch.autocast(device.type, torch.float16 if device.type == "cuda" else torch.bfloat16)


def classifier(
    net: Network, graph: bool = False, half: bool = False
) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """A function from a batch [N, C, H, W] to its logits [N, classes]: see `backends.Deploys.classifier`."""
    forward, device = (torch.compile(net) if graph else net), next(net.parameters()).device

    @torch.inference_mode()
    def classify(x: NDArray[np.float32]) -> NDArray[np.float32]:
        net.eval()
        with autocast(device) if half else contextlib.nullcontext():
            logits = forward(torch.from_numpy(x).to(device))
        return logits.float().cpu().numpy()

    return classify
