"""What mypy proves of the backends: each has every function that its protocols ask for, with their types.

Nothing runs this file; `make lint` reads it.
"""

from backends import Deploys, Runs
from backends.mindspore import engines as mindspore_engines
from backends.mindspore import network as mindspore_network
from backends.paddle import engines as paddle_engines
from backends.paddle import network as paddle_network
from backends.reference import network as reference_network
from backends.torch import engines as torch_engines
from backends.torch import network as torch_network

RUNS: list[Runs] = [torch_network, mindspore_network, paddle_network, reference_network]
DEPLOYS: list[Deploys] = [torch_engines, mindspore_engines, paddle_engines]
