"""One row for each framework: every fact about it that can be known without importing it.

`FRAMEWORKS` has the frameworks that build and train networks, `RUNTIMES` those that only run inference.
`CONVENTIONS` also has the two that only name tensors: the canonical one ("zoo") and Keras's.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from zoo.processor import mkl_kernels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from zoo.language.trace import Parameter


Dtype: TypeAlias = Literal["fp32", "tf32", "bf16", "fp16", "int8"]
"""The arithmetic in which an engine computes convolutions and matrix products."""
DTYPES: tuple[str, ...] = get_args(Dtype)


@dataclass(frozen=True)
class Convention:
    """How a framework names and lays out tensors, where that differs from the canonical names, OIHW and [out, in].

    suffixes   the framework's suffixes of names, by canonical suffix
    axes       for each kind of tensor, the canonical axes in the framework's order
    separator  between a module's path and the tensor's name
    counter    the name of an integer that the framework keeps beside batch-norm statistics; it is not a weight
    formats    keys of `weights.FORMATS`: the file formats the framework keeps weights in, the usual one first
    """

    suffixes: Mapping[str, str] = field(default_factory=dict)
    axes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    separator: str = "."
    counter: str = ""
    formats: tuple[str, ...] = ("safetensors",)

    @property
    def ignored(self) -> tuple[str, ...]:
        """Suffixes of names that are not weights."""
        return (self.counter,) if self.counter else ()

    def rename(self, name: str) -> str:
        """The framework's name for a canonical one: for torch, `stem.bn.mean` -> `stem.bn.running_mean`."""
        for canonical, native in self.suffixes.items():
            if name.endswith(f".{canonical}"):
                return name.removesuffix(canonical) + native
        return name

    def orient(self, array: NDArray[Any], parameter: Parameter) -> NDArray[Any]:
        """A canonical array, converted to the framework's layout (a view)."""
        return array.transpose(self.axes[parameter.kind]) if parameter.kind in self.axes else array

    def restore(self, array: NDArray[Any], parameter: Parameter) -> NDArray[Any]:
        """An array in the framework's layout, converted to the canonical layout (a view)."""
        axes = self.axes.get(parameter.kind)
        return array if axes is None else array.transpose(sorted(range(len(axes)), key=axes.__getitem__))

    def shape(self, parameter: Parameter) -> tuple[int, ...]:
        """The shape a tensor has in the framework's layout."""
        return tuple(parameter.shape[axis] for axis in self.axes.get(parameter.kind, range(len(parameter.shape))))


@dataclass(frozen=True)
class Launcher:
    """The command that starts a framework's processes, and the environment variables in which it numbers them.

    command      takes the number of processes as {}
    rank, size   variables with the number of a process, from 0, and the number of processes
    local_rank   variable with the number of a process on its machine
    cpu_options  further options of the command where there is no GPU
    """

    command: str
    rank: str
    size: str
    local_rank: str
    cpu_options: str = ""

    def started(self) -> int:
        """How many processes the launcher has started, this one included; 0 when it did not start this one."""
        return int(os.environ[self.size]) if {self.rank, self.size} <= os.environ.keys() else 0


def _no_environment() -> dict[str, str]:
    return {}


@dataclass(frozen=True)
class Runtime:
    """A program that runs networks in inference: one of `FRAMEWORKS` or `RUNTIMES`.

    name           its name here
    title          its name in text
    requirement    what to install, as pip takes it; pyproject.toml's extras say the same
    packages       the Python packages that it needs; the first, by default `name`, is imported
    environment    variables to set before its import, unless they are set
    aborts_after   packages whose earlier import makes importing this one abort the process
    quiet_import   whether to drop what its import prints on standard error
    skip_teardown  when the interpreter must exit without finalising its objects: "alone", in a process that no launcher
                   has started; "launched", in one that a launcher has started
    when_slow      the advice of `zoo doctor` when its kernels are slow: the usual cause, or its remedy
    """

    name: str
    title: str
    requirement: str
    packages: tuple[str, ...] = field(default=(), kw_only=True)
    environment: Callable[[], dict[str, str]] = field(default=_no_environment, kw_only=True)
    aborts_after: tuple[str, ...] = field(default=(), kw_only=True)
    quiet_import: bool = field(default=False, kw_only=True)
    skip_teardown: Literal["never", "alone", "launched"] = field(default="never", kw_only=True)
    when_slow: str = field(default="give it more threads: OMP_NUM_THREADS", kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "packages", self.packages or (self.name,))

    @property
    def package(self) -> str:
        """The package to import."""
        return self.packages[0]


@dataclass(frozen=True)
class Framework(Runtime):
    """A runtime that also trains networks and keeps weights in files of its own.

    module               the class that its networks derive from, "package.module.Class"
    safetensors_tag      what it writes as `format` into the metadata of a safetensors file
    compiles_by_default  whether train.py and validate.py compile networks unless told otherwise
    """

    convention: Convention
    launcher: Launcher
    module: str
    safetensors_tag: str
    compiles_by_default: bool = False


def _paddle_environment() -> dict[str, str]:
    """Fast MKL kernels, and as many threads as this process may use: Paddle itself starts one."""
    kernels = mkl_kernels()
    processes = int(os.environ.get("PADDLE_TRAINERS_NUM", 1))
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // processes))}
    return threads | ({"MKL_DEBUG_CPU_TYPE": kernels} if kernels else {})


def _jax_environment() -> dict[str, str]:
    """XLA's number of threads on a CPU."""
    threads = os.environ.get("OMP_NUM_THREADS")
    return {"NPROC": threads} if threads else {}


FRAMEWORKS: dict[str, Framework] = {
    row.name: row
    for row in (
        Framework(
            "torch",
            "PyTorch",
            "torch>=2.13",
            Convention(
                {"bn.mean": "bn.running_mean", "bn.var": "bn.running_var"},
                counter="num_batches_tracked",
                formats=("torch", "torch-legacy", "safetensors"),
            ),
            Launcher("torchrun --nproc_per_node {}", "RANK", "WORLD_SIZE", "LOCAL_RANK"),
            module="torch.nn.Module",
            safetensors_tag="pt",
            skip_teardown="launched",  # a gloo thread that is still running sometimes aborts the process
        ),
        Framework(
            "mindspore",
            "MindSpore",
            "mindspore>=2.8,<2.9",
            Convention(
                {
                    "bn.weight": "bn.gamma",
                    "bn.bias": "bn.beta",
                    "bn.mean": "bn.moving_mean",
                    "bn.var": "bn.moving_variance",
                },
                formats=("mindspore", "safetensors"),
            ),
            Launcher(
                "msrun --worker_num {0} --local_worker_num {0} --join True", "RANK_ID", "MS_WORKER_NUM", "DEVICE_ID"
            ),
            module="mindspore.nn.Cell",
            safetensors_tag="ms",
            aborts_after=("paddle",),  # both bundle oneDNN under the same symbols
            compiles_by_default=True,
            skip_teardown="alone",  # MindSpore 2.8 prints an ignored exception for each cell
            when_slow="MindSpore 2.9 and 2.10 take oneDNN's reference kernel for 3x3 convolutions: install 2.8",
        ),
        Framework(
            "paddle",
            "Paddle",
            "paddlepaddle>=3.3",
            Convention(
                {"bn.mean": "bn._mean", "bn.var": "bn._variance"}, {"linear": (1, 0)}, formats=("paddle", "safetensors")
            ),
            Launcher(
                "python -m paddle.distributed.launch --nproc_per_node {}",
                "PADDLE_TRAINER_ID",
                "PADDLE_TRAINERS_NUM",
                "PADDLE_RANK_IN_NODE",
                cpu_options="--backend gloo",
            ),
            module="paddle.nn.Layer",
            safetensors_tag="pd",
            environment=_paddle_environment,
            quiet_import=True,  # Paddle warns about more than one thread
            when_slow="set OMP_NUM_THREADS, and on AMD processors MKL_DEBUG_CPU_TYPE, before Paddle is imported",
        ),
        Framework(
            "jax",
            "JAX",
            "flax>=0.12",
            Convention(
                {
                    "conv.weight": "conv.kernel",
                    "fc.weight": "fc.kernel",
                    "hidden.weight": "hidden.kernel",
                    "bn.weight": "bn.scale",
                },
                {"conv": (2, 3, 1, 0), "depthwise": (2, 3, 1, 0), "linear": (1, 0)},
                formats=("jax", "safetensors"),
            ),
            Launcher(
                "python -m backends.jax.launch --processes {}",
                "JAX_PROCESS_ID",
                "JAX_NUM_PROCESSES",
                "JAX_LOCAL_PROCESS_ID",
            ),
            packages=("jax", "flax"),
            environment=_jax_environment,
            module="flax.nnx.Module",
            safetensors_tag="flax",
            compiles_by_default=True,
        ),
    )
}

RUNTIMES: dict[str, Runtime] = {
    row.name: row
    for row in (
        Runtime("onnx", "ONNX Runtime", "inception-zoo[onnx]", packages=("onnxruntime", "onnx")),
        Runtime("openvino", "OpenVINO", "inception-zoo[openvino]", packages=("openvino", "onnx", "onnxruntime")),
    )
}
"""Runtimes that only run inference, from an ONNX graph."""

CONVENTIONS: dict[str, Convention] = {
    "zoo": Convention(),
    "keras": Convention(
        {
            "conv.weight": "conv.kernel",
            "fc.weight": "fc.kernel",
            "bn.weight": "bn.gamma",
            "bn.bias": "bn.beta",
            "bn.mean": "bn.moving_mean",
            "bn.var": "bn.moving_variance",
        },
        {"conv": (2, 3, 1, 0), "depthwise": (2, 3, 0, 1), "linear": (1, 0)},
        separator="/",
        formats=("keras", "keras-legacy"),
    ),
    **{row.name: row.convention for row in FRAMEWORKS.values()},
}
