"""Builds on a real SLURM (real_slurm.py): jobs that end at any time, a controller that does, queues that start nothing.

No build may print a traceback or leave a job behind. Run with `-s` to see the times.
"""

import json
import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from locloc.pipeline.store import open_version

from ..end_to_end.conftest import command, everything, make_images
from ..end_to_end.train.conftest import scenes, version
from .conftest import SMALL_RECIPE, wait_for
from .faults.nursery import HOOK
from .real_slurm import RealSlurm, real_slurm

__all__ = ["real_slurm", "scenes", "version"]

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

IMAGES = 512  # eight blocks, enough for one job
DECODE_S = 0.03  # of an image: a block takes two seconds and more


@dataclass
class Build:
    """A running `locloc masks build --slurm`."""

    process: subprocess.Popen
    store: Path
    err: Path

    def events(self, kind: str) -> list[dict]:
        files = sorted((self.store / "logs").glob("*.jsonl"))
        lines = [line for file in files for line in file.read_text().splitlines(keepends=True)]
        return [event for line in lines if line.endswith("\n") and (event := json.loads(line))["event"] == kind]

    def said(self) -> str:
        return self.err.read_text()

    def wait_for_blocks(self, more: int) -> float:
        """Waits for so many more finished blocks; the seconds that they took."""
        before, begun = len(self.events("block")), time.monotonic()
        wait_for(lambda: len(self.events("block")) >= before + more or self.process.poll() is not None, 180, "blocks")
        assert len(self.events("block")) >= before + more, self.said()
        return time.monotonic() - begun

    def end(self, code: int, timeout_s: float = 180) -> str:
        """What it has printed; asserts the exit code and that no line is a traceback's."""
        assert self.process.wait(timeout_s) == code, self.said()
        said = self.said()
        assert "Traceback" not in said and "Error:" not in said and "Future" not in said, said
        assert not re.search(r"\b0 workers\b", said), said
        return said


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_images(tmp_path_factory.mktemp("photos"), IMAGES)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("recipe") / "small.toml"
    file.write_text(SMALL_RECIPE)
    return file


@pytest.fixture(scope="module")
def undisturbed(photos: Path, recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    store = tmp_path_factory.mktemp("undisturbed") / "masks.store"
    arguments = ("masks", "build", photos, "--store", store, "--recipe", recipe, "--weights", "random", "--workers", 1)
    subprocess.run(command(*arguments), check=True, capture_output=True)
    return everything(open_version(f"{store}@v1"))


@pytest.fixture
def start(real_slurm: RealSlurm, photos: Path, recipe: Path, tmp_path: Path):
    """`start("cpu settings")` starts a build in jobs of one slow worker each."""
    started: list[Build] = []

    def start(settings: str = "", env: dict[str, str] | None = None) -> Build:
        file = tmp_path / "slurm.toml"
        prologue = [f"export PYTHONPATH={HOOK}", f"export LOCLOC_FAULTS='{json.dumps({'decode_s': DECODE_S})}'"]
        file.write_text(
            'interface = "lo"\n[cpu]\nmemory_gib = 3\nwalltime_min = 60\n'
            f'local_directory = "{tmp_path}"\nlog_directory = "{tmp_path / "logs"}"\n'
            f"job_script_prologue = {json.dumps(prologue)}\n{settings}\n"
        )
        err = tmp_path / f"{len(started)}.err"
        quick = {"locloc.pipeline.build.cluster.slurm_jobs": {"POLL_S": 0.5, "CANCEL_S": 2.0}}
        hook = {"PYTHONPATH": str(HOOK), "LOCLOC_FAULTS": json.dumps({"set": quick})}
        with err.open("wb") as out:
            process = subprocess.Popen(
                command(
                    "masks", "build", photos, "--store", tmp_path / "masks.store", "--recipe", recipe, "--weights",
                    "random", "--slurm", file, "--checkpoint-s", 0.5,
                ),
                stdout=out, stderr=out, cwd=tmp_path, env=os.environ | real_slurm.env | hook | (env or {}),
            )  # fmt: skip
        started.append(Build(process, tmp_path / "masks.store", err))
        return started[-1]

    yield start
    for build in started:
        build.process.kill()
        build.process.wait()


def running(slurm: RealSlurm, besides: set[str] = frozenset()) -> str:
    """Waits for a running job that is none of these."""
    found: list[str] = []

    def look() -> bool:
        found[:] = [job for job, state in slurm.jobs().items() if state == "RUNNING" and job not in besides]
        return bool(found)

    wait_for(look, 120, "a running job")
    return found[0]


def assert_as_undisturbed(build: Build, undisturbed: dict[str, np.ndarray]) -> None:
    found = everything(open_version(f"{build.store}@v1"))
    differing = [name for name in undisturbed if not np.array_equal(found[name], undisturbed[name])]
    assert found.keys() == undisturbed.keys() and not differing


def note(what: str, seconds: float) -> None:
    print(f"{what}: {seconds:.1f} s")


def test_a_build_goes_on_when_its_job_ends(real_slurm: RealSlurm, start: Callable[..., Build], undisturbed):
    """A job cancelled while its worker starts and while it works, ended by its time limit, its node drained, and the
    controller killed and started again: each time another job takes over."""
    build = start()
    starting = running(real_slurm)
    time.sleep(1.0)  # Python imports Dask and torch
    real_slurm.call("scancel", starting)
    cancelled = running(real_slurm, {starting})
    note("first block after a job cancelled at its start", build.wait_for_blocks(1))
    real_slurm.call("scancel", cancelled)
    note("next block after a job cancelled at work", build.wait_for_blocks(1))

    expired = running(real_slurm, {starting, cancelled})
    real_slurm.call("scontrol", "update", f"JobId={expired}", "EndTime=now")
    wait_for(lambda: real_slurm.jobs().get(expired) != "RUNNING", 90, "the time limit, which SLURM checks now and then")
    note("next block after the time limit", build.wait_for_blocks(1))

    at_work = running(real_slurm, {starting, cancelled, expired})
    node = real_slurm.nodes()[at_work]
    real_slurm.call("scontrol", "update", f"NodeName={node}", "State=drain", "Reason=test")
    try:
        real_slurm.stop_controller()
        time.sleep(1)
        real_slurm.start_controller()
        assert "drain" in real_slurm.call("sinfo", "-h", "-n", node, "-p", "batch", "-o", "%T")
        wait_for(lambda: not real_slurm.call("scancel", at_work) and at_work not in real_slurm.jobs(), 60, "its end")
        note("last blocks after a drained node and a new controller", build.wait_for_blocks(1))
        said = build.end(0)
    finally:
        real_slurm.call("scontrol", "update", f"NodeName={node}", "State=resume")
    assert real_slurm.jobs() == {}
    assert f"SLURM job {starting} ended before it was at work" in said
    for job in (cancelled, expired, at_work):
        assert f"SLURM job {job} ended\n" in said
    assert_as_undisturbed(build, undisturbed)


def test_jobs_of_a_killed_coordinator_end_by_themselves(
    real_slurm: RealSlurm, start: Callable[..., Build], undisturbed
):
    """Those at work, and one that begins when its coordinator is gone. The same command then does the rest."""
    build = start("cores = 8\nminimum_jobs = 3\nmaximum_jobs = 3")
    build.wait_for_blocks(1)
    states = real_slurm.jobs()
    assert sorted(states.values()) == ["PENDING", "RUNNING", "RUNNING"]  # two nodes of 8 CPUs; never more than 3 jobs
    (pending,) = [job for job, state in states.items() if state == "PENDING"]
    build.process.kill()
    begun = time.monotonic()
    wait_for(lambda: pending not in real_slurm.jobs() or len(real_slurm.jobs()) < 3, 60, "the end of a job")
    note("first job ended after kill -9 of its coordinator", time.monotonic() - begun)
    wait_for(lambda: not real_slurm.jobs(), 180, "the end of all jobs")
    note("the last one ended, which had waited for the others", time.monotonic() - begun)

    build = start()
    build.end(0)
    assert real_slurm.jobs() == {}
    assert_as_undisturbed(build, undisturbed)


def test_a_queue_that_starts_nothing_is_said_and_left(real_slurm: RealSlurm, start: Callable[..., Build]):
    build = start('partition = "closed"')
    line = "no SLURM job of this build runs now; SLURM's reason: PartitionDown"
    wait_for(lambda: line in build.said() or build.process.poll() is not None, 180, "the reason")
    begun = time.monotonic()
    build.process.send_signal(signal.SIGINT)
    said = build.end(130, 60)
    note("Ctrl-C to the end", time.monotonic() - begun)
    assert said.count(line) == 1 and said.splitlines()[-1].startswith("error: interrupted")
    assert real_slurm.jobs() == {}


def test_a_refused_job_and_a_controller_that_is_down_are_one_line(
    real_slurm: RealSlurm, start: Callable[..., Build], tmp_path: Path
):
    said = start('partition = "nowhere"').end(1)
    assert re.search(r"error: sbatch refused a CPU job: .*invalid partition.*; fix the --slurm file", said)
    config = (real_slurm.folder / "slurm.conf").read_text()
    elsewhere = tmp_path / "slurm.conf"
    elsewhere.write_text(re.sub(r"SlurmctldPort=\d+", "SlurmctldPort=1", config))
    said = start(env={"SLURM_CONF": str(elsewhere)}).end(1)
    assert re.search(r"error: --slurm: .*ontact slurm controller.*; run the same command when SLURM", said)
    assert real_slurm.jobs() == {}


def test_an_array_of_trainings_under_srun(real_slurm: RealSlurm, version: str, tmp_path: Path):
    """Three jobs of two tasks that train as one: the first to its end, in the second one task is killed, and the third
    is cancelled. What is left of them ends in time, with one line."""
    script = tmp_path / "train.sh"
    locloc = " ".join(shlex.quote(part) for part in command("train", version))
    script.write_text(
        f"""#!/bin/bash
#SBATCH --array=0-2 --ntasks=2 --nodes=1 --mem=4G --output={tmp_path}/%a.log
epochs=(1 500 500)
srun {locloc} --out {tmp_path}/run-$SLURM_ARRAY_TASK_ID --accelerator cpu --workers 0 --stage generator \\
    --set generator.fit.epochs=${{epochs[$SLURM_ARRAY_TASK_ID]}} --set generator.fit.batch_size=8
echo "srun exit $?"
"""
    )
    (job,) = real_slurm.call("sbatch", "--parsable", str(script)).split()
    logs = [tmp_path / f"{element}.log" for element in range(3)]
    at_work = "steps, loss"
    wait_for(lambda: all(log.exists() and at_work in log.read_text() for log in logs[1:]), 300, "the first steps")
    begun = time.monotonic()
    real_slurm.call("scancel", "--signal=TERM", f"{job}_2")
    os.kill(task(str(tmp_path / "run-1"), rank=1), signal.SIGKILL)
    wait_for(lambda: "srun exit" in logs[1].read_text(), 60, "the end after the death of a task")
    note("a training after kill -9 of one of its tasks", time.monotonic() - begun)
    wait_for(lambda: "srun exit" in logs[2].read_text(), 60, "the end after scancel")
    wait_for(lambda: not real_slurm.jobs(), 300, "the other training")
    first, killed, cancelled = (log.read_text() for log in logs)
    assert "Traceback" not in first + killed + cancelled, first + killed + cancelled
    assert "srun exit 0" in first, first
    errors = [line for line in killed.splitlines() if line.startswith("error: ")]  # "srun: error: ..." are SLURM's own
    assert len(errors) == 1 and "--resume continues" in errors[0], killed
    assert "srun exit 130" in cancelled, cancelled
    assert (tmp_path / "run-0" / "generator" / "last.safetensors").exists()
    assert (tmp_path / "run-2" / "generator" / "state.pt").exists()


def task(argument: str, rank: int) -> int:
    """The process id of a task of srun whose command has this argument."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (folder / "cmdline").read_text().split("\0")
            ranks = [
                part for part in (folder / "environ").read_bytes().split(b"\0") if part.startswith(b"SLURM_PROCID=")
            ]
            if argument in arguments and "python" in arguments[0] and ranks == [b"SLURM_PROCID=%d" % rank]:
                return int(folder.name)
        except OSError:
            continue
    raise AssertionError(f"no task {rank} of {argument}")
