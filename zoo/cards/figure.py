"""A network as an SVG picture, as the papers draw it, for pages on sites such as GitHub, which remove HTML and CSS.

Input at the top, logits at the bottom, branches side by side. Equal stages that follow one another are drawn once, with
their number, so that the picture stays small. Colours follow the reader's light or dark theme.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from xml.sax.saxutils import escape

from zoo.drawing import label
from zoo.language.model import Model, Stage
from zoo.language.nodes import (
    AdaptiveAvgPool,
    AvgPool,
    Chain,
    Concat,
    Conv,
    Depthwise,
    Head,
    MaxPool,
    Node,
    NormRelu,
    Relu,
    Residual,
    assert_never,
)
from zoo.language.trace import trace

STYLE = """
text { font: 13px system-ui, sans-serif; text-anchor: middle; fill: #1f2328; } .title { font-weight: 600; }
rect { fill: #fff; stroke: #59636e; } .back { stroke: none; } .frame { fill: #f6f8fa; stroke: #afb8c1; }
line { stroke: #59636e; stroke-width: 1.5; } .dashed { stroke-dasharray: 4 3; }
.conv { fill: #ddf0ff; } .depthwise { fill: #d6f5e5; } .pool { fill: #ffe2dd; } .join { fill: #fff3c4; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; } rect { fill: #0d1117; stroke: #9198a1; } .frame { fill: #161b22; stroke: #484f58; }
  line { stroke: #9198a1; } .conv { fill: #123a5c; } .depthwise { fill: #12402c; } .pool { fill: #5a1f1a; }
  .join { fill: #4a3a06; }
}
"""

LETTER, LINE, PAD = 7.4, 17, 7
"""Pixels: the approximate width of a letter, the height of a line of text, the space around the text of a box."""

GAP, GUTTER, MARGIN = 16, 12, 12
"""Pixels between boxes in a column, between branches, and around the picture."""


@dataclass(frozen=True)
class Drawn:
    """A piece of the picture; wires enter and leave it in the middle of its upper and lower edges."""

    width: float
    height: float
    svg: str = ""


def figure(model: Model, size: int | None = None) -> str:
    """The SVG of a network for an input of `size` x `size` pixels, its own size by default.

    Layers of auxiliary heads are left out. Raises SpecError for a size that the network cannot take.
    """
    traced = trace(model, size)
    shapes = traced.stages
    pieces = [_box([f"input {traced.ops[0].inputs}"])]
    for _, group in groupby(model.stages, key=lambda stage: (stage.node, _has_heads(model, stage))):
        stages = list(group)
        pieces.append(_stage(stages, str(shapes[stages[-1].name])))
        pieces += [_aside(aux.name) for aux in model.aux if aux.after == stages[-1].name]
    if model.head is not None:
        pieces.append(_box(list(_head(model.head, model.num_classes))))
    about = f"The layers of {model.name} from the input to the logits."
    return _picture(_stack(pieces), model.name, about)


def stages_of(model: Model, names: Sequence[str]) -> str:
    """The SVG of some stages of a network, side by side."""
    shapes, left, parts = trace(model).stages, 0.0, []
    drawn = [_stage([stage], str(shapes[stage.name])) for stage in model.stages if stage.name in names]
    height = max(piece.height for piece in drawn)
    for piece in drawn:
        parts.append(_at(left, (height - piece.height) / 2, piece))
        left += piece.width + 2 * GUTTER
    row = Drawn(left - 2 * GUTTER, height, "".join(parts))
    return _picture(row, model.name, f"The stages {', '.join(names)} of {model.name}.")


def _picture(drawn: Drawn, title: str, about: str) -> str:
    width, height = drawn.width + 2 * MARGIN, drawn.height + 2 * MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" role="img">\n<title>{escape(title)}</title>\n'
        f"<desc>{escape(about)}</desc>\n<style>{STYLE}</style>\n"
        f'<rect class="back" width="100%" height="100%"/>\n{_at(MARGIN, MARGIN, drawn)}</svg>\n'
    )


def _has_heads(model: Model, stage: Stage) -> bool:
    """Whether a stage has auxiliary heads; such stages are not grouped with equal ones."""
    return any(aux.after == stage.name for aux in model.aux)


def _stage(stages: Sequence[Stage], output: str) -> Drawn:
    first, last = stages[0], stages[-1]
    name = first.name if len(stages) == 1 else f"{first.name} to {last.name}, {len(stages)} times"
    match first.node:
        case Chain() | Concat() | Residual():
            return _frame(f"{name}: {output}", _node(first.node))
        case Head():
            return _box([name, *_head(first.node, None)])
        case Conv() | Depthwise() | NormRelu() | Relu() | MaxPool() | AvgPool() | AdaptiveAvgPool():
            return _box([name, f"{label(first.node)}: {output}"], _kind(first.node))
    assert_never(first.node)


def _node(node: Node) -> Drawn:
    match node:
        case Chain(nodes):
            return _stack(list(_links(nodes)))
        case Concat(branches):
            return _stack([_beside([_node(branch) for branch in branches]), _box(["concat"], "join")], gap=0)
        case Residual(body, shortcut, scale, act):
            straight = Drawn(3 * GUTTER, 0) if shortcut is None else _node(shortcut)
            inside = _node(body) if scale == 1 else _stack([_node(body), _box([f"times {scale:g}"])])
            return _stack([_beside([straight, inside]), _box(["+, ReLU" if act else "+"], "join")], gap=0)
        case Head():
            return _box(list(_head(node, None)))
        case Conv() | Depthwise() | NormRelu() | Relu() | MaxPool() | AvgPool() | AdaptiveAvgPool():
            return _box(label(node).replace("pool ", "pool, ").split(", "), _kind(node))
    assert_never(node)


def _links(nodes: Sequence[Node]) -> Iterator[Drawn]:
    """The nodes of a chain; blocks that are repeated are drawn once."""
    for node, group in groupby(nodes):
        count = len(list(group))
        if count > 1 and isinstance(node, Concat | Residual):
            yield _frame(f"{count} times", _node(node))
        else:
            yield from [_node(node)] * count


def _head(node: Head, classes: int | None) -> Iterator[str]:
    yield "global avg pool" if node.pool else "flatten"
    if node.hidden is not None:
        yield f"linear, {node.hidden}{', ReLU' if node.act else ''}"
    if node.dropout:
        yield f"dropout {node.dropout:g}"
    yield "linear" if classes is None else f"linear, {classes}"


def _kind(node: Node) -> str:
    """The CSS class of a box."""
    match node:
        case Conv():
            return "conv"
        case Depthwise():
            return "depthwise"
        case MaxPool() | AvgPool() | AdaptiveAvgPool():
            return "pool"
        case NormRelu() | Relu() | Head() | Chain() | Concat() | Residual():
            return ""
    assert_never(node)


def _box(lines: Sequence[str], kind: str = "") -> Drawn:
    width = max(len(line) for line in lines) * LETTER + 2 * PAD
    height = len(lines) * LINE + PAD
    texts = "".join(
        f'<text x="{width / 2:.1f}" y="{(number + 1) * LINE - 1}">{escape(line)}</text>'
        for number, line in enumerate(lines)
    )
    style = f' class="{kind}"' if kind else ""
    return Drawn(width, height, f'<rect{style} width="{width:.1f}" height="{height}" rx="3"/>{texts}\n')


def _stack(pieces: Sequence[Drawn], gap: float = GAP) -> Drawn:
    """Pieces one below the other, with wires between them."""
    width, top, parts = max(piece.width for piece in pieces), 0.0, []
    for piece in pieces:
        if top:
            parts.append(_line(width / 2, top, width / 2, top + gap) if gap else "")
            top += gap
        parts.append(_at((width - piece.width) / 2, top, piece))
        top += piece.height
    return Drawn(width, top, "".join(parts))


def _beside(columns: Sequence[Drawn]) -> Drawn:
    """Branches: a wire that forks above them and joins below."""
    height, left, middles, parts = max(column.height for column in columns) + 2 * GAP, 0.0, [], []
    for column in columns:
        middle = left + column.width / 2
        parts.append(_line(middle, 0, middle, GAP) + _line(middle, GAP + column.height, middle, height))
        parts.append(_at(left, GAP, column))
        middles.append(middle)
        left += column.width + GUTTER
    width = left - GUTTER
    ends = (min(*middles, width / 2), max(*middles, width / 2))
    return Drawn(width, height, "".join([_line(ends[0], y, ends[1], y) for y in (0, height)] + parts))


def _frame(title: str, inside: Drawn) -> Drawn:
    """A piece in a frame with a title."""
    width = max(inside.width + 2 * GUTTER, len(title) * LETTER + 2 * PAD)
    top = LINE + PAD + GAP / 2
    height = top + inside.height + GAP
    middle = width / 2
    return Drawn(
        width,
        height,
        f'<rect class="frame" width="{width:.1f}" height="{height:.1f}" rx="6"/>'
        f'<text class="title" x="{middle:.1f}" y="{LINE}">{escape(title)}</text>\n'
        + _line(middle, LINE + PAD, middle, top)
        + _line(middle, top + inside.height, middle, height)
        + _at((width - inside.width) / 2, top, inside),
    )


def _aside(name: str) -> Drawn:
    """An auxiliary head, beside the wire."""
    box = _box([f"{name}, in training"])
    width = 2 * (box.width + 2 * GUTTER)
    dashed = f'<line class="dashed" x1="{width / 2:.1f}" y1="{box.height / 2}" x2="{width / 2 + 2 * GUTTER:.1f}" '
    return Drawn(
        width,
        box.height,
        _line(width / 2, 0, width / 2, box.height)
        + f'{dashed}y2="{box.height / 2}"/>'
        + _at(width / 2 + 2 * GUTTER, 0, box),
    )


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _at(x: float, y: float, piece: Drawn) -> str:
    return f'<g transform="translate({x:.1f} {y:.1f})">{piece.svg}</g>\n' if piece.svg else ""
