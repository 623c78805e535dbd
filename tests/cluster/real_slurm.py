"""A real SLURM of one machine, for tests: its own munged, slurmctld and two slurmd, in a folder, on free ports.

Two nodes, `n1` and `n2`, claim 8 CPUs each, whatever the machine has. Where SLURM's programs are missing, the tests are
skipped (Debian: `apt-get install slurmctld slurmd slurm-client munge`).
"""

import getpass
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from .conftest import free_port, wait_for

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol")
_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))

CONFIG = """\
ClusterName=test
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
KillWait=5
SchedulerParameters=sched_interval=1,batch_sched_delay=1
NodeName=n1 NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[1]} CPUs=8 RealMemory=64000
NodeName=n2 NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[2]} CPUs=8 RealMemory=64000
PartitionName=batch Nodes=ALL Default=YES MaxTime=INFINITE State=UP
PartitionName=closed Nodes=ALL MaxTime=INFINITE State=DOWN
PartitionName=short Nodes=ALL MaxTime=10 State=UP
"""


@dataclass
class RealSlurm:
    folder: Path
    processes: dict[str, subprocess.Popen] = field(default_factory=dict)

    @property
    def env(self) -> dict[str, str]:
        return {"SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": _PATH}

    def start(self) -> None:
        self.folder.mkdir(mode=0o755, exist_ok=True)
        (self.folder / "state").mkdir()
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        ports = [free_port() for _ in range(3)]
        text = CONFIG.format(folder=self.folder, ports=ports, user=getpass.getuser())
        (self.folder / "slurm.conf").write_text(text)
        at = {name: str(self.folder / f"munge.{name}") for name in ("key", "socket", "pid", "log", "seed")}
        self._run(
            "munged", "--foreground", "--force", f"--key-file={at['key']}", f"--socket={at['socket']}",
            f"--pid-file={at['pid']}", f"--log-file={at['log']}", f"--seed-file={at['seed']}",
        )  # fmt: skip
        wait_for((self.folder / "munge.socket").exists, 20, "munged")
        self.start_controller()
        for node in ("n1", "n2"):
            self._run("slurmd", "-D", "-N", node)
        wait_for(lambda: self.call("sinfo", "-h", "-N", "-p", "batch", "-o", "%t").split() == ["idle"] * 2, 30, "nodes")

    def start_controller(self) -> None:
        self._run("slurmctld", "-D", "-i")
        wait_for(lambda: "is UP" in self.call("scontrol", "ping"), 30, "slurmctld")

    def stop_controller(self) -> None:
        """By SIGTERM. Killed outright it forgets the last seconds: jobs, and nodes that were drained."""
        self.processes["slurmctld"].terminate()
        self.processes["slurmctld"].wait(60)

    def _run(self, *command: str) -> None:
        name = command[-1] if command[0] == "slurmd" else command[0]
        with (self.folder / f"{name}.out").open("ab") as out:
            self.processes[name] = subprocess.Popen(
                [shutil.which(command[0], path=_PATH) or command[0], *command[1:]],
                stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=os.environ | self.env, start_new_session=True,
            )  # fmt: skip

    def call(self, *command: str) -> str:
        """The output of a command of SLURM's; "" where it fails."""
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | self.env, check=False)
        return done.stdout if done.returncode == 0 else ""

    def jobs(self) -> dict[str, str]:
        """The states of all jobs that have not ended, by job id."""
        return dict(line.split() for line in self.call("squeue", "-h", "-o", "%i %T").splitlines())

    def nodes(self) -> dict[str, str]:
        """The node of each running job."""
        return dict(line.split() for line in self.call("squeue", "-h", "-t", "R", "-o", "%i %N").splitlines())

    def end(self) -> None:
        """Cancels what is left, waits for it, and ends the daemons."""
        left = list(self.jobs())
        if left:
            self.call("scancel", *left)
            end = time.monotonic() + 20
            while self.jobs() and time.monotonic() < end:
                time.sleep(0.2)
        for process in reversed(self.processes.values()):
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture(scope="module")
def real_slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealSlurm]:
    missing = [name for name in NEEDED if shutil.which(name, path=_PATH) is None]
    if missing:
        pytest.skip(f"no {missing[0]} here (Debian: apt-get install slurmctld slurmd slurm-client munge)")
    slurm = RealSlurm(tmp_path_factory.mktemp("slurm") / "here")
    try:
        slurm.start()
        yield slurm
    finally:
        slurm.end()
