"""MindSpore, as `zoo source` writes it. Imports no framework."""

from __future__ import annotations

from zoo.source.dialect import Dialect, Script, Uses, reach
from zoo.source.render import signature


def imports(uses: Uses) -> list[str]:
    numpy = ["import numpy as np"] if True in uses.counted else []
    ops = uses.functions & {"Concat", "MaxPool", "AvgPool"} or uses.classifier & {"dropout", "pool"}
    return ["import mindspore as ms", *numpy, f"from mindspore import Tensor, nn{', ops' if ops else ''}"]


def convolution(uses: Uses) -> list[str]:
    arguments = ["inputs", "outputs", "kernel", "stride", "pad_mode=mode", "padding=pads"]
    arguments += ["dilation=dilation"] * ("dilation" in uses.conv)
    arguments += ["group=groups"] * ("Depthwise" in uses.functions)
    arguments += ["has_bias=bias"] * ("bias" in uses.conv)
    return [
        *reach(uses),
        "mode, pads = padding, 0",
        'if padding == "half" and stride == height % 2 == width % 2 == 1:',
        '    mode = "same"  # the same border',
        'elif padding == "half":',
        "    top, left = height // 2, width // 2",
        '    mode, pads = "pad", (top, top, left, left)',
        "self.conv = nn.Conv2d(",
        *(f"    {argument}," for argument in arguments),
        ")",
    ]


DROPOUT = '''class Dropout(nn.Cell):
    """Dropout whose masks follow `ms.set_seed`."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def construct(self, x: Tensor) -> Tensor:
        return ops.dropout(x, self.p, self.training)'''


def helpers(uses: Uses) -> list[str]:
    return [DROPOUT] if "dropout" in uses.classifier else []


def max_pool(uses: Uses) -> str:
    if uses.max_pools <= {"valid", "same"}:
        return PLAIN_MAX_POOL
    ceil = ', padding == "ceil"' if "ceil" in uses.max_pools else ""
    return f'''class MaxPool(nn.Cell):
    """Max pool; "half" pads half of the kernel on each side."""

    def __init__(self, kernel: int, stride: int = 1, padding: str = "half") -> None:
        super().__init__()
        self.is_plain = padding in ("valid", "same")
        mode = "same" if padding == "same" else "valid"
        self.plain = ops.MaxPool(kernel, stride, mode)
        half = kernel // 2 if padding == "half" else 0
        window, strides = (1, kernel, kernel), (1, stride, stride)
        self.padded = ops.MaxPool3D(
            window, strides, "pad", (0, 0, half, half, half, half){ceil}
        )

    def construct(self, x: Tensor) -> Tensor:
        if self.is_plain:
            return self.plain(x)
        return self.padded(x.expand_dims(2)).squeeze(2)'''


PLAIN_MAX_POOL = '''class MaxPool(nn.Cell):
    """Max pool."""

    def __init__(self, kernel: int, stride: int = 1, *, padding: str) -> None:
        super().__init__()
        self.pool = ops.MaxPool(kernel, stride, padding)

    def construct(self, x: Tensor) -> Tensor:
        return self.pool(x)'''


def avg_pool(uses: Uses) -> str:
    """A pool that keeps the size uses MindSpore's "same", which excludes padding; if it counts, the mean is scaled."""
    counted, padded = True in uses.counted, "half" in uses.avg_pools
    text = [
        "class AvgPool(nn.Cell):",
        '    """Average pool; "half" pads half of the kernel on each side."""',
        "",
        *signature(
            ["kernel: int", "stride: int = 1", 'padding: str = "half"', *["count_include_pad: bool = False"] * counted]
        ),
        "        super().__init__()",
        '        mode = "valid" if padding == "valid" else "same"',
        "        self.plain = ops.AvgPool(kernel, stride, mode)",
    ]
    run = ["return self.plain(x)"]
    if counted:
        text += ["        self.kernel = kernel", '        self.counted = count_include_pad and padding == "half"']
        run = [
            "y = self.plain(x)",
            "if self.counted:",
            "    y = y * inside(self.kernel, x.shape[2], x.shape[3])",
            "return y",
        ]
    if padded:
        count = ["            count_include_pad=count_include_pad,"] * counted
        text += [
            '        self.is_plain = padding == "valid" or stride == kernel % 2 == 1',
            "        half = kernel // 2",
            "        self.padded = ops.AvgPool3D(",
            "            (1, kernel, kernel),",
            "            (1, stride, stride),",
            '            "pad",',
            "            (0, 0, half, half, half, half),",
            *count,
            "        )",
        ]
        run = ["if not self.is_plain:", "    return self.padded(x.expand_dims(2)).squeeze(2)", *run]
    text += ["", "    def construct(self, x: Tensor) -> Tensor:", *(f"        {line}" for line in run)]
    return "\n".join([*([INSIDE, "", ""] if counted else []), *text])


INSIDE = '''@ops.constexpr
def inside(kernel: int, height: int, width: int) -> Tensor:
    """The part of each window that lies inside the image."""
    sides = []
    for n in (height, width):
        first = np.arange(n) - kernel // 2
        sides.append(np.minimum(first + kernel, n) - np.maximum(first, 0))
    return Tensor((np.outer(*sides) / kernel**2).astype(np.float32)[None, None])'''


DIALECT = Dialect(
    suffix=".ckpt",
    imports=imports,
    module="nn.Cell",
    forward="construct",
    names={"Sequential": "nn.SequentialCell", "ReLU": "nn.ReLU", "AdaptiveAvgPool": "nn.AdaptiveAvgPool2d"},
    identity="nn.Identity()",
    convolution=convolution,
    norm="nn.BatchNorm2d({}, EPS, DECAY)",
    max_pool=max_pool,
    avg_pool=avg_pool,
    helpers=helpers,
    concat="ops.concat({}, 1)",
    pool="x.mean((2, 3))",
    flatten="ops.flatten(x)",
    linear="nn.Dense({}, {})",
    dropout="Dropout({})",
    add="self.insert_child_to_cell(name, {})",
    ready=("for path, parameter in self.parameters_and_names():", "    parameter.name = path"),
    load=(
        "ms.load_param_into_net(net, ms.load_checkpoint(path), strict_load=True)",
        "net.set_train(False)",
        "return net",
    ),
)

SCRIPT = Script(
    imports="import mindspore\nfrom mindspore import ops",
    tensor="mindspore.Tensor",
    conv="""x = ops.pad(t["x"], ({left}, {right}, {top}, {bottom}))
y = ops.conv2d(x, t["weight"], t.get("bias"), {stride}, "valid", 0, {dilation}, {groups}).asnumpy()""",
    linear="""y = (ops.matmul(t["x"], t["weight"].T) + t["bias"]).asnumpy()""",
    norm="""y = ops.batch_norm(t["x"], t["mean"], t["var"], t["weight"], t["bias"], eps={eps}).asnumpy()""",
)
