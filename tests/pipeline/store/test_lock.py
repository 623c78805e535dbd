"""The lock of a store: one holder at any time, with flock and without."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from locloc.pipeline.errors import StoreError, StoreLockedError
from locloc.pipeline.store import lease
from locloc.pipeline.store.lock import NO_FLOCK, store_lock

LOCKER = Path(__file__).with_name("locker.py")


def start(store: Path, *options: object) -> subprocess.Popen:
    command = [sys.executable, LOCKER, store, *map(str, options)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("flock", ["flock", "no-flock"])
def test_one_of_eight_processes_holds_the_lock_at_any_time(tmp_path, flock):
    store, inside = tmp_path / "store", tmp_path / "inside"
    store.mkdir()
    lockers = [start(store, 0.1, 20, flock, 2, inside) for _ in range(8)]
    assert [locker.communicate(timeout=120)[0] for locker in lockers] == ["done\n"] * 8
    assert [locker.returncode for locker in lockers] == [0] * 8
    assert not inside.exists()
    assert sorted(os.listdir(store / lease.LEASE_FOLDER)) == ["000016.json"], "eight processes, twice each"


def test_a_process_that_holds_the_store_is_named_at_once(tmp_path):
    holder = start(tmp_path, 5, 30, "flock", "hold")
    assert holder.stdout.readline() == "held\n"
    holder.send_signal(signal.SIGSTOP)  # the kernel keeps the flock of a stopped process
    started = time.monotonic()
    with (
        pytest.raises(
            StoreLockedError, match=f"Store {tmp_path} is being written to by process {holder.pid} on .* since 20"
        ),
        store_lock(tmp_path),
    ):
        pass
    assert time.monotonic() - started < 5
    holder.kill()
    holder.communicate()
    with store_lock(tmp_path) as held:  # at once, as the process is known to have ended
        held.check()
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("number", NO_FLOCK, ids=errno.errorcode.get)
def test_without_flock_the_lease_alone_decides(tmp_path, monkeypatch, number):
    def no_flock(*args):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", no_flock)
    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.05)
    monkeypatch.setattr(lease, "POLL_S", 0.02)
    with store_lock(tmp_path) as held:
        held.check()
        with pytest.raises(StoreLockedError, match=f"process {os.getpid()} on"), store_lock(tmp_path):
            pass


def test_a_lock_that_fails_otherwise_is_one_line(tmp_path, monkeypatch):
    def fail(*args):
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(StoreError, match="cannot be locked: input/output error$"), store_lock(tmp_path):
        pass


def test_a_store_that_cannot_be_written_to_is_one_line(tmp_path):
    with (
        pytest.raises(StoreError, match="cannot be written to: no such file or directory$"),
        store_lock(tmp_path / "no"),
    ):
        pass
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be written to: not a directory$"), store_lock(tmp_path / "file"):
        pass
