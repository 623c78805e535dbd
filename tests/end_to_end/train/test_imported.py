"""A version of imported masks is trained on, and judged, as any other."""

import json

import pytest

from locloc.pipeline.store import open_version

from .conftest import SMALL, in_process, losses


@pytest.mark.slow
def test_masks_that_left_and_came_back_train_the_same(version, scenes, tmp_path):
    out, store = tmp_path / "masks", tmp_path / "imported.store"
    in_process("masks", "export", version, out, "--to", "png", "--size", "mask")
    images = ("--images", scenes, "--catalog", "synthetic")
    assert in_process("masks", "import", out, *images, "--store", store)["version"] == "v1"
    imported, original = open_version(f"{store}@v1"), open_version(version)
    assert imported.ids == original.ids and (imported.read_masks(slice(None)) == original.read_masks(slice(None))).all()
    decisions = tmp_path / "decisions.csv"
    decisions.write_text(f"id,decision\n{imported.ids[0]},rejected\n")
    for number, masks in enumerate((version, f"{store}@v1")):
        in_process("train", masks, "--out", tmp_path / f"run{number}", *SMALL)
    for stage in ("generator", "classifier"):
        assert losses(tmp_path / "run0", stage) == losses(tmp_path / "run1", stage)
    assert json.loads((tmp_path / "run1" / "run.json").read_text())["backbone"]["name"] == "pocket"
    assert in_process("masks", "decide", f"{store}@v1", decisions)["version"] == "v2"
    plan = in_process("train", f"{store}@v2", "--out", tmp_path / "none", "--stage", "generator", "--dry-run", *SMALL)
    assert plan["left_out"]["status rejected"] == 1
