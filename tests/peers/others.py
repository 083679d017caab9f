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
import importlib.util
import json
import os
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
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "frameworks"), str(ROOT / "tests" / "peers")]

import faults  # noqa: E402
import numpy as np  # noqa: E402
from other_tools import Msprobe, PaDiff, Polygraphy, inside  # noqa: E402
from safetensors.numpy import load_file, save_file  # noqa: E402

import weights  # noqa: E402
from zoo.language.document import from_json, to_json  # noqa: E402
from zoo.language.nodes import Chain, Concat, Residual, children  # noqa: E402
from zoo.language.trace import parameters  # noqa: E402
from zoo.parity.edits import nodes_of  # noqa: E402

DOCUMENT = ROOT / "docs" / "other_tools.md"
TEMPLATE = Path(__file__).with_name("others.template.md")
NETWORKS = ("googlenet", "inception_v3", "xception41", "inception_v3.mindcv")
PACKAGES = {"padiff": "padiff", "polygraphy": "polygraphy", "msprobe": "mindstudio-probe"}
NEEDED = ("torch", "paddle", "onnx", "onnxruntime", "pandas", "openpyxl", "einops", "pytz", "tensorboard")
SCORES = ("detected", "placed", "named", "proved")


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
        """Add the nodes that read a node's output: a sum or concatenation, and those that read its output in turn."""
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
    """Write the cases: a JSON file, and safetensors files with each network's weights and with each case's arrays."""
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
    """One row for each cause, as faults.py prints them."""
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
    """One row for each tool."""
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
    return TEMPLATE.read_text().format(**filled, **{module: versions[package] for module, package in PACKAGES.items()})


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
