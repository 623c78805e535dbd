"""A version being made: lock > branch > blocks through forks > checkpoints > verify > publish.

The protocol (shared by everything that writes):

1. The store is made if it is not there; `store_lock` is held from before it is opened until the version is published.
2. The branch `build-<fingerprint>` begins at the store's empty first snapshot with arrays and catalog: one commit.
3. Workers write whole blocks through copies of one `fork`. The coordinator merges a copy only when its task succeeded.
4. A checkpoint writes the small columns and `block_done` of what was merged, in one commit. A build killed at any
   moment goes on at its last checkpoint; blocks merged after it are done again, with the same bytes.
5. Publishing reads every row back against its CRC, seals the attributes, tags the snapshot, moves `main` there and
   deletes the branch. Killed between two of these steps, the next call does the rest.
"""

import os
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import icechunk
import numpy as np
import zarr

from ..catalogs.catalog import Catalog
from ..errors import StoreError
from ..status import DONE, Status
from .layout import (
    ATTRIBUTE,
    BLOCK_ROWS,
    COLUMN_ROWS,
    COLUMNS,
    SCHEMA,
    content_crc,
    create_arrays,
    pack_error,
    write_catalog,
)
from .lock import store_lock
from .reader import VersionInfo, list_versions
from .repository import BUILD_PREFIX, ensure_repository, first_snapshot, icechunk_errors, open_repository

VERIFY_ROWS = 16 * BLOCK_ROWS


class StoreWriter:
    """The one writer of a store, for the time of a `with` statement."""

    def __init__(self, store: Path):
        self.store = store
        self._held = ExitStack()

    def __enter__(self) -> "StoreWriter":
        ensure_repository(self.store)
        self._held.enter_context(store_lock(self.store))
        try:
            self._repository = open_repository(self.store)
        except BaseException:
            self._held.close()
            raise
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._held.close()

    def published(self, fingerprint: str) -> VersionInfo | None:
        """The version with this fingerprint, if there is one. Finishes a publication that was cut short."""
        for version in list_versions(self.store):
            if version.tag is not None and version.fingerprint == fingerprint:
                if _branch(fingerprint) in self._repository.list_branches():
                    self._move_main(fingerprint, version.tag)
                return version
        return None

    def check_name(self, name: str) -> None:
        """Raises StoreError for a version name that is taken or cannot be one."""
        if name == "latest" or not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
            raise StoreError(
                f"{name!r} cannot name a version: use letters, digits, '-', '_' and '.' (and not 'latest')"
            )
        if name in self._repository.list_tags():
            raise StoreError(
                f"Store {self.store} already has a version {name!r} with another fingerprint; choose another name"
            )

    def begin(
        self, fingerprint: str, about: dict[str, Any], catalog: Catalog, heads: int, grid: tuple[int, int], mask_px: int
    ) -> None:
        """Starts the build's branch, or goes on with it at its last checkpoint.

        `about` is what the version will say of itself. When a build is gone on with, what is new in it is kept beside
        what it began with, under `resumed`.
        """
        branch = self._branch = _branch(fingerprint)
        with icechunk_errors(str(self.store)):
            if branch not in self._repository.list_branches():
                self._repository.create_branch(branch, first_snapshot(self._repository))
            if self._repository.lookup_branch(branch) == first_snapshot(self._repository):
                session = self._repository.writable_session(branch)
                root = create_arrays(session.store, len(catalog), heads, grid, mask_px)
                write_catalog(root, catalog)
                root.attrs[ATTRIBUTE] = {"schema": SCHEMA, "fingerprint": fingerprint, **about, "resumed": []}
                session.commit("catalog and empty arrays")
            # Of a session that is never committed: Icechunk lets forks merge into any later session of the branch.
            self.fork = self._repository.writable_session(branch).fork()
            self._open_session()
            root = self._root
            self._about: dict[str, Any] = dict(root.attrs[ATTRIBUTE])
            self._columns = {name: root[name][:] for name in COLUMNS}
            self.block_done: np.ndarray = root["block_done"][:]
        if self._about["fingerprint"] != fingerprint:
            raise StoreError(f"Store {self.store}: branch {branch} belongs to another build; this is a bug of locloc")
        changed = {key: value for key, value in about.items() if self._about.get(key) != value}
        if self.block_done.any():
            self._about["resumed"].append(changed)
        self._errors: dict[int, str] = {}
        self._dirty: set[int] = set()

    @property
    def input_digest(self) -> np.ndarray:
        """`(N, 16) uint8` so far: blake2b of each picture's file."""
        return self._columns["input_digest"]

    @property
    def status(self) -> np.ndarray:
        """`(N,) uint8` so far, merged blocks among them that are not in a checkpoint yet."""
        return self._columns["status"]

    @property
    def counts(self) -> dict[str, int]:
        """Rows by status, rows and blocks in all, and blocks that are done."""
        counts = {status.label: int((self.status == status).sum()) for status in Status}
        return counts | {
            "rows": len(self.status),
            "blocks": len(self.block_done),
            "blocks_done": int(self.block_done.sum()),
        }

    def merge(
        self, fork: icechunk.ForkSession, block: int, columns: dict[str, np.ndarray], errors: dict[int, str]
    ) -> None:
        """Takes over a finished block: the chunks in its fork, its columns, its errors by row of the block."""
        with icechunk_errors(str(self.store)):
            self._session.merge(fork)
        start = block * BLOCK_ROWS
        for name, values in columns.items():
            self._columns[name][start : start + len(values)] = values
        self._errors |= {start + int(row): text for row, text in errors.items()}
        self._dirty.add(block)
        self.block_done[block] = 1

    def checkpoint(self) -> None:
        """Commits what was merged since the last one; nothing to do is no error."""
        if not self._dirty:
            return
        with icechunk_errors(str(self.store)):
            root = self._root
            for chunk in sorted({block * BLOCK_ROWS // COLUMN_ROWS for block in self._dirty}):
                rows = slice(chunk * COLUMN_ROWS, (chunk + 1) * COLUMN_ROWS)
                for name, values in self._columns.items():
                    root[name][rows] = values[rows]
            for block in sorted({row // BLOCK_ROWS for row in self._errors}):
                self._write_errors(root, block)
            root["block_done"][:] = self.block_done
            root.attrs[ATTRIBUTE] = {**self._about, "counts": self.counts}
            self._session.commit(f"checkpoint: {int(self.block_done.sum())} of {len(self.block_done)} blocks")
            self._open_session()
        self._dirty.clear()
        self._errors.clear()

    def publish(self, name: str | None = None) -> str:
        """Checks that every row is there and as it was made, then publishes. Returns the version's tag."""
        self.checkpoint()
        self._verify()
        tag = name or self._next_name()
        with icechunk_errors(str(self.store)):
            self._root.attrs[ATTRIBUTE] = {**self._about, "counts": self.counts, "published_at": timestamp()}
            snapshot = self._session.commit(f"published as {tag}")
            os.sync()  # Icechunk does not fsync: the tag must not survive a power cut that its chunks do not
            self._repository.create_tag(tag, snapshot)
        self._move_main(self._about["fingerprint"], tag)
        return tag

    def _verify(self) -> None:
        missing = int((self.block_done == 0).sum())
        if missing or (self.status == Status.PENDING).any():
            raise StoreError(
                f"Store {self.store}: {missing} of {len(self.block_done)} blocks are missing at the end of a build"
            )
        root, wanted = self._root, self._columns["content_crc"]
        for start in range(0, len(wanted), VERIFY_ROWS):
            rows = slice(start, start + VERIFY_ROWS)
            bad = np.flatnonzero(content_crc(root["mask"][rows], root["attention"][rows]) != wanted[rows])
            if len(bad):
                # Their blocks are done again by the next call: a lost commit costs a block, never a version.
                self.block_done[np.unique((start + bad) // BLOCK_ROWS)] = 0
                self._dirty.update(np.unique((start + bad) // BLOCK_ROWS).tolist())
                self.checkpoint()
                raise StoreError(
                    f"Store {self.store}: {len(bad)} rows from {start + int(bad[0])} on were not stored as they were "
                    "made (disk full, or another program writing here?); run the same command to make them again"
                )

    def _write_errors(self, root: zarr.Group, block: int) -> None:
        start = block * BLOCK_ROWS
        texts = np.zeros_like(root["error"][start : start + BLOCK_ROWS])
        for row in range(len(texts)):
            if text := self._errors.get(start + row):
                texts[row] = pack_error(text)
        root["error"][start : start + BLOCK_ROWS] = texts

    def _next_name(self) -> str:
        numbers = [int(tag[1:]) for tag in self._repository.list_tags() if tag[:1] == "v" and tag[1:].isdecimal()]
        return f"v{max(numbers, default=0) + 1}"

    def _move_main(self, fingerprint: str, tag: str) -> None:
        with icechunk_errors(str(self.store)):
            newest = [version.tag for version in list_versions(self.store) if version.tag is not None][-1]
            if tag == newest:  # not so where another version was published after this one was cut short
                self._repository.reset_branch("main", self._repository.lookup_tag(tag))
            self._repository.delete_branch(_branch(fingerprint))

    def _open_session(self) -> None:
        self._session = self._repository.writable_session(self._branch)

    @property
    def _root(self) -> zarr.Group:
        return zarr.open_group(self._session.store, mode="r+")


def coverage(counts: dict[str, int]) -> float:
    """Share of the rows that were decoded and went through refinement: ok and fallback."""
    return sum(counts[status.label] for status in DONE) / counts["rows"]


def timestamp() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _branch(fingerprint: str) -> str:
    return BUILD_PREFIX + fingerprint[:16]
