"""Processes that are there at once: forked from one that has imported all of locloc, which takes seconds each time.

The nursery itself (this file, run as a script) opens no store and computes nothing, so its children begin as if they
had just been started: a session, a process id and an end of their own. `Nursery` is what a test has in its hand.
"""

import atexit
import gc
import importlib
import json
import os
import resource
import runpy
import select
import signal
import subprocess
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HOOK = Path(__file__).with_name("hook")
PRELOADED = (
    "distributed.cli.dask_scheduler",
    "distributed.cli.dask_worker",
    "locloc.cli",
    "locloc.pipeline.build.isolation",
    "locloc.pipeline.catalogs.registry",
    "locloc.pipeline.build.incremental",
    "locloc.pipeline.store.gc",
    "locloc.pipeline.commands.rendering.versions",
    "locloc.pipeline.inspect.verify",
    "timm",
)


@dataclass(frozen=True)
class Child:
    """A process of the nursery."""

    name: str
    pid: int
    log: Path  # what it prints, both streams

    @property
    def code(self) -> int | None:
        """Its exit code, minus the signal that ended it, or None while it runs."""
        try:
            return int(self.log.with_suffix(f".{self.pid}").read_text())
        except (FileNotFoundError, ValueError):
            return None

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def signal(self, number: int) -> bool:
        """False if it had ended before. Its number is not used again before its end is written down."""
        if self.code is not None:
            return False
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return False
        return True

    def wait(self, timeout_s: float, meanwhile: Callable[[], None] = lambda: None) -> int:
        """Its exit code; fails, with what it printed, when it does not end in time."""
        deadline = time.monotonic() + timeout_s
        while (code := self.code) is None:
            assert time.monotonic() < deadline, f"{self.name} did not end in {timeout_s:.0f} s:\n{self.output}"
            meanwhile()
            time.sleep(0.02)
        return code

    def kill(self) -> bool:
        done = self.signal(signal.SIGKILL)
        self.wait(30)
        return done


class Nursery:
    """Starts processes; all of them end with the `with` block."""

    def __init__(self, folder: Path, env: dict[str, str] | None = None, preloaded: tuple[str, ...] = PRELOADED):
        self._folder, self._mark, self._count = folder, f"LOCLOC_NURSERY={uuid.uuid4().hex}", 0
        own = {"PYTHONPATH": str(HOOK), "LOCLOC_FAULTS": "", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        name, _, value = self._mark.partition("=")
        folder.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [sys.executable, __file__, *preloaded],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | own | (env or {}) | {name: value},
            cwd=folder,
            start_new_session=True,
        )

    def __enter__(self) -> "Nursery":
        return self

    def __exit__(self, *_) -> None:
        """Fails if anything that was started here is left behind."""
        self._process.stdin.close()
        try:
            assert self._process.wait(60) == 0
        finally:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()
        deadline = time.monotonic() + 30  # a child of a child may be on its way
        while left := self.members():
            assert time.monotonic() < deadline, f"left behind: {left}"
            time.sleep(0.1)

    def start(self, name: str, *command: str, env: dict[str, str] | None = None) -> Child:
        """`command` begins with a script, or a module with a `main`, and goes on with its arguments."""
        self._count += 1
        log = self._folder / f"{self._count:04}-{name}.log"
        log.touch()
        request = {"command": command, "log": str(log), "env": env or {}}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return Child(name, int(self._process.stdout.readline()), log)

    def members(self) -> dict[int, str]:
        """Processes that come from here, also by way of others, by their ids: the environment tells."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if self._mark.encode() in (folder / "environ").read_bytes().split(b"\0"):
                    found[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
            except OSError:
                continue
        return found


def _run(command: list[str]) -> None:
    """Ends the process as Python does, but for taking every module apart, which takes seconds in a copy."""
    sitecustomize.apply(json.loads(os.environ["LOCLOC_FAULTS"] or "{}"))
    what, sys.argv, code = command[0], command, 0
    try:
        if what.endswith(".py"):
            runpy.run_path(what, run_name="__main__")
        else:
            importlib.import_module(what).main()
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _reap(logs: dict[int, Path]) -> None:
    while logs:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        end = logs.pop(pid).with_suffix(f".{pid}")
        end.with_suffix(".new").write_text(str(os.waitstatus_to_exitcode(status)))
        end.with_suffix(".new").rename(end)


def _serve() -> list[str] | None:
    """Forks a child for every line of input. Returns its command in the child, None at the end."""
    logs: dict[int, Path] = {}
    while True:
        ready = select.select([sys.stdin], [], [], 0.02)[0]
        _reap(logs)
        if not ready:
            continue
        line = os.read(0, 1 << 16)  # one request: the next one waits for the answer
        if not line:
            break
        request = json.loads(line)
        if (pid := os.fork()) == 0:
            os.setsid()
            log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            for number, file in ((0, os.open(os.devnull, os.O_RDONLY)), (1, log), (2, log)):
                os.dup2(file, number)
            os.environ.update(request["env"])
            return request["command"]
        logs[pid] = Path(request["log"])
        print(pid, flush=True)
    for pid in logs:
        os.kill(pid, signal.SIGKILL)
    while logs:
        _reap(logs)
        time.sleep(0.01)
    return None


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import sitecustomize  # the hook's

    for module in sys.argv[1:]:
        importlib.import_module(module)
    gc.freeze()  # else every child copies all of memory when it collects garbage
    if (mine := _serve()) is not None:
        _run(mine)
    os._exit(0)  # see _run
