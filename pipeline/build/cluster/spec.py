"""Which workers a build uses. Imports no dask, since every command imports it."""

from dataclasses import dataclass, field
from numbers import Integral
from pathlib import Path

from ...errors import BuildError
from ...io.machine import usable_cores


@dataclass(frozen=True)
class ClusterSpec:
    """Workers on this machine, at a Dask scheduler, or in SLURM jobs.

    scheduler  address of a running Dask scheduler
    slurm      TOML file of the jobs to submit (`slurm_settings.py`)

    With either, `workers` and `gpus` are ignored. Raises BuildError where workers is no integer from 1 on, or gpus
    neither None nor an integer from 0 on.
    """

    workers: int = field(default_factory=usable_cores)  # CPU processes on this machine
    gpus: int | None = None  # GPUs of this machine, a process each; None: all that are visible
    scheduler: str | None = None
    slurm: Path | None = None

    def __post_init__(self) -> None:
        if not self.is_local:
            return
        if not isinstance(self.workers, Integral) or self.workers < 1:
            raise BuildError(f"workers={self.workers!r} is no number of processes, 1 or more")
        if self.gpus is not None and (not isinstance(self.gpus, Integral) or self.gpus < 0):
            raise BuildError(f"gpus={self.gpus!r} is no number of GPUs, 0 or more")

    @property
    def is_local(self) -> bool:
        return self.scheduler is None and self.slurm is None
