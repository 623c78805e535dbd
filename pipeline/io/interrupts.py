"""Ctrl-C (SIGINT), SIGTERM and SIGHUP: stop a loop between its steps, and wait for the end of a commit.

Python runs signal handlers between two instructions of the main thread; what it waits for in C, signal_watch.py ends.
"""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_received: list[int] = []


@contextmanager
def interruptible() -> Iterator[None]:
    """The signals raise KeyboardInterrupt, and are recorded for `raise_if_interrupted`. For the main thread only.

    Python runs a signal handler at any point of the program. An exception raised inside a `__del__` or a weak
    reference's callback, such as those of Dask's futures, is dropped and printed as a traceback: the program would
    continue, so `raise_if_interrupted` raises it again; and the traceback of the dropped KeyboardInterrupt is not
    printed. A signal that is ignored (SIGINT of a job in a shell's background) stays ignored.
    """
    _start_resource_tracker()
    _received.clear()
    previous_handlers = {
        number: signal.signal(number, _interrupt)
        for number in _SIGNALS
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    print_dropped = sys.unraisablehook

    def print_others(dropped: "sys.UnraisableHookArgs") -> None:
        if not (_received and issubclass(dropped.exc_type, KeyboardInterrupt)):
            print_dropped(dropped)

    sys.unraisablehook = print_others
    try:
        yield
    finally:
        sys.unraisablehook = print_dropped
        _received.clear()
        for number, handler in previous_handlers.items():
            signal.signal(number, handler)


def _start_resource_tracker() -> None:
    """Starts multiprocessing's resource tracker with SIGHUP blocked, before a process pool or a loader starts it.

    It ignores SIGINT and SIGTERM only. A terminal that closes sends SIGHUP to all processes; a tracker that ends
    first is started again, knows none of the semaphores, and prints a traceback for each.
    """
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        resource_tracker.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def raise_if_interrupted() -> None:
    """Raises KeyboardInterrupt if a signal arrived whose own exception was dropped. Call it once a turn in loops."""
    if _received:
        raise KeyboardInterrupt


def _interrupt(number: int, _frame: object) -> None:
    _received.append(number)
    raise KeyboardInterrupt


@contextmanager
def signals_held_back() -> Iterator[None]:
    """Defers the signals to the end of the `with` block, so that a commit completes. Other threads: does nothing.

    A signal that is ignored stays ignored: raised again in place of another one, it would take that one with it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    deferred: list[int] = []
    previous_handlers = {
        number: signal.signal(number, lambda number, _: deferred.append(number))
        for number in _SIGNALS
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in previous_handlers.items():
            signal.signal(number, handler)
    if deferred:
        signal.raise_signal(deferred[0])
