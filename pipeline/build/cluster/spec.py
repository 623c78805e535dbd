"""Which workers a build uses. Imports no dask, since every command imports it."""

from dataclasses import dataclass, field
from pathlib import Path

from ...io.machine import usable_cores


@dataclass(frozen=True)
class ClusterSpec:
    """Workers on this machine, at a Dask scheduler, or in SLURM jobs.

    scheduler  address of a running Dask scheduler
    slurm      TOML file of the jobs to submit (`slurm_settings.py`)

    With either, `workers` and `gpus` are ignored.
    """

    workers: int = field(default_factory=usable_cores)  # CPU processes on this machine
    gpus: int | None = None  # GPUs of this machine, a process each; None: all that are visible
    scheduler: str | None = None
    slurm: Path | None = None

    @property
    def is_local(self) -> bool:
        return self.scheduler is None and self.slurm is None
