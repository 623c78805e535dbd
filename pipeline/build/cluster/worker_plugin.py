"""What a worker process is told before its first task, and whether it may have one.

A worker is let in by a resource of the run's own name, which it gets only here, at the end of `setup`. Every task of
the run asks for that resource, so a worker that was refused, or that has not heard of the run yet, is never given one,
whenever it joined; and it is left as it was, since others may use the same scheduler.

This module is unpickled on machines where nothing is known yet: it must import no torch.
"""

import importlib
import signal
import socket
import threading
from dataclasses import asdict
from typing import TYPE_CHECKING

from distributed.core import Status
from distributed.diagnostics.plugin import SchedulerPlugin, WorkerPlugin
from distributed.versions import get_versions

from ...errors import BuildError

if TYPE_CHECKING:
    from ...backbones.spec import BackboneSpec

CHECKED_PACKAGES = ("locloc", "torch", "zarr", "icechunk")


def installed_versions() -> dict[str, str | None]:
    """Versions in this process, by package, None for one that is not there; and Python's, major and minor alone."""
    return checked_versions(get_versions(CHECKED_PACKAGES)["packages"])


def checked_versions(packages: dict[str, str | None]) -> dict[str, str | None]:
    """The part that must agree of what Dask says about the packages of a process."""
    versions = {name: packages.get(name) for name in CHECKED_PACKAGES}
    return {"python": ".".join(packages["python"].split(".")[:2])} | versions


def difference(theirs: dict[str, str | None], ours: dict[str, str | None]) -> str | None:
    """`"has torch 2.9.0, the coordinator 2.11.0"`, or None where all is equal."""
    if ours == theirs:
        return None
    differing = [name for name in ours if theirs[name] != ours[name]]
    return (
        f"has {', '.join(f'{name} {theirs[name]}' if theirs[name] else f'no {name}' for name in differing)}; "
        f"the coordinator has {', '.join(f'{name} {ours[name]}' for name in differing)}"
    )


class PrepareWorker(WorkerPlugin):
    """Runs once in every worker process, also in one that was restarted or that joins late.

    Versions, threads, warnings, the model in memory; then the worker has the resource `name` and with it work. A worker
    that declares neither of the resources GPU and CPU gets CPU. One that cannot be used says why on the topic `name`.
    """

    def __init__(
        self,
        backbone: "BackboneSpec | None",
        device: str,
        name: str = "locloc",
        versions: dict[str, str | None] | None = None,
        on_our_terminal: bool = True,
        kernels: tuple[str, ...] = (),
    ):
        self.backbone = asdict(backbone) if backbone else None  # None: no task will ask for attention
        self.device, self.name = device, name
        self.versions = versions or installed_versions()
        self.on_our_terminal = on_our_terminal
        self.kernels = kernels  # modules to import before the first image is on the clock

    async def setup(self, worker) -> None:
        try:
            self._prepare(worker)
        except Exception as error:
            reason = next(iter(str(error).splitlines()), "") or type(error).__name__
            worker.log_event(self.name, {"refused": f"worker {worker.name} on {socket.gethostname()}", "why": reason})
            raise BuildError(reason) from None  # whose message is all that travels
        kind = {} if {"GPU", "CPU"} & set(worker.state.total_resources) else {"CPU": 1}
        await worker.set_resources(**kind, **{self.name: 1})
        if worker.status == Status.running:
            # The scheduler looks again at tasks that nobody could run only when a worker's status changes.
            worker.status = Status.paused
            worker.status = Status.running

    def _prepare(self, worker) -> None:
        if (differs := difference(installed_versions(), self.versions)) is not None:
            raise BuildError(differs)

        import torch  # only now: a worker of other versions should not even load it

        from ...backbones.spec import BackboneSpec
        from ...backbones.vit import load_backbone
        from ..worker_init import prepare_process

        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGALRM, signal.SIG_DFL)  # the time limit of an image ends a hang in C code too
            if self.on_our_terminal:
                signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all of it: the coordinator decides
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
            load_backbone(BackboneSpec(**self.backbone), self.device)

    async def teardown(self, worker) -> None:
        if worker.status in (Status.running, Status.paused):  # else it is closing, and the scheduler may be gone
            await worker.set_resources(**{self.name: 0})


class ForgetRun(SchedulerPlugin):
    """Takes a run's worker plugin off the scheduler when its coordinator is gone, however it went."""

    def __init__(self, name: str, client: str):
        self.name, self.client = name, client

    def remove_client(self, scheduler, client: str) -> None:
        if client == self.client:
            scheduler.loop.add_callback(self._forget, scheduler)

    async def _forget(self, scheduler) -> None:
        if self.name in scheduler.plugins:
            await scheduler.unregister_scheduler_plugin(name=self.name)
        if self.name in scheduler.worker_plugins:
            await scheduler.unregister_worker_plugin(None, name=self.name)
