"""The store: reads return what was written, killed builds resume, and readers see complete versions only."""

import multiprocessing
import os
import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import icechunk
import numpy as np
import pyarrow as pa
import pytest
import zarr

from locloc.pipeline.catalogs import CatalogRows, build_catalog
from locloc.pipeline.errors import StoreError, StoreLockedError
from locloc.pipeline.status import Status
from locloc.pipeline.store import list_versions, open_version, reader
from locloc.pipeline.store.schema import BLOCK_ROWS, COLUMNS, content_crc, pack_masks, write_block
from locloc.pipeline.store.writer import StoreWriter

ROWS, HEADS, GRID, MASK_PX = 150, 2, (3, 3), 16
FINGERPRINT = "ab" * 32
ABOUT = {
    "catalog": {"rows": ROWS}, "recipe_name": "test", "created_at": "2026-01-01T00:00:00+00:00", "parent": None,
    "operation": {"kind": "build"},
}  # fmt: skip


def catalog(rows: int = ROWS):
    catalog_rows = CatalogRows()
    for n in range(rows):
        boxes = [[1, 2, 3 + n, 4 + n]] * (n % 3)
        catalog_rows.add(f"ä/{n:04}\n.jpg", f"ä/{n:04}\n.jpg", label=n % 5 - 1, split=n % 4, boxes=boxes)
    return build_catalog("test", Path("/data"), catalog_rows, [], where=lambda row, column: str(row), looked_for="")


def block_content(block: int, salt: int = 0) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray], dict[int, str]]:
    """Masks, attention, columns and errors of one block: random, but the same every time."""
    rng = np.random.default_rng([block, salt])
    rows = min(BLOCK_ROWS, ROWS - block * BLOCK_ROWS)
    masks = rng.random((rows, MASK_PX, MASK_PX)) < 0.5
    attention = rng.random((rows, HEADS, *GRID)).astype(np.float16)
    columns = {name: (rng.random((rows, *tail)) * 100).astype(dtype) for name, (dtype, tail) in COLUMNS.items()}
    columns["status"] = np.full(rows, Status.OK, np.uint8)
    columns["status"][7] = Status.UNDECODABLE
    columns["content_crc"] = content_crc(pack_masks(masks), attention)
    return masks, attention, columns, {7: f"cannot be decoded: block {block}"}


def write(writer: StoreWriter, block: int, salt: int = 0) -> None:
    """What worker and coordinator do with one block. The fork is pickled, as by Dask."""
    masks, attention, columns, errors = block_content(block, salt)
    fork = pickle.loads(pickle.dumps(writer.fork))
    write_block(fork.store, block * BLOCK_ROWS, pack_masks(masks), attention, errors)
    writer.merge(pickle.loads(pickle.dumps(fork)), block, columns)


def begin(writer: StoreWriter, fingerprint: str = FINGERPRINT, metadata: dict = ABOUT) -> None:
    metadata = {**metadata, "fingerprint": fingerprint, "build_id": fingerprint}
    writer.begin(metadata, catalog(), (HEADS, *GRID), MASK_PX)


def build(store: Path, fingerprint: str = FINGERPRINT, name: str | None = None, salt: int = 0) -> str:
    with StoreWriter(store) as writer:
        begin(writer, fingerprint)
        for block in np.flatnonzero(writer.block_done == 0):
            write(writer, int(block), salt)
            writer.checkpoint()
        return writer.publish(name)


@pytest.fixture
def store(tmp_path) -> Path:
    return tmp_path / "masks.store"


def check_content(name: str, salt: int = 0) -> None:
    version = open_version(name)
    for block in range(3):
        rows = slice(block * BLOCK_ROWS, (block + 1) * BLOCK_ROWS)
        masks, attention, columns, errors = block_content(block, salt)
        assert np.array_equal(version.read_masks(rows), masks)
        assert np.array_equal(version.read_attention(rows), attention)
        assert all(np.array_equal(version.read_column(key, rows), values) for key, values in columns.items())
        assert version.table["error"][block * BLOCK_ROWS + 7].as_py() == errors[7]


def test_what_was_written_is_read(store):
    assert build(store) == "v1"
    check_content(f"{store}@v1")
    version, wanted = open_version(f"{store}@latest"), catalog()
    assert len(version) == ROWS
    assert version.tag == "v1"
    assert version.ids == wanted.table["id"].to_pylist()
    assert version.table.column_names == [
        "id", "path", "label", "split", "status", "error", "width", "height", "x0", "y0", "x1", "y1",
    ]  # fmt: skip
    assert isinstance(version.table, pa.Table)
    assert version.table["label"].to_pylist() == wanted.table["label"].to_pylist()
    assert version.table["split"][:5].to_pylist() == ["", "train", "val", "test", ""]
    assert version.table["status"][6:8].to_pylist() == ["ok", "undecodable"]
    assert sum(error is not None for error in version.table["error"].to_pylist()) == 3
    boxes, rows = version.catalog_boxes()
    assert np.array_equal(rows, np.repeat(np.arange(ROWS), np.arange(ROWS) % 3))
    assert boxes[0].tolist() == [1, 2, 4, 5]
    assert version.provenance["counts"]["undecodable"] == 3
    assert version.row(version.ids[31]) == 31


@pytest.mark.parametrize(
    "rows",
    [slice(None), slice(60, 70), slice(140, 999), slice(9, 2), slice(0, 150, 7), [5], [149, 0, 64, 63, 0], [-1], [],
     np.arange(ROWS) % 2 == 0, range(3, 9)],
)  # fmt: skip
def test_rows_are_read_as_numpy_indexes(store, rows):
    build(store)
    version, everything = open_version(f"{store}@v1"), np.concatenate([block_content(block)[0] for block in range(3)])
    wanted = (
        everything[list(rows) if isinstance(rows, range) else rows] if len(np.shape(rows)) != 1 or len(rows) else []
    )
    found = version.read_masks(rows)
    assert found.dtype == bool
    assert found.shape[1:] == (MASK_PX, MASK_PX)
    assert len(found) == len(wanted)
    assert np.array_equal(found, np.reshape(wanted, found.shape))


@pytest.mark.parametrize("rows", [[150], [-151], np.ones(149, bool)])
def test_missing_rows_are_an_index_error(store, rows):
    build(store)
    with pytest.raises(IndexError):
        open_version(f"{store}@v1").read_masks(rows)


def test_latest_is_found_when_it_is_published_during_the_open(store, monkeypatch):
    with StoreWriter(store) as writer:  # a store without a version
        begin(writer)

    def published_just_before(repository):
        monkeypatch.undo()  # the writer asks too
        build(store)
        return reader._latest(repository)

    monkeypatch.setattr(reader, "_latest", published_just_before)
    assert open_version(f"{store}@latest").tag == "v1"


def test_a_second_version_leaves_the_first_as_it_was(store):
    build(store)
    before = {file: file.read_bytes() for file in store.rglob("*") if file.is_file() and "chunks" in file.parts}
    assert build(store, "cd" * 32, salt=1) == "v2"
    assert build(store, "ef" * 32, name="final-1.0", salt=2) == "final-1.0"
    assert build(store, "01" * 32, salt=3) == "v3"
    for tag, salt in (("v1", 0), ("v2", 1), ("final-1.0", 2), ("v3", 3), ("latest", 3)):
        check_content(f"{store}@{tag}", salt)
    assert all(file.read_bytes() == data for file, data in before.items())
    assert [(info.tag, info.is_latest) for info in list_versions(store)] == [
        ("v1", False), ("v2", False), ("final-1.0", False), ("v3", True),
    ]  # fmt: skip


def test_a_build_resumes_at_its_last_checkpoint(store):
    with StoreWriter(store) as writer:
        begin(writer)
        write(writer, 1)
        writer.checkpoint()
        write(writer, 0)  # merged, never in a checkpoint: lost with the process
    with pytest.raises(StoreError, match="no published version yet"):
        open_version(f"{store}@latest")
    (unfinished,) = list_versions(store)
    assert unfinished.tag is None
    assert (unfinished.metadata["counts"]["blocks_done"], unfinished.metadata["counts"]["ok"]) == (1, 63)
    with StoreWriter(store) as writer:
        begin(writer, metadata={**ABOUT, "created_at": "later"})
        assert writer.block_done.tolist() == [0, 1, 0]
        assert writer.published(FINGERPRINT) is None
        write(writer, 0)
        write(writer, 2)
        assert writer.publish() == "v1"
        assert writer.published(FINGERPRINT).tag == "v1"
    check_content(f"{store}@v1")
    assert open_version(f"{store}@v1").provenance["resumed"] == [{"created_at": "later"}]
    assert [info.tag for info in list_versions(store)] == ["v1"]


@pytest.mark.parametrize("step", ["create_tag", "reset_branch", "delete_branch"])
def test_an_interrupted_publication_is_completed_by_the_next_call(store, step, monkeypatch):
    build(store, "99" * 32, salt=9)
    real = getattr(icechunk.Repository, step)

    def die(self, *args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(icechunk.Repository, step, die)
    with pytest.raises(KeyboardInterrupt):
        build(store)
    monkeypatch.setattr(icechunk.Repository, step, real)
    assert open_version(f"{store}@latest").tag == ("v2" if step == "delete_branch" else "v1")

    with StoreWriter(store) as writer:
        version = writer.published(FINGERPRINT)
        if step == "create_tag":
            assert version is None
            begin(writer)
            assert writer.block_done.all()
            assert writer.publish() == "v2"
        else:
            assert version.tag == "v2"
    check_content(f"{store}@latest")
    assert [info.tag for info in list_versions(store)] == ["v1", "v2"]
    repository = icechunk.Repository.open(icechunk.local_filesystem_storage(str(store)))
    assert repository.list_branches() == {"main"}


def test_a_publication_completed_late_does_not_become_latest(store, monkeypatch):
    def die(self, *args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(icechunk.Repository, "reset_branch", die)
        with pytest.raises(KeyboardInterrupt):
            build(store)
    assert build(store, "cd" * 32, salt=1) == "v2"
    with StoreWriter(store) as writer:
        assert writer.published(FINGERPRINT).tag == "v1"
    assert open_version(f"{store}@latest").tag == "v2"
    repository = icechunk.Repository.open(icechunk.local_filesystem_storage(str(store)))
    assert repository.list_branches() == {"main"}


def test_a_build_of_an_older_locloc_resumes(store):
    with StoreWriter(store) as writer:
        begin(writer)
        write(writer, 0)
        writer.checkpoint()
    with StoreWriter(store) as writer:
        begin(writer, metadata={**ABOUT, "new_in_this_version": 1})
        write(writer, 1)
        write(writer, 2)
        writer.publish()
    assert open_version(f"{store}@v1").provenance["resumed"] == [{"new_in_this_version": 1}]


def test_missing_chunks_are_an_error_of_one_line(store):
    build(store)
    for file in (store / "chunks").iterdir():
        file.unlink()
    with pytest.raises(StoreError, match="masks.store@v1: ") as caught:
        open_version(f"{store}@v1").read_masks()
    assert "\n" not in str(caught.value)


def test_an_unfinished_build_is_never_published(store):
    with StoreWriter(store) as writer:
        begin(writer)
        write(writer, 0)
        with pytest.raises(StoreError, match="2 of 3 blocks are missing"):
            writer.publish()
    assert [info.tag for info in list_versions(store)] == [None]


def test_rows_that_differ_from_what_was_written_are_found_and_redone(store):
    with StoreWriter(store) as writer:
        begin(writer)
        for block in range(3):
            write(writer, block)
        masks, attention, *_ = block_content(1)
        masks[5] ^= True
        fork = pickle.loads(pickle.dumps(writer.fork))
        write_block(fork.store, BLOCK_ROWS, pack_masks(masks), attention)
        writer._session.merge(fork)
        with pytest.raises(StoreError, match="1 rows from 69 on were not stored as written"):
            writer.publish()
    with StoreWriter(store) as writer:
        begin(writer)
        assert writer.block_done.tolist() == [1, 0, 1]
        write(writer, 1)
        assert writer.publish() == "v1"
    check_content(f"{store}@v1")


def test_the_fork_of_a_failed_task_leaves_no_data(store):
    with StoreWriter(store) as writer:
        begin(writer)
        fork = pickle.loads(pickle.dumps(writer.fork))
        write_block(fork.store, 0, pack_masks(np.ones((BLOCK_ROWS, MASK_PX, MASK_PX), bool)),
                    np.ones((BLOCK_ROWS, HEADS, *GRID), np.float16))  # fmt: skip
        del fork  # the task failed: its fork never came back
        for block in range(3):
            write(writer, block)
        writer.publish()
    check_content(f"{store}@v1")


def test_a_second_writer_is_refused(store):
    build(store)
    with StoreWriter(store), pytest.raises(StoreLockedError, match=f"written to by process {os.getpid()} on .* since"):
        StoreWriter(store).__enter__()
    with StoreWriter(store) as writer:
        assert writer.published(FINGERPRINT) is not None


def test_a_killed_writer_leaves_no_lock(store):
    build(store)
    code = (
        "import os, signal, sys; from pathlib import Path; from locloc.pipeline.store.writer import StoreWriter\n"
        "with StoreWriter(Path(sys.argv[1])): os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(store)], check=False).returncode == -9
    with StoreWriter(store) as writer:
        assert writer.published(FINGERPRINT).tag == "v1"


def test_folders_that_are_no_store_are_not_touched(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(StoreError, match="exists and is not a mask store"):
        StoreWriter(tmp_path).__enter__()
    with pytest.raises(StoreError, match="exists and is not a mask store"):
        StoreWriter(tmp_path / "thesis.txt").__enter__()
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(StoreError, match="is not a mask store"):
        list_versions(tmp_path)
    with pytest.raises(StoreError, match="cannot be created"):
        StoreWriter(Path("/proc/no/such.store")).__enter__()


@pytest.mark.parametrize("name", ["latest", "a b", "a/b", "", "é*"])
def test_invalid_version_names(store, name):
    build(store)
    with StoreWriter(store) as writer, pytest.raises(StoreError, match="cannot name a version"):
        writer.check_name(name)


def test_a_name_that_is_taken(store):
    build(store, name="best")
    with StoreWriter(store) as writer, pytest.raises(StoreError, match="already has a version 'best'"):
        writer.check_name("best")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("@v1", "names no version"), ("{store}", "names no version; write .*@latest"), ("{store}@", "names no version"),
        ("{store}@v11", "did you mean 'v1'"), ("{store}x@v1", "is not a mask store"),
    ],
)  # fmt: skip
def test_missing_versions(store, name, message):
    build(store)
    with pytest.raises(StoreError, match=message):
        open_version(name.format(store=store))
    with pytest.raises(StoreError, match="holds no image 'nope'"):
        open_version(f"{store}@v1").row("nope")


def read_in_child(version) -> tuple[int, int]:
    return int(version.read_masks([3, 70]).sum()), len(version.ids)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_versions_are_passed_to_worker_processes(store, method):
    build(store)
    version = open_version(f"{store}@v1")
    expected = read_in_child(version)  # open, with Icechunk's threads running, before the children start
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as pool:
        assert list(pool.map(read_in_child, [version] * 4)) == [expected] * 4


def test_a_forked_process_gets_an_error_instead_of_hanging(store):
    build(store)
    code = (
        "import os, sys\nfrom locloc.pipeline.store import open_version\n"
        "from locloc.pipeline.errors import StoreError\n"
        "v = open_version(sys.argv[1]); v.read_masks([0])\n"
        "if os.fork() == 0:\n"
        "    try: v.read_masks([0])\n"
        "    except StoreError as error: print(error); os._exit(0)\n"
        "    os._exit(1)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, f"{store}@v1"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, "forkserver" in done.stdout) == (0, True)


def test_any_zarr_reader_can_open_a_version(store):
    """With icechunk and zarr only, following the docstring of schema.py."""
    build(store)
    repository = icechunk.Repository.open(icechunk.local_filesystem_storage(str(store)))
    root = zarr.open_group(repository.readonly_session(tag="v1").store, mode="r")
    offsets, data = root["catalog/id/offsets"][:], root["catalog/id/bytes"][:]
    assert data[offsets[1] : offsets[2]].tobytes().decode() == "ä/0001\n.jpg"
    assert root["mask"].chunks == (BLOCK_ROWS, MASK_PX, MASK_PX // 8)
    assert np.array_equal(np.unpackbits(root["mask"][:64], axis=-1).astype(bool), block_content(0)[0])
