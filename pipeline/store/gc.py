"""Garbage collection: deletes versions, and objects that no version and no unfinished build needs.

All of it holds the store's lock. While nobody else writes, every object that no reference reaches is garbage, however
young it is. So the age of an object, which depends on another machine's clock, does not matter.
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
from .icechunk_errors import icechunk_errors
from .lease import Lease
from .location import StoreLocation
from .lock import store_lock
from .repository import BUILD_PREFIX, first_snapshot, open_repository
from .versions import tag_snapshots, version_metadata

_EVERYTHING = datetime(9999, 1, 1, tzinfo=UTC)
_FENCE = "locloc_fence"


@dataclass(frozen=True)
class GarbageSummary:
    """Number of deleted objects by kind, and their bytes in all."""

    chunks: int
    manifests: int
    snapshots: int
    logs: int
    bytes: int

    @property
    def objects(self) -> int:
        return self.chunks + self.manifests + self.snapshots + self.logs


def collect_garbage(store: str | Path | StoreLocation) -> GarbageSummary:
    """Deletes what neither a version nor the last checkpoint of an unfinished build needs. Readers are not disturbed.

    Raises StoreLockedError while another process writes.
    """
    with _locked_repository(store) as (repository, lease):
        delete_empty_branches(repository)
        # Tags and branches keep their snapshot and lose its history: older checkpoints and parent versions.
        lease.check()
        repository.expire_snapshots(_EVERYTHING)
        for branch in sorted(_build_branches(repository)):
            lease.check()
            _fence(repository, branch)
        lease.check()
        deleted = repository.garbage_collect(_EVERYTHING)
    return GarbageSummary(
        chunks=deleted.chunks_deleted,
        manifests=deleted.manifests_deleted,
        snapshots=deleted.snapshots_deleted,
        logs=deleted.transaction_logs_deleted,
        bytes=deleted.bytes_deleted,
    )


def delete_version(store: str | Path | StoreLocation, tag: str) -> None:
    """Deletes a version; versions that share its chunks stay whole. `collect_garbage` then frees its space.

    `latest` becomes the newest remaining version. `tag` may also be the id of an unfinished build, or at least its
    first 8 digits. Raises StoreError if there is neither, and for a version that is the parent of an unfinished build.
    """
    with _locked_repository(store) as (repository, lease):
        delete_empty_branches(repository)
        snapshots = tag_snapshots(repository)
        builds = {branch: version_metadata(repository, branch=branch) for branch in _build_branches(repository)}
        if tag not in snapshots:
            matching = [branch for branch in builds if len(tag) >= 8 and branch.startswith(BUILD_PREFIX + tag)]
            if len(matching) == 1:
                lease.check()
                repository.delete_branch(matching[0])
                return
            known = did_you_mean(tag, snapshots) if snapshots else "; it has none"
            known += "; a version is deleted by its own name" if tag == "latest" else ""
            raise StoreError(f"Store {StoreLocation.of(store)} has no version {tag!r}{known}")
        for metadata in builds.values():
            if metadata["parent"] == tag:
                build, location = metadata["build_id"][:8], StoreLocation.of(store)
                raise StoreError(
                    f"{location}@{tag} is needed by the unfinished build {build}; finish it with `locloc masks "
                    f"resume {location} --build {build}`, or delete it with `locloc masks delete {location}@{build}`"
                )
        remaining = [name for name in snapshots if name != tag]
        newest = max(remaining, key=lambda name: version_metadata(repository, tag=name)["sequence"], default=None)
        lease.check()
        # `main` first: a reader of `latest` then always finds a version if there is one.
        repository.reset_branch("main", snapshots[newest] if newest else first_snapshot(repository))
        repository.delete_tag(tag)


def delete_empty_branches(repository: icechunk.Repository) -> None:
    """Deletes branches of builds that have no commit of their own, or whose version is already tagged."""
    not_unfinished = {first_snapshot(repository), *tag_snapshots(repository).values()}
    for branch in _build_branches(repository):
        if repository.lookup_branch(branch) in not_unfinished:
            repository.delete_branch(branch)


def _build_branches(repository: icechunk.Repository) -> set[str]:
    return {branch for branch in repository.list_branches() if branch.startswith(BUILD_PREFIX)}


def _fence(repository: icechunk.Repository, branch: str) -> None:
    """Moves the branch of an unfinished build, so that a builder that froze before its commit gets a conflict.

    That commit would refer to chunks that are deleted as garbage. Makes two commits and leaves the content unchanged.
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
def _locked_repository(store: str | Path | StoreLocation) -> Iterator[tuple[icechunk.Repository, Lease]]:
    location = StoreLocation.of(store)
    repository = open_repository(location)  # before the lock, which would leave its files in any folder
    with store_lock(location) as lease, icechunk_errors(str(location)):
        yield repository, lease
