"""Where a build's tasks run: on this machine, at a running Dask scheduler, or in SLURM jobs.

`open_cluster` gives a `Cluster` for any of them. Only this package and `coordinator.py` import dask.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from ...io.machine import usable_cores
from .cluster import Cluster, OnMessage, running_cluster
from .dask_scheduler import check_scheduler, dashboard_link, decode_threads, scheduler_client
from .local import dashboard_address, local_cluster, usable_gpus
from .slurm_jobs import slurm_client
from .slurm_settings import load_slurm
from .spec import ClusterSpec
from .worker_plugin import PrepareWorker

if TYPE_CHECKING:  # imports torch, which schedulers and workers must not do before their versions are checked
    from ...backbones.spec import BackboneSpec

__all__ = [
    "Cluster",
    "ClusterSpec",
    "PrepareWorker",
    "check_cluster",
    "dashboard_address",
    "local_cluster",
    "open_cluster",
]


def check_cluster(spec: ClusterSpec) -> None:
    """Tries what can be tried before a build begins: a wrong address or file of jobs then leaves no unfinished build.

    Raises BuildError.
    """
    if spec.scheduler is not None:
        check_scheduler(spec.scheduler)
    elif spec.slurm is not None:
        load_slurm(spec.slurm)


@contextmanager
def open_cluster(
    spec: ClusterSpec,
    backbone: "BackboneSpec | None",
    blocks: int,
    on_message: OnMessage,
    kernels: tuple[str, ...] = (),
) -> Iterator[Cluster]:
    """The workers of `spec` for a build of `blocks` blocks, with the backbone loaded and the `kernels` compiled.

    backbone    None where no task computes attention
    kernels     modules with the engine's compiled kernels
    on_message  called with a line for what is started

    Raises BuildError with one line where workers cannot be started or used.
    """
    if kernels:
        on_message("workers load compiled kernels; the first time on a machine they are compiled, for some 20 s")
    with ExitStack() as stack:
        if spec.scheduler is not None:
            client = stack.enter_context(scheduler_client(spec.scheduler))
            running = running_cluster(
                client,
                backbone,
                kernels,
                on_message,
                spec.scheduler,
                dashboard_link(client),
                lambda: decode_threads(client),
            )
        elif spec.slurm is not None:
            client, jobs = stack.enter_context(slurm_client(spec.slurm, blocks, on_message))
            gpu_job = jobs.settings.gpu
            gpu_job_threads = max(1, gpu_job.cores - 1) if gpu_job is not None else 1
            running = running_cluster(
                client,
                backbone,
                kernels,
                on_message,
                jobs.scheduler,
                dashboard_address(client),
                lambda: gpu_job_threads,
                adjust_jobs=jobs.scale,
                queued=True,
            )
        else:
            gpus = min(usable_gpus(spec.gpus), blocks)
            workers = min(spec.workers, blocks)
            cores = usable_cores()
            processes = "process" if workers == 1 else "processes"
            on_message(
                f"starting {workers} worker {processes}" + (f", and one for each of {gpus} GPUs" if gpus else "")
            )
            client = stack.enter_context(local_cluster(workers, gpus, kernels))
            running = running_cluster(
                client,
                backbone,
                kernels,
                on_message,
                "this machine",
                dashboard_address(client),
                lambda: max(1, cores // gpus - 1),
                shares_terminal=True,
            )
        yield stack.enter_context(running)
