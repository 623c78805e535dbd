"""Worker processes on this machine, one thread each.

Masks then depend on nothing that is shared, and torch, OpenCV and BLAS are told to use one thread each, or N workers
would run N x cores of them. A GPU gets a worker of its own that holds the resource `GPU`; `attend` tasks ask for it,
and the other workers refine.
"""

import atexit
import importlib.util
import logging
import multiprocessing.forkserver
import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import dask
from distributed import Client, Nanny, Scheduler, SpecCluster
from distributed.deploy.spec import close_clusters
from distributed.utils import get_mp_context

from ...errors import BuildError
from .cluster import silence_dask

_CONFIG = {
    "distributed.scheduler.work-stealing": True,
    "distributed.scheduler.no-workers-timeout": "300s",  # a resource nobody has would otherwise be waited for for ever
    "distributed.scheduler.allowed-failures": 1,  # the build runs what two workers died of again, by itself
    "distributed.worker.memory.spill": False,  # a window of blocks is small; what does not fit is a leak to be seen
    "distributed.worker.memory.target": False,
    "distributed.comm.timeouts.connect": "60s",
    # Forked from a clean process that has imported everything and started nothing: a fork of this one would hang once
    # Icechunk or torch has threads, and spawned ones would each import torch for seconds, into memory of their own.
    "distributed.worker.multiprocessing-method": "forkserver",
}

_ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

_BOKEH = importlib.util.find_spec("bokeh") is not None  # comes with `pip install locloc[cluster]`


def _start_forkserver(kernels: tuple[str, ...]) -> None:
    """The process that workers are forked from, once in the life of this one, with modules `kernels` in its memory.

    What they import is started with one thread each; Dask's own variables for that would come too late.
    """
    forkserver = multiprocessing.get_context("forkserver")
    get_mp_context()  # has Dask choose what is imported, so that it does not do so later
    imported = ("distributed", "locloc.pipeline.backbones.vit", "locloc.pipeline.build.isolation", *kernels)
    forkserver.set_forkserver_preload(list(imported))
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ |= dict.fromkeys(_ONE_THREAD, "1")
    try:
        with _sigint_ignored():
            multiprocessing.forkserver.ensure_running()
        # Returns when everything is imported. Workers that are asked for before would be forked even after this process
        # was interrupted, and say in tracebacks that it is gone.
        (first := forkserver.Process(target=int)).start()
        first.join()
    finally:
        for name, value in before.items():
            del os.environ[name]
            if value is not None:
                os.environ[name] = value


@contextmanager
def _sigint_ignored() -> Iterator[None]:
    """What is started inside ignores it from its first moment: Ctrl-C reaches all, and the coordinator decides."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def local_cluster(workers: int, gpus: int = 0, kernels: tuple[str, ...] = ()) -> Iterator[Client]:
    """A client of `workers` CPU processes on this machine, and one more for each of its first `gpus` GPUs.

    kernels  modules that are compiled at import: once, before there are workers, which have them from the start
    """
    silence_dask()
    with tempfile.TemporaryDirectory(prefix="locloc-dask-") as scratch, dask.config.set(_CONFIG):
        _start_forkserver(kernels)

        def worker(env: dict[str, str], resources: dict[str, float]) -> dict:
            options = {
                "nthreads": 1,
                "resources": resources,
                "env": env,
                "local_directory": scratch,
                "host": "127.0.0.1",
                "dashboard": False,
                "memory_limit": 1.0 / (workers + gpus),
                "silence_logs": logging.CRITICAL,  # what goes wrong in a task comes back with its future
            }
            return {"cls": Nanny, "options": options}

        specs = {f"cpu-{n}": worker({"CUDA_VISIBLE_DEVICES": ""} if gpus else {}, {"CPU": 1}) for n in range(workers)}
        names = _gpu_names(gpus)
        specs |= {f"gpu-{n}": worker({"CUDA_VISIBLE_DEVICES": names[n]}, {"GPU": 1}) for n in range(gpus)}
        options = {"host": "127.0.0.1", "port": 0, "dashboard": _BOKEH, "dashboard_address": "127.0.0.1:0"}
        scheduler = {"cls": Scheduler, "options": options}
        with _started(specs, scheduler) as cluster, Client(cluster) as client:
            try:
                client.wait_for_workers(workers + gpus, timeout=120)
            except TimeoutError:
                raise BuildError(
                    f"{workers + gpus} worker processes did not start within 120 s; try fewer --workers"
                ) from None
            yield client


def _started(specs: dict[str, dict], scheduler: dict) -> SpecCluster:
    try:
        return SpecCluster(specs, scheduler, silence_logs=logging.CRITICAL)
    except KeyboardInterrupt:
        # Dask would close it at the exit, and stumble over workers that are not there yet. They end with this process.
        atexit.unregister(close_clusters)
        raise


def usable_gpus(wanted: int | None) -> int:
    """How many GPUs to use; None: all that are visible. Raises BuildError where there are fewer than wanted."""
    import torch  # not above, where workers come by that may have another

    there = torch.cuda.device_count() if wanted != 0 else 0
    if wanted is not None and wanted > there:
        raise BuildError(
            f"--gpus {wanted}: this machine shows {there}; give --gpus all, or look at CUDA_VISIBLE_DEVICES"
        )
    return there if wanted is None else wanted


def _gpu_names(gpus: int) -> list[str]:
    given = os.environ.get("CUDA_VISIBLE_DEVICES")  # a batch system's choice, by number or UUID
    return [name.strip() for name in given.split(",")] if given else [str(n) for n in range(gpus)]


def dashboard_address(client: Client) -> str | None:
    """Where a browser shows the workers at work, or None without bokeh."""
    return client.dashboard_link if _BOKEH else None
