"""The page and the JUnit file of `zoo parity`."""

import copy
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest
from support import SMALL

import zoo
from backends import worker
from zoo.commands import main
from zoo.parity import Settings, compare, compare_network
from zoo.parity.junit import junit
from zoo.parity.page import page

VOID = {"meta", "line"}
SCHEMA = json.loads((Path(__file__).parents[1] / "docs" / "parity.schema.json").read_text())


class Balanced(HTMLParser):
    """Fails on a tag that is not closed, and collects ids, classes and text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.classes, self.text = [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.classes += dict(attributes).get("class", "").split()
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text += data


@pytest.fixture(scope="module")
def document():
    return compare([SMALL], Settings(("torch", "onnx"), layers=True, repeat=3))


def spoilt(document, **change):
    """The document with another result of torch."""
    other = copy.deepcopy(document)
    other["models"][0]["backends"]["torch"] |= change
    other["ok"] = False
    return other


def test_repeated_runs_and_single_images_agree(document, monkeypatch):
    for entry in document["models"][0]["backends"].values():
        assert 0 <= entry["repeated"] <= entry["max_rel_error"] + 1e-6
        assert 0 <= entry["single"] <= 1e-6
    run = worker.run

    def unsteady(*arguments, **options):
        return replace(run(*arguments, **options), steady={"repeated": 0.0, "single": 1e-3})

    monkeypatch.setattr(worker, "run", unsteady)
    assert not compare([SMALL], Settings(("onnx",), repeat=2))["ok"]


def test_documents_follow_the_schema(document):
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    failed = spoilt(document, max_rel_error=None, ok=False)
    failed["models"][0]["backends"]["paddle"] = {"skipped": "paddle is not installed"}
    failed["models"][0]["backends"]["mindspore"] = {"error": "mindspore: died", "ok": False}
    other = zoo.from_json(zoo.to_json(zoo.spec(SMALL)).replace('"scale": 0.5', '"scale": 0.7'))
    net = zoo.build(SMALL, "torch")
    for valid in (document, failed, compare_network(net, SMALL), compare_network(net, other)):
        jsonschema.validate(json.loads(json.dumps(valid)), SCHEMA)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(spoilt(document, max_rel_error="large"), SCHEMA)


def test_a_page_has_every_stage_and_needs_nothing_else(document):
    text = page(document)
    found = Balanced(text)
    assert "Parity: all agree" in found.text
    for word in ("small", "torch 2", "onnx 1", "stem", "mixed", "block", "logits", "aux1", "within"):
        assert word in found.text
    assert not re.search(r"<script|src=|href=|url\(|@import|https?://", text)
    assert text.count("<polyline") == 3  # torch, onnx and the band
    assert "outside" not in found.classes


def test_a_page_says_what_is_outside(document):
    layers = document["models"][0]["backends"]["torch"]["layers"]
    found = Balanced(page(spoilt(document, ok=False, layers={**layers, "mixed": 1e-2}, top1_agrees=False)))
    assert "Parity: not all agree" in found.text
    assert found.classes.count("outside") == 1
    assert "differs" in found.text
    assert "0.0e+00" not in found.text
    for change in ({"max_rel_error": None, "ok": False}, {"layers": {**layers, "block": None}, "ok": False}):
        assert "not finite" in Balanced(page(spoilt(document, **change))).text


def test_names_are_escaped(document):
    other = copy.deepcopy(document)
    other["models"][0]["weights"] = "<b>&.pt"
    assert "&lt;b&gt;&amp;.pt" in page(other)


def test_a_page_about_a_network_of_one_s_own():
    net = zoo.build(SMALL, "torch")
    for module in net.modules():
        if hasattr(module, "eps"):
            module.eps = 1e-5
    document = compare_network(net, SMALL)
    found = Balanced(page(document))
    for word in ("Network: is not small", "First difference", "eps", "1e-05 where the spec has 0.001", "left: 0"):
        assert word in found.text
    assert "is small" in Balanced(page(compare_network(zoo.build(SMALL, "torch"), SMALL))).text


def test_junit(document):
    failed = spoilt(document, ok=False, max_rel_error=1e-2)
    failed["models"][0]["backends"]["paddle"] = {"skipped": "paddle is not installed"}
    failed["models"][0]["backends"]["mindspore"] = {"error": "mindspore: died", "ok": False}
    root = ElementTree.fromstring(junit(failed))
    (suite,) = root
    assert {name: suite.get(name) for name in ("name", "tests", "failures", "skipped")} == {
        **{"name": "small", "tests": "4", "failures": "2"},
        "skipped": "1",
    }
    cases = {case.get("name"): case for case in suite}
    assert cases["onnx"].find("failure") is None
    assert cases["torch"].find("failure").text.startswith("error of the logits 1.0e-02, band ")
    assert cases["mindspore"].find("failure").get("message") == "mindspore: died"
    assert cases["paddle"].find("skipped").get("message") == "paddle is not installed"


def test_the_command_writes_both(tmp_path, capsys):
    words = ["parity", str(SMALL), "--backends", "onnx"]
    assert main([*words, "--html", str(tmp_path / "p.html"), "--junit", str(tmp_path / "p.xml")]) == 0
    assert (tmp_path / "p.html").read_text().startswith("<!doctype html>")
    assert ElementTree.parse(tmp_path / "p.xml").getroot()[0].get("failures") == "0"
    capsys.readouterr()
    assert main([*words, "--html", str(tmp_path / "no" / "p.html")]) == 2
    assert "cannot write the report there: No such file or directory" in capsys.readouterr().err
