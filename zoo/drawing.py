"""A network drawn as the papers draw it, in HTML and CSS alone: stages from the input to the logits, branches side by
side, shortcuts beside their blocks.

Columns and rows are flex boxes, and wires are their backgrounds, so nothing is computed in pixels. Every operation is a
`<details>` element: a click or the Enter key shows its path and output shape at the bottom of the window. The caller
decides the colours and what else a box says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import NamedTuple

from zoo.language.geometry import pair
from zoo.language.model import Model
from zoo.language.nodes import (
    AdaptiveAvgPool,
    AvgPool,
    Box,
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
    children,
)
from zoo.language.trace import Shape, Trace, trace

NOTATION = (
    'Boxes are labelled as in the papers: "3x3/2 V, 96" is a convolution of 96 channels with a 3x3 kernel, stride 2 '
    'and valid padding. "same" is padding as in TensorFlow. A pool with "ceil" completes its last window. "linear" is '
    "a convolution without a ReLU."
)
"""Explains the labels of boxes."""

STYLE = """
.net { overflow-x: auto; padding-bottom: 1rem; --wire: #8888; print-color-adjust: exact; }
.net:has(.op[open]) { padding-bottom: 40vh; }
.net > .flow { width: max-content; min-width: 100%; }
.flow, .branch { display: flex; flex-direction: column; align-items: center; gap: .8rem; box-sizing: border-box; }
.flow, .branch { background: linear-gradient(var(--wire), var(--wire)) center / 2px 100% no-repeat; }
.net section { border: 1px solid var(--wire); border-radius: .5rem; background: Canvas; text-align: center; }
.net h4 { margin: 0; padding: .1rem .6rem; font-size: .8rem; } .net small { font-weight: 400; }
.net section > .flow { padding: .5rem .5rem .6rem; }
.net .tap .flow, .net > .flow > :last-child > .flow { padding-bottom: 0; margin-bottom: .6rem; }
.split { display: flex; background: Canvas; }
.branch { justify-content: center; padding: .8rem .3rem; position: relative; min-width: 2.5rem; }
.branch::before, .branch::after { content: ""; position: absolute; left: 0; right: 0; top: 0; }
.branch::before, .branch::after { border-top: 2px solid var(--wire); } .branch::after { top: auto; bottom: 0; }
.branch:first-child::before, .branch:first-child::after { left: calc(50% - 1px); }
.branch:last-child::before, .branch:last-child::after { right: calc(50% - 1px); }
.split + .op { margin-top: -.8rem; }
.tap { display: grid; grid-template-columns: 1fr 2rem 1fr; align-self: stretch; }
.tap section { grid-column: 3; position: relative; justify-self: start; border-style: dashed; }
.tap section::before { content: ""; position: absolute; top: .8rem; right: 100%; width: 1rem; }
.tap section::before { border-top: 2px dashed var(--wire); }
.op { border: 1px solid; border-radius: .3rem; background: Canvas; font-size: .8rem; white-space: nowrap; }
.op summary, .op.plain { padding: .15rem .5rem; list-style: none; }
.op.plain, .op.neutral { border-style: dotted; }
.op summary::-webkit-details-marker { display: none; }
.op summary b { display: block; }
.op[open], .op summary:focus-visible { outline: 3px solid CanvasText; outline-offset: 2px; }
.op > div { position: fixed; z-index: 1; inset: auto 0 0; max-height: 40vh; overflow: auto; padding: .6rem 1rem;
  border-top: 3px solid; background: Canvas; color: CanvasText; font-size: 1rem; text-align: left;
  white-space: normal; overflow-wrap: anywhere; }
.op p, .op ul { margin: 0 auto; max-width: 70rem; }
@media print { .net section { break-inside: avoid; } .op > div { display: none; } }
"""


class Mark(NamedTuple):
    """What is said about an operation: a CSS class of its box, a word in it, and HTML that an open box shows."""

    kind: str
    word: str
    figures: str


UNMARKED = Mark("neutral", "", "")


def draw(model: Model, marks: Mapping[str, Mark], size: int | None = None) -> str:
    """The HTML of a network; it needs `STYLE`.

    marks  by path: for operations of `trace`, for concatenations and sums, and for the linear layers of a head
           ("head.fc", "head.hidden"). Boxes without a mark have the class "neutral"
    size   the side of the input in pixels; None: the native one
    """
    traced = trace(model, size)
    pen = _Pen(model, marks, traced)
    parts = [_plain(f"input {traced.ops[0].inputs}")]
    for stage in model.stages:
        parts.append(pen.section(stage.name, str(traced.stages[stage.name]), stage.node))
        heads = [pen.section(aux.name, "in training only", aux.node) for aux in model.aux if aux.after == stage.name]
        parts += [f'<div class="tap">{head}</div>\n' for head in heads]
    if model.head is not None:
        parts.append(pen.section("head", f"{model.num_classes} classes", model.head))
    return f'<div class="net"><div class="flow">\n{"".join(parts)}</div></div>\n'


@dataclass(frozen=True)
class _Pen:
    model: Model
    marks: Mapping[str, Mark]
    traced: Trace

    def section(self, name: str, about: str, node: Node) -> str:
        title = f"<h4>{escape(name)} <small>{escape(about)}</small></h4>"
        return f'<section>{title}<div class="flow">\n{self.node(node, name)}</div></section>\n'

    def node(self, node: Node, path: str) -> str:
        match node:
            case Chain():
                return "".join(self.node(child, f"{path}.{name}") for name, child in children(node))
            case Concat():
                branches = [self.node(child, f"{path}.{name}") for name, child in children(node)]
                return _split(*branches) + self.box("concat", path, self.traced.shapes[path])
            case Residual(body, shortcut, scale, act):
                beside = "" if shortcut is None else self.node(shortcut, f"{path}.shortcut")
                inside = self.node(body, f"{path}.body") + ("" if scale == 1 else _plain(f"times {scale:g}"))
                return _split(beside, inside) + self.box("+, ReLU" if act else "+", path, self.traced.shapes[path])
            case Head():
                return self.head(node, path)
            case Conv() | Depthwise() | NormRelu() | Relu() | MaxPool() | AvgPool() | AdaptiveAvgPool():
                return self.box(label(node), path, self.traced.shapes[path], repr(node))
        assert_never(node)

    def head(self, node: Head, path: str) -> str:
        logits = self.traced.shapes[path]
        parts = [_plain("global avg pool" if node.pool else "flatten")]
        if node.hidden is not None:
            hidden = f"linear, {node.hidden}{', ReLU' if node.act else ''}"
            parts.append(self.box(hidden, f"{path}.hidden", Shape(node.hidden, 1, 1)))
        if node.dropout:
            parts.append(_plain(f"dropout {node.dropout:g}"))
        parts.append(self.box(f"linear, {self.model.num_classes}", f"{path}.fc", logits))
        return "".join(parts) + self.box("logits", path, logits, repr(node))

    def box(self, text: str, path: str, outputs: Shape, spec: str = "") -> str:
        mark = self.marks.get(path, UNMARKED)
        word = f" <b>{escape(mark.word)}</b>" if mark.word else ""
        about = f"<p><code>{escape(path)}</code> output {outputs}</p>"
        about += f"<p><code>{escape(spec)}</code></p>" if spec else ""
        return (
            f'<details class="op {mark.kind}" name="op"><summary>{escape(text)}{word}</summary>'
            f"<div>{about}{mark.figures}</div></details>\n"
        )


def label(leaf: Box | NormRelu | Relu | MaxPool | AvgPool | AdaptiveAvgPool) -> str:
    """An operation in a few words, as the papers label their boxes: "3x3/2 V, 96", "max pool 3x3/2"."""
    match leaf:
        case Conv():
            return f"{_window(leaf)}, {leaf.channels}{'' if leaf.act else ' linear'}"
        case Depthwise():
            return f"depthwise {_window(leaf)}"
        case NormRelu():
            return "norm, ReLU"
        case Relu():
            return "ReLU"
        case MaxPool():
            return f"max pool {_window(leaf)}"
        case AvgPool():
            return f"avg pool {_window(leaf)}"
        case AdaptiveAvgPool(size):
            return f"avg pool to {size}x{size}"
    assert_never(leaf)


def _window(node: Conv | Depthwise | MaxPool | AvgPool) -> str:
    height, width = pair(node.kernel)
    step = f"/{node.stride}" if node.stride > 1 else ""
    dilation = f" dilation {node.dilation}" if isinstance(node, Conv | Depthwise) and node.dilation > 1 else ""
    padding = {"half": "", "valid": " V", "same": " same", "ceil": " ceil"}[node.padding]
    return f"{height}x{width}{step}{dilation}{padding}"


def _split(*columns: str) -> str:
    return '<div class="split">' + "".join(f'<div class="branch">{column}</div>' for column in columns) + "</div>\n"


def _plain(text: str) -> str:
    return f'<div class="op plain">{escape(text)}</div>\n'
