"""The only place that opens Icechunk repositories."""

import contextlib
import errno
import glob
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import icechunk

from ..errors import StoreError
from .location import StoreLocation
from .object_store import PROBE, check_conditional_writes, open_object_store

if "ICECHUNK_LOG" not in os.environ:
    icechunk.set_logs_filter("off")  # it warns, at every open, of what lock.py takes care of; its errors are raised too

BUILD_PREFIX = "build-"
MANIFEST_CHUNKS = 4096
HALF_MADE_S = 3600.0

_MAIN_REF = "refs/branch.main/ref.json"  # the file that makes a prefix a repository: Icechunk itself looks for it
_FIRST_SNAPSHOT = "1CECHNKREP0F1RSTCMT0"  # Icechunk gives it to every repository

_opened_in: int | None = None


def open_repository(store: str | Path | StoreLocation) -> icechunk.Repository:
    """An existing store. Raises StoreError where there is none, and in forked processes, where Icechunk would hang."""
    location = StoreLocation.of(store)
    if not has_repository(location):
        raise StoreError(f"{location} is not a mask store; `locloc masks build IMAGES --store {location}` makes one")
    with icechunk_errors(str(location)):
        return icechunk.Repository.open(location.storage(), config=_config())


def has_repository(store: str | Path | StoreLocation) -> bool:
    """Raises StoreError where that cannot be told, and in forked processes, where Icechunk would hang."""
    location = StoreLocation.of(store)
    _refuse_fork(location)
    if location.is_remote:
        # Asked by hand: Icechunk tries for half a minute before it says that there is no such server.
        return open_object_store(location).read(_MAIN_REF) is not None
    with icechunk_errors(str(location)):
        return location.folder.is_dir() and icechunk.Repository.exists(location.storage())


def check_can_hold_store(store: str | Path | StoreLocation) -> None:
    """Raises StoreError unless `store` is a mask store, an empty folder or prefix, or nothing yet."""
    location = StoreLocation.of(store)
    if location.is_remote:
        if has_repository(location) or _is_empty_or_half_made(location):
            return
        raise StoreError(f"{location} is there and is no mask store; name a new or empty prefix with --store")
    folder = location.folder
    try:
        if not folder.exists() or has_repository(location) or not any(folder.iterdir()):
            return
    except NotADirectoryError:
        pass
    except OSError as error:
        raise StoreError(f"Store {location} cannot be read: {os.strerror(error.errno).lower()}") from None
    raise StoreError(f"{location} is there and is no mask store; name a new or empty folder with --store")


def ensure_repository(store: str | Path | StoreLocation) -> None:
    """Makes a store where there is none. It is made beside its place and moved there, so it is never half there.

    A bucket must be able to do what writers rely on, see `check_conditional_writes`.
    """
    location = StoreLocation.of(store)
    check_can_hold_store(location)
    if not location.is_remote:
        _remove_half_made(location.folder)
    if has_repository(location):
        return
    if location.is_remote:
        check_conditional_writes(location)
        _make_in_bucket(location)
    else:
        _make_in_folder(location)


def first_snapshot(repository: icechunk.Repository) -> str:
    """The empty snapshot that a repository begins with, and every build from.

    By its name: the ancestry that ends in it has a snapshot, a request each, for every checkpoint of days.
    """
    return repository.lookup_snapshot(_FIRST_SNAPSHOT).id


@contextmanager
def icechunk_errors(where: str) -> Iterator[None]:
    """Icechunk's errors, a dozen lines each, as one line: what it was doing, and the innermost cause."""
    try:
        yield
    except icechunk.ConflictError as error:
        raise StoreError(
            f"{where}: another process has committed here in the meantime; run the command again"
        ) from error
    except icechunk.IcechunkError as error:
        if "snapshot timestamp" in str(error):
            clocks = re.findall("`(.*?)`", re.sub(r"\s*\n[ |]*", " ", str(error)))
            raise StoreError(
                f"{where}: the clock of this machine and that of the storage, or of whoever wrote here last, differ "
                f"({', '.join(clocks)}); set them right (NTP) and run the same command again"
            ) from error
        lines = [line for line in str(error).splitlines() if line.strip(" |")]
        what = lines[0].strip(" x|") if lines else str(error)
        causes = [line.lstrip(" |`->").strip() for line in lines if line.lstrip().startswith(("|->", "`->"))]
        cause = causes[-1] if causes else ""
        if answer := re.search(r'message: "(.*?)"', cause):
            cause = answer[1]
        raise StoreError(f"{where}: {what}" + (f" ({cause})" if cause and cause not in what else "")) from error


def _config() -> icechunk.RepositoryConfig:
    """Manifests of 4096 chunks, 262,144 images: a checkpoint rewrites the ones that it touches, and not a list of
    every chunk there is, which with 14 million images would be 219,000 entries an array."""
    every_array = {icechunk.ManifestSplitDimCondition.Axis(0): MANIFEST_CHUNKS}
    splitting = icechunk.ManifestSplittingConfig.from_dict({icechunk.ManifestSplitCondition.AnyArray(): every_array})
    return icechunk.RepositoryConfig(manifest=icechunk.ManifestConfig(splitting=splitting))


def _make_in_folder(location: StoreLocation) -> None:
    folder = location.folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as fresh:
            with icechunk_errors(str(location)):
                icechunk.Repository.create(StoreLocation.of(Path(fresh, folder.name)).storage())
            os.rename(Path(fresh, folder.name), folder)  # replaces an empty folder, and fails for any other
    except OSError as error:
        if has_repository(location):  # somebody else was faster
            return
        hint = ""
        if error.errno in (errno.EXDEV, errno.EACCES, errno.EPERM, errno.EBUSY):
            hint = f"; name a folder that does not exist yet, such as {folder / 'masks.store'}"
        raise StoreError(f"Store {location} cannot be made: {os.strerror(error.errno).lower()}{hint}") from None


def _remove_half_made(folder: Path) -> None:
    """What a process left beside the store that was killed while it made it, which takes milliseconds."""
    for left in folder.parent.glob(f".{glob.escape(folder.name)}-*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > HALF_MADE_S:
                shutil.rmtree(left)


def _make_in_bucket(location: StoreLocation) -> None:
    """Copies a repository made in a folder, the reference last.

    Icechunk's own creation needs a clean prefix, which it would not find after it was killed in the middle, and two at
    once would disturb each other. So every file is created exclusively, and whoever is second finds it there: the
    first snapshot of every repository has the same name and says the same.
    """
    with tempfile.TemporaryDirectory() as fresh:
        folder = StoreLocation.of(fresh)
        with icechunk_errors(str(location)):
            icechunk.Repository.create(folder.storage())
        files = sorted(
            (path for path in folder.folder.rglob("*") if path.is_file()), key=lambda path: "refs" in path.parts
        )
        bucket = open_object_store(location)
        for file in files:
            bucket.create(str(file.relative_to(folder.folder)), file.read_bytes())


def _is_empty_or_half_made(location: StoreLocation) -> bool:
    """Nothing, or what `_make_in_bucket` and `check_conditional_writes` leave behind when they are killed."""
    bucket = open_object_store(location)
    names = set(bucket.names()) - {PROBE}
    return not names or (names == {"snapshots"} and bucket.names("snapshots") == [_FIRST_SNAPSHOT])


def _refuse_fork(location: StoreLocation) -> None:
    global _opened_in
    if _opened_in is None:
        _opened_in = os.getpid()
    elif _opened_in != os.getpid():
        raise StoreError(
            f"{location} was opened before this process was forked, and would hang here; start worker processes with "
            "the method 'forkserver' or 'spawn' (a DataLoader's multiprocessing_context)"
        )
