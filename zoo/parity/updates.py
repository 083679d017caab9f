"""What a foreign network does only in training: running statistics, the order of auxiliary logits.

The network runs once more, in training mode, on a batch of noise. Each batch norm's new running statistics are compared
with those that the spec computes from the batch norm's own input: new = decay * old + (1 - decay) * batch, with the
variance of the batch unbiased (docs/training.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backends.observed import Observation, Operation
from zoo.language.model import Model
from zoo.parity.alignment import Finding

Array = NDArray[Any]

BATCH = 4
"""Images in the batch of noise."""

WITHIN = 3e-5
"""The largest error of running statistics: of a variance, max |y - z| / max |z|; of a mean, which may be 0, max |y - z|
divided by the largest standard deviation or mean. A sum of 100,000 values in one float32 accumulator has errors of
5e-6; a biased variance has an error of (1 - decay) / n, which is 1.7e-4 for 4 maps of 12 x 12."""


@dataclass(frozen=True)
class Update:
    """How running statistics are computed: with this decay, and from the biased variance (over n, not n - 1) or not."""

    decay: float
    biased: bool = False


@dataclass(frozen=True)
class Cause:
    """A proved cause: see `zoo.parity.causes.Candidate`."""

    cause: str
    where: tuple[str, ...]
    text: str

    def document(self) -> dict[str, Any]:
        return {"cause": self.cause, "where": list(self.where), "change": self.text}


@dataclass(frozen=True)
class Verdict:
    """How much was compared, the differences from the spec, their causes, and the differences left unexplained."""

    checked: int
    findings: list[Finding]
    causes: list[Cause]
    left: list[Finding]


def noise(spec: Model, size: int) -> NDArray[np.float32]:
    """The batch that the network runs on in training."""
    shape = (BATCH, spec.in_channels, size, size)
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


def judge(spec: Model, trained: Observation, matched: Mapping[str, Operation]) -> Verdict:
    """Compare a network in training with a spec.

    spec     with its auxiliary heads
    trained  what the network has computed in training mode
    matched  its operations in eval mode by the spec's names, from an alignment
    """
    norms = {_key(o): o for o in trained.operations if o.kind == "norm" and "new_var" in o.parameters}
    wanted = {name.removesuffix(".bn"): operation for name, operation in matched.items() if name.endswith(".bn")}
    verdict = Verdict(0, [], [], [])
    if spec.norm is not None:
        updated = {path: norms[_key(o)] for path, o in wanted.items() if _key(o) in norms}
        frozen = [
            Finding(path, "statistic", np.inf, WITHIN, o.name, (path,), "its running statistics are not updated")
            for path, o in wanted.items()
            if path not in updated
        ]
        verdict = _statistics(spec, trained, updated) if updated else verdict
        verdict = replace(verdict, findings=[*frozen, *verdict.findings], left=[*frozen, *verdict.left])
    swapped = _auxiliary(spec, trained)
    if swapped is not None:
        finding, cause = swapped
        verdict = replace(verdict, findings=[*verdict.findings, finding], causes=[*verdict.causes, cause])
    return replace(verdict, checked=verdict.checked + max(0, len(trained.returned) - 1))


def _key(operation: Operation) -> str:
    """A name that identifies a batch norm in both modes."""
    return operation.names.get("var") or operation.names.get("weight") or operation.name


def _statistics(spec: Model, trained: Observation, norms: Mapping[str, Operation]) -> Verdict:
    assert spec.norm is not None
    ours = Update(spec.norm.decay)
    findings = _differences(trained, norms, ours)
    verdict = Verdict(2 * len(norms), findings, [], [])
    if not findings:
        return verdict
    fitted = float(np.median([_decay(trained, operation) for operation in norms.values()]))
    decay = float(f"{fitted:.3g}")
    for theirs in (Update(ours.decay, True), Update(decay), Update(decay, True)):
        if not _differences(trained, norms, theirs):
            return replace(verdict, causes=list(_causes(ours, theirs)))
    return replace(verdict, left=findings)


def _causes(ours: Update, theirs: Update) -> Sequence[Cause]:
    causes = []
    where = ("batch norm",)
    if theirs.decay != ours.decay:
        reverse = abs(theirs.decay - (1 - ours.decay)) < 1e-3
        why = ": decay and momentum are confused, which add to 1" if reverse else ""
        text = f"decay={theirs.decay:g} of the running statistics where the spec has {ours.decay:g}{why}"
        causes.append(Cause("bn_momentum", where, text))
    if theirs.biased:
        text = "the running variance takes the biased variance of the batch, a sum over n, where the spec has n - 1"
        causes.append(Cause("running_variance", where, text))
    return causes


def _batch(trained: Observation, operation: Operation) -> tuple[Array, Array, int]:
    """The mean and biased variance of each channel of a batch norm's input, and the number of values of a channel."""
    x = trained.arrays[operation.x].astype(np.float64)
    axes = (0, *range(2, x.ndim))
    return x.mean(axes), x.var(axes), x.size // x.shape[1]


def _decay(trained: Observation, operation: Operation) -> float:
    """The decay that fits a batch norm's running means, by least squares."""
    old, new = (trained.arrays[operation.parameters[role]].astype(np.float64) for role in ("mean", "new_mean"))
    mean, _, _ = _batch(trained, operation)
    return float((new - mean) @ (old - mean) / ((old - mean) @ (old - mean) or 1.0))


def _differences(trained: Observation, norms: Mapping[str, Operation], update: Update) -> list[Finding]:
    """The running statistics that `update` does not explain."""
    findings = []
    for path, operation in norms.items():
        mean, var, count = _batch(trained, operation)
        batch = {"mean": mean, "var": var if update.biased or count < 2 else var * count / (count - 1)}
        for role, value in batch.items():
            old, new = (trained.arrays[operation.parameters[name]].astype(np.float64) for name in (role, f"new_{role}"))
            expected = update.decay * old + (1 - update.decay) * value
            sizes = (old, value, np.sqrt(var)) if role == "mean" else (old, value)
            scale = max(float(np.abs(size).max()) for size in sizes) or 1.0
            error = float(np.abs(new - expected).max() / scale)
            if not error <= WITHIN:
                detail = f"running {'mean' if role == 'mean' else 'variance'}"
                findings.append(Finding(path, "statistic", error, WITHIN, operation.name, (path,), detail))
    return findings


def _auxiliary(spec: Model, trained: Observation) -> tuple[Finding, Cause] | None:
    """The auxiliary logits, if they are not returned in order of depth, in which the network computes them."""
    made = {operation.y: place for place, operation in enumerate(trained.operations)}
    places = [made[key] for key in trained.returned[1:] if key in made]
    if len(places) < 2 or len(places) != len(spec.aux) or places == sorted(places):
        return None
    order = [sorted(places).index(place) for place in places]
    names = ", ".join(spec.aux[number].name for number in order)
    text = f"the auxiliary logits come as {names} where the spec has {', '.join(aux.name for aux in spec.aux)}"
    where = tuple(aux.name for aux in spec.aux)
    return Finding(where[0], "output", np.inf, 0.0, "", where, text), Cause("aux_swapped", where, text)
