"""SLURM jobs of a build: the coordinator submits, counts, replaces and cancels them; they join its scheduler.

Dask's adaptive clusters have one kind of worker and no resources. Here the number of jobs follows the blocks that are
left; a running job is not cancelled before the end, and one that ends (time limit, failed node) is submitted again.
"""

import logging
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import dask
from distributed import Client, Scheduler, SpecCluster
from distributed.security import Security

from ...errors import BuildError
from .cluster import silence_dask
from .slurm_settings import SlurmSettings, job_script, load_slurm

POLL_S = 20.0  # between two calls of squeue, whose server all users of a cluster share
BLOCKS_A_PROCESS = 8  # for fewer blocks another job is not worth its start
FAILED_JOBS = 3  # in a row, without a worker: further ones would fail too

_CONFIG = {
    "distributed.scheduler.allowed-failures": 1,  # as in local.py
    "distributed.scheduler.no-workers-timeout": None,  # jobs may wait for hours
}


@dataclass
class Jobs:
    """The jobs of one build. The job NAME has the worker `NAME`, or `NAME-0`, `NAME-1`, ... if it has several."""

    settings: SlurmSettings
    scheduler: str
    security: Security | None
    name: str = field(default_factory=lambda: f"locloc-{secrets.token_hex(3)}")
    submitted: dict[str, tuple[str, str]] = field(default_factory=dict)  # name: (kind, SLURM job id)
    joined: set[str] = field(default_factory=set)  # names of jobs whose workers have joined the scheduler
    failed: int = 0  # jobs in a row that ended before a worker joined
    numbers: Iterator[int] = field(default_factory=count)
    polled_at: float = 0.0  # monotonic time

    def scale(self, blocks_left: int, worker_names: Callable[[], list[str]]) -> None:
        """Submits or cancels jobs to match the blocks left. Cheap to call often: it polls SLURM every POLL_S seconds.

        Raises BuildError where jobs cannot be submitted, or end before their workers join.
        """
        if time.monotonic() < self.polled_at + POLL_S:
            return
        states = self._job_states()
        self.polled_at = time.monotonic()
        if states is None:
            return
        workers = worker_names()
        for name, (_, job_id) in list(self.submitted.items()):
            if any(worker == name or worker.startswith(f"{name}-") for worker in workers):
                self.joined.add(name)
                self.failed = 0
            elif job_id not in states:
                self.failed += name not in self.joined
                del self.submitted[name]
        if self.failed >= FAILED_JOBS:
            raise BuildError(
                f"{self.failed} SLURM jobs ended before their workers joined; their output (slurm-*.out, or in the "
                "--slurm file's log_directory) says why"
            )
        for kind in self.settings.kinds:
            jobs = {name: job_id for name, (job_kind, job_id) in self.submitted.items() if job_kind == kind}
            surplus = len(jobs) - self._target(kind, blocks_left)
            for _ in range(-surplus):
                self._submit(kind)
            pending = [name for name, job_id in jobs.items() if states.get(job_id) == "PENDING"]
            if surplus > 0 and pending:
                self._cancel(pending[-surplus:])

    def start(self, blocks: int) -> None:
        for kind in self.settings.kinds:
            for _ in range(self._target(kind, blocks)):
                self._submit(kind)

    def cancel_all(self) -> None:
        self._cancel(list(self.submitted))

    def _target(self, kind: str, blocks: int) -> int:
        job = self.settings.kinds[kind]
        return min(job.maximum_jobs, max(job.minimum_jobs, -(-blocks // (BLOCKS_A_PROCESS * job.processes))))

    def _submit(self, kind: str) -> None:
        name = f"{kind.lower()}-{next(self.numbers)}"
        text = job_script(
            self.settings.kinds[kind], kind, name, self.scheduler, self.name, self.settings.interface, self.security
        )
        with tempfile.NamedTemporaryFile("w", prefix=f"{name}-", suffix=".sh") as script:
            script.write(text)
            script.flush()
            done = _run_command("sbatch", "--parsable", script.name)
        if done.returncode:
            reason = next(iter(done.stderr.strip().splitlines()), f"exit {done.returncode}")
            raise BuildError(f"sbatch refused a {kind} job: {reason}; fix the --slurm file and run the same command")
        self.submitted[name] = kind, done.stdout.strip().split(";")[0]

    def _job_states(self) -> dict[str, str] | None:
        """The state of each unfinished job of the build, by job id; None where squeue fails."""
        done = _run_command("squeue", "--noheader", "--name", self.name, "--format", "%i %T")
        return None if done.returncode else dict(line.split() for line in done.stdout.splitlines() if line.strip())

    def _cancel(self, names: list[str]) -> None:
        ids = [self.submitted.pop(name)[1] for name in names]
        if ids:
            _run_command("scancel", *ids)


@contextmanager
def slurm_client(file: Path, blocks: int, on_message: Callable[[str], None]) -> Iterator[tuple[Client, Jobs]]:
    """A client whose scheduler is in this process, and its jobs, once a worker of each kind has joined.

    Waits without a limit for the queue. All jobs are cancelled at the end.
    """
    settings = load_slurm(file)
    for command in ("sbatch", "squeue", "scancel"):
        if shutil.which(command) is None:
            raise BuildError(
                f"--slurm: no {command} on this machine; run this on a login or compute node of the cluster"
            )
    silence_dask()
    with dask.config.set(_CONFIG):
        # Without encryption, anyone who can reach the port can run code as this user (docs/cluster.md).
        security = Security() if dask.config.get("distributed.comm.require-encryption") else None
        options: dict[str, Any] = {"protocol": "tls://" if security else "tcp://", "port": 0, "dashboard_address": ":0"}
        options |= {"security": security} if security else {}
        options |= {"interface": settings.interface} if settings.interface else {}
        scheduler = {"cls": Scheduler, "options": options}
        with (
            SpecCluster({}, scheduler, security=security, silence_logs=logging.CRITICAL) as cluster,
            Client(cluster, security=security) as client,
        ):
            jobs = Jobs(settings, cluster.scheduler_address, security)
            try:
                jobs.start(blocks)
                on_message(f"submitted {len(jobs.submitted)} SLURM jobs as {jobs.name}; waiting for the first to begin")
                _wait_for_each_kind(client, jobs, blocks)
                yield client, jobs
            finally:
                jobs.cancel_all()


def worker_names(client: Client) -> list[str]:
    return [str(worker["name"]) for worker in client.scheduler_info()["workers"].values()]


def _wait_for_each_kind(client: Client, jobs: Jobs, blocks: int) -> None:
    while True:
        workers = client.scheduler_info()["workers"].values()
        if all(any(kind in worker["resources"] for worker in workers) for kind in jobs.settings.kinds):
            return
        jobs.scale(blocks, lambda: worker_names(client))
        time.sleep(1)


def _run_command(*command: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"{command[0]} did not answer within 60 s")
