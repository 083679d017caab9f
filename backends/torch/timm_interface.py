"""Attributes and methods of timm's networks, which other tools look for, for networks of `zoo.build`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

import weights
from backends.torch.classifier import Classifier
from weights.hub import timm_config
from zoo.errors import SpecError
from zoo.language.geometry import levels, reductions
from zoo.language.model import Model
from zoo.language.trace import InputCheck, trace


class FeatureInfo(list[dict[str, Any]]):
    """For each feature map its channels (`num_chs`), `reduction` and `module`, as in timm."""

    def channels(self) -> list[int]:
        return [each["num_chs"] for each in self]

    def reduction(self) -> list[int]:
        return [each["reduction"] for each in self]

    def module_name(self) -> list[str]:
        return [each["module"] for each in self]


class TimmInterface(nn.Module):
    """Base class of networks: timm's attributes and methods, with timm's meaning.

    num_classes, num_features, head_hidden_size, feature_info
                       as in timm
    pretrained_cfg     what `timm.data.resolve_data_config(model=net)` reads. timm has no field for the order of
                       channels: networks whose spec has `channels="BGR"` need flipped batches
    """

    spec: Model
    head: nn.Module

    def describe(self, model: Model) -> None:
        """Set the attributes for a spec."""
        self.spec = model
        self.check_input = InputCheck(model)
        self.num_classes = model.num_classes
        self.num_features = trace(model).stages[model.stages[-1].name].channels
        self.head_hidden_size = (model.head and model.head.hidden) or self.num_features
        self.pretrained_cfg = timm_config(model)
        shapes, reduction = trace(model).stages, reductions(model)
        self.feature_info = FeatureInfo(
            {"num_chs": shapes[name].channels, "reduction": reduction[name], "module": name}
            for name in (model.taps or levels(model))
        )

    def forward_features(self, x: Tensor) -> Tensor:
        """The output of the last stage, [N, num_features, height, width]."""
        for stage in self.spec.stages:
            x = getattr(self, stage.name)(x)
        return x

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """From the output of `forward_features` to logits or, with `pre_logits`, to the input of the last linear layer.

        Raises SpecError with `pre_logits` for a network without a classifier.
        """
        y: Tensor = self._head().features(x) if pre_logits else self.head(x)
        return y

    def get_classifier(self) -> nn.Module:
        """The last linear layer."""
        return self.head.get_submodule("fc")

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the last linear layer by a new one, initialised as `zoo.build` does; `spec` changes with it.

        With 0 classes the network returns the input of that layer, and `zoo` can no longer load or save its weights.
        `global_pool` exists for timm's callers and must be "avg" or None. Raises SpecError for another `global_pool`,
        and for a network without a classifier.
        """
        if global_pool not in (None, "avg"):
            raise SpecError(f"{self.spec.name}: global_pool must be 'avg', not {global_pool!r}")
        head = self._head()
        like = next(self.head.parameters())
        if num_classes:
            model = replace(self.spec, num_classes=num_classes)
            arrays = weights.initial(model)
            fc = nn.Linear(arrays["head.fc.weight"].shape[1], num_classes, device=like.device, dtype=like.dtype)
            with torch.no_grad():
                for name in ("weight", "bias"):
                    getattr(fc, name).copy_(torch.from_numpy(arrays[f"head.fc.{name}"]))
            head.fc = fc
            self.describe(model)
        else:
            head.fc = nn.Identity()
            self.num_classes = 0

    def no_weight_decay(self) -> set[str]:
        """Names of parameters without weight decay, in addition to those that timm excludes by their shape: none."""
        return set()

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """The stages as timm's groups of parameters, for a learning rate that falls with depth."""
        return {"blocks": [(rf"^{stage.name}\.", (number,)) for number, stage in enumerate(self.spec.stages)]}

    def _head(self) -> Classifier:
        head = getattr(self, "head", None)
        if not isinstance(head, Classifier):
            raise SpecError(f"{self.spec.name}: it returns feature maps and has no classifier")
        return head
