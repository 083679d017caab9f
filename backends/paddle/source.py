"""Paddle, as `zoo source` writes it. Imports no framework."""

from __future__ import annotations

from zoo.source.dialect import Dialect, Script, Uses, reach


def imports(uses: Uses) -> list[str]:
    return ["import paddle", "from paddle import Tensor, nn", "from paddle.nn import functional as F"]


def convolution(uses: Uses) -> list[str]:
    dilated = "dilation" in uses.conv
    lines = reach(uses)
    lines.append('pads = (height // 2, width // 2) if padding == "half" else (0, 0)')
    if uses.same:
        lines += ['if padding == "same":', '    pads = "SAME"']
    arguments = ["inputs", "outputs", "kernel", "stride", "pads", *["dilation=dilation"] * dilated]
    arguments += ["groups=groups"] * ("Depthwise" in uses.functions)
    arguments.append("bias_attr=None if bias else False" if "bias" in uses.conv else "bias_attr=False")
    return [*lines, "self.conv = nn.Conv2D(", *(f"    {argument}," for argument in arguments), ")"]


BATCH_NORM = '''class BatchNorm(nn.BatchNorm2D):
    """Batch norm with an unbiased running variance; Paddle's own is biased.

    Paddle computes the weight of a new batch, 1 - DECAY, from a float32:
    `correction` is the right weight over Paddle's.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, momentum=DECAY, epsilon=EPS)
        decay = paddle.to_tensor(DECAY, "float32").item()
        self.correction = (1 - DECAY) / (1 - decay)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        mean, variance = self._mean.clone(), self._variance.clone()
        y = F.batch_norm(x, mean, variance, self.weight, self.bias, True, DECAY, EPS)
        with paddle.no_grad():
            freedom = max(x.shape[0] * x.shape[2] * x.shape[3] - 1, 1)
            more = self.correction - 1
            new_mean = mean + (mean - DECAY * self._mean) * more
            added = variance - DECAY * self._variance
            new_variance = variance + added * (more + self.correction / freedom)
            paddle.assign(new_mean, self._mean)
            paddle.assign(new_variance, self._variance)
        return y'''


def helpers(uses: Uses) -> list[str]:
    return [BATCH_NORM] if uses.norm else []


def max_pool(uses: Uses) -> str:
    half = 'kernel // 2 if padding == "half" else 0'
    pads = f'"SAME" if padding == "same" else {half}' if "same" in uses.max_pools else half
    ceil = ', ceil_mode=padding == "ceil"' if "ceil" in uses.max_pools else ""
    return f'''class MaxPool(nn.MaxPool2D):
    """Max pool; "half" pads half of the kernel on each side."""

    def __init__(self, kernel: int, stride: int = 1, padding: str = "half") -> None:
        pads = {pads}
        super().__init__(kernel, stride, pads{ceil})'''


AVG_POOL = '''class AvgPool(nn.AvgPool2D):
    """Average pool; "half" pads half of the kernel on each side."""

    def __init__(
        self,
        kernel: int,
        stride: int = 1,
        padding: str = "half",
        count_include_pad: bool = False,
    ) -> None:
        half = kernel // 2 if padding == "half" else 0
        super().__init__(kernel, stride, half, exclusive=not count_include_pad)'''


DIALECT = Dialect(
    suffix=".pdparams",
    imports=imports,
    module="nn.Layer",
    forward="forward",
    names={"Sequential": "nn.Sequential", "ReLU": "nn.ReLU", "AdaptiveAvgPool": "nn.AdaptiveAvgPool2D"},
    identity="nn.Identity()",
    convolution=convolution,
    norm="BatchNorm({})",
    max_pool=max_pool,
    avg_pool=lambda uses: AVG_POOL,
    helpers=helpers,
    concat="paddle.concat({}, 1)",
    pool="F.adaptive_avg_pool2d(x, 1).flatten(1)",
    flatten="x.flatten(1)",
    linear="nn.Linear({}, {})",
    dropout="nn.Dropout({})",
    add="self.add_sublayer(name, {})",
    load=("net.set_state_dict(paddle.load(path))", "net.eval()", "return net"),
)

SCRIPT = Script(
    imports="import paddle\nimport paddle.nn.functional as F",
    tensor="paddle.to_tensor",
    conv="""x = F.pad(t["x"], [{left}, {right}, {top}, {bottom}])
y = F.conv2d(x, t["weight"], t.get("bias"), {stride}, 0, {dilation}, {groups}).numpy()""",
    linear="""y = F.linear(t["x"], t["weight"].T, t["bias"]).numpy()""",
    norm="""y = F.batch_norm(t["x"], t["mean"], t["var"], t["weight"], t["bias"], epsilon={eps}).numpy()""",
)
