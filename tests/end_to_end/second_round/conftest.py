"""A run of 20 images, with an untrained generator: masks from its maps depend on it all the same."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from locloc.pipeline.status import Seen
from locloc.pipeline.store import Version, open_version
from locloc.trainer.models.checkpoint import save_checkpoint
from locloc.trainer.models.generator import Generator
from locloc.trainer.training.second_round import SEEN

from ..conftest import build, make_images


def save_generator(run: Path, channels: int, seed: int) -> None:
    shape = {"channels": channels, "base": 2, "width": 8, "tail": (8, 4, 4)}
    (run / "generator").mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    save_checkpoint(run / "generator" / "best.safetensors", Generator(**shape), "generator", {"shape": shape})


def make_run(run: Path, version: Version) -> Path:
    """As `locloc train` leaves it: trained on the first ten images, chosen on the next two."""
    save_generator(run, 192, 0)
    metadata = {
        "version": version.name, "fingerprint": "ab" * 32, "backbone": version.provenance["backbone"], "recipe": {},
    }  # fmt: skip
    (run / "run.json").write_text(json.dumps(metadata))
    codes = np.array([Seen.TRAINED_ON] * 10 + [Seen.CHOSEN_ON] * 2, np.uint8)
    np.savez(run / SEEN, digest=version.read_column("input_digest")[:12], seen=codes)
    return run


@pytest.fixture(scope="package")
def few(tmp_path_factory) -> Path:
    return make_images(tmp_path_factory.mktemp("few"), 20)


@pytest.fixture(scope="package")
def first(few, tmp_path_factory) -> Version:
    """The masks of the first round, with contrast maps."""
    store = tmp_path_factory.mktemp("rounds") / "masks.store"
    build(few, store, "--recipe", "contrast", "--workers", 1)
    return open_version(f"{store}@v1")


@pytest.fixture(scope="package")
def run(first, tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "run", first)
