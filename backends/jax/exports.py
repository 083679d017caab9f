"""JAX's exported program: StableHLO for CPUs and CUDA GPUs, as `jax.export.deserialize` reads it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
from jax import export as exporter
from numpy.typing import NDArray

from backends.engine import ExportOptions
from backends.jax.network import build, load
from zoo.language.model import Model
from zoo.language.trace import least_size


def export(model: Model, arrays: Mapping[str, NDArray[np.generic]], path: Path, options: ExportOptions) -> None:
    """Write the program with its weights: see `backends.Exports.export`."""
    options.require("jax", ("fp32",))
    net = build(model)
    load(net, arrays)
    graph, state = nnx.split(net)

    @jax.jit
    def network(images: jax.Array) -> Any:
        return nnx.merge(graph, state, copy=True)(images)

    side = str(options.size or model.size)
    sides = "height, width" if options.dynamic_size else f"{side}, {side}"
    least = least_size(model)
    constraints = [f"height >= {least}", f"width >= {least}"] if options.dynamic_size else []
    shape = exporter.symbolic_shape(f"n, {model.in_channels}, {sides}", constraints=constraints)
    exported = exporter.export(network, platforms=("cpu", "cuda"))(jax.ShapeDtypeStruct(shape, jnp.float32))
    path.write_bytes(exported.serialize())
