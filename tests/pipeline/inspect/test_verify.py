"""`masks verify`: every kind of damage on disk is found and named, separately from images that changed."""

import dataclasses
import json
import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr
from icechunk import IcechunkError

from locloc.pipeline.errors import StoreError
from locloc.pipeline.inspect.verify import Verified, verify_version
from locloc.pipeline.status import Status
from locloc.pipeline.store import open_version
from locloc.pipeline.store.repository import open_repository
from locloc.pipeline.store.schema import read_text, write_catalog


@pytest.fixture
def store(tmp_path) -> Path:
    return tmp_path / "masks.store"


@pytest.fixture
def images(tmp_path) -> Path:
    return tmp_path / "images"


@pytest.fixture
def version(store, images, write, made, ids):
    return write(store, made(ids), images)


def chunks_of(version, name: str) -> list[Path]:
    """The files of an array's chunks, in order: those without which the chunks cannot be read."""
    files, array = [], version.group[name]
    for start in range(0, array.shape[0], array.chunks[0]):
        for file in sorted((Path(str(version.store)) / "chunks").iterdir()):
            aside = file.rename(file.with_suffix(".aside"))
            try:
                open_version(version.name).group[name][start : start + array.chunks[0]]
            except IcechunkError:
                files.append(file)
            aside.rename(file)
    return files


def kinds(verified: Verified) -> list[str]:
    return [finding.kind for finding in (*verified.damage, *verified.changes)]


def test_an_intact_version_has_no_findings(version):
    calls = []
    verified = verify_version(version, on_progress=lambda done, total: calls.append((done, total)))
    assert verified.ok
    assert (verified.damage, verified.changes, verified.damaged, verified.mend) == ([], [], [], None)
    assert (verified.rows, verified.rows_checked, verified.files_checked, verified.sample) == (150, 150, 150, 1.0)
    assert calls == [(64, 150), (128, 150), (150, 150)]
    assert verified.damaged_rows.tolist() == []
    assert json.loads(json.dumps(dataclasses.asdict(verified)))["version"] == version.name


@pytest.mark.parametrize("name", ["mask", "attention"])
@pytest.mark.parametrize("how", ["removed", "emptied", "cut", "garbage"])
def test_an_unreadable_chunk_is_a_finding_and_does_not_end_the_check(version, name, how):
    file = chunks_of(version, name)[1]
    data = file.read_bytes()
    if how == "removed":
        file.unlink()
    else:
        file.write_bytes({"emptied": b"", "cut": data[: len(data) // 2], "garbage": b"no chunk at all" * 9}[how])
    verified = verify_version(open_version(version.name))
    (finding,) = verified.damage
    assert (finding.kind, finding.rows, finding.blocks) == ("unreadable", 64, 1)
    assert finding.first_rows == [64, 65, 66, 67, 68]
    assert finding.first_ids == ["0064.jpg", "0065.jpg", "0066.jpg", "0067.jpg", "0068.jpg"]
    assert finding.detail.startswith(f"{name}: ")
    assert "\n" not in finding.detail
    assert verified.damaged == [(64, 128)]
    assert verified.damaged_rows.tolist() == list(range(64, 128))
    assert verified.mend == f"locloc masks retry {version.name} --damaged"
    assert (verified.ok, verified.rows_checked, verified.changes) == (False, 150, [])


def test_a_chunk_replaced_by_another_is_found_row_by_row(store, images, write, made, ids):
    content = made(ids)
    content.masks[64:128] = content.masks[:64]
    content.masks[67:72] = True  # block 1 equals block 0 except for five rows
    version = write(store, content, images)
    first, second, _ = chunks_of(version, "mask")
    second.write_bytes(first.read_bytes())  # readable, but of another block
    verified = verify_version(open_version(version.name))
    (finding,) = verified.damage
    assert (finding.kind, finding.rows, finding.blocks, finding.first_rows) == ("altered", 5, 1, [67, 68, 69, 70, 71])
    assert verified.damaged == [(67, 72)]


@pytest.mark.slow
def test_randomly_damaged_chunks_are_always_found(version, tmp_path):
    """A damaged chunk either still reads as before, or verify reports it."""
    seed = random.SystemRandom().randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    whole = {name: version.group[name][:] for name in ("mask", "attention")}
    files = {file for name in whole for file in chunks_of(version, name)}
    damaged = 0
    for _ in range(60):
        file = rng.choice(sorted(files))
        data = file.read_bytes()
        bad = bytearray(data)
        for _ in range(rng.choice((1, 1, 2, 20))):
            bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
        file.write_bytes(bad[: rng.choice((len(bad), rng.randrange(len(bad))))])
        fresh = open_version(version.name)
        try:
            same = all(np.array_equal(fresh.group[name][:], values) for name, values in whole.items())
        except Exception:
            same = False
        verified = verify_version(open_version(version.name))
        assert verified.ok == same, verified
        assert set(kinds(verified)) <= {"unreadable", "altered"}
        damaged += not same
        file.write_bytes(data)
    assert damaged > 30
    assert verify_version(open_version(version.name)).ok


def columns_with(content, name: str, row: int, value) -> dict[str, np.ndarray]:
    column = content.columns[name].copy()
    column[row] = value
    return {name: column}


@pytest.mark.parametrize(
    ("name", "row", "value", "kind", "detail"),
    [
        ("content_crc", 80, 7, "altered", ""),
        ("status", 80, 99, "status", "status 99"),
        ("status", 80, Status.UNDECODABLE, "reason", ""),  # it has a mask, and no reason
        ("status", 3, Status.OK, "reason", ""),  # the fallback's reason is still there, and no mask
        ("box", 80, (0, 0, 65, 48), "box", ""),  # 64 px wide
        ("box", 80, (0, 0, 64, 48.5), "box", ""),
        ("box", 80, (-1, 0, 9, 9), "box", ""),
        ("box", 80, (9, 9, 9, 12), "box", ""),
        ("box", 80, (0, 0, 0, 0), "box", ""),
        ("box", 80, (0, 0, np.nan, 9), "box", ""),
        ("box", 4, (0, 0, 5, 5), "box", ""),  # undecodable: no mask, so no box
        ("size", 80, (0, 0), "box", ""),
    ],
)
def test_columns_that_contradict_the_masks(store, images, write, made, ids, name, row, value, kind, detail):
    content = made(ids)
    verified = verify_version(write(store, content, images, columns_with(content, name, row, value)))
    (finding,) = (finding for finding in verified.damage if finding.kind == kind)
    assert (finding.rows, finding.blocks, finding.first_rows, finding.first_ids) == (1, 1, [row], [ids[row]])
    assert finding.detail == detail
    assert verified.damaged == [(row, row + 1)]


def test_a_box_on_the_edge_of_the_image_is_no_damage(store, images, write, made, ids):
    content = made(ids)
    content.masks[80] = True
    version = write(store, content, images)
    assert version.read_column("box", [80]).tolist() == [[0, 0, 64, 48]]
    assert verify_version(version).ok


def test_ok_without_a_mask_and_failed_with_one(store, images, write, made, ids):
    content = made(ids)
    content.masks[80], content.masks[5] = False, True  # 80 is ok, 5 non-finite
    verified = verify_version(write(store, content, images))
    (finding,) = verified.damage
    assert (finding.kind, finding.first_rows, verified.damaged) == ("mask", [5, 80], [(5, 6), (80, 81)])


def test_rows_that_were_never_written(store, images, write, made, ids):
    content = made(ids)
    version = write(store, content, images, columns_with(content, "status", 80, Status.PENDING), [1, 1, 0])
    verified = verify_version(version)
    finding = verified.damage[0]
    assert (finding.kind, finding.rows, finding.blocks, finding.first_rows) == (
        "unfinished",
        23,
        2,
        [80, 128, 129, 130, 131],
    )
    assert verified.damaged == [(80, 81), (128, 150)]


def test_a_small_column_that_cannot_be_read(store, images, write, made):
    """The second chunk of a column holds the rows from 16,384 on."""
    content = made([f"{n:05}" for n in range(17000)], mask_px=8, heads=1, grid=(1, 1))
    content.masks[:], content.attention[:], content.status[:] = False, 0, Status.MISSING
    stats = np.random.default_rng(0).random((17000, 3), np.float32)
    version = write(store, content, images, {"stats": stats})
    chunks_of(version, "stats")[1].unlink()
    verified = verify_version(open_version(version.name), sample=0.01)
    (finding,) = verified.damage
    assert (finding.kind, finding.rows, finding.blocks, finding.first_rows[0]) == ("columns", 616, 10, 16384)
    assert finding.detail.startswith("stats: ")
    assert verified.damaged == [(16384, 17000)]


def test_counts_that_differ_from_the_rows(version, monkeypatch):
    counts = {**version.provenance["counts"], "ok": 144, "missing": 2}
    monkeypatch.setitem(version.provenance, "counts", counts)
    verified = verify_version(version)
    (finding,) = verified.damage
    assert (finding.kind, finding.rows, finding.first_rows) == ("counts", 0, [])
    assert finding.detail == "ok 144 instead of 145, missing 2 instead of 1"
    assert verified.damaged == []
    assert "new store" in verified.mend


def test_a_catalog_that_differs_from_the_provenance(version, monkeypatch):
    monkeypatch.setitem(version.provenance["catalog"], "sha256", "0" * 64)
    verified = verify_version(version)
    (finding,) = verified.damage
    assert (finding.kind, finding.detail) == (
        "catalog",
        f"sha256 {version.catalog.sha256[:12]} instead of 000000000000",
    )
    assert (verified.files_checked, verified.rows_checked) == (0, 150)  # its paths may be wrong


def test_an_unreadable_catalog_leaves_rows_without_ids(store, images, write, made):
    content = made([f"{n:04}{os.urandom(40).hex()}" for n in range(150)])  # too long for an inlined chunk
    version = write(store, content, images)
    (ids,) = chunks_of(version, "catalog/id/bytes")[:1]
    ids.unlink()
    (mask, *_) = chunks_of(version, "mask")
    mask.unlink()
    verified = verify_version(open_version(version.name))
    assert kinds(verified) == ["unreadable", "catalog"]
    assert (verified.damage[0].first_rows, verified.damage[0].first_ids) == ([0, 1, 2, 3, 4], [])


def test_ids_that_other_programs_read_are_the_catalogs(version, store):
    repository = open_repository(store)
    session = repository.writable_session("main")
    zarr.open_group(session.store, mode="r+")["id"][70:72] = np.array(["0071.jpg", "0070.jpg"])
    repository.create_tag("swapped", session.commit("two ids are swapped"))
    verified = verify_version(open_version(f"{store}@swapped"))
    assert [(finding.kind, finding.detail) for finding in verified.damage] == [
        ("catalog", "id: rows 0 to 150 are not the catalog's")
    ]


@pytest.mark.parametrize(("array", "value"), [("offsets", 1 << 40), ("offsets", -9), ("bytes", 255)])
def test_damaged_text_is_an_error_and_no_crash(version, array, value):
    """Arrow would read outside of its buffers."""
    root = zarr.create_group(store={})
    write_catalog(root, version.catalog)
    assert read_text(root["catalog"], "id").to_pylist() == version.ids
    root[f"catalog/id/{array}"][50] = value
    with pytest.raises(StoreError, match="The catalog's id is damaged"):
        read_text(root["catalog"], "id")


def test_images_that_changed_are_no_damage(version, images):
    (images / "0010.jpg").unlink()
    (images / "0011.jpg").write_bytes(b"another image")
    (images / "0012.jpg").write_bytes(b"and another")
    (images / "0006.jpg").write_bytes(b"missing when the version was made")
    (images / "0007.jpg").write_bytes(b"its process was killed during the build")
    verified = verify_version(version)
    assert (verified.ok, verified.damaged, verified.mend) == (True, [], None)
    gone, replaced, come = verified.changes
    assert (gone.kind, gone.rows, gone.first_ids, gone.detail) == ("gone", 1, ["0010.jpg"], "no such file")
    assert (replaced.kind, replaced.rows, replaced.first_ids) == ("replaced", 2, ["0011.jpg", "0012.jpg"])
    assert (come.kind, come.rows, come.first_ids) == ("come", 1, ["0006.jpg"])


def test_image_files_may_be_left_out(version, images):
    (images / "0010.jpg").unlink()
    verified = verify_version(version, files=False)
    assert (verified.changes, verified.files_checked, verified.rows_checked) == ([], 0, 150)


def test_images_that_were_moved_are_found_by_root(version, images, tmp_path):
    images.rename(tmp_path / "elsewhere")
    assert [(finding.kind, finding.rows) for finding in verify_version(version).changes] == [("gone", 148)]
    assert verify_version(version, root=tmp_path / "elsewhere").changes == []
    assert verify_version(version, root=str(tmp_path / "elsewhere")).changes == []


def test_images_and_a_root_by_url(version, images):
    import fsspec

    memory = fsspec.filesystem("memory")
    for file in images.iterdir():
        memory.pipe_file(f"/verify/{file.name}", file.read_bytes())
    try:
        memory.pipe_file("/verify/0011.jpg", b"another image")
        (finding,) = verify_version(version, root="memory://verify").changes
        assert (finding.kind, finding.first_ids) == ("replaced", ["0011.jpg"])
    finally:
        memory.rm("/verify", recursive=True)


@pytest.mark.parametrize(("sample", "rows"), [(0.001, {64, 22}), (0.34, {64, 22}), (0.67, {128, 86}), (1.0, {150})])
def test_a_sample_has_whole_blocks_and_depends_on_the_seed(version, images, sample, rows):
    for file in images.iterdir():
        file.write_bytes(b"another image")
    results = [verify_version(version, sample, seed=seed) for seed in (1, 1, 2, 3, 4, 5)]
    assert {verified.rows_checked for verified in results} <= rows
    assert all(verified.files_checked == verified.rows_checked for verified in results)
    assert results[0] == results[1]
    if sample < 1:
        assert len({tuple(verified.changes[0].first_rows) for verified in results}) > 1


@pytest.mark.parametrize("sample", [0.0, -1.0, 1.01, float("nan")])
def test_invalid_shares(version, sample):
    with pytest.raises(StoreError, match="give one over 0 and up to 1"):
        verify_version(version, sample)


def test_a_missing_store_is_not_reported_as_damage(version, store, monkeypatch):
    version.read_column("mask", [0])
    shutil.move(store, store.with_name("unmounted"))
    with pytest.raises(StoreError, match="is not a mask store"):
        verify_version(version)


def test_a_bug_raises(version, monkeypatch):
    def bug(*args):
        raise ZeroDivisionError

    monkeypatch.setattr("locloc.pipeline.inspect.verify.content_crc", bug)
    with pytest.raises(ZeroDivisionError):
        verify_version(version)
