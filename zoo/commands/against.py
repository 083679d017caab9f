"""`zoo parity MODEL --against X`."""

from __future__ import annotations

import argparse
from typing import Any

from zoo import console
from zoo.commands.common import report
from zoo.errors import SpecError

NOT_TAKEN = {
    "--backends": "backends",
    "--layers": "layers",
    "--gradients": "gradients",
    "--graph": "graph",
    "--stored-reference": "stored_reference",
    "--device": "device",
    "--tolerance": "tolerance",
}
"""Flags of `zoo parity` that have no meaning here."""


MOST = 5
"""Differences that are listed."""


def run(options: argparse.Namespace) -> int:
    from zoo.parity.against import against

    if options.against is None:
        raise SpecError("--framework goes with --against package.module:function")
    for flag, name in NOT_TAKEN.items():
        if getattr(options, name):
            raise SpecError(f"{flag} does not go with --against, which runs one network in its own framework")
    if len(options.models) + (options.checkpoint is not None and not options.models) != 1:
        raise SpecError("--against compares one network with one model: name one")
    with console.progress(1) as step:
        step(str(options.against), "runs and is aligned")
        document = against(
            options.models[0] if options.models else options.checkpoint,
            options.against,
            framework=options.framework,
            checkpoint=options.checkpoint,
            images=options.images,
            size=options.size,
            batch=options.batch,
            timeout=options.timeout,
        )
    report(options.json, document, lambda: show(document))
    return 0 if document["ok"] else 1


def show(document: dict[str, Any]) -> None:
    names = document["against"], document["model"]
    first = document["first"]
    if document["ok"]:
        print(f"{names[0]} is {names[1]}: every operation and the logits agree.")
    elif first is None:
        print(f"{names[0]}: every operation is {names[1]}'s, but the logits are further off than rounding explains.")
    else:
        print(f"{names[0]} is not {names[1]}.")
        print(f"First difference: {place(first)}")
        if document["cause"] is None:
            print("Cause: none of the catalogue explains it.")
        for cause in document["causes"]:
            print(f"Cause: {cause['cause']}, at {_places(cause['where'])}: {cause['change']}.")
        if document["causes"]:
            left = document["left"]
            print(
                "Proved: with "
                f"{'these changes' if len(document['causes']) > 1 else 'this change'} to the spec "
                + ("no difference is left." if not left else f"{len(left)} of the differences are left:")
            )
        for finding in document["left"][:MOST]:
            print(f"  {place(finding)}")
        if len(document["left"]) > MOST:
            print(f"  ... and {len(document['left']) - MOST} more")
    if document["max_rel_error"] is not None:
        print(
            f"Error of the logits: {document['max_rel_error']:.1e}; rounding explains {document['band']:.1e}. "
            "Error: max |logits - reference| / max |reference|, float64."
        )
    print(
        f"{document['checked']} operations and inputs compared; {document['framework']} {document['version']}; "
        f"weights: {document['weights']}."
    )


def _places(where: list[str]) -> str:
    return ", ".join(where[:3]) + (f" and {len(where) - 3} more" if len(where) > 3 else "")


def place(finding: dict[str, Any]) -> str:
    """A difference in words."""
    what = {
        "input": "the input of",
        "output": "what follows",
        "norm": "batch norm of",
        "weight": "a weight of",
        "missing": "missing:",
        "extra": "left over:",
    }.get(finding["kind"], f"the {finding['kind']} of")
    named = f" (its {finding['name']})" if finding["name"] else ""
    error = (
        "" if finding["error"] is None else f", error {finding['error']:.1e}, rounding explains {finding['band']:.1e}"
    )
    detail = f"; {finding['detail']}" if finding["detail"] else ""
    return f"{what} {finding['path']}{named}{error}{detail}"
