"""One writer a store. Concurrent commits on a local file system lose commits silently, so every writer holds this lock.

A local store is locked by `flock` on `STORE/locloc.lock`: the kernel lets go of it when the process dies, however it
dies. Where there is no flock (network file systems, object storage) or it does not reach other machines, the lease of
`lease.py` decides, which is always taken too, and which says who holds the store.
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ..errors import StoreError
from .lease import Lease, current_holder, leased, locked_by
from .location import StoreLocation
from .object_store import check_conditional_writes

LOCK_FILE = "locloc.lock"
NO_FLOCK = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextmanager
def store_lock(store: str | Path | StoreLocation) -> Iterator[Lease]:
    """Holds an existing store for writing or collecting; call `check` of what it gives before each commit.

    Raises StoreLockedError naming the holder: at once where the kernel knows it, else as soon as it is seen alive.
    """
    location = StoreLocation.of(store)
    with ExitStack() as held:
        if location.is_remote:
            check_conditional_writes(location)
        else:
            held.enter_context(_flock(location))
        yield held.enter_context(leased(location))


@contextmanager
def _flock(location: StoreLocation) -> Iterator[None]:
    try:
        file = (location.folder / LOCK_FILE).open("a+")  # not "w": a lock is no reason to write
    except OSError as error:
        raise StoreError(f"Store {location} cannot be written to: {os.strerror(error.errno).lower()}") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise locked_by(location, current_holder(location)) from None
        except OSError as error:
            if error.errno not in NO_FLOCK:
                raise StoreError(f"Store {location} cannot be locked: {os.strerror(error.errno).lower()}") from None
        yield
