"""PyTorch: what any `nn.Module` or TorchScript module computes, operation by operation.

A dispatch mode sees the operations themselves, however the network calls them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from backends.observed import Array, Observation, running
from backends.torch import programs
from backends.torch.network import modes_kept
from zoo.errors import BackendError

aten = torch.ops.aten

CONVOLUTIONS = (aten.convolution.default, aten._convolution.default)
"""Convolutions in eager mode and in TorchScript; they take the same arguments."""

NORMS = {
    aten.native_batch_norm.default: 7,
    aten._native_batch_norm_legit_no_training.default: 6,
    aten._native_batch_norm_legit.default: 7,
    aten.cudnn_batch_norm.default: 7,
    aten._batch_norm_no_update.default: 6,
}
"""Batch norms of PyTorch's dispatcher, and the position of their epsilon."""


TRAINING_NORMS = (
    aten.native_batch_norm.default,
    aten._native_batch_norm_legit.default,
    aten.cudnn_batch_norm.default,
)
"""Those that may update running statistics: whether they do is their sixth argument."""

STATISTICS = {"mean": 3, "var": 4}
"""The positions of the running statistics among their arguments."""


class _Recorder(TorchDispatchMode):
    """Records convolutions, linear layers and batch norms of the operations that run while it is active."""

    def __init__(self, names: Mapping[tuple[int, tuple[int, ...]], str]) -> None:
        super().__init__()
        self.names = names
        self.found = Observation()
        self.updated: list[tuple[int, Tensor, Tensor]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if func in CONVOLUTIONS or func in NORMS:
            x = _numpy(args[0])  # before it runs: an operation in place may change it later
        before = {role: args[place].clone() for role, place in STATISTICS.items() if _trains(func, args)}
        result = func(*args, **(kwargs or {}))
        if func in CONVOLUTIONS:
            stride, padding, dilation, transposed, _, groups = args[3:9]
            if not transposed and len(stride) == 2:
                settings = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
                self._add("conv", x, result, {"weight": args[1], "bias": args[2]}, **settings)
        elif func in NORMS:
            roles = dict(zip(("weight", "bias", "mean", "var"), args[1:5], strict=True))
            if before:
                self.updated.append((len(self.found.operations), args[3], args[4]))
            self._add("norm", x, result[0], roles, before, eps=float(args[NORMS[func]]))
        elif func is aten.addmm.default:
            self._linear(args[1], args[2], args[0], result)
        elif func is aten.mm.default:
            self._linear(args[0], args[1], None, result)
        elif func is aten.linear.default:
            self._add("linear", _numpy(args[0]), result, {"weight": args[1], "bias": args[2] if args[2:] else None})
        return result

    def finish(self) -> None:
        """Record the final running statistics."""
        for place, mean, var in self.updated:
            parameters = self.found.operations[place].parameters
            parameters["new_mean"], parameters["new_var"] = self.found.keep(_numpy(mean)), self.found.keep(_numpy(var))

    def _linear(self, x: Tensor, weight: Tensor, bias: Tensor | None, y: Tensor) -> None:
        self._add("linear", _numpy(x), y, {"weight": weight.t(), "bias": bias})

    def _add(
        self,
        kind: Any,
        x: NDArray[Any],
        y: Tensor,
        roles: Mapping[str, Tensor | None],
        values: Mapping[str, Tensor] | None = None,
        **settings: Any,
    ) -> None:
        """Record an operation; `values` are the earlier values of tensors of `roles` that it has changed."""
        given = {role: tensor for role, tensor in roles.items() if tensor is not None}
        names = {role: self.names[_key(tensor)] for role, tensor in given.items() if _key(tensor) in self.names}
        name = names.get("weight", "").rpartition(".")[0]
        arrays = {role: _numpy(tensor) for role, tensor in {**given, **(values or {})}.items()}
        self.found.add(kind, name, x, _numpy(y), arrays, names, **settings)


def _trains(func: Any, args: tuple[Any, ...]) -> bool:
    """Whether an operation is a batch norm that updates its running statistics."""
    return func in TRAINING_NORMS and args[5] is True and args[3] is not None


def _numpy(tensor: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = tensor.detach().to("cpu", torch.float32).numpy()
    return array


def _key(tensor: Tensor) -> tuple[int, tuple[int, ...]]:
    """A key that a parameter and its views of the same shape share."""
    return tensor.data_ptr(), tuple(tensor.shape)


def load(path: Path) -> Any:
    """A TorchScript module, or the program of a .pt2. Raises BackendError and WeightsError for any other file."""
    if path.suffix == ".pt2":
        return programs.load(path)
    try:
        return torch.jit.load(str(path), map_location="cpu")
    except Exception as error:  # RuntimeError, ValueError and others, depending on the fault
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BackendError(
            f"{path}: expected a TorchScript file, but PyTorch says: {reason}; if the network must be built, give "
            "package.module:function"
        ) from None


def assign(net: torch.nn.Module, tensors: Mapping[str, Array]) -> None:
    """Set parameters and buffers by the network's own names."""
    state = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    with torch.no_grad():
        for name, array in tensors.items():
            state[name].copy_(torch.from_numpy(array))


def observe(net: Any, x: Array, training: bool = False) -> Observation:
    """Run the network once, on its own device: see `backends.observed.Observes.observe`."""
    if not isinstance(net, torch.nn.Module):
        raise BackendError(f"expected a torch.nn.Module, not {type(net).__name__}")
    state = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    names = {}
    for name, tensor in state.items():
        names[_key(tensor)] = name
        if tensor.ndim == 2:
            names[tensor.data_ptr(), tuple(tensor.t().shape)] = name
    recorder = _Recorder(names)
    device = next(iter(state.values())).device if state else torch.device("cpu")
    exported = isinstance(net, torch.fx.GraphModule)  # its mode is fixed: eval() raises
    buffers = [(buffer, buffer.clone()) for buffer in net.buffers()] if training else []
    with running(training), modes_kept(net), torch.no_grad(), torch.random.fork_rng(enabled=training):
        if not exported:
            net.train(training)
        with recorder:
            output = net(torch.from_numpy(x).to(device))
        recorder.finish()
        for buffer, value in buffers:
            buffer.copy_(value)
    recorder.found.finish(output, len(x), _numpy)
    return recorder.found
