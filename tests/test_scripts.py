"""What train.py and validate.py share: warnings and errors as one line each, exit status."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(body, **environment):
    """A script whose `main` has this body."""
    code = f"""
import logging, sys
from zoo.commands.entry_point import run
from zoo.errors import Stopped, TrainingError
def main():
    {body}
    return 0
sys.exit(run(main))
"""
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env={**os.environ, **environment}
    )


def test_a_warning_is_printed_once_whatever_a_framework_does_to_the_root_logger():
    done = run("logging.basicConfig(); logging.getLogger('zoo').warning('once')")
    assert (done.stderr, done.returncode) == ("-c: warning: once\n", 0)


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ("raise TrainingError('two\\nlines')", 2, "-c: error: two lines\n"),
        ("open('/nowhere/x')", 2, "-c: error: /nowhere/x: No such file or directory\n"),
        ("raise Stopped('saved', 15)", 143, ""),
        ("raise KeyboardInterrupt", 130, "-c: interrupted\n"),
        ("return 3", 3, ""),
    ],
)
@pytest.mark.parametrize("framework", ["", "sys.modules['paddle'] = sys; ", "sys.modules['mindspore'] = sys; "])
def test_exit_statuses_are_the_same_with_and_without_a_teardown(body, status, error, framework):
    done = run(framework + body)
    assert (done.returncode, done.stderr) == (status, error)


def test_only_a_framework_that_needs_it_ends_without_a_teardown():
    """`atexit` handlers of the others run."""
    body = "import atexit; atexit.register(print, 'done'); sys.modules['{}'] = sys"
    assert run(body.format("torch")).stdout == run(body.format("paddle")).stdout == "done\n"
    assert run(body.format("mindspore")).stdout == ""


def test_the_first_process_prints_the_warnings():
    done = run("logging.getLogger('zoo').warning('once')", RANK="1", WORLD_SIZE="2")
    assert (done.stderr, done.returncode) == ("", 0)


def test_help_and_errors_of_the_scripts():
    words = [sys.executable, "train.py", "--model", "googlenet", "--learning_rate", "1"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
    assert done.stderr == "train.py: error: --learning_rate: no such flag; did you mean --lr?\n"
    assert done.returncode == 2
