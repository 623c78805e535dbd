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
    folders |= {".".join(["locloc", *file.parent.relative_to(ROOT).parts]) for file in ROOT.glob("*/recipes/*.toml")}
    assert folders | {"locloc"} == set(PYPROJECT["tool"]["setuptools"]["packages"])


def bounds(requirements: list[str]) -> dict[str, str]:
    found = [re.fullmatch(r"([\w-]+)(?:\[(\w+)\])?(.*)", line).groups() for line in requirements]
    return {name: bound for name, extra, bound in found if name != "locloc"}


def test_pixi_and_pip_install_the_same():
    extras = PYPROJECT["project"]["optional-dependencies"]
    assert {"locloc[cluster]", "locloc[docs]"} <= set(extras["dev"])  # `make` installs `dev` alone
    wanted = bounds(PYPROJECT["project"]["dependencies"] + extras["cluster"] + extras["docs"] + extras["dev"])
    conda = PIXI["dependencies"] | PIXI["pypi-dependencies"]
    for name in ("cluster", "docs", "dev"):
        conda |= PIXI["feature"][name]["dependencies"]
        assert all(name in features for features in PIXI["environments"].values())
    conda |= {name: entry["version"] for name, entry in PIXI["feature"]["dev"]["pypi-dependencies"].items()}
    renamed = {"dask": "dask-core", "huggingface-hub": "huggingface_hub"}
    for name, bound in wanted.items():
        if name != "torch":
            assert conda[renamed.get(name, name)] == (bound or "*"), name
    assert PIXI["feature"]["cpu"]["dependencies"]["pytorch-cpu"] == wanted["torch"]
    assert PIXI["feature"]["cuda"]["dependencies"]["pytorch-gpu"] == wanted["torch"]
    assert conda["python"].startswith(PYPROJECT["project"]["requires-python"])


def test_pixi_has_the_tasks_of_make():
    makefile, tasks = (ROOT / "Makefile").read_text(), PIXI["feature"]["dev"]["tasks"]
    targets = set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE)) - {"clean", "wheelhouse", "test-icechunk2"}
    assert targets == set(tasks) == {"demo", "test", "test-slow", "test-all", "check", "docs", "bench"}
    pytest = re.search(r"^PYTEST := (.*)$", makefile, re.MULTILINE).group(1)
    for name in ("demo", "test", "test-slow", "docs"):
        command = re.search(rf"^{name}: .*\n\t(.*)$", makefile, re.MULTILINE).group(1)
        assert tasks[name]["cmd"] == command.replace("$(PYTEST)", pytest).replace("$(RUN)/", ""), name
    assert f"test-all: {' '.join(tasks['test-all']['depends-on'])}\n" in makefile
    steps = ["make check", "make test", "make test-icechunk2", "make test-slow"]
    assert (ROOT / ".ci" / "run").read_text().splitlines()[-4:] == steps


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
    how = ["--workers", "--gpus", "--scheduler", "--slurm", "--checkpoint-s", "--image-limit-s", "--log"]
    assert flags(typer.main.get_command(app)) == {
        "bench": [
            "--compare-ppd", "--masks", "--device", "--batch", "--classes", "--images", "--truth", "--truth-class",
            "--count", "--size", "--vit-images-s", "--precision", "--threads", "--keep-tokens", "--shared-blocks",
            "--backbone", "--rounds", "--quick", "--json", "--plot",
        ],
        "data synth": ["out", "--images", "--classes", "--seed", "--overwrite"],
        "demo": ["out"],
        "eval": [
            "targets", "--images", "--catalog", "--split", "--protocol", "--tau", "--truth", "--truth-class",
            "--boxes-in", "--masks-in", "--json",
            "--report", "--score-maps", "--metadata", "--write-score-maps", "--models", "--device", "--precision",
            "--backbone", "--weights", "--allow-changed-images",
        ],
        "export": [
            "run", "out", "--to", "--tau", "--figures", "--class-square", "--models", "--backbone", "--weights",
            "--json",
        ],
        "masks build": [
            "images", "--store", *how, "--catalog", "--root", "--label", "--exclude", "--backbone", "--weights",
            "--precision", "--recipe", "--from", "--name", "--boxes-in", "--min-coverage", "--dry-run", "--json",
        ],
        "masks decide": ["version", "decisions", "--name", "--json"],
        "masks delete": ["version"],
        "masks diff": ["version", "other", "--json"],
        "masks export": [
            "version", "out", "--to", "--split", "--classes", "--min-quality", "--images", "--size", "--segmentation",
            "--root", "--json",
        ],
        "masks extend": [
            "version", "images", *how, "--catalog", "--root", "--label", "--exclude", "--weights", "--name", "--json",
        ],
        "masks gc": ["store", "--json"],
        "masks import": [
            "masks", "--images", "--store", "--format", "--catalog", "--root", "--exclude", "--truth-class",
            "--boxes-in", "--mask-px", "--backbone", "--weights", "--name", "--json",
        ],
        "masks list": ["store", "--json"],
        "masks recipe": ["name", "--for"],
        "masks refine": ["version", *how, "--recipe", "--from", "--root", "--weights", "--name", "--json"],
        "masks report": [
            "version", "--out", "other", "--sample", "--all", "--truth", "--boxes-in", "--truth-class", "--root",
            "--workers", "--json",
        ],
        "masks resume": ["store", *how, "--build", "--root", "--weights", "--name", "--json"],
        "masks retry": ["version", *how, "--status", "--damaged", "--root", "--weights", "--name", "--json"],
        "masks serve": ["version", "--port", "--host", "--decisions", "--sample", "--all", "--root"],
        "masks show": ["version", "--json"],
        "masks score": [
            "version", "--truth", "--boxes-in", "--truth-class", "--per-image", "--worst", "--split", "--json",
        ],
        "masks tune": [
            "version", "--truth", "--trials", "--split", "--metric", "--seed", "--out", "--workers", "--boxes-in",
            "--truth-class", "--root", "--json",
        ],
        "masks verify": ["version", "--sample", "--root", "--json"],
        "masks view": [
            "version", "--out", "image_ids", "--worst", "--columns", "--truth", "--boxes-in", "--truth-class", "--root",
        ],
        "predict": [
            "run", "images", "--out", "--format", "--top", "--tau", "--clean", "--batch", "--device", "--precision",
            "--models", "--backbone", "--weights", "--json",
        ],
        "train": [
            "version", "--out", "--images", "--stage", "--recipe", "--set", "--devices", "--accelerator",
            "--precision", "--workers", "--cache-tokens", "--only", "--rounds", "--resume", "--dry-run",
            "--show-recipe", "--weights", "--allow-changed-images", "--boxes-in", "--checkpoint-s", "--json",
        ],
        "weights import": ["file", "--out", "--classes"],
    }  # fmt: skip
