"""A small store of scenes to train on, and runs that take seconds."""

import io
import json
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from locloc.cli import app
from locloc.pipeline.synthetic import write_dataset

# 24 images to train on: 3 steps an epoch.
SMALL = [
    "--workers", 0,
    *(part for change in (
        "generator.fit.epochs=2", "generator.fit.batch_size=8", "generator.fit.ema_decay=0.9",
        "generator.fit.accumulate=2", "generator.fit.clip_norm=1.0", "classifier.fit.epochs=2",
        "classifier.fit.batch_size=8", "decoder.fit.epochs=1", "decoder.fit.batch_size=12", "linear.fit.epochs=1",
    ) for part in ("--set", change)),
]  # fmt: skip


def in_process(*arguments: Any) -> dict[str, Any]:
    """Runs a command in this process, which has imported torch already, and returns what `--json` prints."""
    said = io.StringIO()
    with redirect_stdout(said):
        assert not app([*map(str, arguments), "--json"], standalone_mode=False)
    return json.loads(said.getvalue())


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 scenes of 4 classes: 24 train, 8 val, 8 test."""
    folder = tmp_path_factory.mktemp("scenes")
    write_dataset(folder, 40, 4, 3)
    return folder


@pytest.fixture(scope="session")
def version(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    store = tmp_path_factory.mktemp("store") / "masks.store"
    in_process("masks", "build", scenes, "--catalog", "synthetic", "--store", store, "--workers", 1)
    return f"{store}@v1"


def lines(run: Path, stage: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / stage / "metrics.jsonl").read_text().splitlines()]


def losses(run: Path, stage: str) -> list[float]:
    return [line["loss"] for line in lines(run, stage) if "loss" in line]
