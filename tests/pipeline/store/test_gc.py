"""Garbage collection deletes exactly the chunk files that no version and no unfinished build needs."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import icechunk
import numpy as np
import pytest
import zarr
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from locloc.pipeline.catalogs.catalog import CatalogRows, build_catalog
from locloc.pipeline.errors import StoreError, StoreLockedError
from locloc.pipeline.status import Status
from locloc.pipeline.store import list_versions, open_version
from locloc.pipeline.store.gc import collect_garbage, delete_version
from locloc.pipeline.store.repository import first_snapshot, open_repository
from locloc.pipeline.store.schema import BLOCK_ROWS, COLUMNS, content_crc, pack_masks, write_block
from locloc.pipeline.store.versions import build_branch
from locloc.pipeline.store.writer import SharedParent, StoreWriter

ROWS, BLOCKS, HEADS, GRID, MASK_PX = 250, 4, 6, (8, 8), 64
NATIVE = getattr(icechunk.ChunkType, "NATIVE", None) or icechunk.ChunkType.native  # Icechunk 1, 2


def identity(salt: int) -> str:
    return f"{salt:02}" * 32


def begin(writer: StoreWriter, salt: int, shared: SharedParent | None = None) -> None:
    rows = CatalogRows()
    for n in range(ROWS):
        rows.add(f"{n:04}.jpg", f"{n:04}.jpg", label=n % 5)
    catalog = build_catalog("test", Path("/data"), rows, [], where=lambda row, column: str(row), looked_for="")
    entry = {"kind": "test", "root": "/data", "sha256": catalog.sha256, "rows": ROWS, "classes": []}
    metadata = {
        "build_id": identity(salt), "fingerprint": identity(salt), "recipe_name": "test", "catalog": entry,
        "parent": shared and shared.tag, "created_at": "2026-01-01T00:00:00+00:00",
    }  # fmt: skip
    writer.begin(metadata, catalog, (HEADS, *GRID), MASK_PX, shared)


def content(block: int, salt: int) -> tuple[np.ndarray, np.ndarray]:
    """Masks and attention of a block: random, so that chunks are too large to be inlined in a manifest."""
    rng = np.random.default_rng([block, salt])
    rows = min(BLOCK_ROWS, ROWS - block * BLOCK_ROWS)
    return rng.random((rows, MASK_PX, MASK_PX)) < 0.5, rng.random((rows, HEADS, *GRID)).astype(np.float16)


def write(writer: StoreWriter, block: int, salt: int) -> None:
    masks, attention = content(block, salt)
    columns = {name: np.ones((len(masks), *tail), dtype) for name, (dtype, tail) in COLUMNS.items()}
    columns["status"] = np.full(len(masks), Status.OK, np.uint8)
    columns["content_crc"] = content_crc(pack_masks(masks), attention)
    fork = pickle.loads(pickle.dumps(writer.fork))
    write_block(fork.store, block * BLOCK_ROWS, pack_masks(masks), attention)
    writer.merge(fork, block, columns)


def build(store: Path, salt: int, shared: SharedParent | None = None, blocks: int = BLOCKS) -> str | None:
    """Builds some blocks with a checkpoint after each; publishes and returns the tag if all blocks are done."""
    with StoreWriter(store) as writer:
        begin(writer, salt, shared)
        for block in np.flatnonzero(writer.block_done == 0)[:blocks]:
            write(writer, int(block), salt)
            writer.checkpoint()
        return writer.publish() if writer.block_done.all() else None


def check(name: str, *salts: int) -> None:
    """Checks that each block has the content of its salt."""
    version = open_version(name)
    for block, salt in enumerate(salts):
        rows = slice(block * BLOCK_ROWS, (block + 1) * BLOCK_ROWS)
        masks, attention = content(block, salt)
        assert np.array_equal(version.read_masks(rows), masks)
        assert np.array_equal(version.read_attention(rows), attention)


def stored(store: Path) -> list[bytes]:
    """Content of the chunk files."""
    return sorted(file.read_bytes() for file in (store / "chunks").iterdir())


def live(store: Path) -> set[bytes]:
    """Content of the chunk files of all arrays of all versions and builds."""
    repository, chunks = open_repository(store), set()
    heads = {repository.lookup_tag(tag) for tag in repository.list_tags()}
    heads |= {repository.lookup_branch(branch) for branch in repository.list_branches()}
    for snapshot in heads - {first_snapshot(repository)}:
        session = repository.readonly_session(snapshot_id=snapshot)
        for name, array in zarr.open_group(session.store, mode="r").members(max_depth=None):
            for key in np.ndindex(*array.cdata_shape) if isinstance(array, zarr.Array) else ():
                if session.chunk_type(f"/{name}", key) == NATIVE:
                    path = f"{name}/c/{'/'.join(map(str, key))}"
                    chunks.add(sync(session.store.get(path, default_buffer_prototype())).to_bytes())
    return chunks


def assert_no_orphans(store: Path) -> None:
    files = stored(store)
    assert set(files) == live(store)
    assert sum(map(len, files)) == open_repository(store).chunk_storage_stats().native_bytes
    assert collect_garbage(store).chunks == 0


@pytest.fixture
def store(tmp_path) -> Path:
    return tmp_path / "masks.store"


def test_old_checkpoints_are_deleted_and_versions_stay(store):
    assert (build(store, 1), build(store, 2)) == ("v1", "v2")
    reader = open_version(f"{store}@v1")
    reader.read_masks([0])  # opened before anything is deleted
    before = stored(store)
    collected = collect_garbage(store)
    after = stored(store)
    assert 0 < collected.chunks == len(before) - len(after)
    assert collected.bytes >= sum(map(len, before)) - sum(map(len, after)) > 0
    assert collected.snapshots and collected.manifests and collected.logs
    assert_no_orphans(store)
    check(f"{store}@v1", *[1] * BLOCKS)
    check(f"{store}@latest", *[2] * BLOCKS)
    assert np.array_equal(reader.read_masks(), open_version(f"{store}@v1").read_masks())
    assert [info.tag for info in list_versions(store)] == ["v1", "v2"]
    assert build(store, 3) == "v3"
    check(f"{store}@v3", *[3] * BLOCKS)


def test_an_unfinished_build_resumes_after_it(store):
    build(store, 1)
    build(store, 2, blocks=2)
    with StoreWriter(store) as writer:  # a third build, whose first block is in no checkpoint
        begin(writer, 3)
        write(writer, 0, 3)
    for _ in range(3):
        collect_garbage(store)
    assert_no_orphans(store)
    assert sorted(info.fingerprint[:2] for info in list_versions(store)) == ["01", "02", "03"]
    with StoreWriter(store) as writer:
        begin(writer, 2)
        assert writer.block_done.tolist() == [1, 1, 0, 0]
    assert (build(store, 2), build(store, 3)) == ("v2", "v3")
    for salt in (1, 2, 3):
        check(f"{store}@v{salt}", *[salt] * BLOCKS)
    assert list(open_version(f"{store}@v2").group.attrs) == list(open_version(f"{store}@v1").group.attrs)
    collect_garbage(store)
    assert_no_orphans(store)


def test_branches_without_a_commit_are_deleted(store):
    build(store, 1)
    repository = open_repository(store)
    repository.create_branch(build_branch(identity(8)), first_snapshot(repository))
    repository.create_branch(build_branch(identity(9)), repository.lookup_tag("v1"))
    repository.create_branch("mine", repository.lookup_tag("v1"))
    collect_garbage(store)
    assert open_repository(store).list_branches() == {"main", "mine"}
    assert_no_orphans(store)


def test_a_build_without_a_commit_is_deleted_with_its_parent(store):
    build(store, 1)
    repository = open_repository(store)
    repository.create_branch(build_branch(identity(9)), repository.lookup_tag("v1"))
    delete_version(store, "v1")
    assert open_repository(store).list_branches() == {"main"}
    assert list_versions(store) == []
    collect_garbage(store)
    assert stored(store) == []


@pytest.mark.parametrize("collected_before", [True, False])
def test_a_deleted_version_leaves_its_children_whole(store, collected_before):
    build(store, 1)
    assert build(store, 2, SharedParent("v1", np.array([1, 3]))) == "v2"
    build(store, 3, SharedParent("v2", np.array([0])), blocks=0)  # unfinished
    if collected_before:
        collect_garbage(store)
    delete_version(store, "v1")
    check(f"{store}@v2", 1, 2, 1, 2)
    chunks = {pack_masks(content(block, 1)[0]).tobytes() for block in (1, 3)}
    assert collect_garbage(store).chunks >= 2 * len(chunks)
    assert_no_orphans(store)
    check(f"{store}@v2", 1, 2, 1, 2)
    with pytest.raises(StoreError, match=f"needed by the unfinished build {identity(3)[:8]}; finish it"):
        delete_version(store, "v2")
    collect_garbage(store)
    with StoreWriter(store):
        session = open_repository(store).readonly_session(branch=build_branch(identity(3)))
        root = zarr.open_group(session.store, mode="r")
        assert root["block_done"][:].tolist() == [0, 1, 1, 1]
        assert np.array_equal(root["mask"][BLOCK_ROWS : 2 * BLOCK_ROWS], pack_masks(content(1, 2)[0]))
    assert_no_orphans(store)


def test_an_unfinished_build_is_deleted_by_its_id(store):
    build(store, 1)
    build(store, 2, blocks=2)
    build(store, 3, SharedParent("v1", np.array([0])), blocks=0)
    for wrong in (identity(2)[:7], "0" * 8):
        with pytest.raises(StoreError, match="has no version"):
            delete_version(store, wrong)
    for salt in (2, 3):
        delete_version(store, identity(salt)[:8])
    assert [info.tag for info in list_versions(store)] == ["v1"]
    collect_garbage(store)
    assert_no_orphans(store)
    delete_version(store, "v1")


def test_latest_is_no_name_to_delete_by(store):
    build(store, 1)
    with pytest.raises(StoreError, match=r"has no version 'latest'; known: v1; a version is deleted by its own name"):
        delete_version(store, "latest")
    check(f"{store}@v1", *[1] * BLOCKS)


def test_latest_is_then_the_newest_remaining_version(store):
    for salt in (1, 2, 3):
        build(store, salt)
    for tag, left in (("v3", "v2"), ("v1", "v2")):
        delete_version(store, tag)
        assert open_version(f"{store}@latest").tag == left
    delete_version(store, "v2")
    with pytest.raises(StoreError, match="no published version yet"):
        open_version(f"{store}@latest")
    collect_garbage(store)
    assert stored(store) == []
    assert build(store, 4) == "v4", "a name is never used again"
    check(f"{store}@latest", *[4] * BLOCKS)


@pytest.mark.parametrize(("tag", "message"), [("v11", "did you mean 'v1'"), ("latest", "known: v1")])
def test_a_missing_version_cannot_be_deleted(store, tag, message):
    build(store, 1)
    with pytest.raises(StoreError, match=f"has no version '{tag}'; {message}"):
        delete_version(store, tag)
    delete_version(store, "v1")
    with pytest.raises(StoreError, match="has no version 'v1'; it has none"):
        delete_version(store, "v1")


@pytest.mark.parametrize("action", [collect_garbage, lambda store: delete_version(store, "v1")])
def test_it_needs_the_lock_and_a_store(store, action, tmp_path):
    build(store, 1)
    with StoreWriter(store), pytest.raises(StoreLockedError, match=f"process {os.getpid()} on"):
        action(store)
    with pytest.raises(StoreError, match="is not a mask store"):
        action(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["masks.store"]
    check(f"{store}@v1", *[1] * BLOCKS)


def test_a_builder_frozen_during_it_cannot_commit(store):
    """It froze after its last check of the lock. Its chunks are deleted, so its commit must fail."""
    with StoreWriter(store) as writer:
        begin(writer, 1)
        write(writer, 0, 1)
        writer.checkpoint()
        write(writer, 1, 1)
        frozen = writer._session
        zarr.open_group(frozen.store, mode="r+")["block_done"][:] = 1
    assert collect_garbage(store).chunks >= 2  # block 1, which is in no checkpoint
    with pytest.raises(icechunk.ConflictError):
        frozen.commit("too late")
    build(store, 1)
    check(f"{store}@v1", *[1] * BLOCKS)


def test_a_killed_collection_or_deletion_does_no_harm(store, monkeypatch):
    build(store, 1)
    build(store, 2, blocks=2)

    def die(self, *args, **kwargs):
        raise KeyboardInterrupt

    for step in ("expire_snapshots", "garbage_collect"):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(icechunk.Repository, step, die)
            collect_garbage(store)
    for step in ("reset_branch", "delete_tag"):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(icechunk.Repository, step, die)
            delete_version(store, "v1")
        check(f"{store}@v1", *[1] * BLOCKS)
    real, commits = icechunk.Session.commit, []

    def die_second(self, message):
        commits.append(message)
        return real(self, message) if len(commits) < 2 else die(self)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(icechunk.Session, "commit", die_second)
        collect_garbage(store)
    assert len(commits) == 2
    collect_garbage(store)
    assert_no_orphans(store)
    assert build(store, 2) == "v2"
    check(f"{store}@v1", *[1] * BLOCKS)
    check(f"{store}@latest", *[2] * BLOCKS)
    assert list(open_version(f"{store}@v2").group.attrs) == list(open_version(f"{store}@v1").group.attrs)


READER = """
import sys
from locloc.pipeline.store import open_version
version = open_version(sys.argv[1])
first = version.read_masks().tobytes(), version.read_attention().tobytes()
print("open", flush=True)
for _ in sys.stdin:
    assert (version.read_masks().tobytes(), version.read_attention().tobytes()) == first
    print("same", flush=True)
"""


def test_readers_in_other_processes_are_not_disturbed(store):
    build(store, 1)
    build(store, 2, SharedParent("v1", np.array([2])))
    command = [sys.executable, "-c", READER, f"{store}@v2"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout.readline() == "open\n"
        for change in (collect_garbage, lambda store: delete_version(store, "v1"), collect_garbage):
            change(store)
            reader.stdin.write("again\n")
            reader.stdin.flush()
            assert reader.stdout.readline() == "same\n"
