"""The verdicts of `zoo parity --against` and `--preprocess` in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

MOST = 5
"""The largest number of differences that are listed."""


def describe(document: dict[str, Any]) -> list[str]:
    """The lines that `zoo parity --against` prints, from its JSON document."""
    lines = list(_verdict(document))
    if document["max_rel_error"] is not None:
        error, band = document["max_rel_error"], document["band"]
        if document["ok"]:
            what = "Error of the logits:"
        elif error <= band:
            what = "These weights and this image hide the difference: the logits are off by"
        else:
            what = "With these weights and this image the logits are off by"
        lines.append(
            f"{what} {error:.1e}; rounding explains {band:.1e}. Error: max |logits - reference| / max |reference|, "
            "float64."
        )
    lines.append(
        f"{document['checked']} operations and inputs compared; {document['framework']} {document['version']}; "
        f"weights: {document['weights']}."
    )
    return lines


def _verdict(document: dict[str, Any]) -> Iterator[str]:
    own, model, first, left = document["against"], document["model"], document["first"], document["left"]
    if document["ok"]:
        yield f"{own} is {model}: every operation and the logits agree."
        return
    if first is None:
        yield f"{own}: every operation is {model}'s, but the logits are further off than rounding explains."
        return
    yield f"{own} is not {model}."
    yield f"First difference: {place(first)}"
    if document["cause"] is None:
        yield "Cause: none in the catalogue explains it."
    elif not document["causes"]:
        yield f"Cause: {document['cause']}: {document['change']}."
    for cause, change, where in grouped(document["causes"]):
        yield f"Cause: {cause}, at {_places(where)}: {change}."
    if document["causes"]:
        changes = "these changes" if len(document["causes"]) > 1 else "this change"
        count = "one difference is" if len(left) == 1 else f"{len(left)} differences are"
        rest = "no difference is left." if not left else f"{count} left:"
        yield f"Proved: with {changes} to the spec {rest}"
    for finding in left[:MOST]:
        yield f"  {place(finding)}"
    if len(left) > MOST:
        yield f"  ... and {len(left) - MOST} more"


def grouped(causes: list[dict[str, Any]]) -> list[tuple[str, str, list[str]]]:
    """Causes, changes and their places; the same change at several places is listed once."""
    places: dict[tuple[str, str], list[str]] = {}
    for cause in causes:
        places.setdefault((cause["cause"], cause["change"]), []).extend(cause["where"])
    return [(cause, change, where) for (cause, change), where in places.items()]


def _places(where: list[str]) -> str:
    return ", ".join(where[:3]) + (f" and {len(where) - 3} more" if len(where) > 3 else "")


def place(finding: dict[str, Any]) -> str:
    """A difference in words."""
    what = {
        "input": "the input of",
        "output": "what follows",
        "norm": "batch norm of",
        "weight": "a weight of",
        "statistic": "batch norm in training of",
        "missing": "missing:",
        "extra": "left over:",
    }.get(finding["kind"], f"the {finding['kind']} of")
    named = f" (its {finding['name']})" if finding["name"] else ""
    error = (
        "" if finding["error"] is None else f", error {finding['error']:.1e}, rounding explains {finding['band']:.1e}"
    )
    detail = f"; {finding['detail']}" if finding["detail"] else ""
    return f"{what} {finding['path']}{named}{error}{detail}"


def describe_preprocessing(document: dict[str, Any]) -> list[str]:
    """The lines that `zoo parity --preprocess` prints, from its JSON document."""
    own, model, error = document["preprocess"], document["model"], document["error"]
    if document["ok"]:
        lines = [f"{own} preprocesses images as the publisher of {model} does."]
    else:
        lines = [f"{own} does not preprocess images as the publisher of {model} does."]
        lines += [f"Cause: {cause['cause']}: {cause['change']}." for cause in document["causes"]]
        lines.append(
            "Proved: with this the arrays are equal."
            if document["proved"]
            else "None of the usual ways to resize, crop and normalise explains it."
        )
    if error is not None:
        lines.append(f"Largest difference: {error:.2g} steps of an 8-bit pixel.")
    return lines
