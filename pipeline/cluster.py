"""Dask workers on this machine. With build.py the only file that imports dask.

A worker is a process with one thread: masks then depend on nothing that is shared, and torch, OpenCV and BLAS are told
to use one thread each, or N workers would run N x cores of them. A GPU gets a worker of its own that holds the resource
`GPU`; `attend` tasks ask for it, and the other workers refine.
"""

import importlib.util
import logging
import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import dask
import torch
from distributed import Client, Nanny, Scheduler, SpecCluster
from distributed.diagnostics.plugin import WorkerPlugin

from .backbone import BackboneSpec, load_backbone
from .errors import BuildError
from .images import ignore_decoder_warnings

_CONFIG = {
    "distributed.scheduler.work-stealing": True,
    "distributed.scheduler.no-workers-timeout": "60s",  # a resource nobody has would otherwise be waited for for ever
    "distributed.scheduler.allowed-failures": 2,
    "distributed.worker.memory.spill": False,  # a window of blocks is small; what does not fit is a leak to be seen
    "distributed.worker.memory.target": False,
    "distributed.comm.timeouts.connect": "60s",
    "distributed.worker.multiprocessing-method": "spawn",  # forked processes hang once Icechunk or torch has threads
}

_BOKEH = importlib.util.find_spec("bokeh") is not None  # comes with `pip install locloc[cluster]`


class PrepareWorker(WorkerPlugin):
    """Runs once in every worker process, also in one that was restarted: threads, warnings, and the model in memory."""

    name = "locloc"

    def __init__(self, backbone: BackboneSpec, device: str):
        self.backbone, self.device = backbone, device

    def setup(self, worker) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal: the coordinator decides
        cv2.setNumThreads(1)  # the nanny bounds OpenMP and BLAS, not OpenCV
        torch.set_num_threads(1)
        ignore_decoder_warnings()
        if self.device == "cpu" or "GPU" in worker.state.total_resources:
            load_backbone(self.backbone, self.device)


@contextmanager
def local_cluster(workers: int, gpus: int = 0) -> Iterator[Client]:
    """A client of `workers` CPU processes on this machine, and one more for each of its first `gpus` GPUs."""
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="locloc-dask-") as scratch, dask.config.set(_CONFIG):

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
        given = os.environ.get("CUDA_VISIBLE_DEVICES")  # a batch system's choice, by number or UUID
        names = given.split(",") if given else [str(n) for n in range(gpus)]
        specs |= {f"gpu-{n}": worker({"CUDA_VISIBLE_DEVICES": names[n]}, {"GPU": 1}) for n in range(gpus)}
        options = {"host": "127.0.0.1", "port": 0, "dashboard": _BOKEH, "dashboard_address": "127.0.0.1:0"}
        scheduler = {"cls": Scheduler, "options": options}
        with SpecCluster(specs, scheduler, silence_logs=logging.CRITICAL) as cluster, Client(cluster) as client:
            try:
                client.wait_for_workers(workers + gpus, timeout=120)
            except TimeoutError:
                raise BuildError(
                    f"{workers + gpus} worker processes did not start within 120 s; try fewer --workers"
                ) from None
            yield client


def dashboard_address(client: Client) -> str | None:
    """Where a browser shows the workers at work, or None without bokeh."""
    return client.dashboard_link if _BOKEH else None
