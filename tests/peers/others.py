r"""Other published comparison tools on the faults that `tests/frameworks/faults.py` plants; writes docs/other_tools.md.

    python tests/peers/others.py [--seed 0] [--quiet-draws 8]

Needs PyTorch, Paddle, ONNX and ONNX Runtime, and the tools with what they import. Install these without their
dependencies, which would replace NumPy and others, in this project's virtual environment or in a copy of it:

    pip install --no-deps padiff==0.2.0 polygraphy==0.53.6 mindstudio-probe==26.2.0 \
        pandas==2.3.3 openpyxl==3.1.5 et_xmlfile==2.0.0 einops==0.8.2 pytz==2026.6 tensorboard==2.21.0 \
        tensorboard-data-server==0.7.2 grpcio==1.85.3 markdown==3.11.3 werkzeug==3.1.9

Each tool runs in a process of its own and compares a network with a fault with the network without it. Whether and
where they differ is what the tool says; this script only reads it and scores it as faults.py scores `zoo parity`.
"""

import argparse
import contextlib
import csv
import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from unittest.mock import patch

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "frameworks")]

import faults  # noqa: E402
import numpy as np  # noqa: E402
from safetensors.numpy import load_file, save_file  # noqa: E402

import weights  # noqa: E402
from backends import get  # noqa: E402
from zoo.language.document import from_json, to_json  # noqa: E402
from zoo.language.nodes import Chain, Concat, Residual, children  # noqa: E402
from zoo.language.trace import parameters  # noqa: E402
from zoo.parity.causes import nodes_of  # noqa: E402

DOCUMENT = ROOT / "docs" / "other_tools.md"
NETWORKS = ("googlenet", "inception_v3", "xception41", "inception_v3.mindcv")
PACKAGES = {"padiff": "padiff", "polygraphy": "polygraphy", "msprobe": "mindstudio-probe"}
NEEDED = ("torch", "paddle", "onnx", "onnxruntime", "pandas", "openpyxl", "einops", "pytz", "tensorboard")
SCORES = ("detected", "placed", "named", "proved")

PADIFF_OPTIONS = {"atol": 1e-4, "rtol": 0, "compare_mode": "strict", "single_step": False}
"""The options of PaDiff's own quick start. Those of the bare function are a relative 1e-7 between means."""

SAYS = {
    "eps": {"argument"},
    "dilation": {"argument"},
    "padding": {"argument"},
    "count_include_pad": {"argument"},
    "residual_scale": {"argument", "no counterpart"},
    "kernel_order": {"shape of the weight"},
    "missing_relu": {"no counterpart"},
    "extra_relu": {"no counterpart"},
    "pool_kind": {"no counterpart"},
}
"""What msprobe has to say about the planted operation for the cause to count as named."""


@dataclass(frozen=True)
class Case:
    """Two networks to compare: `arrays` in the network of the spec, and `own` in the one with the fault.

    fault   None: the networks are the same
    """

    spec: object
    arrays: dict
    fault: object
    own: dict
    inputs: np.ndarray

    @property
    def other(self):
        return self.fault.model if self.fault else self.spec


@dataclass(frozen=True)
class Seen:
    """What a tool says: whether the networks differ, the path of the first difference, and whether it has the cause."""

    differs: bool
    place: str | None = None
    named: bool = False


def build(framework, model, arrays):
    net = get(framework).build(model)
    get(framework).load(net, arrays)
    return net


def inside(place, path):
    """Whether a path is that of a node or of one below it; everything is inside the network, whose path is empty."""
    return not path or f"{place}.".startswith(f"{path}.")


class PaDiff:
    """The network of the spec in PyTorch, the one with the fault in Paddle."""

    kernels = ("other",)

    def __init__(self, folder, api_check):
        os.environ.update(PADIFF_API_CHECK="ON" if api_check else "OFF", PADIFF_PATH_LOG="ON", PADIFF_CUDA_MEMORY="OFF")
        sys.path.insert(0, str(folder))  # it writes its logs beside the first entry
        import paddle
        import torch
        from padiff import auto_diff

        self.paddle, self.torch, self.auto_diff = paddle, torch, auto_diff
        self.log = folder / "diff_log" / "torch_struct.log"
        self.tolerances = ", ".join(f"{name}={value}" for name, value in PADIFF_OPTIONS.items())

    def compare(self, case, kernels):
        nets = build("paddle", case.other, case.own), build("torch", case.spec, case.arrays)
        inputs = {"x": self.paddle.to_tensor(case.inputs)}, {"x": self.torch.from_numpy(case.inputs)}
        self.log.unlink(missing_ok=True)
        with contextlib.redirect_stdout(io.StringIO()) as said:
            same = self.auto_diff(*nets, inputs, auto_weights=False, options=dict(PADIFF_OPTIONS))
        tree = self.log.read_text() if self.log.exists() else said.getvalue()
        return Seen(not same, None if same else self.marked(tree.splitlines()))

    @staticmethod
    def marked(lines):
        """The path of the marked layer of the tree, or of the layer before a marked function; None for the root."""
        last = None
        for line in lines:
            if found := re.search(r"\(Network\.([\w.]+)\)", line):
                last = found[1]
            if "*** HERE ***" in line:
                return last
        return None


class Polygraphy:
    """Both networks as ONNX files from PyTorch's exporter, in ONNX Runtime; `mark` makes every tensor an output."""

    kernels = ("same", "other")

    def __init__(self, mark):
        import onnx
        import onnxruntime
        import torch
        from polygraphy import constants
        from polygraphy.backend.onnx import BytesFromOnnx, ModifyOutputs
        from polygraphy.backend.onnxrt import OnnxrtRunner, SessionFromOnnx
        from polygraphy.comparator import Comparator, SimpleCompareFunc
        from polygraphy.logger import G_LOGGER

        G_LOGGER.module_severity = G_LOGGER.CRITICAL
        self.onnx, self.torch, self.comparator = onnx, torch, Comparator
        self.mark, self.func = mark, SimpleCompareFunc(fail_fast=True)
        self.tolerances = f"rtol={self.func.rtol}, atol={self.func.atol}, {self.func.check_error_stat}"
        self.spec = None, None
        self.plain = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL

        def runner(name, model, level):
            marked = ModifyOutputs(model, outputs=constants.MARK_ALL if mark else None, copy=True)
            return OnnxrtRunner(SessionFromOnnx(BytesFromOnnx(marked), graph_optimization_level=level), name=name)

        self.runner = runner

    def export(self, model, arrays, inputs):
        file, names = io.BytesIO(), {"input_names": ["x"], "output_names": ["logits"]}
        net, x = build("torch", model, arrays), self.torch.from_numpy(inputs)
        self.torch.onnx.export(net, (x,), file, dynamo=False, **names)  # the other exporter's names have no paths
        return self.onnx.load_from_string(file.getvalue())

    def compare(self, case, kernels):
        other = self.export(case.other, case.own, case.inputs)
        if self.spec[0] is not case.arrays:
            self.spec = case.arrays, self.export(case.spec, case.arrays, case.inputs)
        level = self.plain if kernels == "other" else None
        runners = [self.runner("other", other, level), self.runner("spec", self.spec[1], None)]
        run = self.comparator.run(runners, data_loader=[{"x": case.inputs}])
        results = self.comparator.compare_accuracy(run, compare_func=self.func)
        (outputs,) = results[0]["other", "spec"]
        wrong = next((name for name, same in outputs.items() if not same), None)
        node = next((node.name for node in other.graph.node if wrong in node.output), None)
        return Seen(not results, self.path(node) if node and self.mark else None)

    @staticmethod
    def path(node):
        """From "/a/a.0/conv/Conv" to "a.0.conv": in a Sequential, the exporter repeats its name before the module's."""
        parts = node.strip("/").split("/")[:-1]
        before = ["", *parts]
        return ".".join(part.removeprefix(f"{last}.") for last, part in zip(before, parts, strict=False))


class Msprobe:
    """Both networks in PyTorch: two dumps at level "mix" (modules and functions), and `msprobe compare`."""

    kernels = ("same", "other")

    def __init__(self, folder, task):
        import torch
        from msprobe.core.compare.indicator_analysis import algorithm
        from msprobe.pytorch import PrecisionDebugger
        from msprobe.pytorch.compare.pt_compare import pt_compare  # what `msprobe compare` calls

        self.torch, self.folder, self.pt_compare = torch, folder, pt_compare
        self.steps, self.spec = 0, (None, None)
        config = folder / "config.json"
        settings = {"scope": [], "list": [], "data_mode": ["all"]}
        tasks = {"statistics": settings | {"summary_mode": "statistics"}, "tensor": settings}
        common = {"task": task, "dump_path": str(folder / "dump"), "rank": [], "step": [], "level": "mix"}
        config.write_text(json.dumps(common | tasks))
        self.debugger = PrecisionDebugger(config_path=str(config))
        if task == "statistics":
            one, ten = algorithm.RelativeErrChecker(), algorithm.RelativeWarnChecker()
            self.tolerances = (
                f"error: relative error of the norm < {one.in_threshold} in the inputs and > {one.out_threshold} in "
                f"the output; warning: {ten.threshold} times that of the inputs in the output; equal arguments, shapes"
            )
        else:
            one, cosine = algorithm.OneThousandthErrChecker(), algorithm.CosineWarnChecker()
            self.tolerances = (
                f"error: > {one.input_threshold} of the inputs' values within 0.1% and < {one.output_threshold} of "
                f"the output's; warning: cosine > {cosine.input_threshold} in the inputs and "
                f"{cosine.output_threshold} less in the output; equal arguments, shapes"
            )

    def dump(self, model, arrays, inputs, kernels):
        net, onednn = build("torch", model, arrays), kernels == "same"
        self.debugger.start(model=net)
        with self.torch.no_grad(), self.torch.backends.mkldnn.flags(enabled=onednn):
            net(self.torch.from_numpy(inputs))
        self.debugger.stop()
        self.debugger.step()
        (found,) = (self.folder / "dump" / f"step{self.steps}").glob("*/dump.json")
        self.steps += 1
        return found

    def compare(self, case, kernels):
        other = self.dump(case.other, case.own, case.inputs, kernels)
        if self.spec[0] is not case.arrays:
            self.spec = case.arrays, self.dump(case.spec, case.arrays, case.inputs, "same")
        out = self.folder / f"out{self.steps}"
        self.pt_compare({"npu_path": str(other), "bench_path": str(self.spec[1])}, str(out))
        (table,) = out.glob("*.csv")
        csv.field_size_limit(sys.maxsize)
        with table.open() as file:
            rows = [row for row in csv.DictReader(file) if row["Result"] != "pass" or row["Bench Name"] == "N/A"]
        modules = json.loads((other.parent / "construct.json").read_text())
        shutil.rmtree(other.parents[1])
        places = [self.path(row["NPU Name"], modules) for row in rows]
        named = case.fault is not None and any(
            place is not None and inside(place, case.fault.path) and self.says(row) & SAYS.get(case.fault.cause, set())
            for row, place in zip(rows, places, strict=True)
        )
        return Seen(bool(rows), places[0] if rows else None, named)

    @staticmethod
    def path(name, modules):
        """The path of the module of a row; of a function's, of the module that called it, which msprobe records."""
        if not name.startswith("Module."):
            name = modules.get(name[: name.index(".forward")] + ".forward") or ""
        found = re.match(r"Module\.(.+)\.\w+\.forward\.\d+", name)
        return found and found[1]

    @staticmethod
    def says(row):
        if row["Bench Name"] == "N/A":
            return {"no counterpart"}
        said = set()
        if "scalar parameters" in row["Err_message"]:
            said.add("argument")
        if "shape" in row["Err_message"] and row["NPU Name"].endswith((".input.1", ".parameters.weight")):
            said.add("shape of the weight")
        return said


TOOLS = {
    "PaDiff": lambda folder: PaDiff(folder, api_check=False),
    "PaDiff, functions too": lambda folder: PaDiff(folder, api_check=True),
    "Polygraphy": lambda folder: Polygraphy(mark=True),
    "Polygraphy, logits only": lambda folder: Polygraphy(mark=False),
    "msprobe, statistics": lambda folder: Msprobe(folder, "statistics"),
    "msprobe, tensors": lambda folder: Msprobe(folder, "tensor"),
}
OURS = "zoo parity"


def right(case, place):
    """Whether a place is the planted operation or the first one that sees its effect."""
    path = case.fault.path
    if not path or inside(place, path):
        return True
    nodes = nodes_of(case.spec)
    joins, first = set(), set()

    def readers(of):
        """The nodes that take a node's output: a join is one itself, and what takes the join's output another."""
        above = of.rpartition(".")[0]
        if not above or isinstance(nodes[above], Chain):
            beside = [name for name, _ in children(nodes[above])] if above else [*case.spec.parts]
            after = beside[beside.index(of.removeprefix(f"{above}.")) + 1 :]
            if after:
                enter(f"{above}.{after[0]}".removeprefix("."))
            elif above:
                readers(above)
        else:
            joins.add(above)
            readers(above)

    def enter(at):
        node = nodes[at]
        if isinstance(node, Chain):
            enter(f"{at}.0")
        elif isinstance(node, Concat | Residual):
            for name, _ in children(node):
                enter(f"{at}.{name}")
            if isinstance(node, Residual) and node.shortcut is None:
                joins.add(at)
        elif at not in first:
            first.add(at)
            if not any(name.startswith(f"{at}.") for name in parameters(case.spec)):
                readers(at)  # a pool or a ReLU: a tool may look at layers with weights only

    readers(path)
    return place in joins or any(inside(place, at) for at in first)


PAGE = """# Other comparison tools on the same planted faults

Made by `python tests/peers/others.py`, whose first lines say what to install; do not edit.
`tests/frameworks/faults.py` plants faults in networks at a quarter of the width, and scores `zoo parity --against`:
[parity.md](parity.md) describes it. Here other published tools get the same faults, in
{networks}.
Frameworks: {frameworks}.

**PaDiff** {padiff} compares a Paddle layer with a PyTorch module, layer by layer. **Polygraphy** {polygraphy}
compares the outputs of ONNX models; every tensor can be made an output. **msprobe** (mindstudio-probe) {msprobe} dumps
what every module and function of a PyTorch network takes and gives, and compares two dumps.

{summary}

- **detected**: the tool says that the networks differ.
- **placed**: the first difference that the tool reports is at the planted operation or at the first one that sees its
  effect. For a fault that is everywhere (`eps`), any place is right.
- **named**: the tool says what the mistake is. Only msprobe and `zoo parity` can: msprobe compares the arguments of
  functions too, and reports those that differ, and operations that have no counterpart in the other network. This
  counts as named here if it is about the planted operation.
- **proved**: the tool shows that the network is right once that mistake is repaired. Only `zoo parity` tries.
- **alarms**: networks without a fault that the tool says differ. "Same kernels": both networks run in the same
  framework with the same settings, so that they give the same bits. "Other kernels": the second network runs in
  another framework (PaDiff, and `zoo parity`, whose reference is NumPy), without ONNX Runtime's graph optimisations
  (Polygraphy), or without oneDNN (msprobe), so that only rounding differs. Faults are planted with the same kernels
  where there is a choice.

## How each tool was used

The other tools need a second network that is right. They were given one that is as close as can be: built by the same
code, with the same names of modules in the same order, and with the right weights. `zoo parity` needs the spec, and
the right weights where a weight is the fault; it does not use names. Every kind of fault here is in its catalogue of
causes, so these tables do not show what it says about other mistakes. Nor do they show what Polygraphy and msprobe
are made for in the first place: numerical errors of kernels, precisions and devices, which are not planted here.

All tolerances can be set; these are the defaults, or those of the documentation's first example.

| tool | tolerances |
|---|---|
{settings}

- PaDiff: `auto_diff(layer, module, inputs, auto_weights=False)` with the options of its quick start; its own copying
  of weights is off, because it would remove planted weights. It compares outputs, gradients and weights. "PaDiff" has
  its comparison of functions off (`PADIFF_API_CHECK=OFF`), and "PaDiff, functions too" has it on, as is the default.
  It matches functions by their number and order, and our two networks call different ones for global pooling (one in
  PyTorch, two in Paddle).
- Polygraphy: `Comparator.run` and `Comparator.compare_accuracy` with `SimpleCompareFunc(fail_fast=True)` on two files
  of `torch.onnx.export(dynamo=False)`, whose tensors are named after modules. Tensors are matched by name. The newer
  exporter numbers tensors instead, so that a missing operation would shift the names of those after it. Both fold
  batch norm into convolutions. "Polygraphy" marks every tensor as an output; "Polygraphy, logits only" marks none,
  as is the default, and cannot place a difference.
- msprobe: `PrecisionDebugger` at level `mix`, then what `msprobe compare` calls. A row of its table counts as a
  difference if its result is not `pass`, or if the other network has no such row. `--diff_analyze` was not used: it
  is for dumps of several ranks. A missing ReLU leaves an `nn.Identity` in our networks, which msprobe reports and
  which helps it.

## What they do that `zoo parity --against` does not

The other tools take any network; `zoo parity` needs a spec, and knows only the operations that specs have.

- PaDiff compares two frameworks directly, and also compares gradients, and weights after steps of an optimizer.
- Polygraphy runs models in TensorRT, ONNX Runtime and other backends, on GPUs too. It bisects models, reduces them to
  the smallest that still fails, and has other measures of error (cosine similarity, PSNR, quantiles).
- msprobe is made for training on Ascend NPUs and GPUs. It monitors gradients, activations and optimizer states during
  training, finds overflows, compares many ranks at once, checks single functions against higher precision, draws
  graphs, and also dumps MindSpore networks.

## Fault by fault

{tables}
"""


def plant(folder, seed, draws):
    """The rows of `zoo parity`; keeps the cases for the other tools."""
    kept = []

    def keeping(framework, model, other, own, given, inputs):
        kept.append((own, inputs))
        return judged(framework, model, other, own, given, inputs)

    judged, scores, cases, alarms = faults.verdict, [], [], 0
    given = {name: weights.calibrated(faults.narrow(name), seed) for name in NETWORKS}
    with patch.object(faults, "verdict", keeping):
        for name, fault, score in faults.scored("torch", NETWORKS, seed):
            own, inputs = kept.pop()
            own = {key: same(given[name].get(key), array) for key, array in own.items()}
            cases.append(Case(faults.narrow(name), given[name], fault, own, inputs))
            scores.append((fault.cause, score))
    for draw in range(draws):
        model = faults.narrow(NETWORKS[draw % len(NETWORKS)])
        arrays, inputs = weights.calibrated(model, 1000 + draw), faults.noise(model, draw)
        alarms += not judged("torch", model, model, arrays, arrays if draw % 2 else None, inputs)["ok"]
        cases.append(Case(model, arrays, None, arrays, inputs))
    save(cases, folder)
    return {"scores": scores, "alarms": {"other": alarms}, "tolerances": "the measured band of rounding"}


def same(array, own):
    """The first array if both are equal, so that it is stored once."""
    return array if array is not None and np.array_equal(array, own) else own


def save(cases, folder):
    """Write the cases: a JSON file, and safetensors files with each network's weights and with what is a case's own."""
    sets, rows = {}, []
    for number, case in enumerate(cases):
        if id(case.arrays) not in sets:
            sets[id(case.arrays)] = f"weights{len(sets)}"
            save_file(dict(case.arrays), folder / f"{sets[id(case.arrays)]}.safetensors")
        own = {name: array for name, array in case.own.items() if array is not case.arrays.get(name)}
        tensors = {"inputs": case.inputs, **{f"own/{name}": array for name, array in own.items()}}
        save_file({name: np.ascontiguousarray(a) for name, a in tensors.items()}, folder / f"case{number}.safetensors")
        fault = case.fault and {**vars(case.fault), "model": to_json(case.fault.model)}
        rows.append({"spec": to_json(case.spec), "weights": sets[id(case.arrays)], "fault": fault})
    (folder / "cases.json").write_text(json.dumps(rows))


def load(folder):
    """The cases that `save` has written; those with the same weights share them."""
    sets = {}
    for number, row in enumerate(json.loads((folder / "cases.json").read_text())):
        if row["weights"] not in sets:
            sets[row["weights"]] = load_file(folder / f"{row['weights']}.safetensors")
        arrays, tensors = sets[row["weights"]], load_file(folder / f"case{number}.safetensors")
        spec, fault = from_json(row["spec"]), None
        if row["fault"]:
            fault = faults.Fault(**{**row["fault"], "model": from_json(row["fault"]["model"])})
        needed = parameters(fault.model if fault else spec)
        own = {name: tensors.get(f"own/{name}", arrays.get(name)) for name in needed}
        yield Case(spec, arrays, fault, own, tensors["inputs"])


def run(name, folder):
    """A tool on all cases."""
    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    tool = TOOLS[name](work)
    scores, alarms = [], Counter(dict.fromkeys(tool.kernels, 0))
    for case in load(folder):
        if case.fault is None:
            for kernels in tool.kernels:
                alarms[kernels] += tool.compare(case, kernels).differs
            continue
        seen = tool.compare(case, tool.kernels[0])
        placed = seen.differs and seen.place is not None and right(case, seen.place)
        scores.append(
            (case.fault.cause, {"detected": seen.differs, "placed": placed, "named": seen.named, "proved": False})
        )
        if not (seen.differs and placed):
            print(f"{name}: {case.spec.name}, {case.fault.cause} at {case.fault.path}: {seen}", file=sys.stderr)
    return {"scores": scores, "alarms": alarms, "tolerances": tool.tolerances}


def table(result):
    """One row a cause, as faults.py prints them."""
    planted, found = Counter(), Counter()
    for cause, score in result["scores"]:
        planted[cause] += 1
        found.update((cause, what) for what in SCORES if score[what])
    lines = ["| fault | planted | detected | placed | named | proved |", "|---|---|---|---|---|---|"]
    return lines + [
        f"| {cause} | {count} | {' | '.join(str(found[cause, what]) for what in SCORES)} |"
        for cause, count in planted.items()
    ]


def summary(results, draws):
    """One row a tool."""
    lines = [
        f"| tool | planted | detected | placed | named | proved | alarms of {draws}, same kernels | other kernels |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, result in results.items():
        scores = [score for _, score in result["scores"]]
        counts = [sum(score[what] for score in scores) for what in SCORES]
        alarms = [result["alarms"].get(kernels, "") for kernels in ("same", "other")]
        lines.append(f"| {name} | {' | '.join(map(str, [len(scores), *counts, *alarms]))} |")
    return lines


def page(results, draws):
    packages = ("torch", "paddlepaddle", "onnx", "onnxruntime")
    versions = {name: metadata.version(name) for name in (*packages, *PACKAGES.values())}
    filled = {
        "networks": ", ".join(f"`{name}`" for name in NETWORKS),
        "frameworks": f"PyTorch {versions['torch']}, Paddle {versions['paddlepaddle']}, ONNX {versions['onnx']} and "
        f"ONNX Runtime {versions['onnxruntime']}, on a CPU",
        "summary": "\n".join(summary(results, draws)),
        "settings": "\n".join(f"| {name} | {result['tolerances']} |" for name, result in results.items()),
        "tables": "\n\n".join("\n".join([f"### {name}", "", *table(result)]) for name, result in results.items()),
    }
    return PAGE.format(**filled, **{module: versions[package] for module, package in PACKAGES.items()})


def worker(name, folder, words):
    """The results of a tool, which runs in a process of its own."""
    begun = time.perf_counter()
    with tempfile.TemporaryFile("w+") as said:
        command = [sys.executable, __file__, *words, "--tool", name, "--folder", str(folder)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=said, env=environment)
        said.seek(0)
        lines = said.read().splitlines()
    if done.returncode:
        sys.exit(f"{name} did not run:\n" + "\n".join(lines[-20:]))
    print(*(line for line in lines if line.startswith(f"{name}: ")), sep="\n", file=sys.stderr)
    print(f"{name}: {time.perf_counter() - begun:.0f} s", file=sys.stderr, flush=True)
    return json.loads((folder / "result.json").read_text())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quiet-draws", type=int, default=8, help="networks without a fault")
    parser.add_argument("--tool", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.tool:
        warnings.simplefilter("ignore")
        ours = args.tool == OURS
        result = plant(args.folder, args.seed, args.quiet_draws) if ours else run(args.tool, args.folder)
        (args.folder / "result.json").write_text(json.dumps(result))
        return 0
    if missing := sorted(module for module in (*PACKAGES, *NEEDED) if importlib.util.find_spec(module) is None):
        sys.exit(f"not installed: {', '.join(missing)}; see the first lines of {Path(__file__).name}")
    words = ["--seed", str(args.seed), "--quiet-draws", str(args.quiet_draws)]
    with tempfile.TemporaryDirectory(prefix="others-") as folder:
        results = {name: worker(name, Path(folder), words) for name in (OURS, *TOOLS)}
    DOCUMENT.write_text(page(results, args.quiet_draws))
    print(DOCUMENT.read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
