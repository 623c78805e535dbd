"""A version being made: lock > branch > blocks through forks > checkpoints > verify > publish.

The protocol (shared by everything that writes):

1. The store is made if it is not there; `store_lock` is held from before it is opened until the version is published,
   and asked before each commit whether it is still ours.
2. The branch `build-<build id>` begins at the store's empty first snapshot with arrays and catalog, or at another
   version's, to share its chunks: one commit.
3. Workers write whole blocks through copies of one `fork`. The coordinator merges a copy only when its task succeeded.
4. A checkpoint writes the small columns and `block_done` of what was merged, in one commit. A build killed at any
   moment goes on at its last checkpoint; blocks merged after it are done again, with the same bytes.
5. Publishing reads every row back against its CRC, seals the attributes, tags the snapshot, moves `main` there and
   deletes the branch. Killed between two of these steps, the next writer does the rest.
"""

import os
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
from .corruption import corruption_as_error
from .gc import drop_empty_branches
from .location import StoreLocation
from .lock import store_lock
from .reader import VersionInfo, build_branch, list_versions, tag_snapshots
from .repository import ensure_repository, first_snapshot, icechunk_errors, open_repository
from .schema import (
    ATTRIBUTE,
    BLOCK_ROWS,
    COLUMN_ROWS,
    COLUMNS,
    SCHEMA,
    content_crc,
    create_arrays,
    reopen_arrays,
    write_catalog,
)

VERIFY_ROWS = 16 * BLOCK_ROWS


@dataclass(frozen=True)
class Shared:
    """A version that a new one begins as: its chunks are shared, and only the blocks `redo` are written anew."""

    tag: str
    redo: np.ndarray  # block numbers


class StoreWriter:
    """The one writer of a store, for the time of a `with` statement."""

    def __init__(self, store: str | Path | StoreLocation):
        self.store = StoreLocation.of(store)
        self._held = ExitStack()

    def __enter__(self) -> "StoreWriter":
        ensure_repository(self.store)
        self._lock = self._held.enter_context(store_lock(self.store))
        try:
            self._repository = open_repository(self.store)
            self._tidy()
        except BaseException:
            self._held.close()
            raise
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._held.close()

    def _tidy(self) -> None:
        """Finishes a publication or a deletion that was cut short: `main` is the newest version, its branch is gone."""
        with icechunk_errors(str(self.store)):
            snapshots = tag_snapshots(self._repository)
            newest = [version.tag for version in list_versions(self.store) if version.tag is not None][-1:]
            wanted = snapshots[newest[0]] if newest else first_snapshot(self._repository)
            if self._repository.lookup_branch("main") != wanted:
                self._repository.reset_branch("main", wanted)
            drop_empty_branches(self._repository)

    def published(self, fingerprint: str) -> VersionInfo | None:
        """The newest version with this fingerprint, if there is one."""
        same = [info for info in list_versions(self.store) if info.tag and info.fingerprint == fingerprint]
        return same[-1] if same else None

    def check_name(self, name: str) -> None:
        """Raises StoreError for a version name that is taken or cannot be one."""
        if name == "latest" or not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
            raise StoreError(
                f"{name!r} cannot name a version: use letters, digits, '-', '_' and '.' (and not 'latest')"
            )
        if name in self._repository.list_tags():
            raise StoreError(f"Store {self.store} already has a version {name!r}; choose another name")

    def begin(
        self,
        metadata: dict[str, Any],
        catalog: Catalog,
        attention: tuple[int, int, int],
        mask_px: int,
        shared: Shared | None = None,
    ) -> None:
        """Starts the build's branch, or goes on with it at its last checkpoint.

        `about` is what the version will say of itself; its `build_id` names the branch. When a build is gone on with,
        what is new in it is kept beside what it began with, under `resumed`.
        """
        branch = self._branch = build_branch(metadata["build_id"])
        with icechunk_errors(str(self.store)):
            start = self._repository.lookup_tag(shared.tag) if shared is not None else first_snapshot(self._repository)
            if branch not in self._repository.list_branches():
                self._repository.create_branch(branch, start)
            begins = self._repository.lookup_branch(branch) == start
            if begins:
                session = self._repository.writable_session(branch)
                if shared is None:
                    root = create_arrays(session.store, len(catalog), attention, mask_px)
                    write_catalog(root, catalog)
                else:
                    root = reopen_arrays(session.store, shared.redo, mask_px)
                root.attrs[ATTRIBUTE] = {"schema": SCHEMA, **metadata, "resumed": []}
                self._commit(session, "catalog and empty arrays" if shared is None else f"begins as {shared.tag}")
            # Of a session that is never committed: Icechunk lets forks merge into any later session of the branch.
            self.fork = self._repository.writable_session(branch).fork()
            self._open_session()
            root = self._root
            self._about: dict[str, Any] = dict(root.attrs[ATTRIBUTE])
            with self._damage_as_error():
                self._columns = {name: root[name][:] for name in COLUMNS}
            self.block_done: np.ndarray = root["block_done"][:]
        if self._about["build_id"] != metadata["build_id"]:
            raise StoreError(f"Store {self.store}: branch {branch} belongs to another build; this is a bug of locloc")
        changed = {key: value for key, value in metadata.items() if self._about.get(key) != value}
        if not begins and self.block_done.any():
            self._about["resumed"].append(changed)
        self._dirty: set[int] = set()
        self._verified = False

    @property
    def input_digest(self) -> np.ndarray:
        """`(N, 16) uint8` so far: blake2b of each image's file."""
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

    def merge(self, fork: icechunk.ForkSession, block: int, columns: dict[str, np.ndarray]) -> None:
        """Takes over a finished block: the chunks in its fork, and its columns."""
        with icechunk_errors(str(self.store)):
            self._session.merge(fork)
        start = block * BLOCK_ROWS
        for name, values in columns.items():
            self._columns[name][start : start + len(values)] = values
        self._dirty.add(block)
        self._verified = False
        self.block_done[block] = 1

    def checkpoint(self) -> bool:
        """Commits what was merged since the last one; False where there was nothing."""
        if not self._dirty:
            return False
        with icechunk_errors(str(self.store)):
            root = self._root
            for chunk in sorted({block * BLOCK_ROWS // COLUMN_ROWS for block in self._dirty}):
                rows = slice(chunk * COLUMN_ROWS, (chunk + 1) * COLUMN_ROWS)
                for name, values in self._columns.items():
                    root[name][rows] = values[rows]
            root["block_done"][:] = self.block_done
            root.attrs[ATTRIBUTE] = {**self._about, "counts": self.counts}
            self._commit(self._session, f"checkpoint: {int(self.block_done.sum())} of {len(self.block_done)} blocks")
            self._open_session()
        self._dirty.clear()
        return True

    def publish(self, name: str | None = None) -> str:
        """Seals a version, verified if it has not been yet, and tags it. Returns the tag."""
        if not self._verified:
            self.verify()
        with icechunk_errors(str(self.store)):
            sequence = 1 + max((info.metadata["sequence"] for info in list_versions(self.store) if info.tag), default=0)
            sealed = {"counts": self.counts, "sequence": sequence, "published_at": timestamp()}
            self._root.attrs[ATTRIBUTE] = {**self._about, **sealed}
            snapshot = self._commit(self._session, "sealed")
            if not self.store.is_remote:
                os.sync()  # Icechunk does not fsync: the tag must not survive a power cut that its chunks do not
            tag = self._tag(snapshot, name)
        self._tidy()
        return tag

    def verify(self) -> None:
        """Checks that every row is there and reads as it was made. Raises StoreError; what is amiss is made again."""
        self.checkpoint()
        missing = int((self.block_done == 0).sum())
        if missing or (self.status == Status.PENDING).any():
            raise StoreError(
                f"Store {self.store}: {missing} of {len(self.block_done)} blocks are missing at the end of a build"
            )
        root, wanted = self._root, self._columns["content_crc"]
        for start in range(0, len(wanted), VERIFY_ROWS):
            rows = slice(start, start + VERIFY_ROWS)
            with self._damage_as_error():
                found = content_crc(root["mask"][rows], root["attention"][rows])
            bad = np.flatnonzero(found != wanted[rows])
            if len(bad):
                # Their blocks are done again by the next call: a lost commit costs a block, never a version.
                self.block_done[np.unique((start + bad) // BLOCK_ROWS)] = 0
                self._dirty.update(np.unique((start + bad) // BLOCK_ROWS).tolist())
                self.checkpoint()
                raise StoreError(
                    f"Store {self.store}: {len(bad)} rows from {start + int(bad[0])} on were not stored as they were "
                    "made (disk full, or another program writing here?); run the same command to make them again"
                )
        self._verified = True

    def _damage_as_error(self) -> AbstractContextManager[None]:
        """Around reading: chunks that cannot be read are the parent's, which shares them, where there is one."""
        parent = self._about["parent"]
        return icechunk_errors(str(self.store)) if parent is None else corruption_as_error(f"{self.store}@{parent}")

    def _tag(self, snapshot: str, name: str | None) -> str:
        """Tags a snapshot by `name`, or by the next number that no version has, or ever had: Icechunk keeps them."""
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
        self._lock.check()
        return session.commit(message)

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
