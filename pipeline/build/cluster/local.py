"""Worker processes on this machine, one thread each.

torch, OpenCV and BLAS use one thread each too: N workers would otherwise run N x cores threads. Each GPU gets a worker
of its own with the resource `GPU`, which `attend` tasks ask for; the other workers refine.
"""

import atexit
import importlib.util
import logging
import multiprocessing.forkserver
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import dask
from distributed import Client, Nanny, Scheduler, SpecCluster
from distributed.deploy.spec import close_clusters
from distributed.utils import get_mp_context

from ...errors import BuildError
from ...io.machine import may_have_gpu
from ..forkserver import begin_forkserver, wait_for_forkserver
from .cluster import silence_dask

_METHOD = "distributed.worker.multiprocessing-method"
_CONFIG = {
    "distributed.scheduler.work-stealing": True,
    "distributed.scheduler.no-workers-timeout": "300s",  # for a resource that no worker has
    "distributed.scheduler.allowed-failures": 1,  # the coordinator retries blocks that killed two workers
    "distributed.worker.memory.spill": False,  # the blocks in flight are small: spilling would hide a leak
    "distributed.worker.memory.target": False,
    "distributed.comm.timeouts.connect": "60s",
    # Workers are forked from a process that has imported everything and started no thread. A fork of this process would
    # hang once Icechunk or torch has threads; spawned workers would each import torch, into memory of their own.
    _METHOD: "forkserver",
}

GPU_SHARES = 4
"""Memory of a GPU worker, in shares of a CPU worker's: CUDA takes 2 to 3 GB, and blocks wait there for their turn."""

_BOKEH = importlib.util.find_spec("bokeh") is not None  # comes with `pip install locloc[cluster]`


def start_forkserver(kernels: tuple[str, ...]) -> None:
    """Starts the process that workers are forked from, once, and returns when it has imported everything."""
    with dask.config.set({_METHOD: "forkserver"}):  # whatever the user's configuration says
        get_mp_context()  # Dask sets its own preload list at the first call, so it must come before ours
    begin_forkserver(kernels)
    wait_for_forkserver()


@contextmanager
def _own_configuration() -> Iterator[None]:
    """Dask's defaults and `_CONFIG`. Workers get it from their coordinator.

    What the user's files and `DASK_*` variables say is for clusters: TLS, for example, or other limits of time and
    memory.
    """
    config, users = dask.config.config, dict(dask.config.config)
    config.clear()
    config.update(dask.config.merge(*dask.config.defaults))
    try:
        with dask.config.set(_CONFIG):
            yield
    finally:
        config.clear()
        config.update(users)


@contextmanager
def local_cluster(workers: int, gpus: int = 0, kernels: tuple[str, ...] = ()) -> Iterator[Client]:
    """A client of `workers` CPU processes on this machine, and of one process for each of its first `gpus` GPUs.

    kernels  modules that are compiled at import; imported once, before workers are forked
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        sys.exit(1)  # a worker imports its coordinator's script, which calls this: the coordinator reports it
    silence_dask()
    with tempfile.TemporaryDirectory(prefix="locloc-dask-") as scratch, _own_configuration():
        start_forkserver(kernels)

        shares = workers + GPU_SHARES * gpus

        def worker(env: dict[str, str], resources: dict[str, float]) -> dict[str, Any]:
            options = {
                "nthreads": 1,
                "resources": resources,
                "env": env,
                "local_directory": scratch,
                "host": "127.0.0.1",
                "dashboard": False,
                "memory_limit": (GPU_SHARES if "GPU" in resources else 1) / shares,
                "silence_logs": logging.CRITICAL,  # errors of tasks are raised by their futures
            }
            return {"cls": Nanny, "options": options}

        specs = {f"cpu-{n}": worker({"CUDA_VISIBLE_DEVICES": ""} if gpus else {}, {"CPU": 1}) for n in range(workers)}
        names = _gpu_names(gpus)
        specs |= {f"gpu-{n}": worker({"CUDA_VISIBLE_DEVICES": names[n]}, {"GPU": 1}) for n in range(gpus)}
        options = {"host": "127.0.0.1", "port": 0, "dashboard": _BOKEH, "dashboard_address": "127.0.0.1:0"}
        scheduler = {"cls": Scheduler, "options": options}
        with _closing(_start_cluster(specs, scheduler)) as cluster, Client(cluster) as client:
            try:
                client.wait_for_workers(workers + gpus, timeout=120)
            except TimeoutError:
                raise BuildError(
                    f"{workers + gpus} worker processes did not start within 120 s; try fewer --workers"
                ) from None
            yield client


def _start_cluster(specs: dict[str, dict[str, Any]], scheduler: dict[str, Any]) -> SpecCluster:
    try:
        return SpecCluster(specs, scheduler, silence_logs=logging.CRITICAL)
    except KeyboardInterrupt:
        # Dask would close it at exit, and fail on workers that have not started. They end with this process anyway.
        atexit.unregister(close_clusters)
        raise
    except RuntimeError as error:
        raise BuildError(
            f"Worker processes did not start ({error}); a script has to call this, and whatever else it "
            'does, under `if __name__ == "__main__":`, since its workers import it'
        ) from error


@contextmanager
def _closing(cluster: SpecCluster) -> Iterator[SpecCluster]:
    """Closes the cluster at the end. An error of closing would hide that of the build, or fail a finished one."""
    try:
        yield cluster
    finally:
        with suppress(TimeoutError):  # a machine without time to spare ends workers late; they end with this process
            cluster.close()


def usable_gpus(wanted: int | None) -> int:
    """How many GPUs to use; None: all that are visible. Raises BuildError where there are fewer than wanted."""
    visible = 0
    if wanted != 0 and may_have_gpu():
        import torch  # not above: workers import this module before their torch is checked

        visible = torch.cuda.device_count()
    if wanted is not None and wanted > visible:
        raise BuildError(
            f"--gpus {wanted}: this machine shows {visible}; give --gpus all, or look at CUDA_VISIBLE_DEVICES"
        )
    return visible if wanted is None else wanted


def _gpu_names(gpus: int) -> list[str]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")  # set by batch systems, by number or UUID
    return [name.strip() for name in visible.split(",")] if visible else [str(n) for n in range(gpus)]


def dashboard_address(client: Client) -> str | None:
    """The address of the dashboard, or None without bokeh."""
    return client.dashboard_link if _BOKEH else None
