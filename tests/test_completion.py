"""`zoo completion`: what bash offers, and that zsh takes the script."""

import shutil
import subprocess

import pytest

from zoo.commands import main
from zoo.training.flags.table import flags_of

OFFERED = """
source completion.bash
COMP_WORDS=({words} "")
[ "{last}" ] && COMP_WORDS=({words} "{last}")
COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 )) COMP_LINE="${{COMP_WORDS[*]}}" COMP_POINT=${{#COMP_LINE}}
_shtab_zoo
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture
def offered(tmp_path, capsys):
    """What bash offers for the last word of a line."""
    assert main(["completion", "bash"]) == 0
    (tmp_path / "completion.bash").write_text(capsys.readouterr().out)
    (tmp_path / "net.safetensors").touch()

    def complete(line):
        words, _, last = line.rpartition(" ")
        script = OFFERED.format(words=words, last=last)
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=tmp_path)
        assert not done.stderr
        return set(done.stdout.split())

    return complete


def test_bash(offered):
    assert {"parity", "package"} <= offered("zoo pa")
    assert offered("zoo info inception_v4.m") == {"inception_v4.mindcv"}
    assert offered("zoo info net") == {"net.safetensors"}
    assert offered("zoo source inception_v4 --backend m") == {"mindspore"}
    assert offered("zoo train --model xception6") >= {"xception65", "xception65p"}
    assert offered("zoo train --ep") == {f"--{name}" for name in flags_of("train") if name.startswith("ep")}
    assert "--calibration" in offered("zoo validate --cal")


@pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh")
def test_zsh(tmp_path, capsys):
    assert main(["completion", "zsh"]) == 0
    (tmp_path / "script").write_text(capsys.readouterr().out)
    script = 'autoload -U compinit; compinit -D; eval "$(cat script)"; which _shtab_zoo _zoo_networks'
    done = subprocess.run(["zsh", "-f", "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0
    assert not done.stderr


def test_another_shell_is_refused(capsys):
    assert main(["completion", "fish"]) == 2
    assert "choose from 'bash', 'zsh', 'tcsh'" in capsys.readouterr().err
