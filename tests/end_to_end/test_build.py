"""`locloc masks build` and its neighbours as a user runs them."""

import json
import os
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from locloc.pipeline.store import open_version

from .conftest import BUILD, assert_same, build, everything


def test_every_image_has_its_row(photos, undisturbed):
    version = open_version(f"{undisturbed}@v1")
    files = sorted(file.relative_to(photos).as_posix() for file in photos.rglob("*.jpg"))
    assert version.ids == files
    assert version.provenance["counts"]["ok"] + version.provenance["counts"]["fallback"] == 300
    assert version.provenance["catalog"]["classes"] == ["even", "odd"]
    assert version.table["label"].to_pylist() == [0 if name.startswith("even") else 1 for name in files]
    masks, attention = version.read_masks(), version.read_attention()
    assert masks.shape == (300, 256, 256)
    assert attention.shape == (300, 4, 14, 14), "three heads, and the contrast map"
    assert (attention[:, :3].sum((2, 3)) > 0.9).all()
    assert (np.abs(attention[:, 3]) <= 2).all()
    table = version.table.to_pylist()
    for row in range(0, 300, 37):
        with Image.open(photos / files[row]) as image:
            assert (table[row]["width"], table[row]["height"]) == image.size
        rows, columns = np.flatnonzero(masks[row].any(1)), np.flatnonzero(masks[row].any(0))
        box = [table[row][name] for name in ("x0", "y0", "x1", "y1")]
        scale = np.array([table[row]["width"], table[row]["height"]] * 2) / 256
        outer = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) * scale
        assert (box[0] >= outer[0] - 1e-3) and (box[1] >= outer[1] - 1e-3)
        assert (box[2] <= outer[2] + 1e-3) and (box[3] <= outer[3] + 1e-3)


@pytest.mark.slow
def test_two_workers_give_the_same_bytes_as_one(photos, undisturbed, tmp_path):
    assert build(photos, tmp_path / "two.store", "--workers", 2, "--checkpoint-s", 0)["version"] == "v1"
    assert_same(open_version(f"{undisturbed}@v1"), open_version(f"{tmp_path}/two.store@v1"))


@pytest.mark.slow
def test_two_workers_give_the_same_bytes_as_one_in_bfloat16(make_folder, tmp_path):
    """Three blocks: bfloat16 takes six times as long as float32 where the CPU does not have it."""
    photos = make_folder(tmp_path / "photos", 150)
    for workers in (1, 2):
        build(photos, tmp_path / f"{workers}.store", "--workers", workers, "--precision", "bf16")
    one, two = (open_version(f"{tmp_path}/{workers}.store@v1") for workers in (1, 2))
    assert one.provenance["recipe"]["backbone"]["precision"] == "bf16" and one.provenance["precision_why"] is None
    assert_same(one, two)


@pytest.mark.slow
def test_the_same_build_again_does_nothing_and_another_recipe_makes_v2(photos, undisturbed, tmp_path, locloc):
    store = shutil.copytree(undisturbed, tmp_path / "masks.store")
    before = everything(open_version(f"{store}@v1"))

    said = locloc(*BUILD, photos, "--store", store)
    fingerprint = open_version(f"{store}@v1").provenance["fingerprint"]
    assert f"@v1 already has fingerprint {fingerprint[:12]}: nothing to do" in said.stdout

    said = locloc(*BUILD, photos, "--store", store, "--recipe", "ppd", "--json")
    assert json.loads(said.stdout)["version"] == "v2"
    after = everything(open_version(f"{store}@v1"))
    assert all(np.array_equal(before[name], after[name]) for name in before)
    first, second = open_version(f"{store}@v1"), open_version(f"{store}@v2")
    assert np.array_equal(first.read_attention()[:, :3], second.read_attention()), "the first has contrast maps too"
    assert not np.array_equal(first.read_masks(), second.read_masks())

    listed = locloc("masks", "list", store).stdout
    assert "v1" in listed and "v2 (latest)" in listed and "300" in listed
    shown = locloc("masks", "show", f"{store}@v1").stdout
    assert "300 of 300 images" in shown and fingerprint in shown
    assert re.search(r"^splits +none\nclasses +2$", shown, re.MULTILINE)
    as_json = json.loads(locloc("masks", "show", f"{store}@v1", "--json").stdout)
    assert as_json["provenance"]["fingerprint"] == fingerprint
    assert (as_json["splits"], as_json["classes"]) == ({"": 300}, 2)
    assert [entry["tag"] for entry in json.loads(locloc("masks", "list", store, "--json").stdout)] == ["v1", "v2"]


def test_other_images_of_the_same_names_are_not_taken_for_done(photos, undisturbed, tmp_path, locloc):
    store, others = shutil.copytree(undisturbed, tmp_path / "masks.store"), shutil.copytree(photos, tmp_path / "photos")
    assert "nothing to do" in locloc(*BUILD, others, "--store", store, "--name", "v1").stdout, (
        "the same files elsewhere"
    )
    for file in others.rglob("*.jpg"):
        shutil.copy(photos / "even" / "0000.jpg", file)
    said = locloc(*BUILD, others, "--store", store)
    assert said.code == 1
    assert "was another file when" in said.stderr and "--store" in said.stderr


def test_a_dry_run_writes_nothing(photos, tmp_path, locloc):
    said = locloc(*BUILD, photos, "--store", tmp_path / "new.store", "--dry-run").stdout
    assert "Would build 300 images in 5 blocks" in said
    plan = json.loads(locloc(*BUILD, photos, "--store", tmp_path / "new.store", "--dry-run", "--json").stdout)
    assert (plan["images"], plan["blocks"], plan["blocks_done"], plan["version"]) == (300, 5, 0, None)
    assert list(tmp_path.iterdir()) == []


def test_view_shows_image_attention_trimap_and_mask_with_its_box(undisturbed, tmp_path, locloc):
    out = tmp_path / "view.png"
    locloc("masks", "view", f"{undisturbed}@latest", "even/0000.jpg", "odd/0001.jpg", "--out", out)
    with Image.open(out) as image:
        assert image.width == 4 * 264 + 8
        panels = np.array(image.convert("RGB"))[130:180]
    contents = [panels[:, 8 + n * 264 : 264 + n * 264] for n in range(4)]
    assert all(not np.array_equal(contents[0], other) for other in contents[1:])
    assert (np.array(Image.open(out).convert("RGB")) == (40, 220, 90)).all(-1).any(), "the box is drawn"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["masks", "show", "{store}@v7"], "has no version 'v7'"),
        (["masks", "show", "{store}"], "names no version"),
        (["masks", "list", "{tmp}"], "is not a mask store"),
        (["masks", "view", "{store}@v1", "no.jpg", "--out", "x.png"], "holds no image 'no.jpg'"),
        (["masks", "view", "{store}@v1", "even/0000.jpg", "--out", "{tmp}/no/x.png"], "No folder"),
        (["masks", "view", "{store}@v1", "even/0000.jpg", "--out", "x.gif"], "the suffix is the format: .png, .pdf"),
        (["masks", "view", "{store}@v1", "even/0000.jpg", "--root", "{tmp}", "--out", "x.png"], "no such file"),
        ([*BUILD, "{tmp}/nothing", "--store", "{tmp}/s"], "Cannot read images at"),
        ([*BUILD, "{tmp}", "--store", "{tmp}/s"], "Found no images"),
        ([*BUILD, "{photos}", "--store", "{tmp}/s", "--recipe", "loclok"], "did you mean 'locloc'"),
        ([*BUILD, "{photos}", "--store", "{tmp}/s", "--catalog", "cubs"], "did you mean 'cub'"),
        ([*BUILD, "{photos}", "--store", "{photos}"], "exists and is not a mask store"),
        ([*BUILD, "{photos}", "--store", "{photos}/even/0000.jpg", "--dry-run"], "exists and is not a mask store"),
        ([*BUILD, "{photos}", "--store", "{store}", "--name", "mine"], "@v1 is this version already, and has one name"),
        ([*BUILD, "{photos}", "--store", "{store}", "--name", "mine", "--dry-run"], "no 'mine' was made; use "),
        ([*BUILD, "{few}", "--store", "{store}", "--name", "v1", "--dry-run"], "already has a version 'v1'"),
        ([*BUILD, "{few}", "--store", "{tmp}/s", "--name", "a b", "--dry-run"], "'a b' cannot name a version"),
        (["masks", "build", "{photos}", "--store", "{tmp}/s", "--weights", "{tmp}/w.pth"], "No weights file"),
    ],
)
def test_errors_are_one_line_and_exit_1(arguments, message, photos, undisturbed, tmp_path, locloc):
    filled = [part.format(store=undisturbed, photos=photos, few=photos / "even", tmp=tmp_path) for part in arguments]
    done = locloc(*filled)
    assert done.code == 1
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_usage_errors_exit_2(locloc):
    said = locloc("masks", "build", "somewhere")
    assert (said.code, "Missing option" in said.stderr) == (2, True)
    said = locloc("masks", "bild")
    assert (said.code, "No such command" in said.stderr) == (2, True)


def test_a_head_that_the_backbone_lacks(photos, tmp_path, locloc):
    recipe = tmp_path / "mine.toml"
    recipe.write_text("[saliency]\nheads = [0, 5]\n")
    done = locloc(*BUILD, photos, "--store", tmp_path / "s", "--recipe", recipe)
    assert done.code == 1
    assert "asks for head 5, but vit_tiny_patch16_224 has heads 0 to 2" in done.stderr


def test_the_store_can_be_moved_and_read_only_for_readers(photos, undisturbed, tmp_path):
    moved = shutil.copytree(undisturbed, tmp_path / "else" / "where.store")
    for folder, _, _ in os.walk(moved):
        os.chmod(folder, 0o555)
    assert_same(open_version(f"{undisturbed}@v1"), open_version(f"{moved}@v1"))
    for folder, _, _ in os.walk(moved):
        os.chmod(folder, 0o755)
