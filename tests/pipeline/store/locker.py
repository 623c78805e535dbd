"""A process that locks a store, for tests: `locker.py STORE HEARTBEAT_S STALE_S flock|no-flock hold|ROUNDS`.

`hold` takes the lock, prints `held`, answers each line of its input with the result of `check`, and releases the lock
at the end of its input. A number takes the lock that many times, each time creates exclusively and deletes the file
given as last argument, and prints `done`.
"""

import errno
import fcntl
import os
import sys
import time

from locloc.pipeline.errors import LocLocError, StoreLockedError
from locloc.pipeline.store import lease
from locloc.pipeline.store.lock import store_lock

store, beat_s, stale_s, flock, mode, *inside = sys.argv[1:]
lease.HEARTBEAT_S, lease.STALE_S, lease.POLL_S = float(beat_s), float(stale_s), 0.05


def no_flock(*args):
    raise OSError(errno.ENOLCK, "no locks available")


def error_line(error: LocLocError) -> str:
    return f"{type(error).__name__}: {error}"


if flock == "no-flock":
    fcntl.flock = no_flock
if mode == "hold":
    try:
        with store_lock(store) as held:
            print("held", flush=True)
            for _ in sys.stdin:
                try:
                    held.check()
                    print("ok", flush=True)
                except LocLocError as error:
                    print(error_line(error), flush=True)
    except LocLocError as error:
        print(error_line(error), flush=True)
else:
    times = 0
    while times < int(mode):
        try:
            with store_lock(store) as held:
                os.close(os.open(inside[0], os.O_CREAT | os.O_EXCL))
                time.sleep(0.02)
                held.check()
                os.unlink(inside[0])
                times += 1
        except StoreLockedError:
            time.sleep(0.05)
    print("done", flush=True)
