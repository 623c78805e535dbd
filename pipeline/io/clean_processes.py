"""Processes that inherit nothing of this one, for work that reads stores: Icechunk's threads do not survive a fork."""

import multiprocessing
from multiprocessing.context import ForkServerContext


def clean_processes() -> ForkServerContext:
    """The start method `forkserver`, from a process that has not imported the user's script.

    Newer Pythons (3.14) import it there, and with it Icechunk, whose version 2 starts threads at import. A process that
    `begin_forkserver` has started stays as it is.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([])
    return context
