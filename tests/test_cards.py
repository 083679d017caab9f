"""Model cards: `zoo info`, its page and picture, docs/models."""

import importlib.util
import json
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import pytest

import weights
import zoo
from weights.published import PUBLISHED
from zoo.cards.facts import MEASURED, fastest, info
from zoo.cards.figure import figure
from zoo.cards.page import page
from zoo.cards.sections import sections
from zoo.commands import main
from zoo.frameworks import FRAMEWORKS
from zoo.language.model import Norm, configure
from zoo.language.nodes import Conv, leaves
from zoo.models import MODELS

DOCS = Path(__file__).parents[1] / "docs"


def script(name):
    """A script of docs/, as a module."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_docs_are_what_make_cards_writes():
    written = {path.name: path.read_text() for path in (DOCS / "models").iterdir()}
    cards = script("cards")
    assert written == dict(cards.pages())
    assert (DOCS / "blocks.svg").read_text() == cards.blocks()


def test_published_tables_are_what_make_cards_writes():
    """The script asserts those cells that agree to the last digit."""
    tables = script("published_tables")
    assert tables.page(*tables.measured()) == tables.PAGE.read_text()


def test_the_readme_s_advice_is_what_the_registry_and_the_measurements_say():
    text = " ".join((DOCS.parent / "README.md").read_text().split())
    best = max(PUBLISHED.values(), key=lambda row: row.top1 or 0)
    gluon = PUBLISHED["inception_v3.gluon_in1k"]
    for sentence in (
        f"`zoo list --pretrained` has {len(PUBLISHED)} files",
        f"`{best.name}` is the most accurate ({best.top1:.1f}% on ImageNet)",
        f"`{gluon.name}` has {gluon.top1:.1f}% for less than half of the computation",
        f"`googlenet`, an image in {fastest('googlenet'):.0f} ms",
        f"`inception_v3` takes {fastest('inception_v3'):.0f}",
        f"`zoo list` shows all {len(MODELS)}",
    ):
        assert sentence in text
    assert 2 * info("inception_v3")["macs"] < info(best.model)["macs"]


def test_measured_figures_are_those_of_the_documents():
    kept = json.loads(MEASURED.read_text())
    errors = {name: of["errors"] for name, of in kept["models"].items() if "errors" in of}
    assert kept == script("cards").collect(errors)
    assert errors.keys() == MODELS.keys()
    for of in errors.values():
        assert set(of) == {*FRAMEWORKS, "band"}
        assert all(error <= of["band"] for error in of.values())


@pytest.mark.parametrize("name", ["inception_v3.tf_adv_in1k", "timm/inception_v3.tf_adv_in1k"])
def test_a_name_of_weights_is_its_network_with_its_preprocessing(name):
    card = zoo.info(name)
    assert card["model"] == "inception_v3"
    assert "341 (bicubic)" in card["preprocessing"]
    assert name.removeprefix("timm/") in {row["name"] for row in card["published"]}
    assert card["code"]["torch"] == 'zoo.build("inception_v3.tf_adv_in1k", "torch", pretrained=True)'


def test_weights_of_the_same_network_under_another_name_are_listed():
    assert "inception_v4.mindcv_in1k" in {row["name"] for row in info("inception_v4")["published"]}


def test_a_checkpoint_has_a_card(tmp_path):
    model = configure(MODELS["googlenet"], width=0.25, num_classes=7)
    weights.write(tmp_path / "own.safetensors", weights.initial(model), model)
    card = zoo.info(tmp_path / "own.safetensors")
    assert (card["model"], card["num_classes"]) == ("googlenet", 7)
    assert card["measured"] == {}  # those are of the published network
    assert card["published"] == []
    assert {flavour["model"]: flavour["converts"] for flavour in card["flavours"]}["googlenet.slim"] is False
    assert card["code"]["paddle"] == f'zoo.build(checkpoint="{tmp_path}/own.safetensors", backend="paddle")'


def test_flavours_say_what_differs_and_whether_weights_convert():
    flavours = {flavour["model"]: flavour for flavour in info("inception_v3")["flavours"]}
    assert flavours["inception_v3.paddleclas"]["converts"]
    assert not flavours["inception_v3.keras"]["converts"]
    (padding,) = flavours["inception_v3.keras"]["differences"]
    assert (padding["what"], padding["here"], padding["there"]) == ("count_include_pad", "True", "False")
    assert len(padding["where"]) == 9


def test_a_network_of_ones_own_has_a_card():
    own = replace(MODELS["inception_v4"], name="own", norm=Norm(eps=0.1))
    card = info(own, size=139)
    assert card["published"] == card["flavours"] == []
    assert [section.title for section in sections(card)] == [
        "",
        "Build it",
        "Operations, as other tools count them",
        "Stages",
    ]
    assert card["code"]["torch"] == 'zoo.build(model, "torch")'


class Tags(HTMLParser):
    """Checks that every element is closed."""

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attributes):
        assert not {"src", "srcset"} & dict(attributes).keys()
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize("name", ["inception_v3", "inception_resnet_v2", "xception41p"])
def test_the_page_is_whole_and_needs_no_network(name):
    text = page(info(name), MODELS[name])
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    assert not re.search(r"<script|<link|url\(|@import", text)
    assert all(escape(section.title) in text for section in sections(info(name)))


@pytest.mark.parametrize("name", MODELS)
def test_the_picture_has_every_layer(name):
    """Except that repeated blocks are drawn once."""
    model = MODELS[name]
    root = ElementTree.fromstring(figure(model))
    boxes = root.findall(".//{*}rect[@class='conv']")
    stages = list(dict.fromkeys(stage.node for stage in model.stages))
    distinct = {leaf for node in stages for leaf in leaves(node) if isinstance(leaf, Conv)}
    assert len(distinct) <= len(boxes) <= sum(isinstance(leaf, Conv) for s in model.stages for leaf in leaves(s.node))
    texts = " ".join(text.text for text in root.iterfind(".//{*}text"))
    assert f"linear, {model.num_classes}" in texts
    assert all(stage.name in texts for stage in (model.stages[0], model.stages[-1]))


def test_the_command_writes_a_page_and_a_picture(tmp_path, capsys):
    assert main(["info", "googlenet", "--html", str(tmp_path / "card.html"), "--svg", str(tmp_path / "net.svg")]) == 0
    assert "googlenet.torchvision_in1k" in capsys.readouterr().out
    assert (tmp_path / "card.html").read_text().startswith("<!doctype html>")
    ElementTree.parse(tmp_path / "net.svg")
    assert main(["info", "inception_v4.slim", "--spec", str(tmp_path / "net.json")]) == 0
    assert zoo.spec(tmp_path / "net.json") == zoo.spec("inception_v4.slim")


def test_a_page_that_cannot_be_written_gets_one_line(tmp_path, capsys):
    assert main(["info", "googlenet", "--html", str(tmp_path / "no" / "card.html")]) == 2
    assert "cannot write the page there" in capsys.readouterr().err
