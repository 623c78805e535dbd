"""Job arrays of `locloc train` on a real SLURM: each element is a run of two tasks that `srun` starts.

Run with `-s` to see the times.
"""

import shlex
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ..end_to_end.conftest import command
from ..end_to_end.train.conftest import losses, scenes, version
from ..end_to_end.train.rank import CHANGES
from .conftest import wait_for
from .real_slurm import RealSlurm, real_slurm
from .slurm_build import note

__all__ = ["real_slurm", "scenes", "version"]

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

# The nodes of the test's SLURM have names that no network knows.
ARRAY = """\
#!/bin/bash
#SBATCH --array=0-1
#SBATCH --ntasks=2
#SBATCH --mem=6G
#SBATCH --time=30
#SBATCH --output={folder}/%a.out
export MASTER_ADDR=127.0.0.1
exec srun {command} --out {folder}/run-$SLURM_ARRAY_TASK_ID {more}
"""


@pytest.fixture
def submit(real_slurm: RealSlurm, version: str, tmp_path: Path) -> Callable[..., str]:
    """`submit(*changes, more="...")` submits an array of two runs; its job id."""

    def submit(*changes: str, more: str = "") -> str:
        sets = [part for change in changes for part in ("--set", change)]
        training = command("train", version, "--accelerator", "cpu", "--workers", 0, "--stage", "generator", *sets)
        script = tmp_path / "array.sh"
        script.write_text(ARRAY.format(folder=tmp_path, command=shlex.join(training), more=more))
        job = real_slurm.call("sbatch", "--parsable", str(script)).strip()
        assert job.isdecimal()
        return job

    return submit


def said(folder: Path) -> str:
    return "".join((folder / f"{element}.out").read_text() for element in (0, 1))


def test_elements_of_an_array_train_side_by_side(real_slurm: RealSlurm, submit: Callable[..., str], tmp_path: Path):
    """Two runs on one machine at the same time do not meet each other's tasks, and give the same losses."""
    begun = time.monotonic()
    submit(*(change for change in CHANGES if change.startswith("generator")))
    wait_for(lambda: not real_slurm.jobs(), 300, "the end of the array")
    note("two runs of two tasks", time.monotonic() - begun)
    one, other = (losses(tmp_path / f"run-{element}", "generator") for element in (0, 1))
    assert len(one) == 6 and one == pytest.approx(other, abs=2e-4)
    assert "Traceback" not in said(tmp_path) and "error:" not in said(tmp_path)


def test_a_cancelled_element_ends_alone_and_goes_on_with_resume(
    real_slurm: RealSlurm, submit: Callable[..., str], tmp_path: Path
):
    runs = [tmp_path / f"run-{element}" for element in (0, 1)]

    def steps(run: Path) -> int:
        return len(losses(run, "generator")) if (run / "generator" / "metrics.jsonl").is_file() else 0

    changes = ("generator.fit.batch_size=8", "generator.fit.epochs=400")
    job = submit(*changes)
    wait_for(lambda: min(map(steps, runs)) >= 3 or not real_slurm.jobs(), 300, "steps of both runs")
    begun = time.monotonic()
    real_slurm.call("scancel", f"{job}_1")
    wait_for(lambda: len(real_slurm.jobs()) == 1, 60, "the end of the cancelled element")
    note("a cancelled element, until its tasks had ended", time.monotonic() - begun)
    stopped, others = steps(runs[1]), steps(runs[0])
    wait_for(lambda: steps(runs[0]) > others + 3, 60, "further steps of the other run")
    real_slurm.call("scancel", job)
    wait_for(lambda: not real_slurm.jobs(), 60, "the end of the array")

    begun = time.monotonic()
    job = submit(*changes, more="--resume")
    wait_for(lambda: steps(runs[1]) > stopped or not real_slurm.jobs(), 300, "a step of the resumed run")
    note("the same array with --resume, until a further step", time.monotonic() - begun)
    real_slurm.call("scancel", job)
    wait_for(lambda: not real_slurm.jobs(), 60, "the end of the array")
    both = min(steps(run) for run in runs)
    one, other = (losses(run, "generator")[:both] for run in runs)
    assert both > stopped >= 3 and one == pytest.approx(other, abs=2e-4)
    assert "Traceback" not in said(tmp_path)
