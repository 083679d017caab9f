"""What mypy proves of the backends: each has every function that its protocols ask for, with their types.

Nothing runs this file; `make lint` reads it.
"""

from backends import Deploys, Exports, Runs
from backends.jax import engines as jax_engines
from backends.jax import exports as jax_exports
from backends.jax import network as jax_network
from backends.mindspore import engines as mindspore_engines
from backends.mindspore import exports as mindspore_exports
from backends.mindspore import network as mindspore_network
from backends.onnx import engines as onnx_engines
from backends.onnx import exports as onnx_exports
from backends.onnx import network as onnx_network
from backends.openvino import engines as openvino_engines
from backends.openvino import exports as openvino_exports
from backends.openvino import network as openvino_network
from backends.paddle import engines as paddle_engines
from backends.paddle import exports as paddle_exports
from backends.paddle import network as paddle_network
from backends.reference import network as reference_network
from backends.torch import engines as torch_engines
from backends.torch import exports as torch_exports
from backends.torch import network as torch_network

RUNS: list[Runs] = [
    torch_network,
    mindspore_network,
    paddle_network,
    jax_network,
    onnx_network,
    openvino_network,
    reference_network,
]
DEPLOYS: list[Deploys] = [torch_engines, mindspore_engines, paddle_engines, jax_engines, onnx_engines, openvino_engines]
EXPORTS: list[Exports] = [torch_exports, mindspore_exports, paddle_exports, jax_exports, onnx_exports, openvino_exports]
