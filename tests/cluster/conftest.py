"""Real `dask scheduler` and `dask worker` processes on loopback, each ended by its own process id."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from distributed.security import Security

from locloc.pipeline.backbones.vit import BackboneSpec

SMALL_BACKBONE = BackboneSpec("vit_tiny_patch16_224", 64, weights="random")

SMALL_RECIPE = """\
mask_px = 64

[backbone]
name = "vit_tiny_patch16_224"
size_px = 64
"""


@dataclass
class Processes:
    """Starts processes that write to files in `folder`, and ends all of them. Each leads a group of its own."""

    folder: Path
    env: dict[str, str] = field(default_factory=dict)  # beside the test's own
    running: list[subprocess.Popen] = field(default_factory=list)

    def start(self, name: str, *command: str, env: dict[str, str] | None = None) -> subprocess.Popen:
        """`name` is the file of its output, `NAME.log`."""
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *command],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=os.environ | self.env | (env or {}),
                cwd=self.folder,
                start_new_session=True,
            )
        self.running.append(process)
        return process

    def scheduler(
        self, name: str = "scheduler", port: int = 0, python_options: tuple[str, ...] = ()
    ) -> tuple[str, subprocess.Popen]:
        """Starts a scheduler and waits for it; `(address, process)`. Give the `port` to start it again where it was."""
        file = self.folder / f"{name}.json"
        file.unlink(missing_ok=True)
        process = self.start(
            name,
            *(*python_options, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(port)),
            *("--dashboard-address", "127.0.0.1:0", "--scheduler-file", str(file)),
        )
        wait_for(lambda: _address(file) or _fail_if_ended(process, self.output(name)), 60, "the scheduler's file")
        return _address(file), process

    def worker(
        self,
        address: str,
        name: str,
        resources: str | None = None,
        *options: str,
        env: dict[str, str] | None = None,
        nthreads: int = 1,
    ) -> subprocess.Popen:
        """Starts a nanny with one worker and does not wait; `resources` as in `"GPU=1"`."""
        declared = ("--resources", resources) if resources else ()
        return self.start(
            name,
            *("-m", "distributed.cli.dask_worker", address, "--name", name, "--nthreads", str(nthreads)),
            *("--no-dashboard", "--local-directory", str(self.folder), *declared, *options),
            env=env,
        )

    def locloc(self, name: str, *arguments: str, env: dict[str, str] | None = None) -> subprocess.Popen:
        """Starts the `locloc` command, as a user would."""
        return self.start(name, "-c", "import sys; from locloc.cli import main; sys.exit(main())", *arguments, env=env)

    def output(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def kill(self, process: subprocess.Popen, how: int = signal.SIGKILL) -> None:
        """The process and what it started, a nanny's workers for one."""
        try:
            os.killpg(process.pid, how)
        except ProcessLookupError:
            return
        if how == signal.SIGKILL:
            process.wait(30)

    def end(self) -> None:
        for process in self.running:
            self.kill(process)


def wait_for(condition: Callable[[], object], timeout_s: float, what: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s:.0f} s for {what}"
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _address(file: Path) -> str | None:
    try:
        return json.loads(file.read_text())["address"]
    except (FileNotFoundError, ValueError):
        return None


def _fail_if_ended(process: subprocess.Popen, output: str) -> None:
    assert process.poll() is None, output


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    folder = tmp_path / "processes"
    folder.mkdir()
    started = Processes(folder)
    try:
        yield started
    finally:
        started.end()


@pytest.fixture
def small_recipe(tmp_path: Path) -> Path:
    """A TOML recipe whose blocks take no time: `--recipe FILE --weights random`."""
    file = tmp_path / "small.toml"
    file.write_text(SMALL_RECIPE)
    return file


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """A certificate authority made now and one certificate that it signs, as settings of Dask."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def make_certificates(folder: Path) -> dict[str, object]:
    made = Security.temporary()
    for name, text in (("ca", made.tls_ca_file), ("cert", made.tls_client_cert), ("key", made.tls_client_key)):
        (folder / f"{name}.pem").write_text(text)
    (folder / "key.pem").chmod(0o600)
    settings = {
        "distributed.comm.require-encryption": True,
        "distributed.comm.tls.ca-file": str(folder / "ca.pem"),
    }
    for role in ("scheduler", "worker", "client"):
        settings[f"distributed.comm.tls.{role}.cert"] = str(folder / "cert.pem")
        settings[f"distributed.comm.tls.{role}.key"] = str(folder / "key.pem")
    return settings


def as_environment(settings: dict[str, object]) -> dict[str, str]:
    """Settings of Dask as a process is told them: `DASK_DISTRIBUTED__COMM__TLS__CA_FILE=...`."""
    return {f"DASK_{name.replace('.', '__').replace('-', '_').upper()}": str(value) for name, value in settings.items()}
