"""Builds on a real SLURM (real_slurm.py): jobs that end at any time, a controller that does, queues that start nothing.

No build may print a traceback or leave a job behind. Run with `-s` to see the times.
"""

import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import wait_for
from .real_slurm import RealSlurm, real_slurm
from .slurm_build import Build, assert_as_undisturbed, note, photos, recipe, running, start, undisturbed

__all__ = ["photos", "real_slurm", "recipe", "start", "undisturbed"]

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

ONE_AT_A_TIME = 'cores = 8\njob_extra_directives = ["--nodelist=n1"]'  # all of a node's CPUs


def test_a_build_goes_on_when_its_job_ends(real_slurm: RealSlurm, start: Callable[..., Build], undisturbed):
    """A job cancelled while its worker starts and while it works, ended by its time limit, its node drained, and the
    controller killed and started again: each time another job takes over."""
    build = start()
    build.hold()
    starting = running(real_slurm)
    time.sleep(1.0)  # Python imports Dask and torch
    real_slurm.call("scancel", starting)
    cancelled = running(real_slurm, {starting})
    note("first block after a job cancelled at its start", build.wait_for_a_block())
    real_slurm.call("scancel", cancelled)
    note("next block after a job cancelled at work", build.wait_for_a_block())

    expired = running(real_slurm, {starting, cancelled})
    real_slurm.call("scontrol", "update", f"JobId={expired}", "EndTime=now")
    wait_for(lambda: real_slurm.jobs().get(expired) != "RUNNING", 90, "the time limit, which SLURM checks now and then")
    note("next block after the time limit", build.wait_for_a_block())

    at_work = running(real_slurm, {starting, cancelled, expired})
    node = real_slurm.nodes()[at_work]
    real_slurm.call("scontrol", "update", f"NodeName={node}", "State=drain", "Reason=test")
    try:
        real_slurm.stop_controller()
        time.sleep(1)
        real_slurm.start_controller()
        assert "drain" in real_slurm.call("sinfo", "-h", "-n", node, "-p", "batch", "-o", "%T")
        wait_for(lambda: not real_slurm.call("scancel", at_work) and at_work not in real_slurm.jobs(), 60, "its end")
        note("next block after a drained node and a new controller", build.wait_for_a_block())
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
    """One job at work and one in the queue, which has no room: both are gone within the five minutes that
    docs/cluster.md promises, and the same command goes on where the build was."""
    build = start(f"{ONE_AT_A_TIME}\nminimum_jobs = 2\nmaximum_jobs = 2")
    build.hold()
    build.wait_for_a_block()
    assert sorted(real_slurm.jobs().values()) == ["PENDING", "RUNNING"]
    build.process.kill()
    begun = time.monotonic()
    build.go()
    wait_for(lambda: not real_slurm.jobs(), 300, "the end of all jobs")
    note("coordinator killed, until no job was left", time.monotonic() - begun)
    done = len(build.events("block"))
    begun, again = time.monotonic(), start()
    wait_for(lambda: len(again.events("block")) > done or again.process.poll() is not None, 180, "a block")
    note("the same command, until its first block", time.monotonic() - begun)
    again.end(0)
    assert real_slurm.jobs() == {}
    assert "Traceback" not in build.said()
    assert_as_undisturbed(again, undisturbed)


def test_no_more_jobs_than_allowed(real_slurm: RealSlurm, start: Callable[..., Build], undisturbed):
    """The blocks would be worth eight jobs. One of the two that are allowed is cancelled: two again, never three."""
    build = start(f"{ONE_AT_A_TIME}\nmaximum_jobs = 2", BLOCKS_A_PROCESS=1)
    build.hold()
    running(real_slurm)
    wait_for(lambda: len(real_slurm.jobs()) == 2, 60, "two jobs")
    (waiting,) = (job for job, state in real_slurm.jobs().items() if state != "RUNNING")
    counts, begun = set(), time.monotonic()
    real_slurm.call("scancel", waiting)
    while waiting in (jobs := real_slurm.jobs()) or len(jobs) < 2:
        counts.add(len(jobs))
        assert time.monotonic() < begun + 60, "no job in the place of the cancelled one"
    note("one of two jobs cancelled, until there was another", time.monotonic() - begun)
    build.go()
    while build.process.poll() is None:
        counts.add(len(real_slurm.jobs()))
        time.sleep(0.2)
    build.end(0)
    assert max(counts) == 2 and real_slurm.jobs() == {}
    assert_as_undisturbed(build, undisturbed)


@pytest.mark.parametrize(("partition", "reason"), [("closed", "PartitionDown"), ("short", "PartitionTimeLimit")])
def test_a_queue_that_starts_nothing_is_said_and_left(
    real_slurm: RealSlurm, start: Callable[..., Build], partition: str, reason: str
):
    build = start(f'partition = "{partition}"')
    line = f"no SLURM job of this build runs now; SLURM's reason: {reason}"
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
