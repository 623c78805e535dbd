"""Versions derived from a version that a person has judged: what was decided stays, unless the mask is another one."""

import json
import shutil

import numpy as np
import pytest

from locloc.pipeline.build.decide import decide_version
from locloc.pipeline.inspect.report.decisions_csv import Decision
from locloc.pipeline.inspect.verify import verify_version
from locloc.pipeline.status import Status
from locloc.pipeline.store import open_version

from .conftest import FAILED, write_recipe

DECIDED = {
    "even/0006.jpg": ("rejected", "an ear\nis missing"),  # in one block with a row that failed
    "even/0152.jpg": ("accepted", ""),
    "odd/0001.jpg": ("rejected", ""),  # in a block without one
}


def decide(version, decided=DECIDED):
    lines = {id: Decision(id, *said, line) for line, (id, said) in enumerate(decided.items(), 2)}
    return open_version(f"{version.store}@{decide_version(version, lines).version}")


def decisions_of(version):
    found = zip(version.ids, version.table["decision"].to_pylist(), version.table["note"].to_pylist(), strict=True)
    return {id: (said, note or "") for id, said, note in found if said}


def assert_kept(version, before=DECIDED):
    assert decisions_of(version) == before
    rejected = [id for id, (said, _) in before.items() if said == "rejected"]
    assert [version.ids[row] for row in np.flatnonzero(version.status == Status.REJECTED)] == sorted(rejected)
    assert version.provenance["counts"]["rejected"] == len(rejected)
    assert verify_version(version, files=False).ok


def test_a_retry_keeps_decisions_and_masks(store, good, whole, on):
    decided = decide(open_version(f"{store}@v1"))
    summary = json.loads(on("retry", decided.name, "--root", good, "--json").stdout)
    assert summary["new_rows"] == len(FAILED), "rejected rows are not failed ones"
    mended = open_version(f"{store}@{summary['version']}")
    assert_kept(mended)
    assert not np.isin(mended.status, [Status.MISSING, Status.UNDECODABLE]).any()
    for name in ("mask", "attention", "box", "content_crc"):
        assert np.array_equal(mended.read_column(name), whole.read_column(name)), name
    assert_kept(open_version(f"{store}@v2"))


@pytest.mark.slow
def test_an_extension_keeps_decisions_also_where_its_images_are_there_already(
    good, whole, tmp_path, fresh, small, on, make_folder
):
    photos, store = tmp_path / "photos", tmp_path / "masks.store"
    shutil.copytree(good, photos)
    shutil.rmtree(photos / "even")
    (photos / "even").mkdir()
    for number in (6, 152):
        shutil.copy(good / f"even/{number:04}.jpg", photos / "even")
    first = fresh(photos, small, store)
    decided = decide(first)
    shutil.copytree(good, photos, dirs_exist_ok=True)
    on("extend", decided.name, photos)
    grown = open_version(f"{store}@v3")
    assert_kept(grown)
    assert np.array_equal(grown.read_column("content_crc"), whole.read_column("content_crc"))
    # The version of all images is there; what is decided about the first one later is not lost.
    other = decide(first, {"odd/0003.jpg": ("rejected", "late"), "odd/0001.jpg": ("accepted", "")})
    assert "v5" in on("extend", other.name, photos).stdout
    assert_kept(open_version(f"{store}@v5"), DECIDED | decisions_of(other))
    assert_kept(open_version(f"{store}@v3"))
    assert "v5" in on("extend", other.name, photos).stdout, "and is taken over once"
    assert "no 'mine' was made; use " in on("extend", other.name, photos, "--name", "mine", code=1).stderr


def test_a_refinement_makes_other_masks_that_nobody_has_judged(store, tmp_path, on):
    decided = decide(open_version(f"{store}@v1"))
    said = on("refine", decided.name, "--recipe", write_recipe(tmp_path / "other.toml", threshold=0.3))
    assert "3 decisions about masks of" in said.stderr and "are not taken over" in said.stderr
    refined = open_version(f"{store}@v3")
    assert decisions_of(refined) == {} and not (refined.status == Status.REJECTED).any()
    same = np.isin(refined.ids, list(FAILED), invert=True)
    assert np.isin(refined.status[same], [Status.OK, Status.FALLBACK]).all(), "rejected rows have masks again"
    assert_kept(open_version(f"{store}@v2"))
