"""Networks compiled for each image size that they are given: by `torch.compile`, by AOTInductor or as CUDA graphs."""

from __future__ import annotations

import hashlib
import platform
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from backends.engine import EngineOptions
from zoo.errors import BackendError
from zoo.files import cache_folder
from zoo.language.document import to_json
from zoo.language.model import Model
from zoo.version import __version__

INDUCTOR: dict[str, Any] = {"freezing": True}
"""Weights become constants of the compiled code, in the layout that its kernels need."""


class Compiled:
    """A network run by `torch.compile`, which compiles at the first images of each size; this takes minutes."""

    def __init__(self, net: nn.Module) -> None:
        self.forward = torch.compile(net, options=INDUCTOR)

    def __call__(self, x: Tensor) -> Any:
        try:
            return self.forward(x)
        except RuntimeError as error:  # for example, there is no C++ compiler
            raise BackendError(f"torch: torch.compile failed: {str(error).strip().splitlines()[0]}") from error


class Packages:
    """A network compiled by AOTInductor: a package for each image size and any number of images, kept on disk.

    A package holds native code for this kind of processor and number of threads. Loading a package runs its code, so
    the cache folder must not be writable by others.
    """

    def __init__(
        self, net: nn.Module, model: Model, arrays: Mapping[str, NDArray[Any]], options: EngineOptions
    ) -> None:
        self.net = net
        built_for = (
            *(torch.__version__, __version__, platform.machine(), torch.backends.cpu.get_cpu_capability()),
            *(options.dtype, options.device, options.thread_count, to_json(model)),
        )
        digest = hashlib.sha256(repr(built_for).encode())
        for array in arrays.values():
            digest.update(array.tobytes())
        self.key = digest.hexdigest()[:16]
        self.loaded: dict[tuple[int, int], Any] = {}

    def __call__(self, x: Tensor) -> Any:
        size = (x.shape[2], x.shape[3])
        if size not in self.loaded:
            self.loaded[size] = self._package(x)
        return self.loaded[size](x)

    def _package(self, x: Tensor) -> Any:
        path = cache_folder() / "aotinductor" / f"{self.key}-{x.shape[2]}x{x.shape[3]}.pt2"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            example = torch.zeros(2, *x.shape[1:], dtype=x.dtype, device=x.device)
            with tempfile.TemporaryDirectory(dir=path.parent) as folder:
                part = Path(folder, path.name)
                package(program(self.net, example.to(memory_format=torch.channels_last)), part)
                part.replace(path)
        return torch._inductor.aoti_load_package(str(path))


def program(net: nn.Module, example: Tensor, dynamic_size: bool = False) -> Any:
    """The network as a program of torch.export.

    It takes any number of images of the size of `example`, a batch of 2, and with `dynamic_size` of any size.
    """
    sides = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC} if dynamic_size else {}
    return torch.export.export(net, (example,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC, **sides},))


def package(exported: Any, path: Path) -> None:
    """Compile a program with AOTInductor into a package, a .pt2. Raises BackendError when that fails."""
    try:
        torch._inductor.aoti_compile_and_package(exported, package_path=str(path), inductor_configs=INDUCTOR)
    except RuntimeError as error:
        raise BackendError(f"torch: AOTInductor failed: {str(error).strip().splitlines()[0]}") from error


class Graphs:
    """CUDA graphs: for each shape of a batch, the kernels are recorded once and then started together."""

    KEPT = 8
    """The number of shapes whose graphs are kept; each graph holds its own memory for activations."""

    def __init__(self, net: nn.Module) -> None:
        self.net = net
        self.graphs: dict[torch.Size, tuple[Any, Tensor, Any]] = {}

    def __call__(self, x: Tensor) -> Any:
        if x.shape not in self.graphs:
            while len(self.graphs) >= self.KEPT:
                self.graphs.pop(next(iter(self.graphs)))
            self.graphs[x.shape] = self._record(x)
        graph, images, outputs = self.graphs[x.shape]
        images.copy_(x)
        graph.replay()
        return outputs

    def _record(self, x: Tensor) -> tuple[Any, Tensor, Any]:
        images = x.clone(memory_format=torch.channels_last)
        with torch.cuda.device(x.device):
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):  # kernels are chosen and workspaces allocated before recording
                for _ in range(3):
                    self.net(images)
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=stream):
                outputs = self.net(images)
        return graph, images, outputs
