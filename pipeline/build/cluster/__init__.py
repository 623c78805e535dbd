"""Where a build's tasks run: on this machine, at a Dask scheduler that runs already, or in SLURM jobs.

`open_cluster` gives a `Cluster` for any of them; build.py knows no more. With build.py the only part that imports dask.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from ...io.machine import usable_cores
from . import dask_scheduler as remote
from . import slurm_jobs as jobs
from .cluster import Cluster, Say, running_cluster
from .local import dashboard_address, local_cluster, usable_gpus
from .spec import ClusterSpec
from .worker_plugin import PrepareWorker

if TYPE_CHECKING:  # schedulers and workers import this package before it is known whether their torch may be loaded
    from ...backbones.spec import BackboneSpec

__all__ = ["Cluster", "ClusterSpec", "open_cluster", "PrepareWorker", "dashboard_address", "local_cluster"]


@contextmanager
def open_cluster(
    spec: ClusterSpec, backbone: "BackboneSpec", blocks: int, say: Say, kernels: tuple[str, ...] = ()
) -> Iterator[Cluster]:
    """The workers of `spec`, each with `backbone` in memory and modules `kernels` compiled, for a build of `blocks`.

    Says what it starts. Raises BuildError with one line for whatever keeps them from working.
    """
    if kernels:
        say("workers load the engine's kernels; the first time on a machine they are compiled, for some 20 s")
    with ExitStack() as stack:
        if spec.scheduler is not None:
            client = stack.enter_context(remote.remote_client(spec.scheduler))
            running = running_cluster(
                client,
                backbone,
                kernels,
                say,
                spec.scheduler,
                remote.dashboard(client),
                lambda: remote.decode_threads(client),
            )
        elif spec.slurm is not None:
            client, submitted = stack.enter_context(jobs.slurm_client(spec.slurm, blocks, say))
            gpu_job = submitted.settings.gpu
            running = running_cluster(
                client,
                backbone,
                kernels,
                say,
                submitted.scheduler,
                dashboard_address(client),
                lambda: max(1, gpu_job.cores - 1),
                want=lambda blocks_left: submitted.follow(blocks_left, lambda: jobs.worker_names(client)),
                queued=True,
            )
        else:
            gpus = min(usable_gpus(spec.gpus), blocks)
            workers = min(spec.workers, blocks)
            cores = usable_cores()
            say(f"starting {workers} worker processes" + (f", and one for each of {gpus} GPUs" if gpus else ""))
            client = stack.enter_context(local_cluster(workers, gpus, kernels))
            running = running_cluster(
                client,
                backbone,
                kernels,
                say,
                "this machine",
                dashboard_address(client),
                lambda: max(1, cores // gpus - 1),
                on_our_terminal=True,
            )
        yield stack.enter_context(running)
