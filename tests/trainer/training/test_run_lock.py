"""The lock of a run: one writer at a time, whose files make no folder look used."""

import subprocess
import sys

import pytest

from locloc.pipeline.errors import TrainError
from locloc.trainer.training.resume import check_new
from locloc.trainer.training.run_lock import RunLock

HOLD = """
import sys
from pathlib import Path
from locloc.trainer.training.run_lock import RunLock
with RunLock(Path(sys.argv[1])) as lock:
    lock.acquire()
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_run_that_is_written_to_names_its_process_until_that_is_killed(tmp_path):
    out = tmp_path / "new" / "run"
    command = [sys.executable, "-c", HOLD, out]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        said = f"^{out} is being written to by process {holder.pid} on .* since 20.*; wait for it$"
        with RunLock(out) as lock, pytest.raises(TrainError, match=said):
            lock.acquire()
        holder.kill()
        holder.wait()
        with RunLock(out) as lock:
            lock.acquire()
            lock.check()
    check_new(out)  # nothing was begun there
    (out / "thesis.tex").touch()
    with pytest.raises(TrainError, match="is not empty: it holds thesis.tex"):
        check_new(out)


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with RunLock(tmp_path / "file" / "run") as lock:
        with pytest.raises(TrainError, match="file/run cannot be written: not a directory; name another --out$"):
            lock.acquire()
        lock.check()  # holds nothing


def test_a_run_whose_lock_is_not_acquired_leaves_nothing(tmp_path):
    with RunLock(tmp_path / "run"):
        pass
    assert not (tmp_path / "run").exists()
