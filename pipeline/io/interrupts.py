"""Ctrl-C and SIGTERM at moments that can bear them."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_STOPS = (signal.SIGINT, signal.SIGTERM)
_heard: list[int] = []


@contextmanager
def interruptible() -> Iterator[None]:
    """Both raise KeyboardInterrupt, and are remembered for `raise_if_interrupted`. For the main thread only.

    Python runs a handler wherever the program happens to be. Inside a `__del__` or a weak reference's callback, such as
    those of Dask's futures, it drops the exception: the program would go on as if not asked. It would also print it, a
    traceback that says nothing, so that one is kept quiet here.
    A SIGINT that is ignored (a job in a shell's background) stays ignored.
    """
    _heard.clear()
    before = {stop: signal.signal(stop, _interrupt) for stop in _STOPS if signal.getsignal(stop) is not signal.SIG_IGN}
    print_dropped = sys.unraisablehook

    def print_others(dropped: object) -> None:
        if not (_heard and issubclass(dropped.exc_type, KeyboardInterrupt)):
            print_dropped(dropped)

    sys.unraisablehook = print_others
    try:
        yield
    finally:
        sys.unraisablehook = print_dropped
        _heard.clear()
        for stop, handler in before.items():
            signal.signal(stop, handler)


def raise_if_interrupted() -> None:
    """For loops, once a turn. Raises KeyboardInterrupt where a signal was heard, though its own exception was lost."""
    if _heard:
        raise KeyboardInterrupt


def _interrupt(number: int, _frame: object) -> None:
    _heard.append(number)
    raise KeyboardInterrupt


@contextmanager
def signals_held_back() -> Iterator[None]:
    """Both wait until the end of the `with` block: a commit must not be left half way. In other threads, nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []
    before = {stop: signal.signal(stop, lambda number, _: waiting.append(number)) for stop in _STOPS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for number in waiting[:1]:
        signal.raise_signal(number)
