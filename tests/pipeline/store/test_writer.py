"""Killed builds resume, publications are complete or absent, and a store has one writer at a time."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import icechunk
import numpy as np
import pytest

from locloc.pipeline.errors import StoreError, StoreLockedError
from locloc.pipeline.store import list_versions, open_version
from locloc.pipeline.store.schema import BLOCK_ROWS, pack_masks, write_block
from locloc.pipeline.store.versions import VersionInfo, published_version
from locloc.pipeline.store.writer import StoreWriter


def test_a_second_version_leaves_the_first_as_it_was(store, build):
    build.publish(store)
    before = {file: file.read_bytes() for file in store.rglob("*") if file.is_file() and "chunks" in file.parts}
    assert build.publish(store, "cd" * 32, salt=1) == "v2"
    assert build.publish(store, "ef" * 32, name="final-1.0", salt=2) == "final-1.0"
    assert build.publish(store, "01" * 32, salt=3) == "v3"
    for tag, salt in (("v1", 0), ("v2", 1), ("final-1.0", 2), ("v3", 3), ("latest", 3)):
        build.check(f"{store}@{tag}", salt)
    assert all(file.read_bytes() == data for file, data in before.items())
    infos = [VersionInfo(tag, "ab", {}) for tag in ("v1", "mine", "v2")] + [VersionInfo(None, "ab", {})]
    tags = [published_version(infos, "ab", name).tag for name in (None, "mine", "other")]
    assert tags == ["v2", "mine", "v2"] and published_version(infos, "cd", "mine") is None
    assert [(info.tag, info.is_latest) for info in list_versions(store)] == [
        ("v1", False), ("v2", False), ("final-1.0", False), ("v3", True),
    ]  # fmt: skip


def test_a_build_resumes_at_its_last_checkpoint(store, build):
    with StoreWriter(store) as writer:
        build.begin(writer)
        build.write(writer, 1)
        writer.checkpoint()
        build.write(writer, 0)  # merged, never in a checkpoint: lost with the process
    with pytest.raises(StoreError, match="no published version yet"):
        open_version(f"{store}@latest")
    (unfinished,) = list_versions(store)
    assert unfinished.tag is None
    assert (unfinished.metadata["counts"]["blocks_done"], unfinished.metadata["counts"]["ok"]) == (1, 63)
    with StoreWriter(store) as writer:
        build.begin(writer, metadata={**build.METADATA, "created_at": "later"})
        assert writer.block_done.tolist() == [0, 1, 0]
        assert writer.published(build.FINGERPRINT) is None
        build.write(writer, 0)
        build.write(writer, 2)
        assert writer.publish() == "v1"
        assert writer.published(build.FINGERPRINT).tag == "v1"
    build.check(f"{store}@v1")
    assert open_version(f"{store}@v1").provenance["resumed"] == [{"created_at": "later"}]
    assert [info.tag for info in list_versions(store)] == ["v1"]


@pytest.mark.parametrize("step", ["create_tag", "reset_branch", "delete_branch"])
def test_an_interrupted_publication_is_completed_by_the_next_call(store, step, monkeypatch, build):
    build.publish(store, "99" * 32, salt=9)
    real = getattr(icechunk.Repository, step)

    def die(self, *args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(icechunk.Repository, step, die)
    with pytest.raises(KeyboardInterrupt):
        build.publish(store)
    monkeypatch.setattr(icechunk.Repository, step, real)
    assert open_version(f"{store}@latest").tag == ("v2" if step == "delete_branch" else "v1")

    with StoreWriter(store) as writer:
        version = writer.published(build.FINGERPRINT)
        if step == "create_tag":
            assert version is None
            build.begin(writer)
            assert writer.block_done.all()
            assert writer.publish() == "v2"
        else:
            assert version.tag == "v2"
    build.check(f"{store}@latest")
    assert [info.tag for info in list_versions(store)] == ["v1", "v2"]
    repository = icechunk.Repository.open(icechunk.local_filesystem_storage(str(store)))
    assert repository.list_branches() == {"main"}


def test_a_publication_completed_late_does_not_become_latest(store, monkeypatch, build):
    def die(self, *args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(icechunk.Repository, "reset_branch", die)
        with pytest.raises(KeyboardInterrupt):
            build.publish(store)
    assert build.publish(store, "cd" * 32, salt=1) == "v2"
    with StoreWriter(store) as writer:
        assert writer.published(build.FINGERPRINT).tag == "v1"
    assert open_version(f"{store}@latest").tag == "v2"
    repository = icechunk.Repository.open(icechunk.local_filesystem_storage(str(store)))
    assert repository.list_branches() == {"main"}


def test_a_build_of_an_older_locloc_resumes(store, build):
    with StoreWriter(store) as writer:
        build.begin(writer)
        build.write(writer, 0)
        writer.checkpoint()
    with StoreWriter(store) as writer:
        build.begin(writer, metadata={**build.METADATA, "new_in_this_version": 1})
        build.write(writer, 1)
        build.write(writer, 2)
        writer.publish()
    assert open_version(f"{store}@v1").provenance["resumed"] == [{"new_in_this_version": 1}]


def test_an_unfinished_build_is_never_published(store, build):
    with StoreWriter(store) as writer:
        build.begin(writer)
        build.write(writer, 0)
        with pytest.raises(StoreError, match="2 of 3 blocks are missing"):
            writer.publish()
    assert [info.tag for info in list_versions(store)] == [None]


def test_rows_that_differ_from_what_was_written_are_found_and_redone(store, build):
    with StoreWriter(store) as writer:
        build.begin(writer)
        for block in range(3):
            build.write(writer, block)
        masks, attention, *_ = build.content(1)
        masks[5] ^= True
        fork = pickle.loads(pickle.dumps(writer.fork))
        write_block(fork.store, BLOCK_ROWS, pack_masks(masks), attention)
        writer._session.merge(fork)
        with pytest.raises(StoreError, match="1 rows from 69 on were not stored as written"):
            writer.publish()
    with StoreWriter(store) as writer:
        build.begin(writer)
        assert writer.block_done.tolist() == [1, 0, 1]
        build.write(writer, 1)
        assert writer.publish() == "v1"
    build.check(f"{store}@v1")


def test_the_fork_of_a_failed_task_leaves_no_data(store, build):
    with StoreWriter(store) as writer:
        build.begin(writer)
        fork = pickle.loads(pickle.dumps(writer.fork))
        write_block(fork.store, 0, pack_masks(np.ones((BLOCK_ROWS, build.MASK_PX, build.MASK_PX), bool)),
                    np.ones((BLOCK_ROWS, build.HEADS, *build.GRID), np.float16))  # fmt: skip
        del fork  # the task failed: its fork never came back
        for block in range(3):
            build.write(writer, block)
        writer.publish()
    build.check(f"{store}@v1")


def test_a_second_writer_is_refused(store, build):
    build.publish(store)
    with StoreWriter(store), pytest.raises(StoreLockedError, match=f"written to by process {os.getpid()} on .* since"):
        StoreWriter(store).__enter__()
    with StoreWriter(store) as writer:
        assert writer.published(build.FINGERPRINT) is not None


def test_a_killed_writer_leaves_no_lock(store, build):
    build.publish(store)
    code = (
        "import os, signal, sys; from pathlib import Path; from locloc.pipeline.store.writer import StoreWriter\n"
        "with StoreWriter(Path(sys.argv[1])): os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(store)], check=False).returncode == -9
    with StoreWriter(store) as writer:
        assert writer.published(build.FINGERPRINT).tag == "v1"


def test_folders_that_are_no_store_are_not_touched(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(StoreError, match="exists and is not a mask store"):
        StoreWriter(tmp_path).__enter__()
    with pytest.raises(StoreError, match="exists and is not a mask store"):
        StoreWriter(tmp_path / "thesis.txt").__enter__()
    with pytest.raises(StoreError, match=rf"not a directory \({tmp_path / 'thesis.txt'} is a file\); name another"):
        StoreWriter(tmp_path / "thesis.txt" / "below").__enter__()
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(StoreError, match="is not a mask store"):
        list_versions(tmp_path)
    with pytest.raises(StoreError, match="cannot be written: no such file"):
        StoreWriter(Path("/proc/no/such.store")).__enter__()


@pytest.mark.parametrize("name", ["latest", "a b", "a/b", "", "é*"])
def test_invalid_version_names(store, name, build):
    build.publish(store)
    with StoreWriter(store) as writer, pytest.raises(StoreError, match="cannot name a version"):
        writer.check_name(name)


def test_a_name_that_is_taken(store, build):
    build.publish(store, name="best")
    with StoreWriter(store) as writer, pytest.raises(StoreError, match="already has a version 'best'"):
        writer.check_name("best")
