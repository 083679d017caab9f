"""Errors of single operations as marks of a drawing: a shade by their share of the band, and a word outside it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from typing import Any

from zoo.drawing import Mark

STEPS = {0.125: "up to 1/8 of the band", 0.25: "up to 1/4", 0.5: "up to 1/2", 1.0: "up to the whole band"}
BEYOND = "outside"

STYLE = """
:root { --step0: #eef4fc; --step1: #bfd7f4; --step2: #8db9eb; --step3: #5a97dd; --beyond: #a40e26; --on-beyond: #fff; }
@media (prefers-color-scheme: dark) {
  :root { --step0: #182231; --step1: #21406a; --step2: #2d5f9e; --step3: #4074b7;
    --beyond: #ffb4ab; --on-beyond: #000; }
}
.op.step0 { background: var(--step0); } .op.step1 { background: var(--step1); }
.op.step2 { background: var(--step2); } .op.step3 { background: var(--step3); }
.op.beyond { background: padding-box var(--beyond); border: 6px double var(--beyond); }
.op.beyond, .op.beyond summary { color: var(--on-beyond); }
.key { display: flex; flex-wrap: wrap; gap: .4rem; align-items: center; print-color-adjust: exact; }
.key { list-style: none; padding: 0; } .key .op { padding: .15rem .5rem; }
"""

KEY = (
    '<ul class="key">'
    + "".join(f'<li class="op step{step}">{words}</li>' for step, words in enumerate(STEPS.values()))
    + f'<li class="op beyond"><b>{BEYOND}</b> its band</li><li class="op neutral">not compared by itself</li></ul>\n'
)
"""What the colours mean, in HTML."""


def marks(backends: Mapping[str, Mapping[str, Any]]) -> dict[str, Mark]:
    """Marks by path, from those entries of a result's backends that were compared operation by operation."""
    errors = {name: entry["operations"]["errors"] for name, entry in backends.items() if "operations" in entry}
    paths = dict.fromkeys(path for of in errors.values() for path in of)
    return {path: _mark({name: of[path] for name, of in errors.items() if path in of}) for path in paths}


def _mark(found: Mapping[str, Mapping[str, Any]]) -> Mark:
    largest = max(_share(**one) for one in found.values())
    figures = "".join(f"<li>{escape(name)}: {_figures(**one)}</li>" for name, one in found.items())
    kind = f"step{sum(largest > limit for limit in STEPS)}" if largest <= 1 else "beyond"
    return Mark(kind, "" if largest <= 1 else BEYOND, f"<ul>{figures}</ul>")


def _share(error: float | None, band: float) -> float:
    """An error divided by its band."""
    if error is None or (error and not band):
        return math.inf
    return error / band if band else 0.0


def _figures(error: float | None, band: float) -> str:
    what = "not finite" if error is None else f"error {error:.1e}" if error else "no error"
    word = "" if _share(error, band) <= 1 else f" <b>{BEYOND}</b>"
    return f"{what}, band {band:.1e}{word}"
