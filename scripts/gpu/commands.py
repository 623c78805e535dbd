"""Runs `locloc` commands in processes of their own, with a time limit, and reports the peak GPU memory of each."""

import atexit
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
RUN = REPOSITORY / "scripts/gpu_check.py"
PATIENCE = "GPU_CHECK_PATIENCE"
"""Environment variable: a factor on all limits of time."""
PEAK = "PEAK"
"""Begins the line on standard error with the peak GPU memory."""


@dataclass(frozen=True)
class Finished:
    """A command that has ended."""

    code: int
    out: str
    err: str
    seconds: float


def start_group(command: list[str], **streams) -> subprocess.Popen:
    """Starts a command as the leader of a new process group, which `kill_group` ends."""
    return subprocess.Popen(command, start_new_session=True, **streams)


def kill_group(process: subprocess.Popen) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def locloc_command(*arguments: object) -> list[str]:
    return [sys.executable, str(RUN), "cli", *map(str, arguments)]


def patient(limit_s: float) -> float:
    """A limit of time, multiplied for slow machines."""
    return limit_s * float(os.environ.get(PATIENCE, 1))


def run_locloc(*arguments: object, limit_s: float = 120) -> Finished:
    """Runs a `locloc` command, killed after `patient(limit_s)`."""
    begin = time.perf_counter()
    process = start_group(locloc_command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        out, err = process.communicate(timeout=patient(limit_s))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        err += f"\nkilled after {patient(limit_s):g} s"
    return Finished(process.returncode, out, err, time.perf_counter() - begin)


def run_cli(arguments: list[str]) -> None:
    """`locloc ARGUMENTS` in this process, which prints its peak GPU memory at exit."""
    atexit.register(_print_peak)
    from locloc.cli import main

    sys.argv = ["locloc", *arguments]
    main()


def _print_peak() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        print(f"{PEAK} {torch.cuda.max_memory_allocated() / 2**20:.0f} MB", file=sys.stderr)
