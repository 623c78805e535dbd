"""`masks build --from RUN` and `masks refine STORE@V --from RUN`: masks from a generator's maps, and what is told."""

import shutil
import signal
import subprocess
import time

import numpy as np
import pytest

from locloc.pipeline.masks.saliency import unpack_map
from locloc.pipeline.store import list_versions, open_version

from ..conftest import assert_same, build, command, make_images
from .conftest import make_run, save_generator

pytestmark = pytest.mark.slow  # builds, and trains a generator, before the first test


@pytest.fixture(scope="module")
def second(first, run, locloc_json):
    """v2 of the same store, by `masks refine`."""
    summary = locloc_json("masks", "refine", first.name, "--from", run, "--workers", 1)
    return open_version(f"{first.store}@{summary['version']}")


@pytest.fixture(scope="module")
def locloc_json():
    import io
    import json
    from contextlib import redirect_stdout

    from locloc.cli import app

    def invoke(*arguments):
        said = io.StringIO()
        with redirect_stdout(said):
            app([*map(str, arguments), "--json"], standalone_mode=False)
        return json.loads(said.getvalue())

    return invoke


def test_maps_of_the_generator_are_kept_beside_the_attention(first, second, run):
    heads, side, _ = first.attention_shape
    assert second.attention_shape == (heads + 64, side, side)
    assert np.array_equal(second.read_attention()[:, :heads], first.read_attention())
    drawn = unpack_map(second.read_attention([3])[0][-64:].astype(np.float32))
    assert drawn.shape == (8 * side, 8 * side) and 0 < drawn.min() < drawn.max() < 1
    provenance = second.provenance
    assert provenance["maps"]["run"] == str(run) and provenance["maps"]["version"] == first.name
    assert provenance["operation"] == {"kind": "build", "of": "v1"}
    assert provenance["recipe"]["saliency"]["strategy"] == "generator"
    assert provenance["fingerprint"] != first.provenance["fingerprint"]


def test_rows_that_the_generator_has_seen_are_told_apart(first, second, locloc):
    seen = second.table["seen"].to_pylist()
    assert seen == ["trained on"] * 10 + ["chosen on"] * 2 + ["unseen"] * 8
    assert first.table["seen"].null_count == 20
    shown = locloc("masks", "show", second.name)
    assert "8 unseen, 2 chosen on, 10 trained on" in shown.stdout
    assert "refine of v1, with the ViT run again" in shown.stdout
    assert "quality, the expected IoU of each mask" in shown.stdout


def test_a_new_recipe_needs_neither_run_nor_vit(second, run, locloc_json, tmp_path):
    (tmp_path / "mine.toml").write_text("[saliency]\nthreshold = 0.4\n")
    summary = locloc_json("masks", "refine", second.name, "--recipe", tmp_path / "mine.toml", "--workers", 1)
    third = open_version(f"{second.store}@{summary['version']}")
    assert third.provenance["maps"] == second.provenance["maps"]
    assert third.table["seen"].to_pylist() == second.table["seen"].to_pylist()


def test_a_run_whose_weights_changed_is_refused(second, run, few, locloc, tmp_path):
    """`extend` would mix masks of two generators; a new build is another version."""
    kept = tmp_path / "kept"
    shutil.copytree(run, kept)
    try:
        save_generator(run, 192, 1)
        extended = locloc("masks", "retry", second.name, "--status", "ok")
        assert extended.code == 1 and "other weights than those these masks began with" in extended.stderr
    finally:
        shutil.copytree(kept, run, dirs_exist_ok=True)
    moved = run.rename(tmp_path / "moved")
    try:
        extended = locloc("masks", "retry", second.name, "--status", "ok")
        assert extended.code == 1 and "is not there; if it was moved, make a link to it" in extended.stderr
    finally:
        moved.rename(run)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--from", "{tmp}/no-run"), "has no trained generator"),
        (("--from", "{run}", "--recipe", "contrast"), "--from RUN needs a recipe that uses a generator's maps"),
        (("--recipe", "second_round"), "name the trained run with --from RUN"),
    ],
)
def test_mistakes_are_told(few, run, tmp_path, locloc, arguments, told):
    filled = [part.format(tmp=tmp_path, run=run) for part in arguments]
    weights = () if "--from" in arguments else ("--backbone", "vit_tiny_patch16_224", "--weights", "random")
    said = locloc("masks", "build", few, "--store", tmp_path / "s.store", *weights, *filled)
    assert said.code == 1 and told in said.stderr, said.stderr
    assert not (tmp_path / "s.store").exists()


def test_workers_and_kills_do_not_change_a_byte(tmp_path):
    """Three blocks: one worker, two workers, and a build that is killed and resumed by `masks resume`."""
    photos = make_images(tmp_path / "photos", 150)
    build(photos, tmp_path / "first.store", "--recipe", "contrast", "--workers", 2)
    run = make_run(tmp_path / "run", open_version(f"{tmp_path}/first.store@v1"))
    for workers in (1, 2):
        build(photos, tmp_path / f"{workers}.store", "--from", run, "--workers", workers)
    one, two = (open_version(f"{tmp_path}/{workers}.store@v1") for workers in (1, 2))
    assert_same(one, two)
    store = tmp_path / "killed.store"
    killed = subprocess.Popen(
        command("masks", "build", photos, "--store", store, "--from", run, "--workers", 1, "--checkpoint-s", 0.1)
    )
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        infos = list_versions(store) if store.exists() and any(store.iterdir()) else []
        if infos and infos[0].metadata.get("counts", {}).get("blocks_done"):
            break
        time.sleep(0.1)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    subprocess.run(command("masks", "resume", store, "--workers", 1), check=True)
    assert_same(open_version(f"{store}@v1"), one)


def test_refine_gives_an_older_version_its_qualities(few, tmp_path, locloc_json, monkeypatch):
    """With the version's own recipe there is nothing else to do."""
    from locloc.pipeline.build import build as build_module

    made = build_module.provenance

    def older(*arguments, **named):
        return {name: value for name, value in made(*arguments, **named).items() if name != "quality"}

    monkeypatch.setattr(build_module, "provenance", older)
    build(few, tmp_path / "s.store", "--recipe", "contrast", "--workers", 1)
    monkeypatch.undo()
    refine = ("masks", "refine", f"{tmp_path}/s.store@v1", "--recipe", "contrast", "--workers", 1)
    assert locloc_json(*refine)["version"] == "v2"
    assert locloc_json(*refine)["already_there"] and locloc_json(*refine)["version"] == "v2"
    assert_same(open_version(f"{tmp_path}/s.store@v1"), open_version(f"{tmp_path}/s.store@v2"))
