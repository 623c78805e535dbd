"""One writer a store. Concurrent commits on a local file system lose commits silently, so every writer holds this lock.

`flock` on `STORE/locloc.lock`: the kernel lets go of it when the process dies, however it dies, so a lock is never
stale. The file's text says who holds it, for the second one to read. (Opened "a+": opening must not empty it.)
"""

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import StoreError, StoreLockedError

LOCK_FILE = "locloc.lock"


@contextmanager
def store_lock(store: Path) -> Iterator[None]:
    """Holds an existing store for writing. Raises StoreLockedError, naming the holder, at once."""
    try:
        file = (store / LOCK_FILE).open("a+")
    except OSError as error:
        raise StoreError(f"Store {store} cannot be written to: {os.strerror(error.errno).lower()}") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreLockedError(f"Store {store} is being written to by {_holder(file)}; wait for it") from None
        except OSError as error:
            raise StoreError(
                f"Store {store} cannot be locked ({os.strerror(error.errno).lower()}): "
                "its file system has no flock; put the store on one that has"
            ) from None
        file.truncate(0)
        json.dump({"host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime("%F %T %z")}, file)
        file.flush()
        yield


def _holder(file) -> str:
    file.seek(0)
    try:
        holder = json.loads(file.read())
        return f"process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (ValueError, KeyError):  # it has just been locked, and not yet been signed
        return "another process"
