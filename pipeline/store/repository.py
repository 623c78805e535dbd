"""The only place that opens Icechunk repositories."""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import icechunk

from ..errors import StoreError

if "ICECHUNK_LOG" not in os.environ:
    icechunk.set_logs_filter("error")  # else it warns, at every open, of what lock.py takes care of

BUILD_PREFIX = "build-"

_opened_in: int | None = None


def open_repository(store: Path) -> icechunk.Repository:
    """An existing store. Raises StoreError where there is none, and in forked processes, where Icechunk would hang."""
    if not has_repository(store):
        raise StoreError(f"{store} is not a mask store; `locloc masks build IMAGES --store {store}` makes one")
    with icechunk_errors(str(store)):
        return icechunk.Repository.open(_storage(store))


def has_repository(store: Path) -> bool:
    """Raises StoreError where that cannot be told, and in forked processes, where Icechunk would hang."""
    _refuse_fork(store)
    with icechunk_errors(str(store)):
        return store.is_dir() and icechunk.Repository.exists(_storage(store))


def check_can_hold_store(store: Path) -> None:
    """Raises StoreError unless `store` is a mask store, an empty folder, or nothing yet."""
    try:
        if not store.exists() or has_repository(store) or not any(store.iterdir()):
            return
    except NotADirectoryError:
        pass
    except OSError as error:
        raise StoreError(f"Store {store} cannot be read: {os.strerror(error.errno).lower()}") from None
    raise StoreError(f"{store} is there and is no mask store; name a new or empty folder with --store")


def ensure_repository(store: Path) -> None:
    """Makes a store where there is none. It is made beside its place and moved there, so it is never half there."""
    check_can_hold_store(store)
    if has_repository(store):
        return
    try:
        store.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{store.name}-", dir=store.parent) as fresh:
            with icechunk_errors(str(store)):
                icechunk.Repository.create(_storage(Path(fresh, store.name)))
            os.rename(Path(fresh, store.name), store)  # replaces an empty folder, and fails for any other
    except OSError as error:
        if has_repository(store):  # somebody else was faster
            return
        hint = ""
        if error.errno in (errno.EXDEV, errno.EACCES, errno.EPERM, errno.EBUSY):
            hint = f"; name a folder that does not exist yet, such as {store / 'masks.store'}"
        raise StoreError(f"Store {store} cannot be made: {os.strerror(error.errno).lower()}{hint}") from None


def first_snapshot(repository: icechunk.Repository) -> str:
    """The empty snapshot that a repository begins with, and every build from."""
    *_, first = repository.ancestry(branch="main")
    return first.id


@contextmanager
def icechunk_errors(where: str) -> Iterator[None]:
    """Icechunk's errors, a dozen lines each, as one line."""
    try:
        yield
    except icechunk.IcechunkError as error:
        lines = [line.strip(" x|") for line in str(error).splitlines() if line.strip(" |")]
        raise StoreError(f"{where}: {lines[0] if lines else error}") from error


def _storage(store: Path) -> icechunk.Storage:
    return icechunk.local_filesystem_storage(str(store))


def _refuse_fork(store: Path) -> None:
    global _opened_in
    if _opened_in is None:
        _opened_in = os.getpid()
    elif _opened_in != os.getpid():
        raise StoreError(
            f"{store} was opened before this process was forked, and would hang here; start worker processes with the "
            "method 'forkserver' or 'spawn' (a DataLoader's multiprocessing_context)"
        )
