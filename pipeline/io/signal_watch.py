"""Ctrl-C (SIGINT), SIGTERM and SIGHUP while the main thread is in C, where Python runs no signal handler.

C writes the number of a signal into a pipe at once (`signal.set_wakeup_fd`), and a thread reads it.
"""

import contextlib
import os
import select
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

INTERRUPTED = 130
"""Exit code."""

SAY_AFTER_S = 2.0

STOP_S = 60.0
"""For saving a state, once a signal was heard."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


_heard = threading.Event()


def heard_signal() -> None:
    """The main thread is at work to stop: it gets STOP_S for that."""
    _heard.set()


@contextmanager
def watched(exit_after_s: float | None, stopping: str) -> Iterator[None]:
    """Hears the signals in a thread, whatever the main thread waits for. For the main thread only.

    exit_after_s  so many seconds after a signal the process ends, with code 130, unless the block was left or
                  `heard_signal` called: the main thread may wait in C for a process that never answers. None: the
                  signal will be heard, but perhaps late; `stopping` is printed, and a second signal ends the process
    stopping      one line for the user
    """
    receiver, sender = os.pipe()
    os.set_blocking(sender, False)  # it is written in a signal handler
    previous = signal.set_wakeup_fd(sender, warn_on_full_buffer=False)
    left = threading.Event()
    _heard.clear()

    def watch() -> None:
        while not (number := _signal(receiver, None)):
            if left.is_set():
                return
        if not _heard.wait(SAY_AFTER_S if exit_after_s is None else exit_after_s):
            _say(f"{signal.Signals(number).name}: {stopping}")
            _signal(receiver, 0)  # a wrapper often passes Ctrl-C on to a process that has it already
            while exit_after_s is None and not left.is_set() and not _signal(receiver, 0.2):
                pass
            if not left.is_set():
                os._exit(INTERRUPTED)
        if exit_after_s is not None and not left.wait(STOP_S):
            os._exit(INTERRUPTED)

    thread = threading.Thread(target=watch, name="signals", daemon=True)
    thread.start()
    try:
        yield
    finally:
        left.set()
        _heard.set()
        signal.set_wakeup_fd(previous)
        with contextlib.suppress(BlockingIOError):
            os.write(sender, b"\0")
        thread.join()
        os.close(sender)
        os.close(receiver)


def _signal(receiver: int, timeout_s: float | None) -> int:
    """The last of the signals that came within a time, else 0."""
    if not select.select([receiver], [], [], timeout_s)[0]:
        return 0
    return next((number for number in reversed(os.read(receiver, 1024)) if number in _SIGNALS), 0)


def _say(line: str) -> None:
    """To standard error, past the buffers and locks that the main thread may hold."""
    with contextlib.suppress(OSError):
        os.write(2, f"\n{line}\n".encode())
