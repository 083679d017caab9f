"""The workflow that other repositories call: its command runs, and its inputs are those that its steps use."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from support import SMALL

WORKFLOWS = Path(__file__).parents[1] / ".github" / "workflows"

NETS = """
import zoo


def right():
    return zoo.build(SMALL, "torch")


def wrong():
    return zoo.build(zoo.from_json(zoo.to_json(zoo.spec(SMALL)).replace('"scale": 0.5', '"scale": 0.7')), "torch")
"""


@pytest.mark.parametrize("name", [pytest.param("right", marks=pytest.mark.nightly), "wrong"])
def test_the_command_of_the_reusable_workflow(tmp_path, name):
    workflow = yaml.safe_load((WORKFLOWS / "parity.yml").read_text())
    (step,) = (step for step in workflow["jobs"]["parity"]["steps"] if "zoo parity" in step.get("run", ""))
    (tmp_path / "nets.py").write_text(NETS.replace("SMALL", repr(str(SMALL))))
    given = {"model": str(SMALL), "against": f"nets:{name}", "framework": "torch", "arguments": "--training"}
    values = {key: given[re.search(r"inputs\.(\w+)", value)[1]] for key, value in step["env"].items()}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    run = subprocess.run(["bash", "-ec", step["run"]], cwd=tmp_path, env={**os.environ, **values, "PATH": path})
    assert run.returncode == (name == "wrong")
    assert json.loads((tmp_path / "parity.json").read_text())["ok"] == (name == "right")
    assert {"parity.html", "parity.xml"} <= {file.name for file in tmp_path.iterdir()}


def test_inputs_are_used_and_given():
    text = (WORKFLOWS / "parity.yml").read_text()
    inputs = yaml.safe_load(text)[True]["workflow_call"]["inputs"]  # YAML 1.1 reads "on" as true
    assert set(re.findall(r"inputs\.(\w+)", text)) == set(inputs)
    call = yaml.safe_load((WORKFLOWS / "ci.yml").read_text())["jobs"]["parity"]
    assert {name for name, given in inputs.items() if given.get("required")} <= set(call["with"]) <= set(inputs)


@pytest.mark.parametrize(
    ("tag", "changelog", "message"),
    [
        ("v1.2", "# Changelog\n\n## 1.2 (2026-12-01)\n\n- New.\n\n## 1.1\n\n- Old.\n", None),
        ("v1.3", "## 1.2\n\n- New.\n", "the tag is v1.3, and zoo/version.py says 1.2"),
        ("v1.2", "## Unreleased\n\n- New.\n", 'CHANGELOG.md has no section "## 1.2"'),
        ("v1.2", "## 1.2\n\n## 1.1\n\n- Old.\n", 'CHANGELOG.md has no section "## 1.2"'),
    ],
)
def test_release_notes(tag, changelog, message):
    spec = importlib.util.spec_from_file_location("release_notes", WORKFLOWS.parent / "release_notes.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if message is None:
        assert module.notes(tag, "1.2", changelog) == "- New."
    else:
        with pytest.raises(SystemExit, match=re.escape(message)):
            module.notes(tag, "1.2", changelog)
