"""A store in S3: made by two at once, locked across processes, refused where writes are not conditional, no secrets."""

import os
import pickle
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import zarr

from locloc.pipeline.errors import StoreError, StoreLockedError
from locloc.pipeline.store import lease
from locloc.pipeline.store.gc import collect_garbage
from locloc.pipeline.store.icechunk_errors import icechunk_errors
from locloc.pipeline.store.location import StoreLocation
from locloc.pipeline.store.lock import store_lock
from locloc.pipeline.store.object_store import PROBE, check_conditional_writes, open_object_store
from locloc.pipeline.store.repository import (
    check_can_hold_store,
    ensure_repository,
    first_snapshot,
    has_repository,
    open_repository,
)

from .s3 import KEY_ID, SECRET, bucket, bucket_of, put, s3_environment, s3_server, without_headers

__all__ = ["bucket", "s3_environment", "s3_server"]

LOCKER = Path(__file__).parents[1] / "pipeline" / "store" / "locker.py"


@pytest.fixture
def location(bucket) -> StoreLocation:
    return StoreLocation.of(f"{bucket}/a/masks.store")


def commit(location: StoreLocation, branch: str = "main", salt: int = 0) -> str:
    session = open_repository(location).writable_session(branch)
    array = zarr.create_group(session.store, overwrite=True).create_array(
        "a", shape=(8, 1000), chunks=(1, 1000), dtype="f8"
    )
    array[:] = np.random.default_rng(salt).random((8, 1000))
    return session.commit("something")


def everything(location: StoreLocation) -> dict[str, bytes]:
    bucket = bucket_of(str(location))
    return {entry.key: bucket.read(entry.key) for entry in bucket.below("")}


def test_a_store_in_a_bucket_is_made_and_opened(location, s3_environment):
    assert not has_repository(location)
    with pytest.raises(StoreError, match=f"{location} is not a mask store; `locloc masks build IMAGES --store s3://"):
        open_repository(location)
    for _ in range(2):
        ensure_repository(location)
    commit(location)
    assert has_repository(str(location))
    assert zarr.open_group(open_repository(location).readonly_session("main").store, mode="r")["a"].shape == (8, 1000)
    assert open_object_store(location).names(PROBE) == []

    put(s3_environment, f"/{location.bucket}/data/thesis.txt", b"precious")
    with pytest.raises(StoreError, match="exists and is not a mask store; name a new or empty prefix"):
        ensure_repository(f"s3://{location.bucket}/data")
    check_can_hold_store(f"s3://{location.bucket}/dat")


def test_two_that_make_one_store_both_end_well(location):
    for round in range(3):
        one = StoreLocation.of(f"{location}{round}")
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(ensure_repository, [one] * 4))
        commit(one)


@pytest.mark.parametrize("files", [0, 1])
def test_a_store_whose_making_was_killed_is_made_again(location, files, monkeypatch):
    real, allowed = type(open_object_store(location)).create, [files]

    def die(self, name, data):
        if not name.startswith(PROBE):
            if not allowed[0]:
                raise KeyboardInterrupt
            allowed[0] -= 1
        return real(self, name, data)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(type(open_object_store(location)), "create", die)
        ensure_repository(location)
    assert not has_repository(location)
    ensure_repository(location)
    commit(location)


@pytest.mark.parametrize("header", ["If-Match", "If-None-Match"])
def test_storage_without_conditional_writes_is_found_out(location, s3_server, monkeypatch, header):
    ensure_repository(location)
    with without_headers(s3_server, header) as deaf:
        monkeypatch.setenv("AWS_ENDPOINT_URL", deaf)
        ignored = f"{location}: this object storage ignores {header}, so writers could lose"
        with pytest.raises(StoreError, match=ignored), store_lock(location):
            pass
        with pytest.raises(StoreError, match=f"ignores {header}"):
            ensure_repository(f"{location}.new")
        assert not has_repository(f"{location}.new")
        assert open_object_store(location).names(lease.LEASE_FOLDER) == open_object_store(location).names(PROBE) == []
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    check_conditional_writes(location)


def test_of_two_commits_to_one_branch_the_second_is_told(location):
    ensure_repository(location)
    late = open_repository(location).writable_session("main")
    zarr.create_group(late.store)
    commit(location)
    with pytest.raises(StoreError, match="another process has committed here"), icechunk_errors(str(location)):
        late.commit("late")


@pytest.mark.parametrize(
    ("endpoint", "bucket_name", "message"),
    [
        pytest.param(
            "http://127.0.0.1:9", None, "cannot be read: could not connect to the endpoint", marks=pytest.mark.slow
        ),
        pytest.param(
            "http://no-such-host.invalid",
            None,
            "cannot be read: could not connect to the endpoint",
            marks=pytest.mark.slow,
        ),
        (None, "no-such-bucket", "cannot be read: The specified bucket does not exist"),
    ],
)
def test_what_cannot_be_reached_is_one_line_in_seconds(location, monkeypatch, endpoint, bucket_name, message):
    if endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    where = f"s3://{bucket_name or location.bucket}/a"
    for action in (has_repository, open_repository, check_can_hold_store, ensure_repository):
        started = time.monotonic()
        with pytest.raises(StoreError, match=message) as caught:
            action(where)
        assert "\n" not in str(caught.value)
        assert time.monotonic() - started < 20


def test_missing_credentials_are_one_line(location, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(StoreError, match="cannot be read: Unable to locate credentials$"):
        has_repository(location)


def test_secrets_are_in_no_pickle_no_text_and_no_file(location, capfd):
    ensure_repository(location)
    commit(location)
    repository = open_repository(location)
    session = repository.writable_session("main")
    with store_lock(location) as held:
        held.check()
        seen = [
            pickle.dumps(location), pickle.dumps(repository), pickle.dumps(session.fork()),
            pickle.dumps(repository.readonly_session("main")), pickle.dumps(session.fork().store),
            repr([location, location.storage(), repository, session, held]).encode(), *everything(location).values(),
        ]  # fmt: skip
        assert any(b"locloc" in one for one in seen), "the lease is among them"
    seen.append("".join(capfd.readouterr()).encode())
    for secret in (SECRET, KEY_ID):
        assert not any(secret.encode() in one for one in seen)
    fork = pickle.loads(pickle.dumps(session.fork()))  # and it is of use elsewhere, by the environment there
    zarr.open_group(fork.store, mode="r+")["a"][:] = 7


@pytest.mark.slow
def test_garbage_goes_and_what_is_needed_stays(location):
    ensure_repository(location)
    repository = open_repository(location)
    repository.create_branch("build-1", first_snapshot(repository))
    for salt in (1, 2, 3):
        repository.create_tag(f"v{salt}", commit(location, salt=salt)) if salt < 3 else commit(
            location, "build-1", salt
        )
    commit(location, "build-1", 4)
    repository.delete_tag("v1")
    with store_lock(location), pytest.raises(StoreLockedError, match=f"process {os.getpid()} on"):
        collect_garbage(location)
    assert collect_garbage(location).chunks == 16  # of v1, and of the build's first commit
    repository = open_repository(location)
    for where, salt in (({"tag": "v2"}, 2), ({"branch": "build-1"}, 4)):
        array = zarr.open_group(repository.readonly_session(**where).store, mode="r")["a"][:]
        assert np.array_equal(array, np.random.default_rng(salt).random((8, 1000)))
    assert len(open_object_store(location).names("chunks")) == 16
    commit(location, "build-1", 5)
    assert collect_garbage(location).chunks == 8
    assert collect_garbage(location).chunks == 0


def locker(location: StoreLocation, *options: object) -> subprocess.Popen:
    command = [sys.executable, LOCKER, str(location), *map(str, options)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def quick(monkeypatch) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.2)
    monkeypatch.setattr(lease, "STALE_S", 4.0)
    monkeypatch.setattr(lease, "POLL_S", 0.1)


@pytest.mark.slow
def test_of_four_processes_one_is_inside_at_any_time(location, tmp_path):
    ensure_repository(location)
    lockers = [locker(location, 0.2, 30, "flock", 2, tmp_path / "inside") for _ in range(4)]
    assert [locker.communicate(timeout=180)[0] for locker in lockers] == ["done\n"] * 4
    assert not (tmp_path / "inside").exists()
    assert open_object_store(location).names(lease.LEASE_FOLDER) == ["000008.json"], "four processes, twice each"


@pytest.mark.slow
def test_a_holder_is_named_followed_when_suspended_and_told(location, quick):
    ensure_repository(location)
    with locker(location, 0.2, 4, "flock", "hold") as holder:
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(
                StoreLockedError, match=f"{location} is being written to by process {holder.pid} on .* since 20"
            ),
            store_lock(location),
        ):
            pass
        holder.send_signal(signal.SIGSTOP)
        with store_lock(location) as held:
            holder.send_signal(signal.SIGCONT)
            answer, _ = holder.communicate("check\n", timeout=30)
            assert answer.startswith(f"StoreLockedError: Store {location} was taken over by process {os.getpid()} on ")
            time.sleep(0.5)
            held.check()


def test_a_killed_holder_is_followed_at_once(location):
    ensure_repository(location)
    with locker(location, 5, 30, "flock", "hold") as holder:
        assert holder.stdout.readline() == "held\n"
        holder.kill()
    started = time.monotonic()
    with store_lock(location) as held:
        held.check()
    assert time.monotonic() - started < 25, "without waiting for STALE_S"
