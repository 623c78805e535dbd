"""Processes that inherit nothing of this one, for work that reads stores: Icechunk's threads do not survive a fork."""

import multiprocessing
import os
import threading
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext


def clean_processes() -> ForkServerContext:
    """The start method `forkserver`, from a process that has not imported the user's script.

    Newer Pythons (3.14) import it there, and with it Icechunk, whose version 2 starts threads at import. A process that
    `begin_forkserver` has started stays as it is.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([])
    return context


def end_with_parent() -> None:
    """Ends this process of `multiprocessing` as soon as the one that asked for it has ended, however that ended.

    By itself a process of the method `forkserver` would wait for work for ever, and keep that server alive.
    """
    if (parent := multiprocessing.parent_process()) is None:
        return

    def end() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=end, name="end-with-parent", daemon=True).start()
