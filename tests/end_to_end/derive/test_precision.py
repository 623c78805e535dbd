"""`--precision auto` is decided once: what continues a build or a version keeps what it became."""

import shutil

import pytest

from locloc.pipeline.backbones import precision
from locloc.pipeline.store import open_version

from ..conftest import assert_same
from .conftest import killed, write_recipe


@pytest.mark.slow
def test_a_version_keeps_its_precision_on_other_machines(make_folder, small, tmp_path, on, monkeypatch):
    photos = make_folder(tmp_path / "photos", 70)
    shutil.move(photos / "odd", tmp_path / "odd")
    store, resumed = tmp_path / "masks.store", tmp_path / "resumed.store"
    made_by = ("--recipe", small, "--weights", "random", "--precision")

    def on_a_cpu(with_amx: bool) -> None:
        monkeypatch.setattr(precision, "has_amx", lambda: with_amx)

    on_a_cpu(True)
    assert "note: precision bf16 (auto: this CPU, " in on("build", photos, "--store", store, *made_by, "auto").stderr
    shutil.move(tmp_path / "odd", photos / "odd")
    with killed(1):
        on("build", photos, "--store", resumed, *made_by, "auto", "--checkpoint-s", 0)
    on_a_cpu(False)
    on("extend", f"{store}@v1", photos)
    on("resume", resumed)
    grown = open_version(f"{store}@v2")
    assert grown.provenance["recipe"]["backbone"]["precision"] == "bf16"
    assert grown.provenance["precision_why"].endswith("has AMX; workers run elsewhere")
    assert_same(grown, open_version(f"{resumed}@v1"))

    recipe = write_recipe(tmp_path / "auto.toml", threshold=0.35)
    recipe.write_text(recipe.read_text().replace("[backbone]\n", '[backbone]\nprecision = "auto"\n'))
    on("refine", f"{store}@v2", "--recipe", recipe)
    assert open_version(f"{store}@v3").provenance["recipe"]["backbone"]["precision"] == "bf16"
    on("build", photos, "--store", store, *made_by, "auto")
    full = open_version(f"{store}@v4")
    assert full.provenance["recipe"]["backbone"]["precision"] == "fp32"
    assert full.provenance["fingerprint"] != grown.provenance["fingerprint"]
