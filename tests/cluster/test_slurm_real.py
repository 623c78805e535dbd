"""Builds on a real SLURM (real_slurm.py): jobs that end at any time, a controller that does, queues that start nothing.

No build may print a traceback or leave a job behind. Run with `-s` to see the times.
"""

import json
import os
import re
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
from .conftest import SMALL_RECIPE, wait_for
from .faults.nursery import HOOK
from .real_slurm import RealSlurm, real_slurm

__all__ = ["real_slurm"]

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
    assert "could not be cancelled" not in said  # there are none
    assert real_slurm.jobs() == {}
