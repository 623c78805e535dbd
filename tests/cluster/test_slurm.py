"""SLURM: the job script, the number of jobs, and a whole cluster on a queue that is three shell scripts.

The stand-ins run a job script as a process of this machine. Nothing here was tried on a real SLURM.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from distributed import get_worker

from locloc.pipeline.build.cluster import Cluster, ClusterSpec, open_cluster
from locloc.pipeline.build.cluster import slurm_jobs as jobs
from locloc.pipeline.build.cluster.slurm_jobs import Jobs
from locloc.pipeline.build.cluster.slurm_settings import SlurmSettings, job_script, load_slurm
from locloc.pipeline.errors import BuildError

from .conftest import SMALL_BACKBONE, wait_for

BOTH = """
interface = "ib0"

[cpu]
cores = 16
worker_processes = 16
memory_gib = 48
walltime_min = 240
partition = "batch"
account = "vision"
job_script_prologue = ["module load cuda", "export HF_HOME=/scratch/hf"]
python = "/opt/locloc/bin/python"
minimum_jobs = 2
maximum_jobs = 40

[gpu]
cores = 8
memory_gib = 32
walltime_min = 60
partition = "gpu"
job_extra_directives = ["--gres=gpu:1"]
python = "/opt/locloc/bin/python"
maximum_jobs = 8
"""

CPU_SCRIPT = """\
#!/usr/bin/env bash

#SBATCH -J locloc-run
#SBATCH -p batch
#SBATCH -A vision
#SBATCH -n 1
#SBATCH --cpus-per-task=16
#SBATCH --mem=48G
#SBATCH -t 240
module load cuda
export HF_HOME=/scratch/hf
timeout 20 bash -c 'until exec 3<>/dev/tcp/10.0.0.1/5000; do sleep 1; done' 2> /dev/null || {
    echo 'The coordinator at tcp://10.0.0.1:5000 does not answer: this job ends.'
    exit 1
}
/opt/locloc/bin/python -m distributed.cli.dask_worker tcp://10.0.0.1:5000 --name cpu-0 --nthreads 1 \
--memory-limit 3.00GiB --nworkers 16 --nanny --death-timeout 300 --local-directory /tmp --resources CPU=1 \
--lifetime 13950s --lifetime-stagger 150s --no-dashboard --interface ib0
"""

GPU_SCRIPT = """\
#!/usr/bin/env bash

#SBATCH -J locloc-run
#SBATCH -p gpu
#SBATCH -n 1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH -t 60
#SBATCH --gres=gpu:1
timeout 20 bash -c 'until exec 3<>/dev/tcp/10.0.0.1/5000; do sleep 1; done' 2> /dev/null || {
    echo 'The coordinator at tcp://10.0.0.1:5000 does not answer: this job ends.'
    exit 1
}
/opt/locloc/bin/python -m distributed.cli.dask_worker tcp://10.0.0.1:5000 --name gpu-1 --nthreads 1 \
--memory-limit 32.00GiB --nanny --death-timeout 300 --local-directory /tmp --resources GPU=1 \
--lifetime 3150s --lifetime-stagger 150s --no-dashboard --interface ib0
"""


@pytest.fixture
def settings(tmp_path: Path) -> SlurmSettings:
    file = tmp_path / "slurm.toml"
    file.write_text(BOTH)
    return load_slurm(file)


def test_job_scripts(settings: SlurmSettings):
    def script(kind: str, name: str) -> str:
        return job_script(settings.kinds[kind], kind, name, "tcp://10.0.0.1:5000", "locloc-run", settings.interface)

    assert script("CPU", "cpu-0") == CPU_SCRIPT
    assert script("GPU", "gpu-1") == GPU_SCRIPT


def test_importing_dask_jobqueue_leaves_the_handlers_of_signals_alone(settings: SlurmSettings, monkeypatch):
    """Its own end the program with exit code 0: a build that Ctrl-C had stopped looked done."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "dask_jobqueue"]:
        monkeypatch.delitem(sys.modules, name)
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    job_script(settings.cpu, "CPU", "cpu-0", "tcp://10.0.0.1:5000", "locloc-run")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.parametrize("minutes", [5, 30, 60, 24 * 60])
def test_workers_leave_before_the_time_limit(settings: SlurmSettings, minutes: int):
    lifetime_s, stagger_s = settings.cpu.model_copy(update={"walltime_min": minutes}).lifetime_s
    assert 0.8 * minutes * 60 < lifetime_s + stagger_s <= minutes * 60 - 30


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[cpu", "is not TOML"),
        ("", r"neither \[cpu\] nor \[gpu\]"),
        ("[cpu]\nwalltime_min = 60", "cpu.memory_gib: Field required"),
        ("[cpu]\nmemory_gib = 4\nwalltime_min = 60\nmaximal_jobs = 3", "maximal_jobs: no such .*'maximum_jobs'"),
        ("[gpu]\nmemory_gib = 4\nwalltime_min = 60\nworker_processes = 8", "gpu.worker_processes: no such setting"),
        ("[cpus]\nmemory_gib = 4", "cpus: no such setting; did you mean 'cpu'"),
        ("[cpu]\nmemory_gib = 4\nwalltime_min = 2", "cpu.walltime_min: Input should be greater"),
        ("[cpu]\nmemory_gib = 4\nwalltime_min = 60\nminimum_jobs = 3", "maximum_jobs is less than its minimum"),
        ("[cpu]\nmemory_gib = 4\nwalltime_min = 60\nworker_processes = 3", "worker_processes is more than its cores"),
        (None, "cannot be read: No such file"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path: Path, text: str | None, message: str):
    file = tmp_path / "slurm.toml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(BuildError, match=message) as refusal:
        load_slurm(file)
    assert "\n" not in str(refusal.value)


def test_no_sbatch_and_no_jobqueue_are_one_line(tmp_path: Path, settings: SlurmSettings, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        pytest.raises(BuildError, match="--slurm: no sbatch on this machine"),
        open_cluster(ClusterSpec(slurm=tmp_path / "slurm.toml"), SMALL_BACKBONE, 1, print),
    ):
        pass
    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BuildError, match=r"pip install locloc\[cluster\]"):
        job_script(settings.cpu, "CPU", "cpu-0", "tcp://10.0.0.1:5000", "locloc-run")


class FakeQueue:
    """Answers in place of sbatch, squeue and scancel; jobs stay as they are until a test changes them."""

    def __init__(self):
        self.states: dict[str, str] = {}
        self.cancelled: list[str] = []

    def __call__(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        out = ""
        if command == "sbatch":
            out = str(len(self.states) + 100)
            self.states[out] = "PENDING"
        elif command == "squeue":
            out = "".join(f"{job} {state}\n" for job, state in self.states.items() if state != "ENDED")
        else:
            self.cancelled += arguments
            self.states |= dict.fromkeys(arguments, "ENDED")
        return subprocess.CompletedProcess(command, 0, out, "")

    def count(self) -> int:
        return sum(state != "ENDED" for state in self.states.values())


@pytest.fixture
def queue(monkeypatch) -> FakeQueue:
    fake = FakeQueue()
    monkeypatch.setattr(jobs, "_run_command", fake)
    monkeypatch.setattr(jobs, "POLL_S", 0.0)
    return fake


def test_the_number_of_jobs_follows_the_blocks_left(settings: SlurmSettings, queue: FakeQueue):
    only_cpu = settings.model_copy(update={"gpu": None})
    mine = Jobs(only_cpu, "tcp://10.0.0.1:5000", None)
    mine.start(1)
    assert queue.count() == 2  # minimum_jobs
    mine.scale(1000, [])
    assert queue.count() == 8  # 1000 blocks / 16 processes / 8 blocks each
    mine.scale(10**6, [])
    assert queue.count() == 40  # maximum_jobs
    for job in list(queue.states)[:30]:
        queue.states[job] = "RUNNING"
    mine.scale(10, [])  # running ones stay; of those that wait, all are more than enough
    assert queue.cancelled == list(queue.states)[30:]
    assert queue.count() == 30
    mine.cancel_all()
    assert queue.count() == 0


def test_a_job_that_ends_is_replaced_unless_its_like_never_begin(settings: SlurmSettings, queue: FakeQueue):
    mine = Jobs(settings.model_copy(update={"cpu": None}), "tcp://10.0.0.1:5000", None)
    mine.start(1)
    mine.scale(1, ["gpu-0"])  # seen at work
    queue.states["100"] = "ENDED"
    mine.scale(1, [])
    assert list(mine.submitted) == ["gpu-1"]
    assert mine.failed == 0
    queue.states["101"] = "ENDED"
    mine.scale(1, [])
    queue.states["102"] = "ENDED"
    mine.scale(1, [])
    queue.states["103"] = "ENDED"
    with pytest.raises(BuildError, match="3 SLURM jobs ended before they were at work"):
        mine.scale(1, [])


SBATCH = """#!/bin/bash
number=$(( $(ls "{folder}" | grep -c 'sh$') + 1 ))
cp "${{@: -1}}" "{folder}/$number.sh"
setsid bash "{folder}/$number.sh" > "{folder}/$number.log" 2>&1 < /dev/null &
echo $! > "{folder}/$number.pid"
echo "$number;here"
"""
SQUEUE = """#!/bin/bash
for file in "{folder}"/*.pid; do
    grep -q '^State:.[^Z]' "/proc/$(cat "$file")/status" 2> /dev/null && echo "$(basename "$file" .pid) RUNNING"
done
true
"""
SCANCEL = """#!/bin/bash
for number in "$@"; do kill -TERM -- "-$(cat "{folder}/$number.pid")"; done
"""


@pytest.fixture
def slurm_here(tmp_path: Path, monkeypatch) -> Iterator[Path]:
    """A folder with NUMBER.sh, .log and .pid of each job; the three commands are on PATH."""
    folder, bin_folder = tmp_path / "jobs", tmp_path / "bin"
    folder.mkdir()
    bin_folder.mkdir()
    for name, text in (("sbatch", SBATCH), ("squeue", SQUEUE), ("scancel", SCANCEL)):
        (bin_folder / name).write_text(text.format(folder=folder))
        (bin_folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(jobs, "POLL_S", 0.5)
    try:
        yield folder
    finally:
        for file in folder.glob("*.pid"):
            kill_job(folder, file.stem)


def kill_job(folder: Path, number: str) -> None:
    with suppress(ProcessLookupError):
        os.killpg(int((folder / f"{number}.pid").read_text()), signal.SIGKILL)


def running(folder: Path) -> list[str]:
    return [line.split()[0] for line in subprocess.check_output(["squeue"], text=True).splitlines()]


@pytest.mark.slow
def test_a_cluster_of_jobs(slurm_here: Path, tmp_path: Path):
    file = tmp_path / "slurm.toml"
    file.write_text(
        'interface = "lo"\n'
        "[cpu]\ncores = 2\nworker_processes = 2\nmemory_gib = 4\nwalltime_min = 60\n"
        f'local_directory = "{tmp_path}"\n'
    )
    said: list[str] = []

    def slow_name(_: int) -> str:
        time.sleep(0.2)
        return get_worker().name

    def names(cluster: Cluster) -> set[str]:
        ask = [cluster.client.submit(slow_name, n, resources=cluster.attend_on, pure=False) for n in range(8)]
        return set(cluster.client.gather(ask))

    with open_cluster(ClusterSpec(slurm=file), SMALL_BACKBONE, 10, said.append) as cluster:
        assert said[0].startswith("submitted 1 SLURM job as locloc-")
        wait_for(lambda: cluster.check() == 2, 150, "both workers of the job")
        assert names(cluster) == {"cpu-0-0", "cpu-0-1"}
        cluster.scale(10)
        assert running(slurm_here) == ["1"]

        kill_job(slurm_here, "1")  # a node that fails

        def replaced() -> bool:
            cluster.check()
            cluster.scale(10)
            return cluster.check() == 2 and running(slurm_here) == ["2"]

        wait_for(replaced, 200, "another job in its place")
        assert names(cluster) == {"cpu-1-0", "cpu-1-1"}
    wait_for(lambda: not running(slurm_here), 20, "the jobs to be cancelled")


def test_jobs_that_cannot_start_are_an_error_with_the_place_to_look(slurm_here: Path, tmp_path: Path):
    file = tmp_path / "slurm.toml"
    file.write_text('[cpu]\nmemory_gib = 4\nwalltime_min = 60\npython = "/nowhere/python"\n')
    with (
        pytest.raises(BuildError, match="3 SLURM jobs ended before they were at work"),
        open_cluster(ClusterSpec(slurm=file), SMALL_BACKBONE, 10, print),
    ):
        pass
