"""A version that shares the chunks of its parent: only redone blocks are new, and the parent does not change."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from locloc.pipeline.errors import StoreError
from locloc.pipeline.status import Status
from locloc.pipeline.store import list_versions, open_version
from locloc.pipeline.store.gc import collect_garbage, delete_version
from locloc.pipeline.store.schema import BLOCK_ROWS, COLUMNS, content_crc, pack_masks, write_block
from locloc.pipeline.store.writer import SharedParent, StoreWriter

HEADS, GRID = 2, (3, 3)


@pytest.fixture
def parent(tmp_path, made, write, ids):
    """v1: 150 rows, of which the rows 4 to 7 failed, with reasons, and row 3 is a fallback."""
    return write(tmp_path / "masks.store", made(ids), tmp_path / "images")


def metadata(parent, **changes) -> dict:
    copied = {name: parent.provenance[name] for name in ("catalog", "recipe", "recipe_name", "backbone", "created_at")}
    return copied | {"parent": parent.tag, "fingerprint": "cd" * 32, "build_id": "ef" * 32} | changes


def begin(writer: StoreWriter, parent, redo: list[int], mask_px: int = 32, **changes) -> None:
    shared = SharedParent(parent.tag, np.array(redo, np.int64))
    writer.begin(metadata(parent, **changes), parent.catalog, (HEADS, *GRID), mask_px, shared)


def make(writer: StoreWriter, block: int, mask_px: int = 32, attention: np.ndarray | None = None) -> dict:
    """Writes a block without failed rows, with other content than the parent's."""
    rows = min(BLOCK_ROWS, len(writer.status) - block * BLOCK_ROWS)
    rng = np.random.default_rng([block, 5])
    packed = pack_masks(rng.random((rows, mask_px, mask_px)) < 0.5)
    maps = rng.random((rows, HEADS, *GRID)).astype(np.float16) if attention is None else attention
    columns = {name: (rng.random((rows, *tail)) * 9).astype(dtype) for name, (dtype, tail) in COLUMNS.items()}
    columns["status"][:] = Status.OK
    columns["content_crc"] = content_crc(packed, maps)
    fork = pickle.loads(pickle.dumps(writer.fork))
    write_block(fork.store, block * BLOCK_ROWS, packed, None if attention is not None else maps)
    writer.merge(pickle.loads(pickle.dumps(fork)), block, columns)
    return columns | {"mask": packed, "attention": maps}


def content(version, rows: slice = slice(None)) -> dict[str, np.ndarray]:
    return {name: version.read_column(name, rows) for name in ("mask", "attention", "error", *COLUMNS)}


def chunks(store) -> set[Path]:
    return set(Path(str(store), "chunks").iterdir())


def test_it_starts_as_its_parent_with_some_unfinished_blocks(parent):
    with StoreWriter(parent.store) as writer:
        begin(writer, parent, [1])
        assert writer.block_done.tolist() == [1, 0, 1]
        status = parent.status.copy()
        status[64:128] = Status.PENDING
        assert np.array_equal(writer.status, status)
        assert writer.counts["pending"] == 64
        with pytest.raises(StoreError, match="1 of 3 blocks are missing"):
            writer.publish()
    assert [info.tag for info in list_versions(parent.store)] == ["v1", None]
    assert np.array_equal(open_version(parent.name).status, parent.status)


def test_only_redone_blocks_are_new(parent):
    before, files = content(parent), chunks(parent.store)
    with StoreWriter(parent.store) as writer:
        begin(writer, parent, [0])
        made = make(writer, 0)
        assert writer.publish() == "v2"
    version = open_version(f"{parent.store}@v2")
    after = content(version)
    for name, values in after.items():
        assert np.array_equal(values[64:], before[name][64:]), name
    for name, values in made.items():
        assert np.array_equal(after[name][:64], values), name
    assert not after["error"][:64].any(), "reasons of rows that are good now are gone"
    assert before["error"][:64].any()
    assert version.provenance["counts"]["ok"] == 150
    assert version.provenance["parent"] == "v1"
    assert version.table["error"].null_count == 150
    assert all(np.array_equal(before[name], values) for name, values in content(open_version(parent.name)).items())
    added = sum(file.stat().st_size for file in chunks(parent.store) - files)
    whole = sum(values.nbytes for values in made.values())
    columns = sum(before[name].nbytes for name in COLUMNS)
    assert 0 < added < whole + columns
    assert len(chunks(parent.store) - files) <= 2 + len(COLUMNS)


def test_masks_of_another_size_replace_the_old_ones_and_attention_stays(parent):
    files = chunks(parent.store)
    with StoreWriter(parent.store) as writer:
        begin(writer, parent, [0, 1, 2], mask_px=64)
        for block in range(3):
            make(writer, block, 64, parent.read_attention(slice(block * 64, block * 64 + 64)))
        writer.publish()
    version = open_version(f"{parent.store}@v2")
    assert version.read_masks([149]).shape == (1, 64, 64)
    assert np.array_equal(version.read_attention(), parent.read_attention())
    assert open_version(parent.name).read_masks().shape == (150, 32, 32)
    crc = content_crc(version.read_column("mask"), version.read_attention())
    assert np.array_equal(crc, version.read_column("content_crc"))
    assert len(chunks(parent.store) - files) <= 3 + len(COLUMNS)


def test_killed_after_its_first_commit_or_a_checkpoint_it_resumes(parent):
    with StoreWriter(parent.store) as writer:
        begin(writer, parent, [0, 2])
    with StoreWriter(parent.store) as writer:
        begin(writer, parent, [0, 2], created_at="later")
        assert writer.block_done.tolist() == [0, 1, 0]
        first = make(writer, 2)
        writer.checkpoint()
        make(writer, 0)  # merged, never in a checkpoint
    with StoreWriter(parent.store) as writer:
        begin(writer, parent, [0, 2], created_at="last")
        assert writer.block_done.tolist() == [0, 1, 1]
        make(writer, 0)
        writer.publish()
    version = open_version(f"{parent.store}@v2")
    assert np.array_equal(version.read_column("mask", slice(128, None)), first["mask"])
    assert [entry["created_at"] for entry in version.provenance["resumed"]] == ["later", "last"]


def test_a_branch_without_its_own_commit_is_no_unfinished_build(parent, monkeypatch):
    """Killed between the branch and its first commit: the next writer deletes the branch, and the parent stays."""

    def die(self, *_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(StoreWriter, "_commit", die)
        with pytest.raises(KeyboardInterrupt), StoreWriter(parent.store) as writer:
            begin(writer, parent, [0])
    assert [info.tag for info in list_versions(parent.store)] == ["v1"]
    with StoreWriter(parent.store) as writer:
        begin(writer, parent, [0])
        make(writer, 0)
        assert writer.publish() == "v2"


def test_the_parent_may_be_deleted_and_its_garbage_collected(parent):
    with StoreWriter(parent.store) as writer:
        begin(writer, parent, [1])
        make(writer, 1)
        writer.publish()
    wanted = content(open_version(f"{parent.store}@v2"))
    delete_version(parent.store, "v1")
    collect_garbage(parent.store)
    version = open_version(f"{parent.store}@latest")
    assert version.tag == "v2"
    assert all(np.array_equal(wanted[name], values) for name, values in content(version).items())


def test_damaged_shared_chunks_are_not_published(parent):
    """All rows are checked, also those shared with the parent."""
    for file in chunks(parent.store):
        file.write_bytes(b"")
    message = "@v1 cannot be read .*`locloc masks verify .*@v1` says what"
    with pytest.raises(StoreError, match=message) as caught, StoreWriter(parent.store) as writer:
        begin(writer, parent, [1])
        make(writer, 1)
        writer.publish()
    assert "\n" not in str(caught.value)
    assert [info.tag for info in list_versions(parent.store) if info.tag] == ["v1"]


def test_numbers_of_deleted_versions_are_left_out(parent):
    def another(number: int, name: str | None = None) -> str:
        with StoreWriter(parent.store) as writer:
            begin(writer, parent, [1], build_id=f"{number:016}")
            make(writer, 1)
            return writer.publish(name)

    assert another(1) == "v2"
    delete_version(parent.store, "v2")
    assert another(2) == "v3"
    assert another(3, "v2") == "v4", "a deleted version's name is replaced by the next number"
    assert another(4, "v9") == "v9"
    delete_version(parent.store, "v9")
    assert another(5) == "v5"
    assert [another(number) for number in (6, 7, 8, 9)] == ["v6", "v7", "v8", "v10"]
    assert open_version(f"{parent.store}@latest").tag == "v10"
    delete_version(parent.store, "v10")
    assert open_version(f"{parent.store}@latest").tag == "v8"
