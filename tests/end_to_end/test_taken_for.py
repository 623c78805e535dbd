"""What `masks build` and `extend` say about the data before they begin, and what they leave out."""

import json
import shutil

import pytest

from locloc.pipeline.store import open_version

from .conftest import BUILD, build


@pytest.fixture
def phone(make_folder, tmp_path):
    folder = make_folder(tmp_path / "phone", 4)
    for name in ("a.NEF", "b.nef", "even/@eaDir/0000.jpg", "notes.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"not an image")
    return folder


def test_it_is_said_before_a_dry_run(phone, tmp_path, locloc):
    said = locloc(*BUILD, phone, "--store", tmp_path / "s", "--exclude", "odd/0003.jpg", "--dry-run")
    assert said.stderr.splitlines()[:6] == [
        f"data: 3 images of {phone} (folder)",
        "  classes   2: even, odd",
        "  splits    none",
        "  labels    on 3 of 3 images",
        "  left out  2 .nef, 1 that are no images (.txt); 1 by --exclude 'odd/0003.jpg'",
        "  by rule   1 @eaDir (thumbnails that a NAS made)",
    ]
    assert "warning: left out: 2 .nef; locloc does not read them" in said.stderr
    assert said.stdout.startswith("Would build 3 images")
    data = json.loads(locloc(*BUILD, phone, "--store", tmp_path / "s", "--dry-run", "--json").stdout)["data"]
    assert (data["images"], data["classes"], data["first_classes"]) == (4, 2, ["even", "odd"])


def test_a_scenes_folder_is_not_trained_on_its_masks(phone, tmp_path, locloc):
    (phone / "even").rename(phone / "images")
    (phone / "odd").rename(phone / "masks")
    said = locloc(*BUILD, phone, "--store", tmp_path / "s", "--dry-run")
    assert said.code == 1 and "what is in masks/ would be taken as images" in said.stderr


@pytest.mark.slow
def test_coverage_does_not_hide_what_was_left_out(phone, tmp_path, locloc):
    store = tmp_path / "masks.store"
    said = locloc(*BUILD, phone, "--store", store, "--exclude", "odd")
    line = "not part of the coverage, left out: 2 .nef, 1 that are no images (.txt); 2 by --exclude 'odd'"
    assert said.code == 0 and line in said.stdout and "coverage 100.0%" in said.stdout
    assert line in locloc(*BUILD, phone, "--store", store, "--exclude", "odd").stdout, "the version is there already"
    entry = open_version(f"{store}@v1").provenance["catalog"]
    assert entry["exclude"] == ["odd"] and entry["left_out"][0]["name"] == ".nef"
    assert "2 .nef" in locloc("masks", "show", f"{store}@v1").stdout
    shown = locloc("masks", "list", store).stdout.splitlines()
    assert shown[-2].split()[-2:] == ["left", "out"] and shown[-1].split()[-1] == "4"

    shutil.copy(phone / "even/0000.jpg", phone / "even/0004.jpg")
    shutil.copy(phone / "even/0000.jpg", phone / "odd/0005.jpg")
    summary = json.loads(locloc("masks", "extend", f"{store}@v1", phone, "--json").stdout)
    assert summary["data"]["images"] == 3 and summary["counts"]["rows"] == 3
    assert open_version(f"{store}@v2").ids == ["even/0000.jpg", "even/0002.jpg", "even/0004.jpg"]
    assert open_version(f"{store}@v2").provenance["catalog"]["exclude"] == ["odd"]
    fresh = build(phone, tmp_path / "fresh.store", "--exclude", "odd")
    assert fresh["fingerprint"] == summary["fingerprint"]
