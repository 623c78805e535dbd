"""Tables for people and pipes: aligned, nothing cut off, no row broken in two."""

import pytest

from locloc.pipeline.io import console, tables

LONG = "a-very-long-class/" + "x" * 90 + ".jpg"
HEADERS, ROWS = ("status", "rows", "id"), [("ok", "7", LONG), ("[bold]non-finite[/]", "12", "日本.jpg")]


@pytest.fixture
def terminal(monkeypatch):
    """`terminal(width)` makes standard output a terminal of that width, without colours."""
    from rich.console import Console

    def make(width):
        made = Console(force_terminal=True, width=width, soft_wrap=True, highlight=False, color_system=None)
        monkeypatch.setattr(tables, "out", made)

    return make


def test_a_pipe_gets_a_line_a_row_without_spaces_at_its_end(capsys):
    tables.print_table(HEADERS, ROWS)
    assert capsys.readouterr().out.splitlines() == [
        "status      rows  id",
        f"ok             7  {LONG}",
        "non-finite    12  日本.jpg",
    ]


def test_a_terminal_that_is_wide_enough_gets_the_same(capsys, terminal):
    terminal(200)
    tables.print_table(HEADERS, ROWS)
    assert f"ok             7  {LONG}\n" in capsys.readouterr().out


def test_a_narrow_terminal_gets_it_row_by_row(capsys, terminal):
    terminal(80)
    tables.print_table(HEADERS, ROWS)
    said = capsys.readouterr().out
    assert said == f"status: ok\nrows: 7\nid: {LONG}\n\nstatus: non-finite\nrows: 12\nid: 日本.jpg\n"


def test_long_fields_go_on_below_their_beginning(capsys, terminal):
    fields = [("recipe", ", ".join(["saliency.heads mean"] * 8)), ("path", LONG)]
    tables.print_fields(fields)
    assert capsys.readouterr().out.splitlines() == [f"recipe  {fields[0][1]}", f"path    {LONG}"]
    terminal(60)
    tables.print_fields(fields)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("recipe  saliency") and lines[1].startswith(" " * 8 + "saliency")
    assert all(len(line) <= 60 for line in lines[:-1]) and lines[-1].endswith(LONG)


def test_nothing_is_printed_of_nothing(capsys):
    tables.print_table((), [])
    tables.print_fields([])
    assert capsys.readouterr().out == "" and console.out.width >= 80
