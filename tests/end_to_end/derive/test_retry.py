"""`masks retry`: only the rows that failed are made again, and the new version is what a fresh build would be."""

import json
import shutil

import numpy as np
import pytest
import timm
import torch
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from locloc.pipeline.inspect.verify import verify_version
from locloc.pipeline.recipe import load_recipe
from locloc.pipeline.status import DONE, Status
from locloc.pipeline.store import list_versions, open_version

from ..conftest import assert_same, everything
from .conftest import FAILED, INLINE, chunk_bytes, chunk_files, column_keys


def test_retry_of_mended_files_is_a_fresh_build_of_them(store, good, whole, on):
    before = everything(open_version(f"{store}@v1"))
    summary = json.loads(on("retry", f"{store}@v1", "--root", good, "--json").stdout)
    assert summary["version"] == "v2"
    mended = open_version(f"{store}@v2")
    assert_same(whole, mended)
    for name in FAILED:
        ((status, reason),) = mended.reasons([mended.row(name)])
        assert status in DONE and (reason is None) == (status == Status.OK), "old reasons are gone"
    about, old = mended.provenance, open_version(f"{store}@v1").provenance
    assert about["operation"] == {"kind": "retry", "why": "crashed,missing,non-finite,undecodable", "rows": 3}
    assert (about["parent"], about["fingerprint"]) == ("v1", old["fingerprint"])
    assert about["fingerprint"] == whole.provenance["fingerprint"]
    assert about["catalog"]["root"] == str(good) != old["catalog"]["root"]
    assert about["counts"] == whole.provenance["counts"] != old["counts"]
    assert verify_version(mended).ok
    after = everything(open_version(f"{store}@v1"))
    assert all(np.array_equal(before[name], after[name]) for name in before), "v1 is as it was"
    assert open_version(f"{store}@latest").tag == "v2"


def test_retry_of_one_status_leaves_the_others_and_shares_their_chunks(store, good, whole, on):
    before = chunk_files(store)
    on("retry", f"{store}@v1", "--status", "undecodable", "--root", good)
    added = [size for name, size in chunk_files(store).items() if name not in before]
    version, parent = open_version(f"{store}@v2"), open_version(f"{store}@v1")
    wanted = chunk_bytes(version, ["mask/c/1/0/0", "attention/c/1/0/0/0", "error/c/1/0", *column_keys()])
    print(f"retry of one row: {sum(added)} bytes of chunks added, the store had {sum(before.values())}")
    assert sorted(added) == wanted
    row = version.row("even/0150.jpg")
    assert version.status[row] in DONE
    assert [version.status[version.row(name)] for name in FAILED if FAILED[name] == "missing"] == [Status.MISSING] * 2
    mine, theirs, old = everything(version), everything(whole), everything(parent)
    for name in mine:
        assert np.array_equal(mine[name][row], theirs[name][row]), name
        assert np.array_equal(np.delete(mine[name], row, 0), np.delete(old[name], row, 0)), name


def test_retry_of_files_that_are_still_bad_says_so_again(store, on):
    on("retry", f"{store}@v1", "--status", "undecodable")
    assert_same(open_version(f"{store}@v1"), open_version(f"{store}@v2"))


def test_nothing_to_retry_is_said_and_is_no_error(store, whole, on):
    said = on("retry", whole.name)
    assert said.stdout.endswith("nothing to do\n") and "no row to redo" in said.stdout
    assert json.loads(on("retry", whole.name, "--json").stdout)["already_there"]
    assert "non-finite" in on("retry", f"{store}@v1", "--status", "non-finite").stdout
    assert "no 'mine' was made; use " in on("retry", whole.name, "--name", "mine", code=1).stderr
    assert [info.tag for info in list_versions(store)] == ["v1"]


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (["--status", "mising"], "No status 'mising'; did you mean 'missing'?", 1),
        (["--status", "missing", "--damaged"], "not both", 2),
        (["--name", "v1"], "already has a version 'v1'", 1),
        (["--weights", "/nowhere/w.pth"], "No weights file", 1),
    ],
)
def test_what_retry_refuses(arguments, message, code, store, on):
    assert message in on("retry", f"{store}@v1", *arguments, code=code).stderr
    assert [info.tag for info in list_versions(store)] == ["v1"]


@pytest.mark.parametrize(
    ("key", "rows"),
    [
        ("mask/c/2/0/0", (128, 192)),
        pytest.param("attention/c/2/0/0/0", (128, 192), marks=pytest.mark.slow),
        pytest.param("input_digest/c/0/0", (0, 200), marks=pytest.mark.slow),
    ],
)
def test_retry_mends_what_was_destroyed(key, rows, store, on):
    """A chunk's file is overwritten. What cannot be read is made again, also a small column of all rows."""
    before = everything(open_version(f"{store}@v1"))
    version = open_version(f"{store}@v1")
    data = sync(version.group.store.get(key, default_buffer_prototype())).to_bytes()
    (file,) = (file for file in (store / "chunks").iterdir() if file.read_bytes() == data)
    file.write_bytes(bytes(len(data)))
    damaged = verify_version(open_version(f"{store}@v1"), files=False)
    assert damaged.damaged == [rows]
    assert f"retry {store}@v1 --damaged" in damaged.mend

    on("retry", f"{store}@v1", "--damaged")
    mended = open_version(f"{store}@v2")
    assert verify_version(mended).ok
    after = everything(mended)
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert "no row to redo (damaged)" in on("retry", f"{store}@v2", "--damaged").stdout


def test_retry_beside_damage_is_one_clear_line(store, good, on):
    """What is shared is read back before it is published."""
    for file in (store / "chunks").iterdir():
        if file.stat().st_size > INLINE:
            file.write_bytes(b"")
    said = on("retry", f"{store}@v1", "--status", "missing", "--root", good, code=1)
    assert len(said.stderr.rstrip().splitlines()[-1]) < 600 and said.stderr.splitlines()[-1].startswith("error: ")


def test_weights_that_were_moved(good, tmp_path, fresh, small, on):
    folder = tmp_path / "photos"
    folder.mkdir()
    shutil.copy(good / "even/0000.jpg", folder / "a.jpg")
    (folder / "b.jpg").write_bytes(b"no image")
    model = timm.create_model(load_recipe(str(small)).backbone.name, num_classes=0)
    torch.save(model.state_dict(), tmp_path / "old.pth")
    fresh(folder, small, tmp_path / "s", str(tmp_path / "old.pth"))
    (tmp_path / "old.pth").rename(tmp_path / "new.pth")
    shutil.copy(good / "odd/0001.jpg", folder / "b.jpg")
    assert "old.pth" in on("retry", f"{tmp_path}/s@v1", code=1).stderr
    on("retry", f"{tmp_path}/s@v1", "--weights", tmp_path / "new.pth")
    about = open_version(f"{tmp_path}/s@v2").provenance
    assert about["backbone"]["weights"] == str(tmp_path / "new.pth")
    assert about["counts"]["undecodable"] == 0
    next(iter(model.state_dict().values())).add_(1)
    torch.save(model.state_dict(), tmp_path / "other.pth")
    said = on("retry", f"{tmp_path}/s@v1", "--status", "undecodable", "--weights", tmp_path / "other.pth", code=1)
    assert "loaded other weights" in said.stderr and "--weights" in said.stderr


def test_the_name_of_a_deleted_version_is_never_used_again(store, good, on, locloc):
    on("retry", f"{store}@v1", "--status", "missing", "--root", good)
    assert "is deleted" in locloc("masks", "delete", f"{store}@v2").stdout
    assert open_version(f"{store}@latest").tag == "v1"
    on("retry", f"{store}@v1", "--status", "missing", "--root", good)
    assert [info.tag for info in list_versions(store)] == ["v1", "v3"]
    said = on("retry", f"{store}@v1", "--status", "undecodable", "--root", good, "--name", "v2")
    assert "v2 is the name of a deleted version, which cannot be used again" in said.stderr
    assert [info.tag for info in list_versions(store)] == ["v1", "v3", "v4"]
    on("retry", f"{store}@v1", "--status", "undecodable", "--root", good, "--name", "best")
    assert open_version(f"{store}@latest").tag == "best"


@pytest.mark.slow
def test_an_image_that_kills_its_process_costs_itself_alone_until_it_is_mended(tmp_path, make_folder, fresh, small, on):
    photos, store = make_folder(tmp_path / "photos", 70), tmp_path / "masks.store"
    wanted = fresh(photos, small, tmp_path / "fresh.store")
    good = (photos / "odd/0003.jpg").read_bytes()
    (photos / "odd/0003.jpg").write_bytes(b"CRASH")
    version = fresh(photos, small, store)
    row = version.row("odd/0003.jpg")
    assert version.reasons([row]) == [(Status.CRASHED, "it killed its process (SIGSEGV)")]
    mine, theirs = everything(version), everything(wanted)
    assert all(np.array_equal(np.delete(mine[name], row, 0), np.delete(theirs[name], row, 0)) for name in mine)
    log = max((store / "logs").iterdir())
    faults = [event for event in map(json.loads, log.read_text().splitlines()) if event["event"] == "fault"]
    assert faults and all("killed its worker tcp://" in fault["why"] for fault in faults)

    (photos / "odd/0003.jpg").write_bytes(good)
    on("retry", version.name, "--status", "crashed")
    assert_same(wanted, open_version(f"{store}@v2"))
