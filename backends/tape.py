"""Every intermediate result of a network, the same for all frameworks."""

from __future__ import annotations

from typing import Any


def tape(net: Any, x: Any) -> dict[str, Any]:
    """Every stage's output by name, then "logits", then every auxiliary head's logits by its name."""
    outputs = {}
    for stage in net.spec.stages:
        x = outputs[stage.name] = getattr(net, stage.name)(x)
    if net.spec.head is not None:
        outputs["logits"] = net.head(x)
    for aux in net.spec.aux:
        outputs[aux.name] = getattr(net, aux.name)(outputs[aux.after])
    return outputs
