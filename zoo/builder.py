"""`zoo.build`: a name and a backend in, the framework's own module out."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any, SupportsIndex

from zoo.catalogue import spec
from zoo.errors import SpecError
from zoo.geometry import levels
from zoo.model import Model, configure

logger = logging.getLogger("zoo")


def build(
    name: str,
    backend: str,
    *,
    pretrained: bool | str = False,
    checkpoint: str | Path | None = None,
    num_classes: int | None = None,
    in_channels: int | None = None,
    drop_rate: float | None = None,
    aux: bool = False,
    features_only: bool = False,
    out_indices: Iterable[int | str] | None = None,
    width: float | None = None,
    seed: int = 0,
    device: str | None = None,
) -> Any:
    """Build a network in the backend's own framework: an `nn.Module`, `nn.Cell` or `nn.Layer` in eval mode.

    It maps float32 [N, in_channels, height, width] to logits [N, num_classes]; in training with `aux=True` to
    (logits, aux...) in order of depth. Its module paths are the spec's names.

    name           as in `zoo.list_models()`
    backend        "torch", "mindspore", "paddle", or "reference" (float64 NumPy, inference only)
    pretrained     True: begin with the publisher's weights, fetched where they are not in the cache; or the name of
                   one of several publishers, e.g. "cadene" (weights.published)
    checkpoint     a file of any format and source that `weights.open_checkpoint` takes, of this network or of a
                   flavour that can become it; by default weights are drawn from `seed`, alike in all backends
    num_classes    by default the checkpoint's (1000 where it has ImageNet's and a background), or 1000. Where it
                   differs from the checkpoint's, all classifiers are made anew
    in_channels    by default the checkpoint's, or 3; a first convolution for 3 is adapted as timm does
    drop_rate      dropout before the main classifier; by default the publisher's
    aux            with the auxiliary classifiers
    features_only  return a list of feature maps instead of logits: the last of each reduction (2, 4, 8, 16, 32)
    out_indices    which of those (negative from the end), or stages by name; implies `features_only`. Maps come in
                   order of depth, each once
    width          multiplies every channel count (rounded to a multiple of 8); by default the checkpoint's, or 1
    device         "cpu", "gpu" or "gpu:1"; by default the framework's own default

    What was made anew or adapted is logged as a warning by the logger "zoo". Raises SpecError for a model or option
    that cannot be, BackendError when the framework or device is missing, WeightsError when the checkpoint does not fit.
    """
    import weights
    from backends import get
    from backends.device import parse

    if pretrained:
        if checkpoint is not None:
            raise SpecError(f"{name}: pretrained or checkpoint: expected one source of weights, not both")
        checkpoint = weights.published.fetch(spec(name).name, pretrained)
    opened = None if checkpoint is None else weights.open_checkpoint(checkpoint, model=name)
    held = configure(spec(name)) if opened is None else opened.model
    full = configure(
        spec(name),
        num_classes=weights.usual_classes(held) if num_classes is None else num_classes,
        in_channels=held.in_channels if in_channels is None else in_channels,
        drop_rate=drop_rate,
        width=held.width if width is None else width,
    )
    taps = resolve_taps(full, out_indices) if features_only or out_indices is not None else ()
    if aux and (taps or not full.aux):
        raise SpecError(
            f"{name}: {'feature maps come without' if taps else 'it has no'} auxiliary heads: leave out aux=True"
        )
    model = configure(full, aux=aux, taps=taps)
    native_device = parse(device)
    framework = get(backend)
    if opened is None:
        arrays = weights.initial(model, seed)
    else:
        arrays, done = opened.arrays_for(model, seed)
        for line in done:
            logger.warning("%s: %s", checkpoint, line)
    net = framework.build(model, native_device)
    framework.load(net, arrays)
    return net


def resolve_taps(model: Model, out_indices: Iterable[int | str] | None) -> tuple[str, ...]:
    """Stage names for `out_indices`; raises SpecError, listing what there is, for any that is out of range."""
    names = levels(model)
    if out_indices is None:
        return tuple(names)
    if isinstance(out_indices, str) or not isinstance(out_indices, Iterable):
        raise SpecError(f"{model.name}: out_indices must be a list of integers or stages, not {out_indices!r}")
    out_indices = list(out_indices)
    if not out_indices:
        raise SpecError(f"{model.name}: out_indices is empty; None stands for all of {', '.join(names)}")
    stages = [stage.name for stage in model.stages]
    taps = []
    for index in out_indices:
        if isinstance(index, str) and index in stages:
            taps.append(index)
        elif isinstance(index, SupportsIndex) and -len(names) <= index.__index__() < len(names):
            taps.append(names[index])
        else:
            raise SpecError(
                f"{model.name}: out_indices has {index!r}: expected {-len(names)} to {len(names) - 1} "
                f"({', '.join(names)}) or one of the stages {', '.join(stages)}"
            )
    return tuple(taps)
