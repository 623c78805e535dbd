"""The house itself: packaging, tasks and the frozen command line."""

import re
import tomllib
from pathlib import Path

import typer

from locloc.cli import app

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PIXI = tomllib.loads((ROOT / "pixi.toml").read_text())


def test_every_folder_with_modules_is_packaged():
    folders = {
        ".".join(["locloc", *file.parent.relative_to(ROOT).parts])
        for top in ("pipeline", "trainer")
        for file in (ROOT / top).rglob("*.py")
    }
    folders |= {".".join(["locloc", *file.parent.relative_to(ROOT).parts]) for file in ROOT.glob("pipeline/*/*.toml")}
    assert folders | {"locloc"} == set(PYPROJECT["tool"]["setuptools"]["packages"])


def bounds(requirements: list[str]) -> dict[str, str]:
    return dict(re.fullmatch(r"([\w-]+)(.*)", line).groups() for line in requirements)


def test_pixi_and_pip_install_the_same():
    wanted = bounds(PYPROJECT["project"]["dependencies"] + PYPROJECT["project"]["optional-dependencies"]["dev"])
    conda = {**PIXI["dependencies"], **PIXI["feature"]["dev"]["dependencies"], **PIXI["pypi-dependencies"]}
    renamed = {"dask": "dask-core", "huggingface-hub": "huggingface_hub"}
    for name, bound in wanted.items():
        if name != "torch":
            assert conda[renamed.get(name, name)] == (bound or "*"), name
    assert PIXI["feature"]["cpu"]["dependencies"]["pytorch-cpu"] == wanted["torch"]
    assert PIXI["feature"]["cuda"]["dependencies"]["pytorch-gpu"] == wanted["torch"]
    assert conda["python"].startswith(PYPROJECT["project"]["requires-python"])


def test_pixi_has_the_tasks_of_make():
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)) - {"clean"}
    assert targets == set(PIXI["feature"]["dev"]["tasks"]) == {"demo", "test", "check", "bench"}
    assert (ROOT / ".ci" / "run").read_text().splitlines()[-1] == "make test"


def flags(command) -> dict[str, list[str]]:
    """Every command with its arguments (upper case) and options."""
    if isinstance(command, typer.core.TyperGroup):
        found = {}
        for name, sub in sorted(command.commands.items()):
            found |= {f"{name} {rest}".strip(): options for rest, options in flags(sub).items()}
        return found
    return {"": [option for parameter in command.params for option in (parameter.opts or [parameter.name])]}


def test_the_command_line_is_frozen():
    """Scripts depend on these names. Adding is fine; change or remove one only with a line in the changelog."""
    assert flags(typer.main.get_command(app)) == {
        "data synth": ["out", "--images", "--classes", "--seed"],
        "demo": ["out"],
        "masks build": [
            "images", "--store", "--catalog", "--root", "--backbone", "--weights", "--recipe", "--name", "--workers",
            "--checkpoint-s", "--min-coverage", "--dry-run", "--json",
        ],
        "masks list": ["store", "--json"],
        "masks recipe": ["name"],
        "masks show": ["version", "--json"],
        "masks score": ["version", "--truth", "--json"],
        "masks view": ["version", "image_ids", "--out", "--root"],
    }  # fmt: skip
