"""Runs by their name on the Hugging Face hub: `hf:USER/NAME`, or `hf:USER/NAME@REVISION`.

Imports no torch for a run that is a folder.
"""

import re
from functools import cache
from pathlib import Path

from ...pipeline.errors import BackboneError, TrainError
from ...pipeline.io.local_paths import check_local

PREFIX = "hf:"
FILES = ("*.safetensors", "*/best.safetensors", "recipe.toml", "README.md")
"""What is downloaded of a run. Nothing in these files is executed."""


def is_hub_run(run: Path | str) -> bool:
    return str(run).startswith(PREFIX)


def run_folder(run: Path | str) -> Path:
    """The folder of a run; one of the hub is downloaded, or found in the hub's cache. Raises TrainError."""
    if is_hub_run(run):
        return _downloaded(str(run))
    check_local(run, "RUN", TrainError)
    return Path(run)


@cache
def _downloaded(run: str) -> Path:
    match = re.fullmatch(r"hf:([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", run)
    if match is None:
        raise TrainError(f"{run!r} names no run of the hub; write hf:USER/NAME, or hf:USER/NAME@REVISION")
    name, revision = match.groups()
    import huggingface_hub

    from ...pipeline.backbones.create import online  # imports torch

    try:
        folder: str = online(
            f"{run} is",
            lambda: huggingface_hub.snapshot_download(name, revision=revision, allow_patterns=list(FILES)),
            "download it where there is a network, and give its folder",
        )
    except BackboneError as error:
        raise TrainError(str(error)) from None
    return Path(folder)
