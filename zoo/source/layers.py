"""The classes of layers with which a network's file begins, in any framework."""

from __future__ import annotations

from collections.abc import Iterator

from zoo.source.dialect import Dialect, Uses
from zoo.source.render import signature


def layers(uses: Uses, dialect: Dialect) -> Iterator[str]:
    """The classes and functions that the network uses; each may use those before it."""
    yield from dialect.helpers(uses)
    if uses.functions & {"Conv", "Depthwise"}:
        yield _conv(uses, dialect)
    if "Depthwise" in uses.functions:
        yield DEPTHWISE
    if "NormRelu" in uses.functions:
        yield _norm_relu(dialect)
    if "MaxPool" in uses.functions:
        yield dialect.max_pool(uses)
    if "AvgPool" in uses.functions:
        yield dialect.avg_pool(uses)
    if "Concat" in uses.functions:
        yield _concat(dialect)
    if "Residual" in uses.functions:
        yield _residual(uses, dialect)
    if "Classifier" in uses.functions:
        yield _classifier(uses, dialect)


def _class(name: str, about: str, arguments: dict[str, bool], dialect: Dialect) -> list[str]:
    """The first lines of a class; its constructor has the arguments whose value is true."""
    return [
        f"class {name}({dialect.module}):",
        f'    """{about}"""',
        "",
        *signature([argument for argument, there in arguments.items() if there]),
        "        super().__init__()",
    ]


def _method(dialect: Dialect, *statements: str) -> list[str]:
    """The method that runs a layer, after an empty line."""
    head = f"    def {dialect.forward}(self, x: Tensor) -> Tensor:"
    return ["", head, *(f"        {statement}" for statement in statements)]


def _conv(uses: Uses, dialect: Dialect) -> str:
    norm = dialect.norm.format("outputs") if uses.norm else ""
    text = _class(
        "Conv",
        f'Convolution, {"batch norm, " if norm else ""}ReLU. "half" pads kernel // 2 pixels on each side.',
        {
            "inputs: int": True,
            "outputs: int": True,
            "kernel: int | tuple[int, int] = 1": True,
            "stride: int = 1": True,
            'padding: str = "half"': True,
            "dilation: int = 1": "dilation" in uses.conv,
            "groups: int = 1": "Depthwise" in uses.functions,
            "bias: bool = False": "bias" in uses.conv,
            "norm: bool = True": "norm" in uses.conv,
            "act: bool = True": "act" in uses.conv,
        },
        dialect,
    )
    text += [f"        {line}" for line in dialect.convolution(uses)]
    steps = "self.conv(x)"
    if norm:
        text.append(f"        self.bn = {norm}" + f" if norm else {dialect.identity}" * ("norm" in uses.conv))
        steps = f"self.bn({steps})"
    act = f"{dialect.names['ReLU']}()" + f" if act else {dialect.identity}" * ("act" in uses.conv)
    text.append(f"        self.act = {act}")
    return "\n".join([*text, *_method(dialect, f"return self.act({steps})")])


DEPTHWISE = '''class Depthwise(Conv):
    """A convolution of each channel by itself."""

    def __init__(self, channels: int, kernel: int = 3, stride: int = 1, **more) -> None:
        super().__init__(channels, channels, kernel, stride, groups=channels, **more)'''


def _norm_relu(dialect: Dialect) -> str:
    text = _class("NormRelu", "Batch norm, ReLU.", {"channels: int": True}, dialect)
    text += [
        f"        self.bn = {dialect.norm.format('channels')}",
        f"        self.act = {dialect.names['ReLU']}()",
    ]
    return "\n".join([*text, *_method(dialect, "return self.act(self.bn(x))")])


def _concat(dialect: Dialect) -> str:
    about = "Branches of one input, joined along the channels."
    text = _class("Concat", about, {f"*branches: {dialect.module}": True}, dialect)
    text += [
        '        self.names = tuple(f"branch{i}" for i in range(len(branches)))',
        "        for name, branch in zip(self.names, branches):",
        f"            {dialect.add.format('branch')}",
    ]
    statements = (
        "outputs = []",
        "for name in self.names:",
        "    outputs.append(getattr(self, name)(x))",
        f"return {dialect.concat.format('outputs')}",
    )
    return "\n".join([*text, *_method(dialect, *statements)])


def _residual(uses: Uses, dialect: Dialect) -> str:
    shortcut, scale, act = ((name in uses.residual) for name in ("shortcut", "scale", "act"))
    text = _class(
        "Residual",
        f"The input{', or its shortcut,' * shortcut} plus {'scale times ' * scale}the body{', then ReLU' * act}.",
        {
            f"body: {dialect.module}": True,
            f"shortcut: {dialect.module} | None = None": shortcut,
            "scale: float = 1.0": scale,
            "act: bool = False": act,
        },
        dialect,
    )
    text.append("        self.body = body")
    if shortcut:
        text.append(f"        self.shortcut = {dialect.identity} if shortcut is None else shortcut")
    if scale:
        text.append("        self.scale = scale")
    if act:
        text.append(f"        self.act = {dialect.names['ReLU']}() if act else {dialect.identity}")
    total = f"{'self.shortcut(x)' if shortcut else 'x'} + self.body(x){' * self.scale' * scale}"
    return "\n".join([*text, *_method(dialect, f"return self.act({total})" if act else f"return {total}")])


def _classifier(uses: Uses, dialect: Dialect) -> str:
    hidden, dropout, pool, act = ((name in uses.classifier) for name in ("hidden", "dropout", "pool", "act"))
    text = _class(
        "Classifier",
        f"{'Global average pool or flattening' if pool else 'Global average pool'}, linear layer{'s' * hidden}.",
        {
            "features: int": True,
            "classes: int": True,
            "hidden: int | None = None": hidden,
            "dropout: float = 0.0": dropout,
            "pool: bool = True": pool,
            "act: bool = True": act,
        },
        dialect,
    )
    if pool:
        text.append("        self.pool = pool")
    x = "x"
    if hidden:
        linear, relu = dialect.linear.format("features", "hidden"), f"{dialect.names['ReLU']}()"
        text += [
            f"        self.hidden = {linear} if hidden else {dialect.identity}",
            f"        self.act = {relu} if {'hidden and act' if act else 'hidden'} else {dialect.identity}",
        ]
        x = "self.act(self.hidden(x))"
    if dropout:
        text.append(f"        self.dropout = {dialect.dropout.format('dropout')}")
        x = f"self.dropout({x})"
    text.append(f"        self.fc = {dialect.linear.format('hidden or features' if hidden else 'features', 'classes')}")
    pooled = f"{dialect.pool} if self.pool else {dialect.flatten}" if pool else dialect.pool
    return "\n".join([*text, *_method(dialect, f"x = {pooled}", f"return self.fc({x})")])
