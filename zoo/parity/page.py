"""`zoo parity --html`: one page that opens from disk, without a network, on a phone, in dark mode, in black and white.

It has no scripts: what can be opened is a `<details>` element, which works by keyboard. A verdict is always a word, not
only a colour, and curves differ by dash as well as by colour. With `--layers` the network is drawn (`zoo.drawing`),
each operation coloured by its error (`zoo.parity.marks`).
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from zoo import drawing, html
from zoo.language.document import from_json
from zoo.parity import marks
from zoo.parity.describe import describe_preprocessing, place
from zoo.parity.training_report import columns, explanation, is_training, rows

COLORS = ("#3b82f6", "#e0702e", "#2da44e", "#a371f7", "#8b949e")
DASHES = ("", "6 3", "2 3", "8 3 2 3", "1 4")
WIDTH, HEIGHT, LEFT, BOTTOM = 900, 390, 64, 140

STYLE = """
svg { width: 100%; min-width: 640px; height: auto; } svg text { fill: currentColor; font-size: 12px; }
.good { color: var(--good); font-weight: 600; } .bad { color: var(--bad); font-weight: 600; }
.stages { display: flex; flex-wrap: wrap; gap: .4rem; align-items: flex-start; }
.stages details { border: 1px solid var(--line); border-radius: .4rem; padding: .2rem .6rem; background: var(--soft); }
.stages details.outside { border: 3px double var(--bad); }
.stages .share { display: block; height: .35rem; margin-top: .2rem; border: 1px solid currentColor; }
.stages .share i { display: block; height: 100%; background: currentColor; }
.network { margin-top: 1.5rem; } .network h3 { display: inline; }
"""


def page(document: Mapping[str, Any]) -> str:
    """The HTML of any document of `zoo parity`."""
    if "against" in document:
        return _page(f"{document['against']} and {document['model']}", _against(document))
    if "preprocess" in document:
        return _page(f"{document['preprocess']} and {document['model']}", _preprocessing(document))
    if is_training(document):
        return _page("Parity in training", _training(document))
    return _page("Parity", _parity(document))


def _page(title: str, body: Iterator[str]) -> str:
    return html.page(title, "".join(body), STYLE + drawing.STYLE + marks.STYLE)


def _verdict(ok: bool, good: str, bad: str) -> str:
    return f'<span class="{"good" if ok else "bad"}">{escape(good if ok else bad)}</span>'


def _parity(document: Mapping[str, Any]) -> Iterator[str]:
    yield f"<h1>Parity: {_verdict(document['ok'], 'all agree', 'not all agree')}</h1>\n"
    yield (
        "<p>Each backend is compared with float64 arithmetic. The error is max |y - reference| / max |reference|. It "
        "is within its band if rounding explains it: the band is measured on the same weights and inputs.</p>\n"
    )
    for result in document["models"]:
        yield from _model(result, document["device"])
        yield from _network(result, alone=len(document["models"]) == 1)


def _model(result: Mapping[str, Any], device: str) -> Iterator[str]:
    yield f"<h2>{escape(result['model'])}</h2>\n"
    images = result["input"]["images"]
    what = images if isinstance(images, str) else ", ".join(images)
    yield (
        f"<p>{result['parameters']:,} parameters, {result['macs'] / 1e9:.3f} billion multiply-adds; input "
        f"{escape(' x '.join(map(str, result['input']['shape'])))} ({escape(what)}); weights: "
        f"{escape(result['weights'])}; device: {escape(device)}.</p>\n"
    )
    band = result.get("bands", {}).get("logits")
    head = (
        "backend",
        "verdict",
        ">error of the logits",
        ">band",
        ">top-1",
        ">top-5",
        ">operations outside",
        ">seconds",
    )
    yield from html.table(head, [_row(name, entry, band) for name, entry in result["backends"].items()])
    for name, entry in result["backends"].items():
        if note := entry.get("error") or entry.get("skipped"):
            yield f"<p>{escape(name)}: {escape(note)}</p>\n"
        if first := (entry.get("operations") or {}).get("first"):
            yield f"<p>{escape(name)}, first outside: {escape(place(first))}</p>\n"
    layers = {name: entry["layers"] for name, entry in result["backends"].items() if "layers" in entry}
    if layers:
        yield "<h3>Error through the depth</h3>\n"
        yield _curves(list(result["bands"]), layers, result["bands"])
        yield "<h3>Stages</h3>\n<p>The bar is the largest error of any backend, divided by the band.</p>\n"
        yield from _stages(layers, result["bands"])


def _row(name: str, entry: Mapping[str, Any], band: float | None) -> tuple[str, ...]:
    if "ok" not in entry or "error" in entry:
        return (escape(name), "skipped" if "skipped" in entry else _verdict(False, "", "failed"), *[""] * 6)
    error = entry["max_rel_error"]
    operations = entry.get("operations")
    return (
        escape(f"{name} {entry['version']}"),
        _verdict(entry["ok"], "within", "outside"),
        "not finite" if error is None else f"{error:.1e}",
        "" if band is None else f"{band:.1e}",
        *("same" if entry[key] else _verdict(False, "", "differs") for key in ("top1_agrees", "top5_agrees")),
        "" if operations is None else f"{operations['outside']} of {operations['compared']}",
        f"{entry['seconds']['run']:.1f}",
    )


def _curves(names: Sequence[str], layers: Mapping[str, Mapping[str, float | None]], bands: Mapping[str, float]) -> str:
    """Error over depth, on a logarithmic scale: a curve for each backend, and the band."""
    values = [value for of in (*layers.values(), bands) for value in of.values() if value]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    step = (WIDTH - LEFT - 20) / max(len(names) - 1, 1)

    def x(position: int) -> float:
        return LEFT + position * step

    def y(value: float) -> float:
        return 10 + (HEIGHT - BOTTOM - 20) * (high - math.log10(max(value, 10.0**low))) / max(high - low, 1)

    parts = []
    for power in range(low, high + 1):
        at = y(10.0**power)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - 20}" y1="{at:.1f}" y2="{at:.1f}" stroke="var(--line)"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">1e{power}</text>')
    for position, name in enumerate(names):
        corner = f"{x(position):.1f} {HEIGHT - BOTTOM + 12}"
        parts.append(f'<text transform="translate({corner}) rotate(-60)" text-anchor="end">{escape(name)}</text>')
    curves: dict[str, Mapping[str, float | None]] = {**layers, "band": bands}
    for number, (name, of) in enumerate(curves.items()):
        color = "currentColor" if name == "band" else COLORS[number % len(COLORS)]
        dash = "12 4" if name == "band" else DASHES[number % len(DASHES)]
        points = " ".join(f"{x(i):.1f},{y(of[at] or 0.0):.1f}" for i, at in enumerate(names) if of[at] is not None)
        style = f'fill="none" stroke="{color}" stroke-width="2" stroke-dasharray="{dash}"'
        parts.append(f'<polyline points="{points}" {style}><title>{escape(name)}</title></polyline>')
        left = LEFT + 120 * number
        parts.append(f'<line x1="{left}" x2="{left + 30}" y1="{HEIGHT - 8}" y2="{HEIGHT - 8}" {style}/>')
        parts.append(f'<text x="{left + 36}" y="{HEIGHT - 4}">{escape(name)}</text>')
    described = "Error of every stage, from the first to the logits, for each backend, and the band"
    return (
        f'<div class="wide"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{described}">\n'
        + "\n".join(parts)
        + "\n</svg></div>\n"
    )


def _stages(layers: Mapping[str, Mapping[str, float | None]], bands: Mapping[str, float]) -> Iterator[str]:
    """A box for each stage, in order, with its figures inside."""
    yield '<div class="stages">\n'
    for name, band in bands.items():
        errors = {backend: of[name] for backend, of in layers.items()}
        largest = max((math.inf if error is None else error) for error in errors.values())
        outside = not largest <= band
        share = 100 if outside else 100 * largest / band
        word = _verdict(False, "", "outside") if outside else ""
        bar = f'role="img" aria-label="{share:.0f} percent of the band"><i style="width:{share:.0f}%"></i>'
        kind = "outside" if outside else "within"
        yield f'<details class="{kind}"><summary>{escape(name)} {word}<span class="share" {bar}</span></summary><ul>'
        for backend, error in errors.items():
            yield f"<li>{escape(backend)}: {'not finite' if error is None else f'{error:.1e}'}</li>"
        yield f"<li>band: {band:.1e}</li></ul></details>\n"
    yield "</div>\n"


def _network(result: Mapping[str, Any], alone: bool) -> Iterator[str]:
    """The network drawn; folded where the page has several networks."""
    if found := marks.marks(result["backends"]):
        model = from_json(json.dumps(result["spec"]))
        yield f'<details class="network"{" open" if alone else ""}><summary><h3>Operations</h3></summary>\n'
        yield (
            "<p>Each operation is judged by itself, with the input that it had in the framework. Its colour is its "
            "largest error in any backend, divided by its band. Pools, sums and concatenations are judged by the input "
            "that they make for the next operation. A click or the Enter key on a box shows its figures at the bottom "
            "of the window.</p>\n"
            f"{marks.KEY}<p>{escape(drawing.NOTATION)}</p>\n"
        )
        yield drawing.draw(model, found, result["input"]["shape"][2])
        yield "</details>\n"


def _training(document: Mapping[str, Any]) -> Iterator[str]:
    what = f"{document['steps']} training steps" if "steps" in document else "every stage in training"
    yield f"<h1>Parity of {what}: {_verdict(document['ok'], 'all agree', 'not all agree')}</h1>\n"
    for line in explanation(document):
        yield f"<p>{escape(line)}</p>\n"
    titles = columns(document)
    head = ("backend", "verdict", *(f">{title}" for title in titles), "nearest to its band")
    for model, of_model in itertools.groupby(rows(document), lambda row: row.model):
        yield f"<h2>{escape(model)}</h2>\n"
        found = list(of_model)
        yield from html.table(
            head,
            [
                (
                    escape(f"{row.backend} {row.version}".strip()),
                    row.verdict if row.verdict == "skipped" else _verdict(not row.failed, "within", row.verdict),
                    *(row.figures or [""] * len(titles)),
                    escape(row.nearest),
                )
                for row in found
            ],
        )
        for row in found:
            for problem in row.problems:
                yield f"<p>{escape(f'{row.backend}: {problem}')}</p>\n"


def _against(document: Mapping[str, Any]) -> Iterator[str]:
    own, model = escape(document["against"]), escape(document["model"])
    yield f"<h1>{own}: {_verdict(document['ok'], f'is {model}', f'is not {model}')}</h1>\n"
    error = document["max_rel_error"]
    rows = [
        ("operations and inputs compared", f"{document['checked']}"),
        ("error of the logits", "not comparable" if error is None else f"{error:.1e}"),
        ("rounding explains", "" if document["band"] is None else f"{document['band']:.1e}"),
        ("framework", escape(f"{document['framework']} {document['version']}")),
        ("weights", escape(document["weights"])),
        ("input", escape(" x ".join(map(str, document["input"]["shape"])))),
    ]
    yield from html.table(("what", "value"), rows)
    if document["first"] is not None:
        yield f"<h2>First difference</h2>\n<p>{escape(place(document['first']))}</p>\n"
        yield "<h2>Causes, proved by repair</h2>\n"
        if not document["causes"]:
            yield f"<p>{escape(document['change'] or 'None in the catalogue explains it.')}</p>\n"
        for cause in document["causes"]:
            places = ", ".join(cause["where"])
            yield (
                f"<details open><summary><b>{escape(cause['cause'])}</b>: {escape(cause['change'])}</summary>"
                f"<p>At <code>{escape(places)}</code></p></details>\n"
            )
        left = document["left"]
        yield f"<h2>Differences that are left: {len(left)}</h2>\n"
        if left:
            yield "<ul>" + "".join(f"<li>{escape(place(finding))}</li>" for finding in left) + "</ul>\n"


def _preprocessing(document: Mapping[str, Any]) -> Iterator[str]:
    own, model = escape(document["preprocess"]), escape(document["model"])
    yield f"<h1>{own}: {_verdict(document['ok'], f'as {model}', f'not as {model}')}</h1>\n"
    yield from (f"<p>{escape(line)}</p>\n" for line in describe_preprocessing(dict(document)))
    images = document["images"]
    what = images if isinstance(images, str) else ", ".join(images)
    yield f"<p>Images: {escape(what)}; the first array: {' x '.join(map(str, document['shape']))}.</p>\n"
