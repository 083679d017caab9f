"""Networks that a runtime runs from an ONNX graph: what the backends of ONNX Runtime and OpenVINO share."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from backends.engine import Engine, EngineOptions
from backends.onnx_graph import Dtype, graph
from backends.predict import float32
from weights.manifest import check
from zoo.errors import BackendError, SpecError
from zoo.language.model import Model
from zoo.language.rewrites import deployable, fold_norms, fold_scales, move_pools
from zoo.language.trace import InputCheck, parameters

Array = NDArray[np.generic]
Float32 = NDArray[np.float32]
Run: TypeAlias = Callable[[Float32], Sequence[NDArray[Any]]]
Compile: TypeAlias = Callable[[bytes, EngineOptions], Run]
"""A runtime's compiler: from the bytes of an ONNX model to a function of the images."""


KEPT = 8
"""The number of image sizes for which compiled graphs are kept."""


class Graph:
    """A network compiled once for images of any size or, if a part needs a fixed size, once for each image size."""

    def __init__(
        self,
        model: Model,
        arrays: Mapping[str, Array],
        outputs: Sequence[str],
        compile: Compile,
        options: EngineOptions,
    ) -> None:
        self.model, self.arrays, self.outputs = model, arrays, outputs
        self.compile, self.options = compile, options
        self.sizes: dict[tuple[int, int], Run] = {}
        try:
            self.any_size: Run | None = self._compiled(dynamic_size=True)
        except SpecError:
            self.any_size = None
            self.sizes[model.size, model.size] = self._compiled()

    def __call__(self, x: Float32) -> Sequence[NDArray[Any]]:
        if self.any_size is not None:
            return self.any_size(x)
        size = (x.shape[2], x.shape[3])
        if size not in self.sizes:
            while len(self.sizes) >= KEPT:
                self.sizes.pop(next(iter(self.sizes)))
            self.sizes[size] = self._compiled(height=size[0], width=size[1])
        return self.sizes[size](x)

    def _compiled(self, **size: Any) -> Run:
        dtype: Dtype = "fp16" if self.options.dtype == "fp16" else "fp32"
        proto = graph(self.model, self.arrays, outputs=self.outputs, dtype=dtype, **size)
        if self.options.dtype != "int8":
            return self.compile(proto.SerializeToString(), self.options)
        from backends.int8 import quantised

        return self.compile(quantised(proto, self.options.images_to_calibrate(self.model)), self.options)


class GraphNetwork:
    """A network and its weights, called on images, float32 [N, C, H, W], and compiled at the first call."""

    def __init__(self, model: Model, compile: Compile, options: EngineOptions) -> None:
        self.spec, self.compile, self.options = model, compile, options
        self.check_input = InputCheck(model)
        self.arrays: dict[str, Float32] = {}
        self.graphs: dict[tuple[str, ...], Graph] = {}

    def __call__(self, x: Float32) -> Any:
        outputs = list(self.outputs(self.spec.taps or ("logits",), x).values())
        return outputs if self.spec.taps else outputs[0]

    def outputs(self, names: Sequence[str], x: Float32) -> dict[str, NDArray[Any]]:
        """The outputs called `names`: stages, "logits", auxiliary heads."""
        x = float32(x)
        self.check_input(x.shape)
        key = tuple(names)
        if key not in self.graphs:
            if not self.arrays:
                raise BackendError(f"{self.spec.name}: no weights have been loaded")
            model, arrays = fold_norms(self.spec, self.arrays)
            for step in (fold_scales, move_pools):
                model, arrays = step(model, arrays)
            self.graphs[key] = Graph(model, arrays, key, self.compile, self.options)
        return dict(zip(names, self.graphs[key](x), strict=True))


def load(net: GraphNetwork, arrays: Mapping[str, Array]) -> None:
    """Copy canonical weights in. Raises WeightsError, leaving the network unchanged, when they do not fit."""
    check(arrays, net.spec)
    net.arrays = {name: np.array(arrays[name], np.float32) for name in parameters(net.spec)}
    net.graphs = {}


def dump(net: GraphNetwork) -> dict[str, Float32]:
    """Copies of the weights as canonical arrays."""
    return {name: array.copy() for name, array in net.arrays.items()}


def train(net: GraphNetwork) -> None:
    """Raises BackendError: a runtime does not train."""
    raise BackendError("this backend runs in inference only: leave out train=True")


def predict(net: GraphNetwork, x: Float32, tape: bool = False) -> dict[str, NDArray[Any]]:
    """Run a batch [N, C, H, W]: see `backends.Runs.predict`."""
    spec = net.spec
    if not tape:
        return net.outputs(spec.taps or ("logits",), x)
    names = [stage.name for stage in spec.stages]
    names += ["logits"] if spec.head is not None else []
    return net.outputs([*names, *(aux.name for aux in spec.aux)], x)


def classifier(net: GraphNetwork, graph: bool = False, half: bool = False) -> Callable[[Float32], Float32]:
    """A function from a batch [N, C, H, W] to its logits: see `backends.Deploys.classifier`.

    A runtime always runs a graph, so `graph` has no effect. Raises BackendError for `half`.
    """
    if half:
        raise BackendError('mixed precision is for frameworks: an engine takes dtype="fp16" or "bf16" instead')
    return net


def engine(name: str, model: Model, arrays: Mapping[str, Array], options: EngineOptions, compile: Compile) -> Engine:
    """An engine that runs the rewritten network as one graph."""
    clock = [time.perf_counter()]
    rewritten = deployable(model, arrays)
    clock.append(time.perf_counter())
    run = Graph(*rewritten, model.taps or ("logits",), compile, options)
    clock.append(time.perf_counter())
    seconds = {"rewrite": clock[1] - clock[0], "compile": clock[2] - clock[1]}
    where = f"{options.thread_count} threads" if not options.on_gpu else str(options.device)
    return Engine(model, run, f"{name}, {options.dtype}, {where}", options, seconds)
