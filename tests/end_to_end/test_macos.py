"""Builds use nothing that Linux alone has: here Python's modules lack it, and locloc sees no /proc."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import make_images

WITHOUT = """\
import os, pathlib, signal, sys, time

for module, names in {
    os: '''eventfd getrandom memfd_create pidfd_open posix_fadvise posix_fallocate sched_getaffinity sched_setaffinity
        sched_getparam sched_setscheduler setns splice unshare''',
    signal: "pidfd_send_signal sigtimedwait sigwaitinfo",
    time: "CLOCK_BOOTTIME",
}.items():
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)


def without_proc(function):
    def called(path, *given, **named):
        caller = sys._getframe(1).f_globals.get("__name__", "")
        if caller.startswith("locloc.") and str(path).startswith("/proc"):
            raise FileNotFoundError(2, "there is no /proc", str(path))
        return function(path, *given, **named)

    return called


pathlib.Path.read_text = without_proc(pathlib.Path.read_text)
os.stat = without_proc(os.stat)
"""


def locloc(folder: Path, *arguments: str | Path, expected: int = 0) -> str:
    environment = os.environ | {"PYTHONPATH": str(folder)}
    done = subprocess.run(
        [sys.executable, "-m", "locloc", *map(str, arguments)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == expected, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_build_and_what_reads_it_need_no_call_of_linux(tmp_path: Path):
    hidden = tmp_path / "python"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text(WITHOUT)
    missing = "import os, time; print(hasattr(os, 'sched_getaffinity'), hasattr(time, 'CLOCK_BOOTTIME'))"
    environment = os.environ | {"PYTHONPATH": str(hidden)}
    seen = subprocess.run([sys.executable, "-c", missing], env=environment, capture_output=True, text=True)
    assert seen.stdout == "False False\n"
    photos, store = make_images(tmp_path / "photos", 70), tmp_path / "masks.store"
    (photos / "odd" / "broken.jpg").write_bytes(b"no image")
    locloc(hidden, "masks", "build", photos, "--store", store, "--backbone", "pocket", "--workers", "2")
    locloc(hidden, "masks", "verify", f"{store}@v1")
    locloc(hidden, "masks", "report", f"{store}@v1", "--out", tmp_path / "page", "--workers", "2")
