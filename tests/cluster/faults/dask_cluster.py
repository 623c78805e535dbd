"""A scheduler and two workers from the nursery, looked after as a cluster manager does: what ends is started again."""

import json
import time
from pathlib import Path

from .nursery import Child, Nursery
from .proxy import Proxy

WORKERS = 2

# Of Dask's own settings, for all processes. A block is suspected after the second death, not the fourth, to save time.
SETTINGS = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1"}


class DaskCluster:
    def __init__(self, nursery: Nursery, folder: Path):
        self._nursery, self._folder = nursery, folder
        self.workers: list[Child] = []
        self.network = Proxy()  # between the workers and the scheduler
        self._start_scheduler()
        self.tend()

    def _start_scheduler(self) -> None:
        file = self._folder / "scheduler.json"
        file.unlink(missing_ok=True)
        self.scheduler = self._nursery.start(
            "scheduler", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0",
            "--dashboard-address", "127.0.0.1:0", "--scheduler-file", str(file),
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while True:
            try:
                self.address = self.network.target = json.loads(file.read_text())["address"]
                return
            except (FileNotFoundError, ValueError):
                assert time.monotonic() < deadline, self.scheduler.output
                time.sleep(0.02)

    def tend(self) -> None:
        """Starts what has ended again. A scheduler has another address then, and other workers."""
        if self.scheduler.code is not None:
            for worker in self.workers:
                worker.kill()
            self._start_scheduler()
        self.workers = [worker for worker in self.workers if worker.code is None]
        while len(self.workers) < WORKERS:
            self.workers.append(self._start_worker())

    def _start_worker(self) -> Child:
        return self._nursery.start(
            "worker", "distributed.cli.dask_worker", self.network.address, "--no-nanny", "--nthreads", "1",
            "--no-dashboard", "--local-directory", str(self._folder), "--memory-limit", "0",
        )  # fmt: skip
