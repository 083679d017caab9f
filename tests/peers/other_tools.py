"""PaDiff, Polygraphy and msprobe, each with one method: `compare(case, kernels)` returns what it says of two networks.

A case is `others.Case`. `kernels` is "same", where both networks run with the same settings, or "other".
"""

import contextlib
import csv
import io
import json
import os
import re
import shutil
import sys
from dataclasses import dataclass

from backends import get

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
    """Whether a path is that of a node or of one below it; the network itself has the empty path."""
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
