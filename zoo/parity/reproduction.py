"""A reproduction of one wrong operation: arrays and a short script for each framework, for a bug report.

The scripts need only NumPy and the framework. They run the operation with the spec's settings on the input that it had
in the network, and print the error of the result and that of the network's own output.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backends.observed import Observation
from zoo.errors import ZooError
from zoo.files import atomic_write
from zoo.frameworks import FRAMEWORKS
from zoo.language.geometry import border, reach
from zoo.language.interpreter import Interpreter
from zoo.language.model import Model
from zoo.language.trace import trace
from zoo.parity.alignment import Alignment, Finding
from zoo.source.dialect import script_of

Array = NDArray[Any]

SCRIPT = '''"""{title}

The expected output was computed in float64. Run the script in the folder of operation.npz: python {file}
"""

import numpy as np
{imports}

data = dict(np.load("operation.npz"))
t = {{name: {tensor}(array) for name, array in data.items() if array.dtype == np.float32}}
{compute}
scale = abs(data["expected"]).max()
print("{framework}, this script: error %.1e" % (abs(y - data["expected"]).max() / scale))
if data["observed"].shape == data["expected"].shape:
    print("the network that was observed: error %.1e" % (abs(data["observed"] - data["expected"]).max() / scale))
else:
    print("the network that was observed: shape", data["observed"].shape, "instead of", data["expected"].shape)
'''


@dataclass(frozen=True)
class Fault:
    """A wrong convolution, linear layer or batch norm: its settings, input, parameters and both outputs."""

    path: str
    kind: str
    settings: Mapping[str, Any]
    arrays: Mapping[str, Array]


def fault_of(
    finding: Finding, found: Alignment, seen: Observation, weights: Mapping[str, Array], model: Model
) -> Fault | None:
    """The operation that reproduces a finding; None if the finding is not about the output of a single operation."""
    roles = {"conv": "conv", "norm": "bn", "linear": ""}
    if finding.kind not in roles:
        return None
    name = ".".join(filter(None, (finding.path, roles[finding.kind])))
    operation = found.matched[name]
    x = seen.arrays[operation.x]
    own = {key.rpartition(".")[2]: array for key, array in weights.items() if key.rpartition(".")[0] == name}
    net = Interpreter(model, {key: array.astype(np.float64) for key, array in weights.items()})
    settings: dict[str, Any] = {}
    if finding.kind == "conv":
        op = next(op for op in trace(model).ops if op.path == finding.path)
        node: Any = op.node
        pads = [border(node.padding, n, k, node.stride) for n, k in zip(x.shape[2:], reach(node), strict=True)]
        settings = dict(zip(("top", "bottom", "left", "right"), (*pads[0], *pads[1]), strict=True))
        settings |= {"stride": node.stride, "dilation": node.dilation, "groups": op.groups}
        expected = net.convolve(node, finding.path, x.astype(np.float64))
    elif finding.kind == "norm":
        assert model.norm is not None
        settings = {"eps": model.norm.eps}
        expected = net.normalise(finding.path, x.astype(np.float64))
    else:
        expected = net.linear(finding.path, x.astype(np.float64))
    arrays = {"x": x, **own, "expected": expected, "observed": seen.arrays[operation.y]}
    return Fault(finding.path, finding.kind, settings, arrays)


def write_reproduction(fault: Fault, folder: Path) -> list[Path]:
    """Write operation.npz and a script for each framework into a folder, created if it is missing; returns the files.

    Raises ZooError when they cannot be written.
    """
    files = [folder / "operation.npz"]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(files[0]) as part, part.open("wb") as file:
            np.savez_compressed(file, **fault.arrays)
        for framework in FRAMEWORKS:
            script = script_of(framework)
            path = folder / f"{framework}_{fault.kind}.py"
            text = SCRIPT.format(
                title=f"A {fault.kind} at {fault.path}, in {framework}.",
                file=path.name,
                imports=script.imports,
                tensor=script.tensor,
                compute=getattr(script, fault.kind).format(**fault.settings),
                framework=framework,
            )
            with atomic_write(path) as part:
                part.write_text(text)
            files.append(path)
    except OSError as error:
        raise ZooError(f"{folder}: cannot write the reproduction there: {error.strerror or error}") from None
    return files
