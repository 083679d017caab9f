"""A card as tables of text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zoo.cards.facts import measured
from zoo.frameworks import FRAMEWORKS
from zoo.models import PUBLISHERS

CONVENTIONS = {
    "fvcore": "multiply-adds, and 2 for each value that batch norm normalises; as timm's tables",
    "paddle": "as fvcore, biases and average pools; as paddle.flops and PaddleClas's newer tables",
    "mmcv": "as fvcore, biases, ReLUs and inputs of pools; as mmpretrain's tables",
    "thop_2019": "4 for each value that batch norm normalises, biases, average pools; as zhulf0804's table",
}
"""What `zoo.language.complexity.counted_by` counts, in a few words."""

MOST_DIFFERENCES = 4
"""Differences of a flavour that are listed; `zoo diff` lists all."""


@dataclass(frozen=True)
class Section:
    """A table. The titles of columns that hold numbers begin with ">"; a first column that is `code` holds names."""

    title: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    text: str = ""
    code: bool = False


def sections(card: Mapping[str, Any]) -> Iterator[Section]:
    """The tables of a document of `zoo.info`; those that would be empty are left out."""
    for section in (
        _summary,
        _code,
        _published,
        _preprocessing,
        _flavours,
        _operations,
        _errors,
        _publishers,
        _speed,
        _stages,
    ):
        table = section(card)
        if table.rows:
            yield table


def _summary(card: Mapping[str, Any]) -> Section:
    norm, published = card["norm"], [PUBLISHERS.get(name, name) for name in card["publishers"]]
    maps = {stage["name"]: stage for stage in card["stages"]}
    rows = {
        "paper": card["paper"],
        "published by": ", ".join(published) or ("nobody here; from the paper" if card["paper"] else "nobody"),
        "same network as": ", ".join(card["same_network_as"]) or "no other",
        "aliases": ", ".join(card["aliases"]) or "none",
        "input": f"{card['in_channels']} x {card['size']} x {card['size']} pixels, at least {card['least_size']}",
        "preprocessing": card["preprocessing"],
        "classes": f"{card['num_classes']}",
        "parameters": f"{card['parameters']:,}"
        + (f" ({card['parameters_with_aux']:,} with auxiliary heads)" if card["aux"] else ""),
        "running statistics": f"{card['buffers']:,} numbers",
        "MACs": f"{card['macs']:,} ({card['macs'] / 1e9:.3f} G): multiply-adds of convolutions and linear layers",
        "activations": f"{card['activations']:,} outputs of convolutions",
        "layers": f"{card['layers']} convolutions and linear layers",
        "receptive field": f"{card['stages'][-1]['receptive_field']} pixels",
        "batch norm": f"eps {norm['eps']:g}, decay {norm['decay']:g}" if norm else "none",
        "auxiliary heads": ", ".join(f"{name} after {after}" for name, after in card["aux"].items()) or "none",
        "feature maps": ", ".join(
            f"{name} ({maps[name]['channels']} channels, 1/{maps[name]['reduction']})" for name in card["feature_maps"]
        ),
    }
    return Section("", ("what", "value"), list(rows.items()))


def _operations(card: Mapping[str, Any]) -> Section:
    return Section(
        "Operations, as other tools count them",
        ("counted by", ">G", "what is counted beside convolutions and linear layers"),
        [(name, f"{counted / 1e9:.3f}", CONVENTIONS[name]) for name, counted in card["counted_by"].items()],
    )


def _published(card: Mapping[str, Any]) -> Section:
    rows = [
        (
            row["name"],
            row["publisher"],
            *("" if row[key] is None else f"{row[key]:.2f}" for key in ("top1", "top5")),
            str(row["classes"] or "none"),
            row["licence"],
            row["note"],
        )
        for row in card["published"]
    ]
    sources = dict.fromkeys(row["figure"] for row in card["published"] if row["figure"])
    text = (
        "Accuracies are the publishers' own, on ImageNet, in percent"
        + "".join(f"; {source}" for source in sources)
        + ". `zoo list --pretrained --json -` has addresses and digests."
    )
    head = ("name", "by", ">top-1", ">top-5", ">classes", "licence", "note")
    return Section("Published weights", head, rows, text, code=True)


def _preprocessing(card: Mapping[str, Any]) -> Section:
    rows = [(row["name"], row["preprocessing"]) for row in card["published"]]
    text = "How images are preprocessed for these weights; `zoo predict` and `validate.py` do so."
    several = len({how for _, how in rows} | {card["preprocessing"]}) > 1
    return Section("Preprocessing", ("weights", "images"), rows if several else [], text, code=True)


def _flavours(card: Mapping[str, Any]) -> Section:
    rows = []
    for flavour in card["flavours"]:
        texts = [_difference(**difference) for difference in flavour["differences"]]
        if len(texts) > MOST_DIFFERENCES:
            texts = [f"{len(texts)} differences: `zoo diff {card['model']} {flavour['model']}`"]
        converts = "exactly" if flavour["converts"] else "no"
        rows.append((flavour["model"], converts, "; ".join(texts) or "nothing"))
    return Section(
        "Flavours",
        ("network", "weights convert", "what differs (here, there)"),
        rows,
        "Other networks of this family, as they are in inference. Preprocessing may differ too.",
        code=True,
    )


def _difference(what: str, here: str, there: str, where: Sequence[str]) -> str:
    place = where[0] if len(where) == 1 else f"{len(where)} places"
    return f"{what} {here or 'none'}, {there or 'none'} ({place})"


def _errors(card: Mapping[str, Any]) -> Section:
    found = card["measured"].get("errors", {})
    return Section(
        "Errors against float64 arithmetic",
        ("framework", ">max |y - reference| / max |reference|"),
        [(name, f"{error:.1e}") for name, error in found.items()],
        "Of the logits, in float32 on a CPU. The band is what rounding explains (docs/parity.md). Run it again: "
        f"`zoo parity {card['model']}`.",
    )


def _publishers(card: Mapping[str, Any]) -> Section:
    return Section(
        "Differences from the publishers' own classes",
        ("publisher", "outputs", *(f">{framework}" for framework in FRAMEWORKS)),
        [tuple(row) for row in card["measured"].get("publishers", [])],
        "max |ours - theirs| / max |theirs| with the same weights (docs/peers.md).",
    )


def _speed(card: Mapping[str, Any]) -> Section:
    return Section(
        "Speed",
        ("run by", ">ms for 1 image", ">ms for 8 images"),
        [tuple(row) for row in card["measured"].get("milliseconds", [])],
        f"{measured()['machine']} (docs/speed.md).",
    )


def _stages(card: Mapping[str, Any]) -> Section:
    rows = [
        (
            stage["name"],
            f"{stage['channels']} x {stage['height']} x {stage['width']}",
            str(stage["reduction"]),
            str(stage["receptive_field"]),
            f"{stage['parameters']:,}",
            f"{stage['macs'] / 1e6:,.1f}",
        )
        for stage in card["stages"]
    ]
    head = ("stage", ">output", ">reduction", ">receptive field", ">parameters", ">MMACs")
    return Section("Stages", head, rows, code=True)


def _code(card: Mapping[str, Any]) -> Section:
    return Section("Build it", ("framework", "code"), list(card["code"].items()))
