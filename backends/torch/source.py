"""PyTorch, as `zoo source` writes it. Imports no framework."""

from __future__ import annotations

from zoo.source.dialect import Dialect, Script, Uses, reach


def imports(uses: Uses) -> list[str]:
    functional = ["from torch.nn import functional as F"] if uses.same or "same" in uses.max_pools else []
    return ["import torch", "from torch import Tensor, nn", *functional]


def convolution(uses: Uses) -> list[str]:
    dilated, kind = "dilation" in uses.conv, "nn.Conv2d"
    lines = reach(uses)
    lines.append('half = (height // 2, width // 2) if padding == "half" else (0, 0)')
    if uses.same:
        lines.append('convolution = SameConv2d if padding == "same" else nn.Conv2d')
        kind = "convolution"
    arguments = ["inputs", "outputs", "kernel", "stride", "half", *["dilation=dilation"] * dilated]
    arguments += ["groups=groups"] * ("Depthwise" in uses.functions)
    arguments.append("bias=bias" if "bias" in uses.conv else "bias=False")
    return [*lines, f"self.conv = {kind}(", *(f"    {argument}," for argument in arguments), ")"]


SAME = '''def pad_same(
    x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...], value: float
) -> Tensor:
    """TensorFlow's SAME padding: ceil(n / stride) outputs, an odd pixel at the end."""
    height, width = (
        max((n + s - 1) // s * s - s + k - n, 0)
        for n, k, s in zip(x.shape[2:], kernel, stride)
    )
    top, left = height // 2, width // 2
    return F.pad(x, (left, width - left, top, height - top), value=value)'''

SAME_CONV = '''class SameConv2d(nn.Conv2d):
    """Convolution with SAME padding."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(pad_same(x, self.kernel_size, self.stride, 0.0))'''


def helpers(uses: Uses) -> list[str]:
    same = [SAME] if uses.same or "same" in uses.max_pools else []
    return [*same, *([SAME_CONV] if uses.same else [])]


def max_pool(uses: Uses) -> str:
    ceil = ', ceil_mode=padding == "ceil"' if "ceil" in uses.max_pools else ""
    text = f'''class MaxPool(nn.MaxPool2d):
    """Max pool; "half" pads half of the kernel on each side."""

    def __init__(self, kernel: int, stride: int = 1, padding: str = "half") -> None:
        half = kernel // 2 if padding == "half" else 0
        super().__init__(kernel, stride, half{ceil})'''
    if "same" in uses.max_pools:
        text += """
        self.same = padding == "same"

    def forward(self, x: Tensor) -> Tensor:
        if self.same:
            kernel, stride = (self.kernel_size,) * 2, (self.stride,) * 2
            x = pad_same(x, kernel, stride, float("-inf"))
        return super().forward(x)"""
    return text


AVG_POOL = '''class AvgPool(nn.AvgPool2d):
    """Average pool; "half" pads half of the kernel on each side."""

    def __init__(
        self,
        kernel: int,
        stride: int = 1,
        padding: str = "half",
        count_include_pad: bool = False,
    ) -> None:
        half = kernel // 2 if padding == "half" else 0
        super().__init__(kernel, stride, half, count_include_pad=count_include_pad)'''


DIALECT = Dialect(
    suffix=".pth",
    imports=imports,
    module="nn.Module",
    forward="forward",
    names={"Sequential": "nn.Sequential", "ReLU": "nn.ReLU", "AdaptiveAvgPool": "nn.AdaptiveAvgPool2d"},
    identity="nn.Identity()",
    convolution=convolution,
    norm="nn.BatchNorm2d({}, EPS, 1 - DECAY)",
    max_pool=max_pool,
    avg_pool=lambda uses: AVG_POOL,
    helpers=helpers,
    concat="torch.cat({}, 1)",
    pool="x.mean((2, 3))",
    flatten="x.flatten(1)",
    linear="nn.Linear({}, {})",
    dropout="nn.Dropout({})",
    add="self.add_module(name, {})",
    load=("net.load_state_dict(torch.load(path, weights_only=True))", "return net.eval()"),
)

SCRIPT = Script(
    imports="import torch\nimport torch.nn.functional as F",
    tensor="torch.tensor",
    conv="""x = F.pad(t["x"], ({left}, {right}, {top}, {bottom}))
y = F.conv2d(x, t["weight"], t.get("bias"), {stride}, 0, {dilation}, {groups}).numpy()""",
    linear="""y = F.linear(t["x"], t["weight"], t["bias"]).numpy()""",
    norm="""y = F.batch_norm(t["x"], t["mean"], t["var"], t["weight"], t["bias"], eps={eps}).numpy()""",
)
