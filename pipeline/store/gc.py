"""Throwing away: what no version and no unfinished build needs, and versions that nobody wants.

Everything here holds the store's lock, and the lock is what makes it safe: while nobody writes, whatever no reference
reaches is garbage, however young it is. So ages, which are told by another machine's clock, are not asked.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import icechunk
import zarr

from ..errors import StoreError, did_you_mean
from .lease import Lease
from .location import StoreLocation
from .lock import store_lock
from .reader import read_about, tag_snapshots
from .repository import BUILD_PREFIX, first_snapshot, icechunk_errors, open_repository

_EVERYTHING = datetime(9999, 1, 1, tzinfo=UTC)
_FENCE = "locloc_fence"


@dataclass(frozen=True)
class GarbageSummary:
    """Objects deleted, by kind, and their bytes together."""

    chunks: int
    manifests: int
    snapshots: int
    logs: int
    bytes: int

    @property
    def objects(self) -> int:
        return self.chunks + self.manifests + self.snapshots + self.logs


def collect_garbage(store: str | Path | StoreLocation) -> GarbageSummary:
    """Deletes what no version and no unfinished build's last checkpoint needs. Versions that are being read stay whole.

    Raises StoreLockedError while anybody writes.
    """
    with _collecting(store) as (repository, held):
        drop_empty_branches(repository)
        # A reference keeps its own snapshot, and loses its history: older checkpoints, and versions it began as.
        held.check()
        repository.expire_snapshots(_EVERYTHING)
        for branch in sorted(_builds(repository)):
            held.check()
            _fence(repository, branch)
        held.check()
        found = repository.garbage_collect(_EVERYTHING)
    return GarbageSummary(
        found.chunks_deleted,
        found.manifests_deleted,
        found.snapshots_deleted,
        found.transaction_logs_deleted,
        found.bytes_deleted,
    )


def delete_version(store: str | Path | StoreLocation, tag: str) -> None:
    """Takes a version away; versions that began as it stay whole. Its space is free after `collect_garbage`.

    `latest` is then the newest version that is left. `tag` may also be an unfinished build's id, from its first 8
    digits on. Raises StoreError where there is neither, and for a version that an unfinished build goes on from.
    """
    with _collecting(store) as (repository, held):
        drop_empty_branches(repository)
        snapshots = tag_snapshots(repository)
        builds = {branch: read_about(repository, branch=branch) for branch in _builds(repository)}
        if tag not in snapshots:
            named = [branch for branch in builds if len(tag) >= 8 and branch.startswith(BUILD_PREFIX + tag)]
            if len(named) == 1:
                held.check()
                repository.delete_branch(named[0])
                return
            known = did_you_mean(tag, snapshots) if snapshots else "; it has none"
            raise StoreError(f"Store {StoreLocation.of(store)} has no version {tag!r}{known}")
        for metadata in builds.values():
            if metadata["parent"] == tag:
                build, location = metadata["build_id"][:8], StoreLocation.of(store)
                raise StoreError(
                    f"{location}@{tag} is needed by the unfinished build {build}; finish that with `locloc masks "
                    f"resume {location} --build {build}`, or give it up with `locloc masks delete {location}@{build}`"
                )
        left = [other for other in snapshots if other != tag]
        newest = max(left, key=lambda other: read_about(repository, tag=other)["sequence"], default=None)
        held.check()
        # `main` first: a reader of `latest` never finds none where there is one.
        repository.reset_branch("main", snapshots[newest] if newest else first_snapshot(repository))
        repository.delete_tag(tag)


def drop_empty_branches(repository: icechunk.Repository) -> None:
    """Deletes builds that never got a commit of their own, and those whose version is tagged already."""
    begun_at = {first_snapshot(repository), *tag_snapshots(repository).values()}
    for branch in _builds(repository):
        if repository.lookup_branch(branch) in begun_at:
            repository.delete_branch(branch)


def _builds(repository: icechunk.Repository) -> set[str]:
    return {branch for branch in repository.list_branches() if branch.startswith(BUILD_PREFIX)}


def _fence(repository: icechunk.Repository, branch: str) -> None:
    """Moves an unfinished build on: a builder frozen before its commit finds its branch elsewhere when it wakes.

    Its commit would name chunks that are garbage by now. Two commits, and the contents are as they were.
    """
    for value in (uuid.uuid4().hex, None):
        session = repository.writable_session(branch)
        attributes = zarr.open_group(session.store, mode="r+").attrs
        if value is None:
            del attributes[_FENCE]
        else:
            attributes[_FENCE] = value
        session.commit("collected garbage")


@contextmanager
def _collecting(store: str | Path | StoreLocation) -> Iterator[tuple[icechunk.Repository, Lease]]:
    location = StoreLocation.of(store)
    repository = open_repository(location)  # before the lock, which would leave its files in a folder that is no store
    with store_lock(location) as held, icechunk_errors(str(location)):
        yield repository, held
