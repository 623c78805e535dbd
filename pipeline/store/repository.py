"""Opens and creates Icechunk repositories; no other module does.

Icechunk 1 and 2 behave alike in what this package guards against (seen with 1.1.21 and 2.3.0, stores of format 1):
concurrent commits to a local store are lost without an error (3 of 24), a failed task's fork still merges its partial
chunks, of two forks that write one chunk one wins silently, garbage collection deletes the chunks of a build before
its commit, empty commits and names of deleted tags are refused, and a process forked after a repository was opened
hangs.
"""

import contextlib
import errno
import glob
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import icechunk

from ..errors import StoreError, os_error_reason
from ..io.output_folder import check_writable_folder
from .icechunk_errors import icechunk_errors
from .location import StoreLocation
from .object_store import PROBE, check_conditional_writes, open_object_store

if "ICECHUNK_LOG" not in os.environ:
    icechunk.set_logs_filter("off")  # each open warns about concurrent writers, which lock.py excludes

BUILD_PREFIX = "build-"
MANIFEST_CHUNKS = 4096
LEFTOVER_AGE_S = 3600.0

# Icechunk 1 reads and writes format 1, Icechunk 2 both. Stores are created in format 1, so that either version, and so
# any Python that locloc runs on, reads every store.
_FORMAT: dict[str, Any] = {"spec_version": 1} if int(icechunk.__version__.split(".")[0]) > 1 else {}
_MAIN_REF = "refs/branch.main/ref.json"  # Icechunk too tests for this file to find a repository of format 1
_FORMAT_2 = "repo"  # and for this one, which has all references, of format 2
_FIRST_SNAPSHOT = "1CECHNKREP0F1RSTCMT0"  # the same in every repository

_opened_in: int | None = os.getpid() if _FORMAT else None  # Icechunk 2 starts threads when it is imported


def open_repository(store: str | Path | StoreLocation) -> icechunk.Repository:
    """Opens a store. Raises StoreError if there is none, and in a forked process, where Icechunk would hang."""
    location = StoreLocation.of(store)
    if not has_repository(location):
        _refuse_version_name(location)
        taken = not location.is_remote and os.path.exists(location.folder)
        name = "STORE" if taken else location  # a folder of photographs must not become one
        raise StoreError(f"{location} is not a mask store; `locloc masks build IMAGES --store {name}` makes one")
    with icechunk_errors(str(location)):
        return icechunk.Repository.open(location.storage(), config=_config())


def has_repository(store: str | Path | StoreLocation) -> bool:
    """Raises StoreError if the storage cannot be read, and in a forked process, where Icechunk would hang."""
    location = StoreLocation.of(store)
    _refuse_fork(location)
    if location.is_remote:
        # Not by Icechunk, which retries for half a minute if the server does not exist.
        files = open_object_store(location)
        if files.read(_MAIN_REF) is not None:
            return True
        if files.read(_FORMAT_2) is None:
            return False
        _check_format_2(location)
        return True
    with icechunk_errors(str(location)):
        if not location.folder.is_dir():
            return False
        if icechunk.Repository.exists(location.storage()):
            return True
    if Path(location.folder, _FORMAT_2).is_file() and Path(location.folder, "snapshots").is_dir():
        _check_format_2(location)
    return False


def _check_format_2(location: StoreLocation) -> None:
    """Raises StoreError where the installed Icechunk cannot read a store of format 2, made elsewhere or upgraded."""
    if not _FORMAT:
        raise StoreError(
            f"{location} is in Icechunk's format 2, and Icechunk {icechunk.__version__} reads format 1; "
            "pip install 'icechunk>=2' (with Python 3.12 or newer) reads both"
        )


def check_can_hold_store(store: str | Path | StoreLocation) -> None:
    """Raises StoreError unless `store` is a mask store, or is empty or can be made, and has no `@` in its name.

    Leaves nothing behind.
    """
    location = StoreLocation.of(store)
    if location.is_remote:
        if has_repository(location):
            return
        _refuse_version_name(location)
        if _is_empty_or_partial(location):
            return
        raise StoreError(f"{location} exists and is not a mask store; name a new or empty prefix with --store")
    folder = location.folder
    try:
        if folder.exists() and has_repository(location):
            return
        _refuse_version_name(location)
        if not os.path.lexists(folder):
            check_writable_folder(folder, "--store", StoreError)
            return
        if folder.is_dir() and not any(folder.iterdir()):
            return
    except OSError as error:
        raise StoreError(f"Store {location} cannot be read: {os_error_reason(error)}") from None
    raise StoreError(f"{location} exists and is not a mask store; name a new or empty folder with --store")


def _refuse_version_name(location: StoreLocation) -> None:
    """Raises StoreError for STORE@VERSION where a store is meant."""
    store, at, version = str(location).rpartition("@")
    if at and "/" not in version:
        raise StoreError(
            f"{location} names a version, where a store is meant: write {store} (--name {version or 'NAME'} names a "
            "new version)"
        )


def ensure_repository(store: str | Path | StoreLocation) -> None:
    """Creates the store if there is none. A folder is created beside its target and renamed, so it is never partial.

    Raises StoreError for a location that cannot hold a store, and for a bucket without conditional writes.
    """
    location = StoreLocation.of(store)
    check_can_hold_store(location)
    if not location.is_remote:
        _remove_leftovers(location.folder)
    if has_repository(location):
        return
    if location.is_remote:
        check_conditional_writes(location)
        _create_in_bucket(location)
    else:
        _create_in_folder(location)


def first_snapshot(repository: icechunk.Repository) -> str:
    """Id of the empty snapshot with which every repository starts, and from which new builds branch off.

    Looked up by its name, because walking the ancestry costs one request for each checkpoint.
    """
    return repository.lookup_snapshot(_FIRST_SNAPSHOT).id


def _config() -> icechunk.RepositoryConfig:
    """Splits manifests into 4096 chunks (262,144 images) each, so that a checkpoint rewrites only those it touches.

    A single manifest of 14 million images would have 219,000 entries for each array.
    """
    splitting = icechunk.ManifestSplittingConfig.from_dict(
        {icechunk.ManifestSplitCondition.AnyArray(): {icechunk.ManifestSplitDimCondition.Axis(0): MANIFEST_CHUNKS}}
    )
    return icechunk.RepositoryConfig(manifest=icechunk.ManifestConfig(splitting=splitting))


def _create_in_folder(location: StoreLocation) -> None:
    folder = location.folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
            with icechunk_errors(str(location)):
                icechunk.Repository.create(StoreLocation.of(Path(temporary, folder.name)).storage(), **_FORMAT)
            os.rename(Path(temporary, folder.name), folder)  # replaces an empty folder, fails for any other
    except OSError as error:
        if has_repository(location):  # another process created it first
            return
        hint = ""
        if error.errno in (errno.EXDEV, errno.EACCES, errno.EPERM, errno.EBUSY):
            hint = f"; name a folder that does not exist yet, such as {folder / 'masks.store'}"
        raise StoreError(f"Store {location} cannot be created: {os_error_reason(error)}{hint}") from None


def _remove_leftovers(folder: Path) -> None:
    """Removes what killed processes left beside the store while creating it. Creation itself takes milliseconds."""
    for leftover in folder.parent.glob(f".{glob.escape(folder.name)}-*"):
        with contextlib.suppress(OSError):
            if time.time() - leftover.stat().st_mtime > LEFTOVER_AGE_S:
                shutil.rmtree(leftover)


def _create_in_bucket(location: StoreLocation) -> None:
    """Copies a repository created in a folder to the bucket, the reference last.

    Icechunk's own creation needs an empty prefix: it fails after a killed attempt, and two processes at once disturb
    each other. Here every file is created exclusively, so a second process keeps the first one's files: the first
    snapshot of every repository has the same name and content.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = StoreLocation.of(temporary)
        with icechunk_errors(str(location)):
            icechunk.Repository.create(folder.storage(), **_FORMAT)
        files = sorted(
            (path for path in folder.folder.rglob("*") if path.is_file()), key=lambda path: "refs" in path.parts
        )
        bucket = open_object_store(location)
        for file in files:
            bucket.create(str(file.relative_to(folder.folder)), file.read_bytes())


def _is_empty_or_partial(location: StoreLocation) -> bool:
    """True if there is nothing but what a killed `_create_in_bucket` or `check_conditional_writes` leaves."""
    bucket = open_object_store(location)
    names = set(bucket.names()) - {PROBE}
    return not names or (names == {"snapshots"} and bucket.names("snapshots") == [_FIRST_SNAPSHOT])


def _refuse_fork(location: StoreLocation) -> None:
    global _opened_in
    if _opened_in is None:
        _opened_in = os.getpid()
    elif _opened_in != os.getpid():
        raise StoreError(
            f"{location} was opened, or Icechunk 2 imported, before this process was forked, and would hang here; "
            "start worker processes with the method 'forkserver' or 'spawn' (a DataLoader's multiprocessing_context)"
        )
