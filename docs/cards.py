"""Write docs/models: a page for each network, with its picture, and their index: `make cards`.

    python docs/cards.py [--parity FILE]

Measured figures come from the documents that measured them, docs/speed.md and docs/peers.md, and from the result of
`zoo parity '*' --json FILE`. They are kept in zoo/cards/measured.json, where `zoo info` finds them; without --parity,
the errors that are there are kept.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from zoo.cards.facts import MEASURED, fastest, info, measured
from zoo.cards.figure import figure, stages_of
from zoo.cards.markdown import body, row
from zoo.frameworks import FRAMEWORKS, RUNTIMES
from zoo.models import MODELS, PUBLISHERS

DOCS = Path(__file__).parent

NOTATION = (
    'Boxes are labelled as in the papers: "3x3/2 V, 96" is a convolution of 96 channels with a 3x3 kernel, stride 2 '
    "and no padding. Equal blocks that follow one another are drawn once."
)


def pages() -> Iterator[tuple[str, str]]:
    """The files of docs/models: name and text."""
    cards = [info(model) for model in MODELS.values()]
    yield "README.md", "".join(_index(cards))
    for card, model in zip(cards, MODELS.values(), strict=True):
        yield f"{model.name}.svg", figure(model)
        yield f"{model.name}.md", "".join(_page(card))


def blocks() -> str:
    """The README's picture: docs/blocks.svg."""
    return stages_of(MODELS["inception_v4"], ("mixed_5b", "mixed_6b", "mixed_7b"))


def _page(card: Mapping[str, Any]) -> Iterator[str]:
    name = card["model"]
    yield f"# {name}\n\nMade by `make cards`; do not edit. `zoo info {name}` prints it. [All networks](README.md)\n"
    yield from body(card)
    yield f"\n## The network\n\n{NOTATION}\n\n![The layers of {name}]({name}.svg)\n"


def _index(cards: list[dict[str, Any]]) -> Iterator[str]:
    yield f"""# The networks

Made by `make cards`; do not edit. `zoo list` prints most of it, `zoo info NETWORK` a page.

- top-1: the best accuracy on ImageNet that a publisher states for its weights, in percent
- GMACs: multiply-adds of convolutions and linear layers, in thousand millions
- ms: one image in the fastest float32 engine of this project ({measured()["machine"]})
- error: the largest error of the logits in PyTorch, MindSpore, Paddle and JAX, against float64 arithmetic

| network | published by | top-1 | parameters | GMACs | ms | error |
|---|---|---:|---:|---:|---:|---:|
"""
    for card in cards:
        best = max((row["top1"] for row in card["published"] if row["top1"]), default=None)
        errors = {name: error for name, error in card["measured"].get("errors", {}).items() if name in FRAMEWORKS}
        time = fastest(card["model"])
        yield (
            row(
                [
                    f"[{card['model']}]({card['model']}.md)",
                    ", ".join(PUBLISHERS[name] for name in card["publishers"]) or "the paper",
                    "" if best is None else f"{best:.1f}",
                    f"{card['parameters'] / 1e6:.2f} M",
                    f"{card['macs'] / 1e9:.2f}",
                    "" if time is None else f"{time:.0f}",
                    f"{max(errors.values()):.0e}" if errors else "",
                ]
            )
            + "\n"
        )


def collect(errors: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """The document measured.json, of errors by network and framework, docs/speed.md and docs/peers.md."""
    speed, peers = ((DOCS / name).read_text(encoding="utf-8") for name in ("speed.md", "peers.md"))
    engine = rf"(?:{'|'.join((*FRAMEWORKS, *RUNTIMES))}) \w+ \w+"
    times = re.findall(rf"^\| (\S+) \| ({engine}) \| ([\d.]+) \([^|]*\| ([\d.]+) \(", speed, re.M)
    differences = r" (\S+) \|" * len(FRAMEWORKS)
    rows = re.findall(rf"^\| (\w+) \| `([\w.]+)` \| ([^|]+) \| [^|]+ \|{differences}$", peers, re.M)
    machine = re.search(r"^(Medians of [^.]+)\.", speed, re.M)
    if not times or not rows or machine is None:
        raise SystemExit("expected speed.md and peers.md as `make bench` and `make peers` write them")
    models: dict[str, dict[str, Any]] = {name: {} for name in MODELS}
    for name, of in errors.items():
        models[name]["errors"] = of
    for publisher, name, outputs, *errors_beside in rows:
        models[name].setdefault("publishers", []).append([PUBLISHERS[publisher], outputs, *errors_beside])
    for name, run_by, one, eight in times:
        models[name].setdefault("milliseconds", []).append([run_by, one, eight])
    return {"machine": machine[1], "models": models}


def errors_of(document: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """The errors of the logits by network and framework, and the band, of a document of `zoo parity`."""
    return {
        result["model"]: {
            name: float(f"{error:.1e}")
            for name, error in (
                *((name, entry["max_rel_error"]) for name, entry in result["backends"].items()),
                ("band", result["bands"]["logits"]),
            )
        }
        for result in document["models"]
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Write docs/models and zoo/cards/measured.json.")
    parser.add_argument("--parity", type=Path, metavar="FILE", help="the result of `zoo parity '*' --json FILE`")
    options = parser.parse_args()
    if options.parity:
        errors = errors_of(json.loads(options.parity.read_text(encoding="utf-8")))
    else:
        errors = {name: of["errors"] for name, of in measured()["models"].items() if "errors" in of}
    MEASURED.write_text(json.dumps(collect(errors), indent=1) + "\n", encoding="utf-8")
    measured.cache_clear()
    (DOCS / "blocks.svg").write_text(blocks(), encoding="utf-8")
    folder = DOCS / "models"
    folder.mkdir(exist_ok=True)
    for name, text in pages():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
