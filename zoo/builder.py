"""`zoo.build`: takes a network and a backend, returns the framework's own module."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, SupportsIndex

import numpy as np
from numpy.typing import NDArray

import weights
from backends import deploys, get
from backends.device import parse
from backends.engine import EngineOptions
from weights.remote import is_address
from zoo.errors import SpecError
from zoo.frameworks import Dtype
from zoo.language.geometry import levels
from zoo.language.model import Model, configure

logger = logging.getLogger("zoo")


def build(
    model: str | Path | Model | None = None,
    backend: str = "torch",
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
    train: bool = False,
    ema: bool = False,
    mode: Literal["module", "deploy"] = "module",
    dtype: Dtype = "fp32",
    threads: int | None = None,
    compiler: str = "",
    calibration: NDArray[np.float32] | None = None,
    verify: bool = False,
) -> Any:
    """Build a network in the backend's own framework: an `nn.Module`, `nn.Cell` or `nn.Layer`, in eval mode.

    The module maps float32 [N, in_channels, height, width] to logits [N, num_classes]; in training with `aux=True`, to
    (logits, aux...) in order of depth. Its module paths are the names in the spec.

    With `mode="deploy"` the result is an engine (`backends.engine.Engine`), the backend's fastest way to run the
    network. It takes NumPy float32 [N, in_channels, height, width] and returns NumPy float32 [N, num_classes].

    model          a name as in `zoo.list_models()`; a name of published weights as in `zoo list --pretrained`; a Model;
                   "package.module:NAME"; a .json document; or a checkpoint, also as "hf-hub:OWNER/NAME" or
                   "local-dir:PATH". By default the network that `checkpoint` holds
    backend        "torch", "mindspore", "paddle", "jax"; in inference only "onnx" (ONNX Runtime), "openvino" and
                   "reference" (float64 NumPy)
    pretrained     True: start from published weights, which are downloaded unless they are in the cache: those that
                   `model` names ("inception_v3.tf_adv_in1k"), or the first publisher's. A string chooses among several:
                   a publisher ("cadene") or a tag ("tf_adv_in1k")
    checkpoint     a file of any format and source that `weights.open_checkpoint` takes, of this network or of a
                   flavour that can be converted into it. The file's input size and preprocessing become the network's
                   (`net.spec`). Without a checkpoint, weights are drawn from `seed`, the same in all backends
    num_classes    by default the checkpoint's (1000 if it has ImageNet's classes and a background class), or the
                   model's. If it differs from the checkpoint's, all classifiers are initialised anew
    in_channels    by default the checkpoint's, or the model's; a first convolution for 3 channels is adapted as in timm
    drop_rate      dropout before the main classifier; by default the publisher's
    aux            with the auxiliary classifiers
    features_only  return a list of feature maps instead of logits: the last of each reduction (2, 4, 8, 16, 32)
    out_indices    which of those maps (negative: from the end), or names of stages; implies `features_only`. Maps are
                   returned in order of depth, without duplicates
    width          multiplies the published channel counts (rounded to multiples of 8); by default the checkpoint's, or
                   the model's
    seed           of the initial weights, where they are not from a checkpoint
    device         "cpu", "gpu" or "gpu:1"; by default the framework's own default, for an engine the CPU
    train          return the module in training mode. Trainers that keep the mode they find (Lightning from 2.2) would
                   otherwise fine-tune with fixed batch-norm statistics and without dropout
    ema            take the moving average of the weights in `checkpoint`
    mode           "module", or "deploy" for an engine; the options below are for engines
    dtype          "fp32", "tf32" (GPU), "bf16", "fp16" or "int8", as far as the backend has them
    threads        on the CPU; by default $OMP_NUM_THREADS, or as many as this process may use
    compiler       for torch: "compile" (torch.compile) or "aot" (AOTInductor); by default nothing needs compiling
    calibration    for int8: preprocessed images, float32 [N, in_channels, height, width], on which the ranges of
                   activations are measured
    verify         compare the engine with the float64 reference, and with itself on repeated, single and resized
                   images, and raise BackendError if it is outside its tolerance (`zoo.parity.engines`)

    The logger "zoo" warns of each part that was initialised anew or adapted. Raises SpecError for an unknown model or
    invalid options, BackendError when the framework or device is missing, and WeightsError when the checkpoint does not
    fit.
    """
    wanted = None if model is None else weights.resolve(model)
    taps_only = features_only or out_indices is not None
    if pretrained and not (isinstance(model, str) and is_address(model)):  # an address brings its weights along
        if checkpoint is not None or wanted is None:
            raise SpecError("pretrained: expected a model and no checkpoint")
        checkpoint = weights.published.choose(wanted, pretrained, model if isinstance(model, str) else "").name
    if checkpoint is None and isinstance(model, str | Path) and weights.is_checkpoint(model):
        checkpoint = model
    if checkpoint is None and wanted is None:
        raise SpecError("zoo.build: give a model, or a checkpoint that says which model it holds")
    opened = None
    if checkpoint is not None:
        classes = (num_classes or (wanted.num_classes if wanted else None)) if taps_only else num_classes
        opened = weights.open_checkpoint(checkpoint, model=wanted, ema=ema, num_classes=classes)
    held = wanted if opened is None else opened.model
    assert held is not None
    if num_classes is None and opened is not None:
        num_classes = weights.usual_classes(held)
    full = variant(
        wanted or held, held, num_classes=num_classes, in_channels=in_channels, drop_rate=drop_rate, width=width
    )
    taps = resolve_taps(full, out_indices) if taps_only else ()
    if aux and (taps or not full.aux):
        raise SpecError(
            f"{full.name}: {'feature maps come without' if taps else 'it has no'} auxiliary heads: leave out aux=True"
        )
    result = configure(full, aux=aux, taps=taps)
    native_device = parse(device)
    if mode not in ("module", "deploy"):
        raise SpecError(f"mode: expected 'module' or 'deploy', not {mode!r}")
    if mode == "module" and (
        (dtype, threads, compiler, verify) != ("fp32", None, "", False) or calibration is not None
    ):
        raise SpecError("dtype, threads, compiler, calibration and verify are for engines: add mode='deploy'")
    options = EngineOptions(dtype, native_device, threads, compiler, calibration)
    if mode == "deploy" and (train or aux):
        raise SpecError("an engine runs in inference only: leave out train and aux, or mode='deploy'")
    framework = get(backend)
    if opened is None:
        arrays = weights.initial(result, seed)
    else:
        arrays, done = opened.arrays_for(result, seed)
        for line in done:
            logger.warning("%s: %s", checkpoint, line)
    if mode == "deploy":
        engine = deploys(backend).deploy(result, arrays, options)
        if verify:
            from zoo.parity.engines import verify as verify_engine

            verify_engine(engine, result, arrays)
        return engine
    net = framework.build(result, native_device)
    framework.load(net, arrays)
    if train:
        framework.train(net)
    return net


def variant(
    wanted: Model,
    held: Model,
    *,
    num_classes: int | None = None,
    in_channels: int | None = None,
    drop_rate: float | None = None,
    width: float | None = None,
) -> Model:
    """`wanted` with the given options, and with the size and preprocessing of `held`, the network of the weights.

    Where `num_classes`, `in_channels` or `width` is None, `held` decides; for `drop_rate`, `wanted` does. `width` is
    relative to the published channel counts.
    """
    model = configure(
        wanted,
        num_classes=held.num_classes if num_classes is None else num_classes,
        in_channels=held.in_channels if in_channels is None else in_channels,
        drop_rate=drop_rate,
        width=(held.width if width is None else width) / wanted.width,
    )
    return replace(model, size=held.size, preprocess=held.preprocess)


def resolve_taps(model: Model, out_indices: Iterable[int | str] | None) -> tuple[str, ...]:
    """Stage names for `out_indices`. Raises SpecError, which lists the valid values, for any other value."""
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
