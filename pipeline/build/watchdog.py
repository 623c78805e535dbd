"""A time limit that holds even where Python does not run: a decoder or a matrix product that never comes back.

The kernel's alarm clock, with SIGALRM's default action: the process is killed, whatever it hangs in and whoever holds
the interpreter's lock. The caller's scheduler sees a dead worker, as it does after any other crash.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def watchdog(limit_s: float | None) -> Iterator[Callable[[], None]]:
    """Yields `feed()`: between two calls, and before the first one, no more than `limit_s` may pass. None: no limit."""
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
