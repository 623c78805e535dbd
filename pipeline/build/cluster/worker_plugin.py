"""Prepares worker processes before their first task, and admits those that can be used.

A worker is admitted by a resource with the name of the run, which it gets at the end of `PrepareWorker.setup`. Every
task of the run asks for that resource, so workers that were refused or are not prepared yet get none. They stay at the
scheduler unchanged, since others may use them.

Workers unpickle this module before their versions are checked: it must not import torch.
"""

import importlib
import signal
import socket
import threading
from dataclasses import asdict
from typing import TYPE_CHECKING

from distributed import Scheduler, Worker
from distributed.core import Status
from distributed.diagnostics.plugin import SchedulerPlugin, WorkerPlugin
from distributed.versions import get_versions

from ...errors import BuildError

if TYPE_CHECKING:
    from ...backbones.spec import BackboneSpec

CHECKED_PACKAGES = ("locloc", "torch", "zarr", "icechunk")


def installed_versions() -> dict[str, str | None]:
    """Versions by package in this process, None for one that is not installed; and Python's major and minor version."""
    return checked_versions(get_versions(CHECKED_PACKAGES)["packages"])


def checked_versions(packages: dict[str, str | None]) -> dict[str, str | None]:
    """The versions that must agree, out of those that Dask reports for a process."""
    python = str(packages["python"]).split(".")
    return {"python": ".".join(python[:2]), **{name: packages.get(name) for name in CHECKED_PACKAGES}}


def difference(theirs: dict[str, str | None], ours: dict[str, str | None]) -> str | None:
    """`"has torch 2.9.0, the coordinator 2.11.0"`, or None where all versions are equal."""
    if ours == theirs:
        return None
    differing = [name for name in ours if theirs[name] != ours[name]]
    return (
        f"has {', '.join(f'{name} {theirs[name]}' if theirs[name] else f'no {name}' for name in differing)}; "
        f"the coordinator has {', '.join(f'{name} {ours[name]}' for name in differing)}"
    )


class PrepareWorker(WorkerPlugin):
    """Runs once in every worker process, also in one that was restarted or joins late.

    Checks versions, sets threads and warnings, loads the model, then gives the worker the resource `name`. A worker
    that declares neither GPU nor CPU gets CPU. One that cannot be used sends the reason to the topic `name`, others
    that they are ready.
    """

    def __init__(
        self,
        backbone: "BackboneSpec | None",
        device: str,
        name: str = "locloc",
        versions: dict[str, str | None] | None = None,
        shares_terminal: bool = True,
        kernels: tuple[str, ...] = (),
    ):
        self.backbone = asdict(backbone) if backbone else None  # None: no task computes attention
        self.device, self.name = device, name
        self.versions = versions or installed_versions()
        self.shares_terminal = shares_terminal
        self.kernels = kernels  # modules imported before the time limit of the first image starts

    async def setup(self, worker: Worker) -> None:
        try:
            self._prepare(worker)
        except Exception as error:
            reason = next(iter(str(error).splitlines()), "") or type(error).__name__
            worker.log_event(self.name, {"refused": f"worker {worker.name} on {socket.gethostname()}", "why": reason})
            raise BuildError(reason) from None  # only the message reaches the coordinator
        kind = {} if {"GPU", "CPU"} & set(worker.state.total_resources) else {"CPU": 1}
        await worker.set_resources(**kind, **{self.name: 1})
        if worker.status == Status.running:
            # The scheduler reconsiders tasks that no worker could run only when a worker's status changes.
            worker.status = Status.paused
            worker.status = Status.running
        worker.log_event(self.name, {"ready": str(worker.name)})

    def _prepare(self, worker: Worker) -> None:
        if (differs := difference(installed_versions(), self.versions)) is not None:
            raise BuildError(differs)

        import torch  # not before the versions are checked

        from ...backbones.precision import why_no_tf32
        from ...backbones.spec import BackboneSpec
        from ...backbones.vit import load_backbone
        from ..worker_init import prepare_process

        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGALRM, signal.SIG_DFL)  # the watchdog ends hangs in C code too
            if self.shares_terminal:
                signal.signal(signal.SIGINT, signal.SIG_IGN)  # the coordinator handles Ctrl-C
        prepare_process()
        for module in self.kernels:
            importlib.import_module(module)
        if self.backbone is None:
            return
        if self.device == "cpu":
            load_backbone(BackboneSpec(**self.backbone), "cpu")
        elif "GPU" in worker.state.total_resources:
            if not torch.cuda.is_available():
                raise BuildError("it declares the resource GPU, but its torch sees no CUDA device")
            if self.backbone["precision"] == "tf32" and (why := why_no_tf32(with_gpu=True)) is not None:
                raise BuildError(why)
            load_backbone(BackboneSpec(**self.backbone), self.device)

    async def teardown(self, worker: Worker) -> None:
        if worker.status in (
            Status.running,
            Status.paused,
        ):  # else it closes, and the scheduler may be lost
            await worker.set_resources(**{self.name: 0})


class UnregisterRun(SchedulerPlugin):
    """Unregisters a run's worker plugin when its client is gone, also after a crash of the coordinator."""

    def __init__(self, name: str, client: str):
        self.name, self.client = name, client

    def remove_client(self, scheduler: Scheduler, client: str) -> None:
        if client == self.client:
            scheduler.loop.add_callback(self._unregister, scheduler)

    async def _unregister(self, scheduler: Scheduler) -> None:
        if self.name in scheduler.plugins:
            await scheduler.unregister_scheduler_plugin(name=self.name)
        if self.name in scheduler.worker_plugins:
            await scheduler.unregister_worker_plugin(None, name=self.name)
