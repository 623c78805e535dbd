"""Leftovers of a killed creation of a store."""

import os
import time

import icechunk
import pytest

from locloc.pipeline.errors import StoreError
from locloc.pipeline.store import open_version
from locloc.pipeline.store.repository import (
    check_can_hold_store,
    ensure_repository,
    has_repository,
    open_repository,
)


def test_old_leftovers_of_a_killed_creation_are_removed_and_recent_ones_stay(tmp_path):
    store, hour_ago = tmp_path / "[a].store", time.time() - 3700
    for name, age in ((".[a].store-old", hour_ago), (".[a].store-new", time.time()), (".a.store-old", hour_ago)):
        (tmp_path / name / "[a].store").mkdir(parents=True)
        os.utime(tmp_path / name, (age, age))
    ensure_repository(store)
    assert has_repository(store)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".[a].store-new", ".a.store-old", "[a].store"]


@pytest.mark.parametrize("use", [ensure_repository, check_can_hold_store, open_repository])
@pytest.mark.parametrize("exists", [False, True])
def test_a_version_where_a_store_is_meant(tmp_path, use, exists):
    store = tmp_path / "h.store@v9"
    if exists:
        store.mkdir()
    with pytest.raises(
        StoreError, match=r"h.store@v9 names a version, where a store is meant: write .*/h.store \(--name v9"
    ):
        use(store)
    assert list(tmp_path.iterdir()) == ([store] if exists else [])


def test_a_folder_with_an_at_sign_above_a_store_is_one(tmp_path):
    store = tmp_path / "me@home" / "m.store"
    ensure_repository(store)
    assert has_repository(store)
    with pytest.raises(StoreError, match="has no version 'v1'"):
        open_version(f"{store}@v1")


def test_a_store_made_with_an_at_sign_is_still_a_store(tmp_path):
    ensure_repository(tmp_path / "m.store")
    old = (tmp_path / "m.store").rename(tmp_path / "m@home")
    check_can_hold_store(old)
    open_repository(old)


def test_stores_are_created_in_the_format_that_both_versions_of_icechunk_read(tmp_path):
    ensure_repository(tmp_path / "masks.store")
    assert (tmp_path / "masks.store/refs/branch.main/ref.json").is_file()
    assert not (tmp_path / "masks.store/repo").exists()


def test_a_store_of_format_2_is_read_or_one_line_names_the_version_that_reads_it(tmp_path):
    store = tmp_path / "masks.store"
    if int(icechunk.__version__.split(".")[0]) > 1:
        icechunk.Repository.create(icechunk.local_filesystem_storage(str(store)), spec_version=2)
        assert has_repository(store)
        assert open_repository(store).list_branches() == {"main"}
        return
    (store / "snapshots").mkdir(parents=True)
    (store / "repo").write_bytes(b"ICE")
    for use in (open_repository, check_can_hold_store):
        with pytest.raises(StoreError, match=r"masks.store is in Icechunk's format 2, .* pip install 'icechunk>=2'"):
            use(store)
