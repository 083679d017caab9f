"""The page and the JUnit file of `zoo parity`."""

import copy
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest
from support import SMALL

import zoo
from backends import worker
from zoo.commands import main
from zoo.language.trace import trace
from zoo.parity import Settings, compare, compare_network
from zoo.parity.junit import junit
from zoo.parity.page import page

VOID = {"meta", "line"}
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
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


def box(text, path):
    """The class, the label and the figures of an operation that is drawn."""
    begin = r'<details class="op (\w+)" name="op"><summary>'
    (found,) = re.findall(rf"{begin}(.*?)</summary><div><p><code>{re.escape(path)}</code>(.*?)</div></details>", text)
    return tuple(re.sub(r"<[^>]*>", " ", part) for part in found)


def with_errors(document, **errors):
    """The document with other errors of torch's operations, over their bands."""
    found = copy.deepcopy(document["models"][0]["backends"]["torch"]["operations"])
    for path, share in errors.items():
        one = found["errors"][path]
        one["error"] = None if share is None else share * one["band"]
    return spoilt(document, operations=found, ok=False)


def test_a_page_has_every_operation(document):
    text = page(document)
    for op in trace(zoo.spec(SMALL)).ops:
        assert box(text, op.path)
    kind, label, figures = box(text, "mixed.branch1.1")
    assert kind.startswith("step")
    assert label == "3x3, 16"
    one = document["models"][0]["backends"]["torch"]["operations"]["errors"]["mixed.branch1.1"]
    assert f"torch: error {one['error']:.1e}, band {one['band']:.1e}" in figures
    assert box(text, "mixed.branch2.0")[0] == "neutral"  # a pool
    without = copy.deepcopy(document)
    del without["models"][0]["backends"]["torch"]["operations"]
    assert "<h3>Operations" not in page(without)


def test_the_colour_of_an_operation_is_its_share_of_the_band(document):
    shares = {"stem.0": 0.1, "mixed.branch0": 0.2, "mixed.branch1.0": 0.4, "mixed.branch1.1": 1.0, "block.body.1": 1.01}
    text = page(with_errors(document, **shares, **{"head.fc": None}))
    assert [box(text, path)[0] for path in shares] == ["step0", "step1", "step2", "step3", "beyond"]
    assert [("outside" in box(text, path)[1], "outside" in box(text, path)[2]) for path in shares] == [
        *[(False, False)] * 4,
        (True, True),
    ]
    assert box(text, "head.fc")[0] == "beyond"
    assert "not finite" in box(text, "head.fc")[2]
    for name in ("step0", "step1", "step2", "step3", "beyond"):
        assert f".op.{name} {{" in text


def test_the_largest_error_of_all_backends_gives_the_colour(document):
    other = with_errors(document, **{"stem.0": 2.0})
    backends = other["models"][0]["backends"]
    backends["paddle"] = document["models"][0]["backends"]["torch"]
    backends["mindspore"] = {"error": "mindspore: died", "ok": False}
    kind, _, figures = box(page(other), "stem.0")
    assert kind == "beyond"
    assert figures.count("outside") == 1
    assert "paddle: error" in figures
    assert "mindspore" not in figures


def test_a_page_with_several_networks_folds_them_away(document):
    several = {**document, "models": document["models"] * 2}
    assert page(document).count('<details class="network" open>') == 1
    assert page(several).count('<details class="network">') == 2
    Balanced(page(several))


MEASURE = """
<script>
onload = () => {
  const page = document.querySelector("iframe").contentDocument, root = page.documentElement;
  const net = page.querySelector(".net"), boxes = [...page.querySelectorAll("details.op")];
  const closed = [root.scrollWidth, net.scrollWidth], found = {widest: 0, hidden: 0, moved: 0};
  for (const box of boxes) {
    const before = box.getBoundingClientRect();
    box.open = true;
    const after = box.getBoundingClientRect(), sheet = box.lastChild.getBoundingClientRect();
    found.widest = Math.max(found.widest, root.scrollWidth);
    found.hidden += sheet.height < 20 || sheet.left < 0 || sheet.right > 420 || sheet.top < 0 || sheet.bottom > 800;
    found.moved += before.left != after.left || before.top != after.top || before.width != after.width;
    box.open = false;
  }
  document.title = JSON.stringify({closed, ...found, boxes: boxes.length});
};
</script>
"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium")
@pytest.mark.parametrize("name", ["inception_v4", "googlenet", "xception41"])
def test_a_page_fits_a_phone(document, name, tmp_path):
    drawn = copy.deepcopy(document)
    model = zoo.spec(name)
    result = drawn["models"][0]
    result |= {
        "spec": json.loads(zoo.to_json(model)),
        "input": {"images": "none", "shape": [1, 3, model.size, model.size]},
    }
    errors = {op.path: {"error": 1e-3, "band": 1e-6} for op in trace(model).ops}
    result["backends"]["torch"]["operations"]["errors"] = errors
    frame = f'<iframe width="420" height="800" style="border: 0" srcdoc="{escape(page(drawn))}"></iframe>'
    file = tmp_path / "phone.html"
    file.write_text(frame + MEASURE)
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        f"--user-data-dir={tmp_path}",
        "--dump-dom",
    ]
    dom = subprocess.run([BROWSER, *options, file.as_uri()], capture_output=True, text=True, timeout=300, check=True)
    found = json.loads(re.search("<title>(.*?)</title>", dom.stdout).group(1))
    width, drawing = found.pop("closed")
    assert width == 420
    assert drawing >= 300
    assert found.pop("boxes") >= len(errors)
    assert found == {"widest": 420, "hidden": 0, "moved": 0}


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


def test_reports_of_training():
    """A backend that is right, one that is not, one that is skipped and one that failed."""
    right = {
        "version": "1",
        "errors": {"loss 1": 1e-8, "loss 2": 2e-8, "weights of stem": 1e-6},
        "outside": [],
        "ok": True,
    }
    wrong = {**right, "errors": {**right["errors"], "loss 2": None}, "outside": ["loss 2"], "ok": False}
    backends = {
        **{"torch": right, "jax": wrong},
        **{"paddle": {"skipped": "paddle is not installed"}, "mindspore": {"error": "died", "ok": False}},
    }
    bands = {"loss 1": 1e-7, "loss 2": 1e-7, "weights of stem": 1e-5}
    model = {"model": "small", "judge": "2", "shape": [4, 3, 32, 32], "loss": [2.3, 2.2], "bands": bands}
    document = {"ok": False, "steps": 2, "tolerance": None, "width": 1.0, "graph": False}
    document["models"] = [{**model, "backends": backends}]
    jsonschema.validate(document, SCHEMA)
    found = Balanced(page(document))
    for text in (
        *("Parity of 2 training steps: not all agree", "loss 2 (20%)", "outside its band", "jax: outside: loss 2"),
        *("not finite", "paddle: paddle is not installed", "mindspore: died", "against PyTorch 2 in float64"),
    ):
        assert text in found.text
    (suite,) = ElementTree.fromstring(junit(document))
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("4", "2", "1")
    assert [case.find("failure") is None for case in suite] == [True, False, True, False]


def test_the_command_writes_both(tmp_path, capsys):
    words = ["parity", str(SMALL), "--backends", "onnx"]
    assert main([*words, "--html", str(tmp_path / "p.html"), "--junit", str(tmp_path / "p.xml")]) == 0
    assert (tmp_path / "p.html").read_text().startswith("<!doctype html>")
    assert ElementTree.parse(tmp_path / "p.xml").getroot()[0].get("failures") == "0"
    capsys.readouterr()
    assert main([*words, "--html", str(tmp_path / "no" / "p.html")]) == 2
    assert "cannot write the report there: No such file or directory" in capsys.readouterr().err
