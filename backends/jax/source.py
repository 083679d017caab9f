"""JAX with Flax NNX, as `zoo source` writes it. Imports no framework."""

from __future__ import annotations

from zoo.source.dialect import Dialect, Script, Uses, reach


def imports(uses: Uses) -> list[str]:
    jax_numpy = ["import jax.numpy as jnp"] if uses.functions & {"Concat", "AdaptiveAvgPool"} else []
    return [
        "from pathlib import Path",
        "",
        *jax_numpy,
        "import numpy as np",
        "from flax import nnx",
        "from flax.serialization import msgpack_restore",
        "from jax import Array as Tensor",
    ]


def convolution(uses: Uses) -> list[str]:
    lines = reach(uses)
    lines.append("pads = [(height // 2,) * 2, (width // 2,) * 2]")
    if uses.conv & {"padding"}:
        lines += ['if padding != "half":', "    pads = padding.upper()"]
    arguments = ["inputs", "outputs", "kernel", "stride", "padding=pads"]
    arguments += ["kernel_dilation=dilation"] * ("dilation" in uses.conv)
    arguments += ["feature_group_count=groups"] * ("Depthwise" in uses.functions)
    arguments += ["use_bias=bias" if "bias" in uses.conv else "use_bias=False"]
    arguments += ["kernel_init=lecun", "rngs=nnx.Rngs(0)"]
    return [*lines, "self.conv = nnx.Conv(", *(f"    {argument}," for argument in arguments), ")"]


LECUN = '''def lecun(key: Tensor, shape: tuple[int, ...], dtype: type, **_) -> np.ndarray:
    """Initial weights by NumPy: JAX would compile a program for every shape."""
    random = np.random.default_rng(shape)
    return (random.standard_normal(shape) / np.sqrt(np.prod(shape[:-1]))).astype(dtype)'''

SEQUENTIAL = '''class Sequential(nnx.Module):
    """Layers one after another, called 0, 1, ..."""

    def __init__(self, *layers: nnx.Module) -> None:
        self.count = len(layers)
        for i, layer in enumerate(layers):
            setattr(self, str(i), layer)

    def __call__(self, x: Tensor) -> Tensor:
        for i in range(self.count):
            x = getattr(self, str(i))(x)
        return x'''

LINEAR = '''class Linear(nnx.Linear):
    """A linear layer."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, kernel_init=lecun, rngs=nnx.Rngs(0))'''

RELU = '''class ReLU(nnx.Module):
    """max(x, 0)."""

    def __call__(self, x: Tensor) -> Tensor:
        return nnx.relu(x)'''

IDENTITY = '''class Identity(nnx.Module):
    """x itself."""

    def __call__(self, x: Tensor) -> Tensor:
        return x'''

BATCH_NORM = '''class BatchNorm(nnx.BatchNorm):
    """Batch norm with an unbiased running variance; Flax's own is biased."""

    def __init__(self, channels: int) -> None:
        super().__init__(
            channels,
            use_running_average=True,
            momentum=DECAY,
            epsilon=EPS,
            use_fast_variance=False,
            rngs=nnx.Rngs(0),
        )

    def __call__(self, x: Tensor) -> Tensor:
        if self.use_running_average:
            return super().__call__(x)
        before = DECAY * self.var.value
        y = super().__call__(x)
        count = x.size // x.shape[-1]
        added = self.var.value - before
        self.var.value = before + added * (count / max(count - 1, 1))
        return y'''

ADAPTIVE = '''class AdaptiveAvgPool(nnx.Module):
    """Means of size x size windows."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, x: Tensor) -> Tensor:
        for axis in (1, 2):
            n, size = x.shape[axis], self.size
            ends = [(i * n // size, -(-(i + 1) * n // size)) for i in range(size)]
            parts = [x.take(jnp.arange(*each), axis).mean(axis) for each in ends]
            x = jnp.stack(parts, axis)
        return x'''


def helpers(uses: Uses) -> list[str]:
    optional = uses.conv & {"norm", "act"} or uses.residual & {"shortcut", "act"} or "hidden" in uses.classifier
    found = [LECUN, SEQUENTIAL, RELU, *([IDENTITY] if optional else [])]
    found += [BATCH_NORM] if uses.norm else []
    found += [LINEAR] if "Classifier" in uses.functions else []
    return [*found, *([ADAPTIVE] if "AdaptiveAvgPool" in uses.functions else [])]


def max_pool(uses: Uses) -> str:
    if "ceil" in uses.max_pools:
        return CEIL_MAX_POOL
    return MAX_POOL


MAX_POOL = '''class MaxPool(nnx.Module):
    """Max pool; "half" pads half of the kernel on each side."""

    def __init__(self, kernel: int, stride: int = 1, padding: str = "half") -> None:
        self.window, self.strides = (kernel, kernel), (stride, stride)
        half = (kernel // 2, kernel // 2)
        self.pads = (half, half) if padding == "half" else padding.upper()

    def __call__(self, x: Tensor) -> Tensor:
        return nnx.max_pool(x, self.window, self.strides, self.pads)'''

CEIL_MAX_POOL = '''class MaxPool(nnx.Module):
    """Max pool; "half" pads half of the kernel, "ceil" completes the last window."""

    def __init__(self, kernel: int, stride: int = 1, padding: str = "half") -> None:
        self.window, self.strides = (kernel, kernel), (stride, stride)
        half = (kernel // 2, kernel // 2)
        self.pads = (half, half) if padding == "half" else padding.upper()

    def __call__(self, x: Tensor) -> Tensor:
        pads = self.pads
        if pads == "CEIL":
            kernel, stride = self.window[0], self.strides[0]
            pads = [(0, (kernel - n) % stride) for n in x.shape[1:3]]
        return nnx.max_pool(x, self.window, self.strides, pads)'''

AVG_POOL = '''class AvgPool(nnx.Module):
    """Average pool; "half" pads half of the kernel on each side."""

    def __init__(
        self,
        kernel: int,
        stride: int = 1,
        padding: str = "half",
        count_include_pad: bool = False,
    ) -> None:
        half = kernel // 2 if padding == "half" else 0
        self.window, self.strides = (kernel, kernel), (stride, stride)
        self.pads, self.counted = ((half, half), (half, half)), count_include_pad

    def __call__(self, x: Tensor) -> Tensor:
        return nnx.avg_pool(x, self.window, self.strides, self.pads, self.counted)'''


DIALECT = Dialect(
    suffix=".msgpack",
    imports=imports,
    module="nnx.Module",
    forward="__call__",
    names={"Sequential": "Sequential", "ReLU": "ReLU", "AdaptiveAvgPool": "AdaptiveAvgPool"},
    identity="Identity()",
    convolution=convolution,
    norm="BatchNorm({})",
    max_pool=max_pool,
    avg_pool=lambda uses: AVG_POOL,
    helpers=helpers,
    concat="jnp.concatenate({}, -1)",
    pool="x.mean((1, 2))",
    flatten="x.transpose(0, 3, 1, 2).reshape(len(x), -1)",
    linear="Linear({}, {})",
    dropout="nnx.Dropout({}, rngs=nnx.Rngs(0))",
    add="setattr(self, name, {})",
    ready=("self.deterministic = True",),
    training="not self.deterministic",
    enter=("x = x.transpose(0, 2, 3, 1)  # [N, H, W, C], Flax's layout",),
    leave="{}.transpose(0, 3, 1, 2)",
    load=(
        "state = nnx.state(net, nnx.Any(nnx.Param, nnx.BatchStat))",
        "nnx.replace_by_pure_dict(state, msgpack_restore(Path(path).read_bytes()))",
        "nnx.update(net, state)",
        "net.eval()",
        "return net",
    ),
)

SCRIPT = Script(
    imports="import jax.numpy as jnp\nfrom jax import lax",
    tensor="jnp.asarray",
    conv="""y = lax.conv_general_dilated(
    t["x"],
    t["weight"],
    ({stride}, {stride}),
    (({top}, {bottom}), ({left}, {right})),
    rhs_dilation=({dilation}, {dilation}),
    feature_group_count={groups},
    precision="highest",
)
y = np.asarray(y + t["bias"][:, None, None] if "bias" in t else y)""",
    linear="""y = np.asarray(jnp.matmul(t["x"], t["weight"].T, precision="highest") + t["bias"])""",
    norm="""scale = t["weight"] * lax.rsqrt(t["var"] + {eps})
y = (t["x"] - t["mean"][:, None, None]) * scale[:, None, None]
y = np.asarray(y + t["bias"][:, None, None])""",
)
