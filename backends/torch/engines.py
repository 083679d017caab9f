"""PyTorch: fast inference."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from backends.torch.network import Network, modes_kept


def autocast(device: torch.device) -> torch.autocast:
    """PyTorch's automatic mixed precision, in float16 on a GPU and bfloat16 on a CPU."""
    return torch.autocast(device.type, torch.float16 if device.type == "cuda" else torch.bfloat16)


def classifier(
    net: Network, graph: bool = False, half: bool = False
) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """A function from a batch [N, C, H, W] to its logits [N, classes]: see `backends.Deploys.classifier`."""
    forward = torch.compile(net) if graph else net
    device = next(net.parameters()).device

    @torch.inference_mode()
    def classify(x: NDArray[np.float32]) -> NDArray[np.float32]:
        with modes_kept(net), autocast(device) if half else contextlib.nullcontext():
            net.eval()
            logits = forward(torch.from_numpy(x).to(device))
        return logits.float().cpu().numpy()

    return classify
