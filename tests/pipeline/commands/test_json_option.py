"""`--json` alone, with `=FILE`, and before other words."""

import json

import pytest
import typer
from typer.testing import CliRunner

from locloc.cli import app
from locloc.pipeline.commands.json_option import Json, JsonCommand, JsonFileCommand, print_or_write, with_json_value
from locloc.pipeline.errors import LocLocError


@pytest.mark.parametrize(
    ("typed", "means"),
    [
        ("STORE --json", "STORE --json=-"),
        ("--json STORE", "--json=- STORE"),
        ("--json=f STORE", "--json=f STORE"),
        ("--json f.json STORE", "--json=f.json STORE"),
        ("STORE --json f.json", "STORE --json=f.json"),
        ("--json - STORE", "--json=- STORE"),
        ("--json --root x", "--json=- --root x"),
        ("-- --json", "-- --json"),
        ("a --json -- f.json", "a --json=- -- f.json"),
    ],
)
def test_a_next_word_is_the_file_only_if_it_ends_in_json(typed, means):
    assert with_json_value(typed.split(), any_word_is_file=False) == means.split()


@pytest.mark.parametrize(
    ("typed", "means"),
    [
        ("run --json figures", "run --json=figures"),
        ("--json figures run", "--json=figures run"),
        ("run --json", "run --json=-"),
        ("run --json --split val", "run --json=- --split val"),
        ("run --json=f", "run --json=f"),
    ],
)
def test_in_eval_and_bench_any_next_word_is_the_file(typed, means):
    assert with_json_value(typed.split(), any_word_is_file=True) == means.split()


@pytest.fixture(params=[JsonCommand, JsonFileCommand])
def command(request):
    made = typer.Typer()

    @made.command(cls=request.param)
    def show(word: str, json: Json = None) -> None:
        print_or_write({"word": word}, json, lambda: print(f"text {word}"))

    return made


def test_json_replaces_the_text_or_goes_beside_it(command, tmp_path):
    file = tmp_path / "a.json"
    assert CliRunner().invoke(command, ["x"]).stdout == "text x\n"
    assert json.loads(CliRunner().invoke(command, ["x", "--json"]).stdout) == {"word": "x"}
    for arguments in (["x", f"--json={file}"], ["x", "--json", str(file)], ["--json", str(file), "x"]):
        assert CliRunner().invoke(command, arguments).stdout == "text x\n"
        assert json.loads(file.read_text()) == {"word": "x"}
        file.unlink()


def test_a_file_that_cannot_be_written_is_refused_before_the_work(command, tmp_path):
    for file in (tmp_path, tmp_path / "nowhere" / "a.json", tmp_path / ("x" * 300)):
        result = CliRunner().invoke(command, ["x", f"--json={file}"])
        assert isinstance(result.exception, LocLocError) and "\n" not in str(result.exception)
        assert "text" not in result.stdout
    assert "names no file" in CliRunner().invoke(command, ["x", "--json="]).output
    assert list(tmp_path.iterdir()) == []


def test_every_command_with_json_takes_it_in_the_same_way():
    def commands(group):
        for one in group.commands.values():
            yield from commands(one) if hasattr(one, "commands") else [one]

    with_json = [one for one in commands(typer.main.get_command(app)) if any(p.name == "json" for p in one.params)]
    assert len(with_json) >= 15
    assert all(isinstance(one, JsonCommand) for one in with_json)
    assert {one.name for one in with_json if isinstance(one, JsonFileCommand)} == {"eval", "bench"}
