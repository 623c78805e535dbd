"""The lease: who holds a store, when another process may take over, and that the former holder then gets an error."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from locloc.pipeline.errors import StoreError, StoreLockedError
from locloc.pipeline.store import lease
from locloc.pipeline.store.lease import Holder, Lease, current_holder, hold_lease
from locloc.pipeline.store.location import StoreLocation
from locloc.pipeline.store.object_store import FolderObjectStore

LOCKER = Path(__file__).with_name("locker.py")
OTHER_MACHINE = {"host": "node7", "boot": "another boot", "since": "2026-01-01 00:00:00 +0000"}


@pytest.fixture
def location(tmp_path, monkeypatch) -> StoreLocation:
    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.05)
    monkeypatch.setattr(lease, "STALE_S", 2.0)
    monkeypatch.setattr(lease, "POLL_S", 0.02)
    return StoreLocation.of(tmp_path)


@pytest.fixture
def holding(location) -> Iterator:
    """Starts a process that holds the lease without flock, until the end of the test."""
    started = []

    def hold(beat_s: float = 0.05, stale_s: float = 2.0) -> subprocess.Popen:
        command = [sys.executable, LOCKER, str(location), str(beat_s), str(stale_s), "no-flock", "hold"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield hold
    for process in started:
        process.send_signal(signal.SIGCONT)
        process.kill()
        with process:  # closes its pipes
            pass


def ask(process: subprocess.Popen) -> str:
    """The result of `check` in a process of locker.py."""
    process.stdin.write("check\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def epochs(location: StoreLocation) -> list[str]:
    return sorted(os.listdir(location.folder / lease.LEASE_FOLDER))


def abandoned_epoch(location: StoreLocation, number: int = 1, **changed) -> Holder:
    """Creates an epoch without a heartbeat."""
    holder = replace(Holder.this_process(), **changed)
    assert FolderObjectStore(location).create(f"{lease.LEASE_FOLDER}/{number:06}.json", holder.data())
    return holder


def test_epochs_count_up_and_old_ones_are_removed(location):
    for number in (1, 2, 3):
        with hold_lease(location) as held:
            held.check()
            assert epochs(location) == [f"{number:06}.json"]
            assert not current_holder(location).released
            assert current_holder(location).pid == os.getpid()
        assert current_holder(location).released


def test_the_heartbeat_counts_up(location):
    with hold_lease(location):
        first = current_holder(location).beat
        time.sleep(0.3)
        assert current_holder(location).beat > first


def test_a_live_holder_is_named(location, holding):
    process = holding(stale_s=30)
    lease.STALE_S = 30.0  # the fixture's monkeypatch puts it back
    started = time.monotonic()
    with (
        pytest.raises(StoreLockedError, match=f"written to by process {process.pid} on .* since 20") as caught,
        hold_lease(location),
    ):
        pass
    assert time.monotonic() - started < 20, "raised when its heartbeat was seen, before it could have been stale"
    assert "\n" not in str(caught.value)
    assert ask(process) == "ok"


def test_a_killed_holder_is_replaced_at_once(location, holding):
    process = holding(beat_s=60, stale_s=60)
    lease.STALE_S = 60.0
    process.kill()
    process.wait()
    started = time.monotonic()
    with hold_lease(location) as held:
        held.check()
        assert epochs(location) == ["000002.json"]
    assert time.monotonic() - started < 30


def test_a_zombie_holds_nothing(location, holding):
    process = holding()
    process.kill()
    while Path(f"/proc/{process.pid}/stat").read_text().rpartition(") ")[2][0] != "Z":
        time.sleep(0.01)
    assert current_holder(location).is_gone()


def test_a_process_with_the_same_pid_is_another(location):
    assert not abandoned_epoch(location, 1).is_gone()
    assert abandoned_epoch(location, 2, started="1").is_gone()
    assert not abandoned_epoch(location, 3, started="1", boot="another boot").is_gone()
    assert not abandoned_epoch(location, 4, started="1", pid_namespace="another container").is_gone()
    assert not abandoned_epoch(location, 5, started="1", boot="").is_gone(), "without /proc nothing is known"


def test_a_holder_on_another_machine_is_replaced_when_its_heartbeat_stops(location):
    abandoned_epoch(location, **OTHER_MACHINE)
    started = time.monotonic()
    with hold_lease(location) as held:
        assert time.monotonic() - started >= lease.STALE_S
        held.check()
        assert epochs(location) == ["000002.json"]


def test_a_holder_on_another_machine_with_a_heartbeat_is_alive_whatever_its_clock(location, monkeypatch):
    with hold_lease(location):
        holder = current_holder(location)
        monkeypatch.setattr(Holder, "is_gone", lambda self: False)
        # The file's time is in the past; only a change of its content counts.
        os.utime(location.folder / lease.LEASE_FOLDER / "000001.json", (0, 0))
        with pytest.raises(StoreLockedError, match=f"process {holder.pid} on {holder.host}"):
            Lease(location).acquire()


def test_an_empty_epoch_is_replaced_when_it_is_stale(location):
    assert FolderObjectStore(location).create(f"{lease.LEASE_FOLDER}/000004.json", b"")
    with hold_lease(location):
        assert epochs(location) == ["000005.json"]


@pytest.mark.slow
def test_a_suspended_holder_that_was_replaced_gets_an_error(location, holding):
    process = holding()
    process.send_signal(signal.SIGSTOP)
    with hold_lease(location) as held:  # after STALE_S
        process.send_signal(signal.SIGCONT)
        assert "StoreLockedError: " in (answer := ask(process))
        assert f"was taken over by process {os.getpid()} on " in answer
        held.check()
        process.stdin.close()  # releases its own lease only
        assert process.wait(timeout=20) == 0
        time.sleep(0.2)
        held.check()
        assert not current_holder(location).released
        with pytest.raises(StoreLockedError, match=f"process {os.getpid()}"):
            Lease(location).acquire()


@pytest.mark.slow
def test_a_suspended_holder_that_was_not_replaced_continues(location, holding):
    process = holding()
    process.send_signal(signal.SIGSTOP)
    time.sleep(3)
    process.send_signal(signal.SIGCONT)
    assert ask(process) == "ok"


def test_one_of_two_processes_creates_an_epoch(location, monkeypatch):
    """One process loses the race for a number; another was suspended for a whole epoch."""
    first, second = Lease(location), Lease(location)
    assert first._create(1)
    assert not second._create(1)
    assert first._create(2)
    assert epochs(location) == ["000002.json"]
    assert not second._create(1), "epoch 1 is free again, but too old"
    assert epochs(location) == ["000002.json"]


def test_failed_heartbeats_raise_only_while_they_fail(location, monkeypatch):
    real, broken = FolderObjectStore.replace, [True]

    def replace_or_fail(self, name, data):
        if broken[0]:
            raise StoreError(f"Store {location} cannot be written to: no space left on device")
        real(self, name, data)

    lease.STALE_S = 4.0
    with hold_lease(location) as held:
        monkeypatch.setattr(FolderObjectStore, "replace", replace_or_fail)
        held.check()  # valid for half of STALE_S
        time.sleep(2.2)
        with pytest.raises(StoreError, match="no space left on device; without it the store's lock cannot be kept up"):
            held.check()
        broken[0] = False
        held.check()


def test_a_heartbeat_needs_no_disk_space(location):
    with hold_lease(location):
        before = os.stat(location.folder / lease.LEASE_FOLDER / "000001.json")
        time.sleep(0.3)
        after = os.stat(location.folder / lease.LEASE_FOLDER / "000001.json")
    assert (before.st_ino, before.st_size) == (after.st_ino, after.st_size)
    assert before.st_mtime_ns < after.st_mtime_ns


def test_a_read_only_store_is_an_error_of_one_line(location, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(errno.EROFS, "read-only file system")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StoreError, match="cannot be written to: read-only file system$"):
        Lease(location).acquire()
