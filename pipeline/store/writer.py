"""Builds a version: lock > branch > blocks through forks > checkpoints > verify > publish.

The protocol, which every writer follows:

1. Create the store if there is none. Hold `store_lock` from before the store is opened until the version is published,
   and check it before each commit.
2. Create the branch `build-<build id>` at the store's empty first snapshot, with arrays and catalog, or at the snapshot
   of a parent version, to share its chunks. One commit.
3. Workers write whole blocks through copies of one `fork`. The coordinator merges a copy only if its task succeeded.
4. A checkpoint writes the small columns and `block_done` of the merged blocks, in one commit. A killed build resumes at
   its last checkpoint; blocks merged later are written again, with the same bytes.
5. Publishing checks every row against its CRC, seals the attributes, tags the snapshot, moves `main` to it and deletes
   the branch. If the process is killed in between, the next writer completes these steps.
"""

import os
from collections.abc import Container
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
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
from .arrays import Array, open_array, read_array
from .corruption import corruption_as_error
from .decisions import Decisions, write_decisions
from .gc import delete_empty_branches
from .icechunk_errors import icechunk_errors
from .location import StoreLocation
from .lock import store_lock
from .repository import ensure_repository, first_snapshot, open_repository
from .schema import (
    ATTRIBUTE,
    BLOCK_ROWS,
    COLUMN_ROWS,
    SCHEMA,
    add_missing_columns,
    create_arrays,
    read_columns,
    read_metadata,
    reopen_arrays,
    write_catalog,
)
from .verification import PART_ROWS, Part
from .versions import (
    VersionInfo,
    build_branch,
    check_new_name,
    list_versions,
    published_version,
    tag_snapshots,
)


@dataclass(frozen=True)
class SharedParent:
    """A version whose chunks the new version shares, except for the blocks `redo`, which are written again."""

    tag: str
    redo: Array  # (n,) block numbers


class StoreWriter:
    """The only writer of a store, inside a `with` statement."""

    def __init__(self, store: str | Path | StoreLocation):
        self.store = StoreLocation.of(store)
        self._exit_stack = ExitStack()

    def __enter__(self) -> "StoreWriter":
        ensure_repository(self.store)
        self._lease = self._exit_stack.enter_context(store_lock(self.store))
        try:
            self._repository = open_repository(self.store)
            self._complete_interrupted()
        except BaseException:
            self._exit_stack.close()
            raise
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._exit_stack.close()

    def _complete_interrupted(self) -> None:
        """Completes an interrupted publication or deletion: moves `main` to the newest version, deletes its branch."""
        with icechunk_errors(str(self.store)):
            snapshots = tag_snapshots(self._repository)
            tags = [info.tag for info in list_versions(self.store) if info.tag is not None]
            newest = snapshots[tags[-1]] if tags else first_snapshot(self._repository)
            if self._repository.lookup_branch("main") != newest:
                self._repository.reset_branch("main", newest)
            delete_empty_branches(self._repository)

    def published(self, fingerprint: str, name: str | None = None) -> VersionInfo | None:
        """The version with this fingerprint that is called `name`, else the newest one; None if there is none."""
        return published_version(list_versions(self.store), fingerprint, name)

    def check_name(self, name: str) -> None:
        """Raises StoreError for a version name that is taken or not allowed."""
        check_new_name(name, self._repository.list_tags(), self.store)

    def has_begun(self, build_id: str) -> bool:
        """Whether there is an unfinished build of this id, which `begin` resumes."""
        with icechunk_errors(str(self.store)):
            return build_branch(build_id) in self._repository.list_branches()

    def begin(
        self,
        metadata: dict[str, Any],
        catalog: Catalog,
        attention: tuple[int, int, int],
        mask_px: int,
        shared: SharedParent | None = None,
        decisions: Decisions | None = None,
    ) -> None:
        """Starts the build's branch, or resumes it at its last checkpoint.

        metadata   provenance of the version; its `build_id` names the branch. On resuming, keys that changed since the
                   start are appended to the list `resumed`
        attention  `(H, h, w)` of the attention maps
        decisions  of rows that are taken over from a parent; they replace those of `shared`
        """
        branch = self._branch = build_branch(metadata["build_id"])
        with icechunk_errors(str(self.store)):
            start = self._repository.lookup_tag(shared.tag) if shared is not None else first_snapshot(self._repository)
            if not self.has_begun(metadata["build_id"]):
                self._repository.create_branch(branch, start)
            is_new = self._repository.lookup_branch(branch) == start
            if is_new:
                session = self._repository.writable_session(branch)
                if shared is None:
                    root = create_arrays(session.store, len(catalog), attention, mask_px)
                    write_catalog(root, catalog)
                else:
                    root = reopen_arrays(session.store, shared.redo, mask_px)
                write_decisions(root, decisions)
                root.attrs[ATTRIBUTE] = {"schema": SCHEMA, **metadata, "resumed": []}
                self._commit(session, "catalog and empty arrays" if shared is None else f"begins as {shared.tag}")
            # From a session that is never committed: Icechunk merges forks into any later session of the branch.
            self.fork = self._repository.writable_session(branch).fork()
            self._open_session()
            root = self._root
            self._metadata = read_metadata(root)
            with self._corruption_as_error():
                self._columns = read_columns(root)
            self.block_done = read_array(root, "block_done")
        if self._metadata["build_id"] != metadata["build_id"]:
            raise StoreError(f"Store {self.store}: branch {branch} belongs to another build; this is a bug of locloc")
        changed = {key: value for key, value in metadata.items() if self._metadata.get(key) != value}
        if not is_new and self.block_done.any():
            self._metadata["resumed"].append(changed)
        self._dirty: set[int] = set()
        self._verified = False

    @property
    def input_digest(self) -> Array:
        """`(N, 16) uint8`: blake2b of each image's file, zeros for rows not yet written."""
        return self._columns["input_digest"]

    @property
    def status(self) -> Array:
        """`(N,) uint8`, including merged blocks that no checkpoint holds yet."""
        return self._columns["status"]

    @property
    def counts(self) -> dict[str, int]:
        """Rows by status, all rows, all blocks, and finished blocks."""
        counts = {status.label: int((self.status == status).sum()) for status in Status}
        return counts | {
            "rows": len(self.status),
            "blocks": len(self.block_done),
            "blocks_done": int(self.block_done.sum()),
        }

    def set_status(self, status: Array) -> None:
        """Replaces the statuses `(N,) uint8` of all rows; their blocks stay as they are."""
        changed = np.flatnonzero(self.status != status)
        self._columns["status"][:] = status
        self._dirty.update(np.unique(changed // BLOCK_ROWS).tolist())

    def merge(self, fork: icechunk.ForkSession, block: int, columns: dict[str, Array]) -> None:
        """Merges a finished block: the chunks in its fork, and the values of its columns by name."""
        with icechunk_errors(str(self.store)):
            self._session.merge(fork)
        start = block * BLOCK_ROWS
        for name, values in columns.items():
            self._columns[name][start : start + len(values)] = values
        self._dirty.add(block)
        self._verified = False
        self.block_done[block] = 1

    def checkpoint(self) -> bool:
        """Commits the blocks merged since the last checkpoint. False if there were none."""
        if not self._dirty:
            return False
        with icechunk_errors(str(self.store)):
            root = self._root
            add_missing_columns(root)
            for chunk in sorted({block * BLOCK_ROWS // COLUMN_ROWS for block in self._dirty}):
                rows = slice(chunk * COLUMN_ROWS, (chunk + 1) * COLUMN_ROWS)
                for name, values in self._columns.items():
                    open_array(root, name)[rows] = values[rows]
            open_array(root, "block_done")[:] = self.block_done
            root.attrs[ATTRIBUTE] = {**self._metadata, "counts": self.counts}
            self._commit(self._session, f"checkpoint: {int(self.block_done.sum())} of {len(self.block_done)} blocks")
            self._open_session()
        self._dirty.clear()
        return True

    def publish(self, name: str | None = None) -> str:
        """Verifies the version if that is not yet done, seals and tags it. Returns the tag."""
        if not self._verified:
            self.verify()
        with icechunk_errors(str(self.store)):
            sequence = 1 + max((info.metadata["sequence"] for info in list_versions(self.store) if info.tag), default=0)
            self._root.attrs[ATTRIBUTE] = {
                **self._metadata,
                "counts": self.counts,
                "sequence": sequence,
                "published_at": timestamp(),
            }
            snapshot = self._commit(self._session, "sealed")
            if not self.store.is_remote:
                os.sync()  # Icechunk does not fsync: after a power cut there must be no tag without its chunks
            tag = self._tag(snapshot, name)
        self._complete_interrupted()
        return tag

    def parts(self) -> list[Part]:
        """What has to be verified, as of a checkpoint that this makes. Raises StoreError if rows are missing."""
        self.checkpoint()
        missing = int((self.block_done == 0).sum())
        if missing or (self.status == Status.PENDING).any():
            raise StoreError(
                f"Store {self.store}: {missing} of {len(self.block_done)} blocks are missing at the end of a build"
            )
        with icechunk_errors(str(self.store)):
            snapshot = self._repository.lookup_branch(self._branch)
        expected = self._columns["content_crc"]
        starts = range(0, len(expected), PART_ROWS)
        return [Part(self.store, snapshot, start, expected[start : start + PART_ROWS]) for start in starts]

    def verify(self, intact: Container[int] = ()) -> None:
        """Checks every row against its CRC. Raises StoreError if rows are missing or wrong, and resets wrong blocks.

        intact  first rows of `parts` that workers have found intact since the last checkpoint; they are not read again
        """
        parts, root = self.parts(), self._root
        for part in parts:
            if part.start in intact:
                continue
            with self._corruption_as_error():
                wrong = part.start + np.flatnonzero(part.wrong_rows(root))
            if len(wrong):
                # The next run redoes these blocks: a lost commit costs a block, never a version.
                blocks = np.unique(wrong // BLOCK_ROWS)
                self.block_done[blocks] = 0
                self._dirty.update(blocks.tolist())
                self.checkpoint()
                raise StoreError(
                    f"Store {self.store}: {len(wrong)} rows from {int(wrong[0])} on were not stored as "
                    "written (disk full, or another program writing here?); run the same command to redo them"
                )
        self._verified = True

    def _corruption_as_error(self) -> AbstractContextManager[None]:
        """For a block that reads: names the parent, if there is one, since unreadable chunks are shared with it."""
        parent = self._metadata["parent"]
        return icechunk_errors(str(self.store)) if parent is None else corruption_as_error(f"{self.store}@{parent}")

    def _tag(self, snapshot: str, name: str | None) -> str:
        """Tags a snapshot with `name`, or with the next number never used: Icechunk does not reuse deleted tags."""
        numbers = [int(tag[1:]) for tag in self._repository.list_tags() if tag[:1] == "v" and tag[1:].isdecimal()]
        first = max(numbers, default=0) + 1
        for tag in ([name] if name else []) + [f"v{number}" for number in range(first, first + 1000)]:
            try:
                self._repository.create_tag(tag, snapshot)
                return tag
            except icechunk.IcechunkError as error:
                if "already exists" not in str(error) and "deleted" not in str(error):
                    raise
        raise StoreError(f"Store {self.store}: too many versions after v{first - 1} were deleted; give a --name")

    def _commit(self, session: icechunk.Session, message: str) -> str:
        self._lease.check()
        return session.commit(message)

    def _open_session(self) -> None:
        self._session = self._repository.writable_session(self._branch)

    @property
    def _root(self) -> zarr.Group:
        return zarr.open_group(self._session.store, mode="r+")


def coverage(counts: dict[str, int]) -> float:
    """Share of the rows whose mask was made: status ok or fallback."""
    return sum(counts[status.label] for status in DONE) / counts["rows"]


def timestamp() -> str:
    """The current UTC time, ISO 8601 with microseconds."""
    return datetime.now(UTC).isoformat(timespec="microseconds")
