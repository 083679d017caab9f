"""A model as JSON: it is equal when read back, and errors name the place in the document."""

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

import zoo
from zoo.errors import SpecError
from zoo.language.document import OPS, from_json, schema, to_json
from zoo.language.model import Norm, configure
from zoo.language.nodes import AvgPool, Chain, Conv, Node, transform
from zoo.models import MODELS

SCHEMA = Path(__file__).parents[1] / "docs" / "model.schema.json"
GOOGLENET = MODELS["googlenet"]


def border(leaf):
    return replace(leaf, count_include_pad=True) if isinstance(leaf, AvgPool) else leaf


VARIANTS = {
    "another epsilon": replace(MODELS["inception_v4"], norm=Norm(eps=2e-3)),
    "no norm": replace(GOOGLENET, norm=None),
    "other borders": replace(
        MODELS["inception_v3"],
        stages=tuple(replace(s, node=transform(s.node, border)) for s in MODELS["inception_v3"].stages),
    ),
    "one auxiliary head of two": replace(GOOGLENET, aux=GOOGLENET.aux[:1]),
    "features": configure(GOOGLENET, taps=("mixed_4b", "mixed_5c")),
    "narrow, grey, seven classes": configure(GOOGLENET, width=0.3, in_channels=1, num_classes=7, drop_rate=0.1),
}


@pytest.mark.parametrize("model", [*MODELS.values(), *VARIANTS.values()], ids=[*MODELS, *VARIANTS])
def test_there_and_back(model):
    for indent in (None, 2):
        again = from_json(to_json(model, indent))
        assert again == model
        assert hash(again) == hash(model)
    jsonschema.validate(json.loads(to_json(model)), schema())


def test_every_kind_of_node_has_a_name():
    kinds = set(Node.__args__)
    assert set(OPS.values()) == kinds


def test_the_schema_in_docs_is_the_codes():
    assert json.loads(SCHEMA.read_text()) == schema(), "run make schema"


def test_a_document_by_hand():
    document = {
        "format": "inception-zoo model",
        "version": 1,
        "name": "tiny",
        "stages": [{"name": "a", "node": {"op": "conv", "channels": 8, "kernel": [3, 1]}}],
        "head": {"op": "head"},
        "preprocess": {"resize": 72},
    }
    model = zoo.from_json(json.dumps(document))
    assert model.stages[0].node == Conv(8, (3, 1))
    assert zoo.to_json(zoo.from_json(zoo.to_json(model))) == zoo.to_json(model)


def changed(*path, to=None, remove=False):
    """GoogLeNet's document with one place of it changed."""
    document = json.loads(to_json(GOOGLENET))
    place = document
    for step in path[:-1]:
        place = place[step]
    if remove:
        del place[path[-1]]
    else:
        place[path[-1]] = to
    return json.dumps(document)


NODE = ("stages", 0, "node")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", 'the document is not a model: expected an object with "format": "inception-zoo model"'),
        ("{", "the document is not JSON: "),
        ("\xff", "the document is not JSON: "),
        (changed("version", to=2), "version: expected 1, not 2: a newer zoo may have written it"),
        (changed("version", remove=True), "version: expected 1, not None"),
        (changed("speed", to=3), "speed: unknown field: Model has name, stages, head, "),
        (changed("preprocess", remove=True), "preprocess: missing: Model needs it"),
        (changed("name", to=5), "a model's name must be letters, digits, '.', '-' or '_', not 5"),
        (changed("norm", to=3), "norm: expected an object, not 3"),
        (changed("norm", to={"eps": "small"}), "norm: Norm(eps='small', decay=0.9): eps and decay must be numbers"),
        (changed("stages", to="all"), 'stages: expected an object, not "all"'),
        (changed("stages", to={"name": "a"}), "stages.node: missing: Stage needs it"),
        (changed("stages", 3, to=None), "googlenet: stages must be a tuple of Stage"),
        (changed(*NODE, "op", to="min_pool"), 'stages[0].node: expected a node, an object with "op" one of conv, '),
        (changed(*NODE, to=[3]), "stages[0].node[0]: expected a node"),
        (changed(*NODE, "channels", remove=True), "stages[0].node.channels: missing: Conv needs it"),
        (changed(*NODE, "channels", to=True), "channels must be an integer of at least 1, not True"),
        (changed(*NODE, "kernel", to=[1, 2, 3]), "kernel must be an integer or (height, width), not (1, 2, 3)"),
        (changed(*NODE, "padding", to="full"), "padding must be one of half, valid, same"),
        (changed("stages", 5, "node", "branches", 1, "nodes", 1, "strides", to=2),
         "stages[5].node.branches[1].nodes[1].strides: unknown field: Conv has channels, kernel, "),
        (changed("aux", 0, "after", to="mixed_9"), "googlenet: no stage 'mixed_9'; it has conv2d_1a_7x7, "),
        (changed("size", to=1e9), "googlenet: size must be an integer of at least 1, not 1000000000.0"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "the document is nested too deeply"),
        (" " * (1 << 25), "the document has 33,554,432 characters: expected a model, at most 16,777,216"),
    ],
)  # fmt: skip
def test_what_is_no_document_is_refused_in_one_line(text, message):
    with pytest.raises(SpecError) as caught:
        from_json(text)
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 600


def test_nesting_that_json_can_read_but_python_not_build():
    node = {"op": "conv", "channels": 8}
    for _ in range(400):
        node = {"op": "residual", "body": node}
    with pytest.raises(SpecError, match="nested too deeply"):
        from_json(changed(*NODE, to=node))


def test_chains_stay_flat():
    model = from_json(to_json(MODELS["xception"]))
    chain = model.parts["block4"].body
    assert isinstance(chain, Chain)
    assert not any(isinstance(child, Chain) for child in chain.nodes)
