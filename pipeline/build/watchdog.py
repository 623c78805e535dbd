"""A time limit that also ends hangs in C code, such as a decoder or a matrix product.

The kernel sends SIGALRM, whose default action kills the process even where another thread holds the interpreter's lock.
The scheduler then sees a dead worker, as after any other crash.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def watchdog(limit_s: float | None) -> Iterator[Callable[[], None]]:
    """Kills the process unless the yielded `feed()` is called every `limit_s` seconds. None: no limit."""
    if limit_s is None:
        yield lambda: None
        return

    def feed() -> None:
        signal.setitimer(signal.ITIMER_REAL, limit_s)

    feed()
    try:
        yield feed
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
