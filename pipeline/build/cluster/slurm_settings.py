"""`--slurm FILE`: the settings of SLURM jobs, from TOML, and their job scripts."""

import importlib.util
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distributed.security import Security
from pydantic import Field

from ...config import Settings, read_toml, validate_settings
from ...errors import BuildError

DEATH_TIMEOUT_S = 300  # a worker without its coordinator ends its job after that; it is long enough to load a model
CONTACT_S = 20  # a job that begins when its coordinator is gone ends after that


class JobSettings(Settings):
    """One kind of job."""

    cores: int = Field(1, ge=1, description="CPU cores a job. A GPU job decodes with all but one of them.")
    memory_gib: float = Field(gt=0, description="Memory a job; about 2 GiB a worker process is enough.")
    walltime_min: int = Field(ge=5, description="A job's time limit. Its workers leave a little earlier.")
    partition: str | None = Field(None, description="sbatch's --partition.")
    account: str | None = Field(None, description="sbatch's --account.")
    job_extra_directives: tuple[str, ...] = Field((), description='More lines of #SBATCH, like "--gres=gpu:1".')
    job_script_prologue: tuple[str, ...] = Field((), description="Shell lines before the worker starts: modules, env.")
    python: str | None = Field(None, description="The Python of the nodes; by default the one that submits.")
    local_directory: str = Field("/tmp", description="A folder of each node for what Dask puts aside.")
    log_directory: str | None = Field(None, description="A shared folder for the jobs' output.")
    minimum_jobs: int = Field(1, ge=1, description="Jobs to have, however little is left to do.")
    maximum_jobs: int = Field(1, ge=1, description="Jobs to have while there is enough to do for each.")

    @property
    def processes(self) -> int:
        return 1

    @property
    def lifetime_s(self) -> tuple[int, int]:
        """The seconds after which a worker leaves, and their random spread: all leave before the time limit."""
        margin = min(300, walltime_s // 10) if (walltime_s := self.walltime_min * 60) else 0
        return walltime_s - 3 * margin // 2, margin // 2


class CpuJobSettings(JobSettings):
    worker_processes: int = Field(1, ge=1, description="Worker processes a job, at most one a core.")

    @property
    def processes(self) -> int:
        return self.worker_processes


class GpuJobSettings(JobSettings):
    """A job with one GPU and one worker process, since all processes of a job see the same devices."""


class SlurmSettings(Settings):
    """`attend` runs in GPU jobs and `refine` in CPU jobs; without one kind, both run in the other."""

    interface: str | None = Field(None, description="Network interface of this machine and the nodes, like ib0.")
    cpu: CpuJobSettings | None = None
    gpu: GpuJobSettings | None = None

    @property
    def kinds(self) -> dict[str, JobSettings]:
        return {kind: job for kind, job in (("CPU", self.cpu), ("GPU", self.gpu)) if job is not None}


def load_slurm(file: Path) -> SlurmSettings:
    """Reads and checks a file. Raises BuildError with the name of an invalid setting."""
    title = f"--slurm {file}"
    settings = validate_settings(SlurmSettings, read_toml(file, title, BuildError), title, BuildError)
    if not settings.kinds:
        raise BuildError(f"{title}: neither [cpu] nor [gpu]; docs/cluster.md has an example")
    for kind, job in settings.kinds.items():
        if job.maximum_jobs < job.minimum_jobs:
            raise BuildError(f"{title}: {kind.lower()}.maximum_jobs is less than its minimum_jobs")
        if job.processes > job.cores:
            raise BuildError(f"{title}: {kind.lower()}.worker_processes is more than its cores")
    return settings


def job_script(
    job: JobSettings,
    kind: str,
    name: str,
    scheduler: str,
    job_name: str,
    interface: str | None = None,
    security: Security | None = None,
) -> str:
    """The script for sbatch. Raises BuildError without dask-jobqueue."""
    if importlib.util.find_spec("dask_jobqueue") is None:
        raise BuildError("--slurm needs dask-jobqueue: pip install locloc[cluster]")
    with _handlers_kept():
        from dask_jobqueue.slurm import SLURMJob

    lifetime_s, stagger_s = job.lifetime_s
    return SLURMJob(
        scheduler,
        name,
        queue=job.partition,
        account=job.account,
        walltime=str(job.walltime_min),
        job_cpu=job.cores,
        cores=job.processes,  # Dask makes them threads: one for each process
        processes=job.processes,
        memory=f"{job.memory_gib} GiB",
        job_name=job_name,
        python=job.python,
        interface=interface,
        security=security,
        death_timeout=DEATH_TIMEOUT_S,
        local_directory=job.local_directory,
        log_directory=job.log_directory,
        job_extra_directives=list(job.job_extra_directives),
        job_script_prologue=[*job.job_script_prologue, *_end_without(scheduler)],
        worker_extra_args=[
            *("--resources", f"{kind}=1"),
            *("--lifetime", f"{lifetime_s}s", "--lifetime-stagger", f"{stagger_s}s"),
            "--no-dashboard",
        ],
    ).job_script()


def _end_without(scheduler: str) -> list[str]:
    """Shell lines that end a job which waited in the queue while its coordinator was killed."""
    host, _, port = scheduler.rpartition("://")[2].rpartition(":")
    connect = f"until exec 3<>/dev/tcp/{host.strip('[]')}/{port}; do sleep 1; done"
    return [
        f"timeout {CONTACT_S} bash -c '{connect}' 2> /dev/null || {{",
        f"    echo 'The coordinator at {scheduler} does not answer: this job ends.'",
        "    exit 1",
        "}",
    ]


@contextmanager
def _handlers_kept() -> Iterator[None]:
    """Restores the handlers of signals: dask-jobqueue's import sets its own, which end a program with exit code 0."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
