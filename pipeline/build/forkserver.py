"""The process that local workers are forked from: it imports torch, which takes seconds, once for all of them.

A command can begin it before it reads its images, so that both happen at the same time. Imports neither torch nor dask.
"""

import atexit
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import forkserver

from ..masks.quality.kernels import KERNELS
from . import preload

MODULES = ("distributed", "locloc.pipeline.backbones.vit", "locloc.pipeline.masks.pseudo_mask", "zarr")
"""None of them imports Icechunk: version 2 starts threads at import, for which each fork would wait for ever."""

_ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

_unused: set[int] = set()
"""Its process id, until something was forked from it."""


def begin_forkserver(kernels: tuple[str, ...] = KERNELS) -> None:
    """Starts it, where it does not run yet, with MODULES and `kernels` to import, and does not wait.

    Thread counts are set before its imports; Dask's own variables for that take effect too late.
    """
    multiprocessing.get_context("forkserver").set_forkserver_preload([preload.__name__])
    its_own = dict.fromkeys(_ONE_THREAD, "1") | {preload.NAMES: ",".join([*MODULES, *kernels])}
    before = {name: os.environ.get(name) for name in its_own}
    os.environ |= its_own
    try:
        with _sigint_ignored():
            forkserver.ensure_running()
    finally:
        for name, value in before.items():
            del os.environ[name]
            if value is not None:
                os.environ[name] = value


def begin_early() -> None:
    """`begin_forkserver` for a command that may still end before it forks: then the process is ended with it."""
    begin_forkserver()
    # Python does not document the attribute; without it the process would end some seconds after the command.
    if (process_id := getattr(forkserver._forkserver, "_forkserver_pid", None)) is not None:
        _unused.add(process_id)


def wait_for_forkserver() -> None:
    """Returns once everything is imported.

    Workers requested earlier would still be forked after this process was interrupted, and print tracebacks.
    """
    _unused.clear()
    (first := multiprocessing.get_context("forkserver").Process(target=int)).start()
    first.join()


@atexit.register
def _end_unused() -> None:
    for process_id in _unused:
        with suppress(OSError):
            os.kill(process_id, signal.SIGKILL)
            os.waitpid(process_id, 0)


@contextmanager
def _sigint_ignored() -> Iterator[None]:
    """Processes started inside ignore SIGINT: Ctrl-C reaches all of them, and the coordinator handles it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
