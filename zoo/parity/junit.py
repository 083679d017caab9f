"""`zoo parity --junit`: the verdicts as JUnit XML, which CI systems show as tests."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

from zoo.parity.describe import describe, describe_preprocessing
from zoo.parity.training_report import Row, is_training, rows


def junit(document: Mapping[str, Any]) -> str:
    """The XML of any document of `zoo parity`: a suite for each model, a case for each backend or compared object."""
    root = ElementTree.Element("testsuites", name="zoo parity")
    if "against" in document:
        failure = None if document["ok"] else "\n".join(describe(dict(document)))
        _suite(root, document["model"], {document["against"]: (failure, None, 0.0)})
    elif "preprocess" in document:
        failure = None if document["ok"] else "\n".join(describe_preprocessing(dict(document)))
        _suite(root, document["model"], {document["preprocess"]: (failure, None, 0.0)})
    elif is_training(document):
        for model, of_model in itertools.groupby(rows(document), lambda row: row.model):
            _suite(root, model, {row.backend: _training_case(row) for row in of_model})
    else:
        for result in document["models"]:
            cases: dict[str, Case] = {name: _case(entry, result) for name, entry in result["backends"].items()}
            if "error" in result["reference"]:
                cases["reference"] = (result["reference"]["error"], None, 0.0)
            _suite(root, result["model"], cases)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


Case = tuple[str | None, str | None, float]
"""Why a case failed, or None; why it was skipped, or None; and its seconds."""


def _training_case(row: Row) -> Case:
    text = "\n".join(row.problems)
    return text if row.failed else None, text if row.verdict == "skipped" else None, 0.0


def _case(entry: Mapping[str, Any], result: Mapping[str, Any]) -> Case:
    if "skipped" in entry:
        return None, entry["skipped"], 0.0
    if "error" in entry:
        return entry["error"], None, 0.0
    seconds = sum(entry["seconds"].values())
    if entry["ok"]:
        return None, None, seconds
    found = "not finite" if entry["max_rel_error"] is None else f"{entry['max_rel_error']:.1e}"
    outside = (entry.get("operations") or {}).get("outside", 0)
    text = f"error of the logits {found}, band {result['bands']['logits']:.1e}"
    return text + (f"; {outside} operations outside" if outside else ""), None, seconds


def _suite(root: ElementTree.Element, name: str, cases: Mapping[str, Case]) -> None:
    failed = sum(failure is not None for failure, _, _ in cases.values())
    skipped = sum(reason is not None for _, reason, _ in cases.values())
    suite = ElementTree.SubElement(root, "testsuite", name=name, tests=str(len(cases)))
    suite.set("failures", str(failed))
    suite.set("skipped", str(skipped))
    for case, (failure, reason, seconds) in cases.items():
        element = ElementTree.SubElement(suite, "testcase", classname=name, name=case, time=f"{seconds:.3f}")
        if failure is not None:
            ElementTree.SubElement(element, "failure", message=failure.splitlines()[0]).text = failure
        if reason is not None:
            ElementTree.SubElement(element, "skipped", message=reason)
