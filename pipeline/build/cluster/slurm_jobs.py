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
from collections.abc import Callable, Iterable, Iterator
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
from .slurm_settings import DEATH_TIMEOUT_S, SlurmSettings, job_script, load_slurm

POLL_S = 20.0  # between two calls of squeue, whose server all users of a cluster share
BLOCKS_A_PROCESS = 8  # for fewer blocks another job is not worth its start
FAILED_JOBS = 3  # in a row, without a worker: further ones would fail too
CANCEL_S = 20.0  # for a controller that does not answer when jobs are to be cancelled

# What sbatch prints where the controller is down, restarting or overloaded. Everything else is a refusal.
_NO_ANSWER = ("contact slurm controller", "timed out", "temporarily", "Zero Bytes", "Connection refused", "not answer")

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
    on_message: Callable[[str], None] = lambda line: None
    name: str = field(default_factory=lambda: f"locloc-{secrets.token_hex(3)}")
    submitted: dict[str, tuple[str, str]] = field(default_factory=dict)  # name: (kind, SLURM job id)
    began: set[str] = field(default_factory=set)  # names of jobs with a worker that was ready
    failed: int = 0  # jobs in a row that ended before a worker was ready
    numbers: Iterator[int] = field(default_factory=count)
    polled_at: float = 0.0  # monotonic time
    waiting: str = ""  # the last line about jobs that wait, or about SLURM

    def scale(self, blocks_left: int, ready: Iterable[str]) -> None:
        """Submits or cancels jobs to match the blocks left. Cheap to call often: it polls SLURM every POLL_S seconds.

        ready  names of the workers that were ever ready: one may come and go between two polls

        Raises BuildError where jobs are refused, or end before their workers are ready.
        """
        if time.monotonic() < self.polled_at + POLL_S:
            return
        states = self._job_states()
        self.polled_at = time.monotonic()
        if states is None:
            self._say_once(f"SLURM does not answer; asking again every {POLL_S:.0f} s")
            return
        self._forget_ended(states, list(ready))
        if self.failed >= FAILED_JOBS:
            raise BuildError(
                f"{self.failed} SLURM jobs ended before they were at work; their output (slurm-*.out, or in the "
                "--slurm file's log_directory) says why"
            )
        for kind in self.settings.kinds:
            jobs = {name: job_id for name, (job_kind, job_id) in self.submitted.items() if job_kind == kind}
            surplus = len(jobs) - self._target(kind, blocks_left)
            for _ in range(-surplus):
                if (no_answer := self._submit(kind)) is not None:
                    self._say_once(f"SLURM took no job ({no_answer}); asking again every {POLL_S:.0f} s")
                    return
            pending = [name for name, job_id in jobs.items() if states.get(job_id, ("", ""))[0] == "PENDING"]
            if surplus > 0 and pending:
                self._cancel(pending[-surplus:])
        self._say_why_none_runs(states)

    def _forget_ended(self, states: dict[str, tuple[str, str]], workers: list[str]) -> None:
        for name, (_, job_id) in list(self.submitted.items()):
            if name not in self.began and any(worker == name or worker.startswith(f"{name}-") for worker in workers):
                self.began.add(name)
                self.failed = 0
            if job_id not in states:
                self.failed += name not in self.began
                del self.submitted[name]
                self.on_message(f"SLURM job {job_id} ended" + ("" if name in self.began else " before it was at work"))

    def _say_why_none_runs(self, states: dict[str, tuple[str, str]]) -> None:
        reasons = sorted({reason for state, reason in states.values() if state == "PENDING"} - {"None"})
        if any(state != "PENDING" for state, _ in states.values()) or not reasons:
            self.waiting = ""
            return
        self._say_once(f"no SLURM job of this build runs now; SLURM's reason: {', '.join(reasons)}")

    def _say_once(self, line: str) -> None:
        if line != self.waiting:
            self.on_message(line)
        self.waiting = line

    def start(self, blocks: int) -> None:
        """Raises BuildError where SLURM does not answer or refuses a job."""
        for kind in self.settings.kinds:
            for _ in range(self._target(kind, blocks)):
                if (no_answer := self._submit(kind)) is not None:
                    raise BuildError(f"--slurm: {no_answer}; run the same command when SLURM answers")

    def cancel_all(self) -> None:
        """Cancels all unfinished jobs of the build, also one that SLURM took without answering."""
        end = time.monotonic() + CANCEL_S
        while True:
            states = self._job_states()
            if states is not None and (not states or not _run_command("scancel", *states).returncode):
                return
            if states is None and not self.submitted:
                return
            if time.monotonic() > end:
                self.on_message(
                    f"SLURM does not answer, and jobs could not be cancelled: `scancel --name {self.name}` does it; "
                    f"else they end {DEATH_TIMEOUT_S // 60} minutes after their start"
                )
                return
            time.sleep(1)

    def _target(self, kind: str, blocks: int) -> int:
        job = self.settings.kinds[kind]
        return min(job.maximum_jobs, max(job.minimum_jobs, -(-blocks // (BLOCKS_A_PROCESS * job.processes))))

    def _submit(self, kind: str) -> str | None:
        """Submits a job. Returns SLURM's words where its controller does not answer, else None.

        Raises BuildError where the job is refused.
        """
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
            if any(words in done.stderr for words in _NO_ANSWER):
                return reason
            raise BuildError(f"sbatch refused a {kind} job: {reason}; fix the --slurm file and run the same command")
        self.submitted[name] = kind, done.stdout.strip().split(";")[0]
        return None

    def _job_states(self) -> dict[str, tuple[str, str]] | None:
        """(state, reason) of each unfinished job of the build, by job id; None where squeue fails."""
        done = _run_command("squeue", "--noheader", "--name", self.name, "--format", "%i %T %r")
        if done.returncode:
            return None
        parts = [line.split(maxsplit=2) for line in done.stdout.splitlines() if line.strip()]
        return {job_id: (state, "".join(reason)) for job_id, state, *reason in parts}

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
            jobs = Jobs(settings, cluster.scheduler_address, security, on_message)
            try:
                jobs.start(blocks)
                number = len(jobs.submitted)
                on_message(
                    f"submitted {number} SLURM job{'s' * (number > 1)} as {jobs.name}; waiting for "
                    + ("the first to begin" if number > 1 else "it to begin")
                )
                _wait_for_each_kind(client, jobs, blocks)
                yield client, jobs
            finally:
                jobs.cancel_all()


def _wait_for_each_kind(client: Client, jobs: Jobs, blocks: int) -> None:
    while True:
        workers = client.scheduler_info(n_workers=-1)["workers"].values()
        if all(any(kind in worker["resources"] for worker in workers) for kind in jobs.settings.kinds):
            return
        jobs.scale(blocks, [str(worker["name"]) for worker in workers])
        time.sleep(1)


def _run_command(*command: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"{command[0]} did not answer within 60 s")
