"""What a store holds: its published versions and its unfinished builds."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import icechunk
import zarr

from ..catalogs.catalog import Catalog
from ..errors import StoreError
from .icechunk_errors import icechunk_errors
from .location import StoreLocation
from .repository import BUILD_PREFIX, first_snapshot, open_repository
from .schema import read_catalog, read_metadata


@dataclass(frozen=True)
class VersionInfo:
    """A row of `masks list`. `tag` is None for an unfinished build."""

    tag: str | None
    fingerprint: str
    metadata: dict[str, Any]
    is_latest: bool = False

    @property
    def build_id(self) -> str:
        """Hash of all inputs of the build; its start names the build's branch."""
        build_id: str = self.metadata["build_id"]
        return build_id


def list_versions(store: str | Path | StoreLocation) -> list[VersionInfo]:
    """Published versions, oldest first, then unfinished builds."""
    repository = open_repository(location := StoreLocation.of(store))
    with icechunk_errors(str(location)):
        latest, snapshots = latest_tag(repository), tag_snapshots(repository)
        published = []
        for tag in snapshots:
            metadata = version_metadata(repository, tag=tag)
            published.append(VersionInfo(tag, metadata["fingerprint"], metadata, tag == latest))
        published.sort(key=lambda version: version.metadata["sequence"])  # not by time: machines' clocks differ
        return published + unfinished_builds(repository, snapshots)


def unfinished_builds(repository: icechunk.Repository, snapshots: dict[str, str]) -> list[VersionInfo]:
    """The unfinished builds of a store. snapshots: of its versions, as `tag_snapshots` has them."""
    not_unfinished = {first_snapshot(repository), *snapshots.values()}
    builds = []
    for branch in sorted(repository.list_branches()):
        if not branch.startswith(BUILD_PREFIX):
            continue
        try:
            snapshot = repository.lookup_branch(branch)
        except icechunk.IcechunkError:  # published and deleted since branches were listed
            continue
        if snapshot not in not_unfinished:
            metadata = version_metadata(repository, snapshot_id=snapshot)
            builds.append(VersionInfo(None, metadata["fingerprint"], metadata))
    return builds


def published_version(versions: list[VersionInfo], fingerprint: str, name: str | None = None) -> VersionInfo | None:
    """Of `list_versions`: the version with this fingerprint that is called `name`, else the newest one, or None."""
    matching = [info for info in versions if info.tag is not None and info.fingerprint == fingerprint]
    return next((info for info in matching if info.tag == name), matching[-1] if matching else None)


def check_name_is(tag: str, name: str | None, store: StoreLocation) -> None:
    """Raises StoreError if a version that is there already was to be called otherwise: no name is dropped."""
    if name not in (None, tag):
        there = f"{store}@{tag}"
        raise StoreError(f"{there} is this version already, and has one name: no {name!r} was made; use {there}")


def check_new_name(name: str, names: Collection[str], store: StoreLocation) -> None:
    """Raises StoreError for a version name that is not allowed, or is one of `names`, those of the store."""
    if name == "latest" or not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise StoreError(f"{name!r} cannot name a version: use letters, digits, '-', '_' and '.' (and not 'latest')")
    if name in names:
        raise StoreError(f"Store {store} already has a version {name!r}; choose another name")


def name_of_deleted(name: str) -> str:
    """What is said where a version got another name than it was to have."""
    return f"{name} is the name of a deleted version, which cannot be used again"


def unfinished_catalog(store: str | Path | StoreLocation, build_id: str) -> Catalog:
    """The catalog of an unfinished build."""
    repository = open_repository(location := StoreLocation.of(store))
    with icechunk_errors(str(location)):
        session = repository.readonly_session(branch=build_branch(build_id))
        root = zarr.open_group(session.store, mode="r")
        return read_catalog(root, read_metadata(root))


def version_metadata(
    repository: icechunk.Repository,
    *,
    branch: str | None = None,
    tag: str | None = None,
    snapshot_id: str | None = None,
) -> dict[str, Any]:
    """The provenance at a branch, a tag or a snapshot."""
    session = repository.readonly_session(branch=branch, tag=tag, snapshot_id=snapshot_id)
    return read_metadata(zarr.open_group(session.store, mode="r"))


def tag_snapshots(repository: icechunk.Repository) -> dict[str, str]:
    """Snapshot ids of the published versions, by tag."""
    return {tag: repository.lookup_tag(tag) for tag in sorted(repository.list_tags())}


def build_branch(build_id: str) -> str:
    """The branch of an unfinished build."""
    return BUILD_PREFIX + build_id[:16]


def latest_tag(repository: icechunk.Repository) -> str | None:
    """The tag at the end of `main`, or None before the first version."""
    main = repository.lookup_branch("main")
    return next((tag for tag, snapshot in tag_snapshots(repository).items() if snapshot == main), None)
