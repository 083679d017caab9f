"""What is *not* imported: the core has no framework, a backend only its own."""

import subprocess
import sys
from graphlib import TopologicalSorter

import grimp
import pytest

from zoo.frameworks import FRAMEWORKS

NAMES = set(FRAMEWORKS)


def loaded_by(code):
    """The top-level modules that a fresh interpreter has after running `code`."""
    script = f"import sys\n{code}\nprint('\\n'.join({{name.partition('.')[0] for name in sys.modules}}))"
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_the_core_imports_no_framework():
    modules = (
        "zoo.commands, zoo.parity, zoo.parity.stored_reference, weights, backends.worker, backends.reference.network"
    )
    code = f"import zoo, {modules}"
    assert not loaded_by(code) & NAMES


def test_importing_zoo_costs_nothing_it_does_not_need():
    heavy = {"numpy", "rich", "PIL", "safetensors"}
    assert not loaded_by("import zoo, zoo.catalogue; zoo.list_models(); zoo.catalogue.info('inception_v4')") & heavy
    assert not loaded_by("import zoo; zoo.info('inception_v4')") & {"rich", "PIL"}


def test_the_reference_needs_numpy_only():
    assert not loaded_by("import zoo; zoo.build('googlenet', 'reference', width=0.25)") & NAMES


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_backend_imports_its_own_framework_only(framework):
    assert loaded_by(f"import backends; backends.get({framework!r})") & NAMES == {framework}


def test_no_file_imports_itself_through_others():
    """import-linter checks imports between layers (make lint); this checks those within a layer."""
    graph = grimp.build_graph("backends", "weights", "zoo", cache_dir=None)
    order = TopologicalSorter({name: graph.find_modules_directly_imported_by(name) for name in graph.modules})
    order.prepare()
