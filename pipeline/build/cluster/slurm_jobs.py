"""SLURM jobs of a build: submitted, counted, replaced and cancelled by the coordinator, whose scheduler they join.

Dask's own adaptive clusters know one kind of worker and no resources; here the blocks that are left decide, and a job
that has begun is never cancelled before the end. What ends (its time limit, a node that failed) is submitted again.
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

import dask
from distributed import Client, Scheduler, SpecCluster
from distributed.security import Security

from ...errors import BuildError
from .cluster import silence_dask
from .slurm_settings import SlurmSettings, job_script, load_slurm

QUEUE_S = 20.0  # between two looks at the queue, which all users of a cluster share
BLOCKS_A_PROCESS = 8  # for less work a further job is not worth its start
FAILED_JOBS = 3  # in a row, without a worker: the next would fail too

_CONFIG = {
    "distributed.scheduler.allowed-failures": 1,  # as on this machine
    "distributed.scheduler.no-workers-timeout": None,  # jobs may wait for hours
}


@dataclass
class Jobs:
    """The jobs of one run, by worker name; a job of several processes has workers `NAME-0`, `NAME-1`, ..."""

    settings: SlurmSettings
    scheduler: str
    security: Security | None
    name: str = field(default_factory=lambda: f"locloc-{secrets.token_hex(3)}")
    submitted: dict[str, tuple[str, str]] = field(default_factory=dict)  # worker name: (kind, job id)
    came: set[str] = field(default_factory=set)  # worker names of jobs that were seen at work
    failed: int = 0  # jobs in a row that ended before they were
    numbers: Iterator[int] = field(default_factory=count)
    looked_at: float = 0.0  # monotonic

    def follow(self, blocks_left: int, worker_names: Callable[[], list[str]]) -> None:
        """Brings the number of jobs to what `blocks_left` ask for. Cheap to call often: it looks every 20 s.

        Raises BuildError where jobs cannot be submitted, or end before their workers come.
        """
        if time.monotonic() < self.looked_at + QUEUE_S:
            return
        states = self._queue()
        self.looked_at = time.monotonic()
        if states is None:
            return
        workers = worker_names()
        for name, (_, job_id) in list(self.submitted.items()):
            if any(worker == name or worker.startswith(f"{name}-") for worker in workers):
                self.came.add(name)
                self.failed = 0
            elif job_id not in states:
                self.failed += name not in self.came
                del self.submitted[name]
        if self.failed >= FAILED_JOBS:
            raise BuildError(
                f"{self.failed} SLURM jobs ended before their workers came; their output (slurm-*.out, or in the "
                "--slurm file's log_directory) says why"
            )
        for kind in self.settings.kinds:
            mine = {name: job_id for name, (its, job_id) in self.submitted.items() if its == kind}
            surplus = len(mine) - self._target(kind, blocks_left)
            for _ in range(-surplus):
                self._submit(kind)
            pending = [name for name, job_id in mine.items() if states.get(job_id) == "PENDING"]
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
            done = _call("sbatch", "--parsable", script.name)
        if done.returncode:
            reason = next(iter(done.stderr.strip().splitlines()), f"exit {done.returncode}")
            raise BuildError(f"sbatch refused a {kind} job: {reason}; mend the --slurm file and run the same command")
        self.submitted[name] = kind, done.stdout.strip().split(";")[0]

    def _queue(self) -> dict[str, str] | None:
        """State of each job of the run that has not ended, by its id; None where SLURM does not answer."""
        done = _call("squeue", "--noheader", "--name", self.name, "--format", "%i %T")
        return None if done.returncode else dict(line.split() for line in done.stdout.splitlines() if line.strip())

    def _cancel(self, names: list[str]) -> None:
        ids = [self.submitted.pop(name)[1] for name in names]
        if ids:
            _call("scancel", *ids)


@contextmanager
def slurm_client(file: Path, blocks: int, say: Callable[[str], None]) -> Iterator[tuple[Client, Jobs]]:
    """A client whose scheduler is in this process, and the jobs that join it, once a worker of each kind has come.

    Waits as long as the queue does. All jobs are cancelled at the end.
    """
    settings = load_slurm(file)
    for command in ("sbatch", "squeue", "scancel"):
        if shutil.which(command) is None:
            raise BuildError(
                f"--slurm: no {command} on this machine; run this on a login or compute node of the cluster"
            )
    silence_dask()
    with dask.config.set(_CONFIG):
        # Without encryption, whoever reaches the port may run code as this user (docs/cluster.md).
        security = Security() if dask.config.get("distributed.comm.require-encryption") else None
        options = {"protocol": "tls://" if security else "tcp://", "port": 0, "dashboard_address": ":0"}
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
                say(f"submitted {len(jobs.submitted)} SLURM jobs as {jobs.name}; waiting for the first to begin")
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
        jobs.follow(blocks, lambda: worker_names(client))
        time.sleep(1)


def _call(*command: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"{command[0]} did not answer within 60 s")
