"""The documentation's commands and code are run, page by page, and its translations have the same ones."""

import re
import shlex
import sys
from dataclasses import replace

import numpy as np
import pytest
from pages import ROOT, blocks, commands, follow
from prepared import prepare
from support import batch, calibrated, error, expected, narrow

import backends
import zoo
from backends import get
from zoo import frameworks
from zoo.commands import SCRIPTS, parser
from zoo.language.model import configure
from zoo.models import MODELS
from zoo.training.flags import command_line

DOCS = ROOT / "docs"

PAGES = (
    "add_a_model.md",
    "building.md",
    "certify.md",
    "checkpoints.md",
    "convert.md",
    "deploying.md",
    "exact.md",
    "exporting.md",
    "fid.md",
    "finetune.md",
    "jax.md",
    "package.md",
    "parity.md",
    "predict.md",
    "pretrained.md",
    "source.md",
    "start.md",
    "../README.md",
)

EVERY_DAY = ("exporting.md",)
"""The others take minutes: `make nightly`."""

RUN_ELSEWHERE = {
    "add_a_framework.md": "below",
    "threads.md": "tests/peers/threads.py",
}


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    """A folder that keeps the files that pages assume to exist."""
    return tmp_path_factory.mktemp("prepared")


@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=() if page in EVERY_DAY else pytest.mark.nightly) for page in PAGES]
)
def test_page(page, tmp_path, store):
    environment = prepare((DOCS / page).read_text(), tmp_path, store)
    for script in ("train.py", "validate.py"):
        (tmp_path / script).symlink_to(ROOT / script)
    (tmp_path / "checkout").symlink_to(ROOT)
    assert follow(DOCS / page, tmp_path, **environment) > 0


def test_every_page_with_code_is_run():
    """Also pages that are not in the list yet."""
    with_code = {
        page.name
        for page in DOCS.glob("*.md")
        if not page.name.endswith(".zh.md")
        and any(block.run and block.kind in ("python", "console", "bash") for block in blocks(page))
    }
    assert with_code | {"../README.md"} == {*PAGES, *RUN_ELSEWHERE}


@pytest.mark.parametrize("page", [*sorted(page.name for page in DOCS.glob("*.md")), "../README.md"])
def test_commands_have_flags_that_exist(page):
    """Also in blocks that are not run."""
    fences = re.findall("^```", (DOCS / page).read_text(), re.MULTILINE)
    assert len(fences) == 2 * len(blocks(DOCS / page))
    for block in blocks(DOCS / page):
        if block.kind not in ("console", "bash") or page.startswith("threads"):
            continue
        for line, _ in commands(block):
            words = shlex.split(line, comments=True)
            script = next((word for word in words if re.fullmatch("(train|validate)[.]py", word)), "")
            if script:
                flags = [word for word in words[words.index(script) + 1 :] if word != "..."]
                _, rest = command_line.parser(script.removesuffix(".py"), script).parse_known_args(flags)
                assert not rest, line
            elif words[:1] == ["zoo"] and words[1] not in SCRIPTS:
                parser().parse_args(words[1:])
            elif words[:1] == ["zoo"]:
                _, rest = command_line.parser(words[1], f"zoo {words[1]}").parse_known_args(words[2:])
                assert not rest, line


TRANSLATIONS = sorted(page.name for page in (*DOCS.glob("*.zh.md"), ROOT / "README.zh.md"))


@pytest.mark.parametrize("translation", TRANSLATIONS)
def test_a_translation_has_the_same_code(translation):
    folder = ROOT if translation.startswith("README") else DOCS
    assert blocks(folder / translation) == blocks(folder / translation.replace(".zh.md", ".md"))


@pytest.fixture
def arrays(tmp_path, monkeypatch):
    """The page's framework, as if its folder lay in backends/ and its row in FRAMEWORKS."""
    monkeypatch.setattr(frameworks, "FRAMEWORKS", frameworks.FRAMEWORKS)
    before = dict(frameworks.FRAMEWORKS), dict(frameworks.CONVENTIONS)
    assert follow(DOCS / "add_a_framework.md", tmp_path) == 0  # it only has files
    monkeypatch.setattr(backends, "__path__", [*backends.__path__, str(tmp_path / "backends")])
    monkeypatch.setattr(backends, "BACKENDS", (*backends.BACKENDS, "arrays"))
    monkeypatch.setattr(backends, "_import_framework", lambda name: None)
    exec(compile((tmp_path / "row.py").read_text(), "row.py", "exec"), {})
    yield tmp_path
    for table, rows in zip((frameworks.FRAMEWORKS, frameworks.CONVENTIONS), before, strict=True):
        table.clear()
        table.update(rows)
    for name in [name for name in sys.modules if name.startswith("backends.arrays")]:
        del sys.modules[name]


@pytest.mark.parametrize(
    "name", ["googlenet", "inception_v4", "inception_resnet_v2", "xception.mindcv", "xception41p", "bninception"]
)
def test_add_a_framework(arrays, name):
    """Its networks equal the reference, and their weights come back to the bit."""
    model = replace(narrow(name), aux=())
    weights, x = calibrated(model), batch(model, 128)
    net = get("arrays").build(model)
    get("arrays").load(net, weights)
    reference = expected(model, weights, x)
    for stage, value in get("arrays").predict(net, x, tape=True).items():
        assert value.dtype == np.float32
        assert error(value, reference[stage]) < 1e-5, stage
    again = get("arrays").dump(net)
    assert all(again[key].tobytes() == array.tobytes() for key, array in weights.items())


def test_a_new_framework_is_built_by_its_name(arrays, capsys):
    exec(compile((arrays / "use.py").read_text(), "use.py", "exec"), {})
    assert capsys.readouterr().out == "(1, 1000)\n"
    net = zoo.build("googlenet", "arrays", width=0.25, out_indices=["mixed_4b"])
    assert list(get("arrays").predict(net, batch(configure(MODELS["googlenet"]), 64))) == ["mixed_4b"]
    with pytest.raises(zoo.BackendError, match="backend arrays runs networks only: it has no training"):
        backends.load("arrays", "training")


@pytest.mark.nightly
@pytest.mark.parametrize("notebook", sorted((DOCS / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebook(notebook, tmp_path, monkeypatch):
    """The notebook runs, and its stored results are those of its current cells."""
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    book = nbformat.read(notebook, as_version=4)
    stored = [[output.output_type for output in cell.outputs] for cell in book.cells if cell.cell_type == "code"]
    NotebookClient(book, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    found = [
        list(dict.fromkeys(o.output_type for o in cell.outputs)) for cell in book.cells if cell.cell_type == "code"
    ]
    assert found == stored
