"""Where a build's workers are, as the command line says it. Imports no dask, so that every command may have it."""

from dataclasses import dataclass, field
from pathlib import Path

from ...io.machine import usable_cores


@dataclass(frozen=True)
class ClusterSpec:
    """On this machine, unless `scheduler` or `slurm` says otherwise.

    `scheduler` is the address of a Dask scheduler that runs already; `slurm` a TOML file that says what jobs to submit
    (`slurm_settings.py`). For both, `workers` and `gpus` mean nothing: what is there is used.
    """

    workers: int = field(default_factory=usable_cores)  # CPU processes
    gpus: int | None = None  # GPUs, a process each; None: all that are visible; 0: none
    scheduler: str | None = None
    slurm: Path | None = None
