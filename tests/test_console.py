"""Tables: figures are never cut, text is wrapped to the terminal's width, and square brackets are text."""

import re

import pytest

from zoo import console


def shown(capsys, *rows):
    table = console.new("model", ">error", "remark")
    for row in rows:
        table.add_row(*row)
    console.show(table)
    return capsys.readouterr().out


ROW = (
    "inception_v3.paddleclas",
    "1,234,567.89",
    "a sentence that is much too long for the forty columns of a terminal",
)


@pytest.mark.parametrize("width", [60, 80, 100])
def test_a_table_fits_the_terminal_and_figures_stay_whole(capsys, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    out = shown(capsys, ROW)
    assert max(map(len, out.splitlines())) <= width
    assert "1,234,567.89" in out
    assert "inception_v3.paddleclas" in out


@pytest.mark.parametrize("width", range(72, 100))
def test_no_text_is_cut_off(capsys, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    table = console.new("model", ">size", ">GMACs", ">ms", ">top-1", "published by")
    cells = ("inception_v4.paddleclas", "299", "12.25", "52", "80.1", "timm, Cadene, zhulf0804, mindcv, TF-slim")
    table.add_row(*cells)
    console.show(table)
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= width
    assert sorted(re.sub(r"[\s─]", "", printed)) == sorted(re.sub(r"[\s>]", "", "".join(table.columns + cells)))


def test_titles_of_figures_are_wrapped_to_fit(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    table = console.new("model", ">largest relative error", ">seconds of import and build")
    table.add_row("inception_v4", "1.2e-06", "3.25")
    console.show(table)
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 40
    assert all(word in out for word in ("relative", "import", "inception_v4", "1.2e-06", "3.25"))


def test_figures_stay_whole_where_the_terminal_is_too_narrow(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    assert "1,234,567.89" in shown(capsys, ROW)


def test_a_table_that_is_not_for_a_terminal_is_not_wrapped(capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    assert ROW[2] in shown(capsys, ROW)


def test_square_brackets_are_text_and_verdicts_are_coloured(capsys):
    out = shown(capsys, ("[final]/a.ckpt", "[/]", "[bold red]failed[/]"), ("a[/final]", "1", "[green]ok[/]"))
    assert [line.split() for line in out.splitlines()[3:5]] == [
        ["[final]/a.ckpt", "[/]", "failed"],
        ["a[/final]", "1", "ok"],
    ]
