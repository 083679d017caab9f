"""Plant faults into networks, and see whether `zoo parity --against` detects, places, names and proves them.

    python tests/frameworks/faults.py [--backends torch,mindspore,...] [--models ...] [--seed 0] [--quiet-draws 50]
    python tests/frameworks/faults.py --no-faults --quiet-draws 334

A fault is a change to the spec, which a framework then builds: the network is what a user's own implementation with
that mistake would be. The fault is detected if the verdict is not ok; placed if the first difference is at the
operation that changed or at the first one that sees the change; named if the cause is the one that was planted; proved
if the repair leaves no difference. Networks without a fault must agree: the last row counts alarms, in draws from all
networks of the zoo, each with other weights, images and image sizes.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import weights  # noqa: E402
import zoo  # noqa: E402
from backends import get, load  # noqa: E402
from zoo.errors import SpecError  # noqa: E402
from zoo.frameworks import FRAMEWORKS  # noqa: E402
from zoo.language.interpreter import Interpreter  # noqa: E402
from zoo.language.model import Model, Norm, configure  # noqa: E402
from zoo.language.nodes import AvgPool, Concat, Conv, Depthwise, MaxPool, Residual, transform  # noqa: E402
from zoo.language.trace import least_size, trace  # noqa: E402
from zoo.models import MODELS as MODELS_OF_THE_ZOO  # noqa: E402
from zoo.parity.edits import layers, layers_before, moved, nodes_of, with_layer_twice, with_node, without_layer  # noqa: E402
from zoo.parity.foreign import judge  # noqa: E402

MODELS = (
    "googlenet",
    "inception_v3",
    "inception_v4",
    "inception_resnet_v2",
    "xception41",
    "inception_v3.mindcv",
    "googlenet.mindcv",
)
WIDTH = 0.25


@dataclass(frozen=True)
class Fault:
    """A planted fault.

    cause    a name of the catalogue; "weight" for a weight that is not the given one
    path     of the node that changed
    model    the changed spec, whose network is observed
    tensor   of a weight fault: the name of the tensor that is disturbed
    moved    maps new prefixes of paths to the old ones
    given    whether the network is compared with the weights that it should have, not with its own
    """

    cause: str
    path: str
    model: Model
    tensor: str = ""
    moved: Mapping[str, str] = field(default_factory=dict)
    given: bool = False


def faults(model: Model, random: np.random.Generator) -> Iterator[Fault]:
    """One fault of each kind that the model can have, at a random place."""
    nodes = nodes_of(model)

    def place(kind: Any, condition: Any = lambda node: True) -> str | None:
        fitting = [path for path, node in nodes.items() if isinstance(node, kind) and condition(node)]
        return str(random.choice(fitting)) if fitting else None

    def fault(cause: str, path: str | None, **change: Any) -> Iterator[Fault]:
        if path is not None:
            yield Fault(cause, path, with_node(model, path, replace(nodes[path], **change)))

    if model.norm is not None:
        other = 1e-5 if model.norm.eps > 1e-4 else 1e-3
        yield Fault("eps", "", replace(model, norm=replace(model.norm, eps=other)))
    yield from fault("missing_relu", place((Conv, Depthwise), lambda node: node.act), act=False)
    yield from fault("extra_relu", place((Conv, Depthwise), lambda node: not node.act), act=True)
    three = place((Conv, Depthwise), lambda node: (node.kernel, node.stride, node.padding) == (3, 1, "half"))
    yield from fault("dilation", three, dilation=2)
    if path := place(Conv, lambda node: isinstance(node.kernel, tuple)):
        height, width = nodes[path].kernel
        yield from fault("kernel_order", path, kernel=(width, height))
    if path := place(AvgPool, lambda node: node.padding == "half"):
        yield from fault("count_include_pad", path, count_include_pad=not nodes[path].count_include_pad)
        node = nodes[path]
        pool = MaxPool(node.kernel, node.stride, node.padding)
        yield Fault("pool_kind", path, with_node(model, path, pool))
    if path := place(MaxPool, lambda node: node.stride == 1 and node.padding == "half"):
        node = nodes[path]
        yield Fault("pool_kind", path, with_node(model, path, AvgPool(node.kernel, 1, "half")))
    if path := place(Residual, lambda node: node.shortcut is None):
        yield from fault("residual_scale", path, scale=nodes[path].scale * 1.5 + 0.03)
    if path := place(Concat):
        branches = nodes[path].branches
        new = {f"{path}.branch{i}": f"{path}.branch{(i + 1) % len(branches)}" for i in range(len(branches))}
        changed = with_node(model, path, Concat((*branches[1:], branches[0])))
        yield Fault("branch_order", path, changed, moved=new)
    if path := place((Conv, Depthwise), lambda node: node.padding == "half" and node.stride == 2):
        yield from fault("padding", path, padding="same")
    if path := place(MaxPool, lambda node: node.stride == 2 and node.padding == "half"):
        yield from fault("padding", path, padding="same")
    for name in random.choice([n for n in trace(model).parameters if n.endswith("weight")], 2, replace=False):
        yield Fault(
            "weight",
            str(name).rpartition(".")[0].removesuffix(".conv").removesuffix(".bn"),
            model,
            str(name),
            given=True,
        )
    for cause, change in (("missing_layer", without_layer), ("repeated_layer", with_layer_twice)):
        changed = dict(_changed_layers(model, change))
        shown = [path for path in changed if not any(_equals_later(model, path, later) for later in changed)]
        for given, paths in ((True, list(changed)), (False, shown)):
            if paths:
                path = str(random.choice(paths))
                yield Fault(cause, path, changed[path][0], moved=changed[path][1], given=given)
    small = place(Conv, lambda node: (node.kernel, node.stride, node.padding, node.dilation) == (3, 1, "half", 1))
    yield from fault("kernel", small, kernel=5)
    if model.norm is None:
        stages = tuple(replace(stage, node=transform(stage.node, _without_bias)) for stage in model.stages)
        yield Fault("norm", "", replace(model, stages=stages, norm=Norm(1e-5)))


def _without_bias(leaf: Any) -> Any:
    return replace(leaf, bias=False) if isinstance(leaf, Conv | Depthwise) else leaf


def _changed_layers(model: Model, change: Any) -> Iterator[tuple[str, tuple[Model, dict[str, str]]]]:
    """Models with one layer changed, for each layer where this does not change the shapes of other weights."""
    for path in nodes_of(model):
        if path in layers(model, path):
            with contextlib.suppress(SpecError):
                yield path, change(model, path)


def _equals_later(model: Model, path: str, later: str) -> bool:
    """Whether a layer is one of several equal ones in a row: without given weights they cannot be told apart."""
    return path in layers(model, later) and not f"{later}.".startswith(f"{path}.")


def planted(framework: str, model: Model, fault: Fault, seed: int) -> dict[str, Any] | None:
    """The verdict on a network with a fault; None where the fault changes nothing at this input size."""
    arrays = weights.calibrated(model, seed)
    kept, drawn = moved(arrays, fault.moved), weights.calibrated(fault.model, seed)
    own = {name: _fitting(kept.get(name, array), array) for name, array in drawn.items()}
    if fault.tensor:
        own[fault.tensor] = own[fault.tensor].copy()
        own[fault.tensor].flat[0] += 0.5 * np.abs(own[fault.tensor]).max()
    inputs = noise(model, seed)
    logits = [Interpreter(m, a).tape(inputs)["logits"] for m, a in ((model, arrays), (fault.model, own))]
    if np.abs(logits[1] - logits[0]).max() <= 1e-9 * np.abs(logits[0]).max():
        return None
    return verdict(framework, model, fault.model, own, arrays if fault.given else None, inputs)


def _fitting(array: Any, drawn: Any) -> Any:
    """A weight as it is, or with its kernel transposed, or a new one, whichever fits."""
    if array.shape == drawn.shape:
        return array
    turned = array.swapaxes(2, 3) if array.ndim == 4 else array
    return np.ascontiguousarray(turned) if turned.shape == drawn.shape else drawn


def verdict(framework: str, model: Model, other: Model, own: Any, given: Any, inputs: Any) -> dict[str, Any]:
    """Build `other` in the framework, and compare it with `model`."""
    net = get(framework).build(other)
    get(framework).load(net, own)
    return judge(model, load(framework, "observe").observe(net, inputs), inputs, given)


def noise(model: Model, seed: int, side: int | None = None) -> Any:
    """A batch of one image of noise; by default smaller than the native one."""
    side = max(least_size(model), min(model.size, 140)) if side is None else side
    return np.random.default_rng(seed).uniform(-1, 1, (1, model.in_channels, side, side)).astype(np.float32)


def narrow(name: str | Path) -> Model:
    """A network of the zoo at a small width, or that of a document as it is; with ten classes."""
    return configure(zoo.spec(name), aux=False, width=WIDTH if isinstance(name, str) else 1.0, num_classes=10)


def scored(
    framework: str, names: tuple[str | Path, ...], seed: int
) -> Iterator[tuple[str | Path, Fault, dict[str, bool]]]:
    """Each fault of each network, and whether it was detected, placed, named and proved."""
    for number, name in enumerate(names):
        model = narrow(name)
        for fault in faults(model, np.random.default_rng([seed, number])):
            found = planted(framework, model, fault, seed)
            if found is None:
                continue
            first = found["first"] or {"path": "", "between": []}
            near = [first["path"], *first["between"]]
            if fault.cause == "repeated_layer":  # the layer after the two is the first that sees the change
                near += layers_before(model, first["path"])
            placed = not fault.path or any(path == fault.path or path.startswith(f"{fault.path}.") for path in near)
            score = {
                "detected": not found["ok"],
                "placed": placed and found["first"] is not None,
                "named": found["cause"] == fault.cause,
                "proved": bool(found["proved"]) and (not found["left"] or fault.cause == "weight"),
            }
            yield name, fault, score


def quiet(framework: str, draw: int) -> bool:
    """Whether a network without a fault agrees; each draw has another network, other weights, images and sizes."""
    names = list(MODELS_OF_THE_ZOO)
    model = narrow(names[draw % len(names)])
    sides = np.random.default_rng([1, draw]).permutation(np.arange(least_size(model), 161))
    side = next(int(side) for side in sides if _fits(model, int(side)))
    arrays = weights.calibrated(model, 1000 + draw)
    found = verdict(framework, model, model, arrays, arrays if draw % 2 else None, noise(model, draw, side))
    if not found["ok"]:
        print(f"{framework}, {model.name}, draw {draw}, {side} pixels: {found['first']}", file=sys.stderr)
    return bool(found["ok"])


def _fits(model: Model, side: int) -> bool:
    """Whether a network takes images of this size: BN-Inception does not take all."""
    try:
        trace(model, side)
    except SpecError:
        return False
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backends", default=",".join(FRAMEWORKS))
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quiet-draws", type=int, default=50, help="networks without a fault, of each framework")
    parser.add_argument("--no-faults", action="store_true", help="only the networks without a fault")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    backends = args.backends.split(",")
    if not args.one:  # the frameworks cannot all be imported into one process
        words = ["--models", args.models, "--seed", str(args.seed), "--quiet-draws", str(args.quiet_draws), "--one"]
        words += ["--no-faults"] if args.no_faults else []
        return max(
            subprocess.run([sys.executable, __file__, "--backends", backend, *words]).returncode for backend in backends
        )
    names = tuple(args.models.split(","))
    counts, found = Counter[str](), Counter[tuple[str, str]]()
    for name, fault, score in scored(backends[0], () if args.no_faults else names, args.seed):
        counts[fault.cause] += 1
        for what, yes in score.items():
            found[fault.cause, what] += yes
        if not all(score.values()):
            print(f"{backends[0]}, {name}, {fault.cause} at {fault.path or 'all'}: {score}", file=sys.stderr)
    alarms = sum(not quiet(backends[0], draw) for draw in range(args.quiet_draws))
    print(f"\n{backends[0]}\n\n| fault | planted | detected | placed | named | proved |\n|---|---|---|---|---|---|")
    for cause, count in counts.items():
        row = (found[cause, what] for what in ("detected", "placed", "named", "proved"))
        print(f"| {cause} | {count} | {' | '.join(map(str, row))} |")
    print(f"| no fault | {args.quiet_draws} | {alarms} | | | |")
    return int(bool(alarms) or any(found[cause, "detected"] < count for cause, count in counts.items()))


if __name__ == "__main__":
    sys.exit(main())
