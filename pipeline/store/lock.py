"""The lock that gives a store one writer at a time: concurrent commits on a local file system are lost silently.

A local store is locked by `flock` on `STORE/locloc.lock`, which the kernel releases whenever the process ends. The
lease in `lease.py` is always held too: it names the holder, and it is the only lock where flock is missing or does not
reach other machines (network file systems, object storage).
"""

import errno
import fcntl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ..errors import StoreError, os_error_reason
from .lease import LEASE_FOLDER, Lease, current_holder, hold_lease, locked_error
from .location import StoreLocation
from .object_store import check_conditional_writes

LOCK_FILE = "locloc.lock"
LOCK_ENTRIES = (LOCK_FILE, LEASE_FOLDER)
"""What the lock leaves in a folder."""

NO_FLOCK = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextmanager
def store_lock(store: str | Path | StoreLocation) -> Iterator[Lease]:
    """Locks an existing store for writing or garbage collection. Call `check` of the yielded lease before each commit.

    Raises StoreLockedError naming the holder: at once if flock is held, else as soon as the holder's heartbeat is seen.
    """
    location = StoreLocation.of(store)
    with ExitStack() as stack:
        if location.is_remote:
            check_conditional_writes(location)
        else:
            stack.enter_context(_flock(location))
        yield stack.enter_context(hold_lease(location))


@contextmanager
def _flock(location: StoreLocation) -> Iterator[None]:
    try:
        file = (location.folder / LOCK_FILE).open("a+")  # not "w", which would truncate it
    except OSError as error:
        raise StoreError(f"{location.said} cannot be written to: {os_error_reason(error)}") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise locked_error(location, current_holder(location)) from None
        except OSError as error:
            if error.errno not in NO_FLOCK:
                raise StoreError(f"{location.said} cannot be locked: {os_error_reason(error)}") from None
        yield
