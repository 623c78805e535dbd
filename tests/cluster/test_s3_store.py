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
from locloc.pipeline.store.lock import store_lock
from locloc.pipeline.store.object_store import PROBE, check_conditional_writes, objects_of
from locloc.pipeline.store.location import Place, file_system
from locloc.pipeline.store.repository import check_can_hold_store, ensure_repository, first_snapshot, has_repository, icechunk_errors, open_repository

from .s3 import KEY_ID, SECRET, bucket, keep, put, s3_environment, s3_server, without_headers

__all__ = ["bucket", "s3_environment", "s3_server"]

LOCKER = Path(__file__).parents[1] / "pipeline" / "store" / "locker.py"


@pytest.fixture
def place(bucket) -> Place:
    return Place.of(f"{bucket}/a/masks.store")


def commit(place: Place, branch: str = "main", salt: int = 0) -> str:
    session = open_repository(place).writable_session(branch)
    array = zarr.create_group(session.store, overwrite=True).create_array(
        "a", shape=(8, 1000), chunks=(1, 1000), dtype="f8"
    )
    array[:] = np.random.default_rng(salt).random((8, 1000))
    return session.commit("something")


def everything(place: Place) -> dict[str, bytes]:
    files = file_system(place)
    return {name: files.cat_file(name) for name in files.find(place.bucket)}


def test_a_store_in_a_bucket_is_made_and_opened(place, s3_environment):
    assert not has_repository(place)
    with pytest.raises(StoreError, match=f"{place} is not a mask store; `locloc masks build IMAGES --store s3://"):
        open_repository(place)
    for _ in range(2):
        ensure_repository(place)
    commit(place)
    assert has_repository(str(place))
    assert zarr.open_group(open_repository(place).readonly_session("main").store, mode="r")["a"].shape == (8, 1000)
    assert objects_of(place).names(PROBE) == []

    put(s3_environment, f"/{place.bucket}/data/thesis.txt", b"precious")
    with pytest.raises(StoreError, match="is there and is no mask store; name a new or empty prefix"):
        ensure_repository(f"s3://{place.bucket}/data")
    check_can_hold_store(f"s3://{place.bucket}/dat")


def test_two_that_make_one_store_both_end_well(place):
    for round in range(3):
        one = Place.of(f"{place}{round}")
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(ensure_repository, [one] * 4))
        commit(one)


@pytest.mark.parametrize("files", [0, 1])
def test_a_store_whose_making_was_killed_is_made_again(place, files, monkeypatch):
    real, allowed = type(objects_of(place)).create, [files]

    def die(self, name, data):
        if not name.startswith(PROBE):
            if not allowed[0]:
                raise KeyboardInterrupt
            allowed[0] -= 1
        return real(self, name, data)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(type(objects_of(place)), "create", die)
        ensure_repository(place)
    assert not has_repository(place)
    ensure_repository(place)
    commit(place)


@pytest.mark.parametrize("header", ["If-Match", "If-None-Match"])
def test_storage_without_conditional_writes_is_found_out(place, s3_server, monkeypatch, header):
    ensure_repository(place)
    with without_headers(s3_server, header) as deaf:
        monkeypatch.setenv("AWS_ENDPOINT_URL", deaf)
        ignored = f"{place}: this object storage ignores {header}, so writers could lose"
        with pytest.raises(StoreError, match=ignored), store_lock(place):
            pass
        with pytest.raises(StoreError, match=f"ignores {header}"):
            ensure_repository(f"{place}.new")
        assert not has_repository(f"{place}.new")
        assert objects_of(place).names(lease.LEASE_FOLDER) == objects_of(place).names(PROBE) == []
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    check_conditional_writes(place)


def test_of_two_commits_to_one_branch_the_second_is_told(place):
    ensure_repository(place)
    late = open_repository(place).writable_session("main")
    zarr.create_group(late.store)
    commit(place)
    with pytest.raises(StoreError, match="another process has committed here"), icechunk_errors(str(place)):
        late.commit("late")


@pytest.mark.parametrize(
    ("endpoint", "bucket_name", "message"),
    [
        ("http://127.0.0.1:9", None, "cannot be read: Could not connect to the endpoint"),
        ("http://no-such-host.invalid", None, "cannot be read: Could not connect to the endpoint"),
        (None, "no-such-bucket", "cannot be read: The specified bucket does not exist"),
    ],
)
def test_what_cannot_be_reached_is_one_line_in_seconds(place, monkeypatch, endpoint, bucket_name, message):
    if endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    where = f"s3://{bucket_name or place.bucket}/a"
    for action in (has_repository, open_repository, check_can_hold_store, ensure_repository):
        started = time.monotonic()
        with pytest.raises(StoreError, match=message) as caught:
            action(where)
        assert "\n" not in str(caught.value)
        assert time.monotonic() - started < 20


def test_missing_credentials_are_one_line(place, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(type(file_system(place)), "_cache", keep({}))  # as in a new process
    with pytest.raises(StoreError, match="cannot be read: Unable to locate credentials$"):
        has_repository(place)


def test_secrets_are_in_no_pickle_no_text_and_no_file(place, capfd):
    ensure_repository(place)
    commit(place)
    repository = open_repository(place)
    session = repository.writable_session("main")
    with store_lock(place) as held:
        held.check()
        seen = [
            pickle.dumps(place), pickle.dumps(repository), pickle.dumps(session.fork()),
            pickle.dumps(repository.readonly_session("main")), pickle.dumps(session.fork().store),
            repr([place, place.storage(), repository, session, held]).encode(), *everything(place).values(),
        ]  # fmt: skip
        assert any(b"locloc" in one for one in seen), "the lease is among them"
    seen.append("".join(capfd.readouterr()).encode())
    for secret in (SECRET, KEY_ID):
        assert not any(secret.encode() in one for one in seen)
    fork = pickle.loads(pickle.dumps(session.fork()))  # and it is of use elsewhere, by the environment there
    zarr.open_group(fork.store, mode="r+")["a"][:] = 7


def test_garbage_goes_and_what_is_needed_stays(place):
    ensure_repository(place)
    repository = open_repository(place)
    repository.create_branch("build-1", first_snapshot(repository))
    for salt in (1, 2, 3):
        repository.create_tag(f"v{salt}", commit(place, salt=salt)) if salt < 3 else commit(place, "build-1", salt)
    commit(place, "build-1", 4)
    repository.delete_tag("v1")
    with store_lock(place), pytest.raises(StoreLockedError, match=f"process {os.getpid()} on"):
        collect_garbage(place)
    assert collect_garbage(place).chunks == 16  # of v1, and of the build's first commit
    repository = open_repository(place)
    for where, salt in (({"tag": "v2"}, 2), ({"branch": "build-1"}, 4)):
        array = zarr.open_group(repository.readonly_session(**where).store, mode="r")["a"][:]
        assert np.array_equal(array, np.random.default_rng(salt).random((8, 1000)))
    assert len(objects_of(place).names("chunks")) == 16
    commit(place, "build-1", 5)
    assert collect_garbage(place).chunks == 8
    assert collect_garbage(place).chunks == 0


def locker(place: Place, *options: object) -> subprocess.Popen:
    command = [sys.executable, LOCKER, str(place), *map(str, options)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def quick(monkeypatch) -> None:
    monkeypatch.setattr(lease, "BEAT_S", 0.2)
    monkeypatch.setattr(lease, "STALE_S", 4.0)
    monkeypatch.setattr(lease, "POLL_S", 0.1)


def test_of_four_processes_one_is_inside_at_any_time(place, tmp_path):
    ensure_repository(place)
    lockers = [locker(place, 0.2, 30, "flock", 2, tmp_path / "inside") for _ in range(4)]
    assert [locker.communicate(timeout=180)[0] for locker in lockers] == ["done\n"] * 4
    assert not (tmp_path / "inside").exists()
    assert objects_of(place).names(lease.LEASE_FOLDER) == ["000008.json"], "four processes, twice each"


def test_a_holder_is_named_followed_when_suspended_and_told(place, quick):
    ensure_repository(place)
    with locker(place, 0.2, 4, "flock", "hold") as holder:
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(
                StoreLockedError, match=f"{place} is being written to by process {holder.pid} on .* since 20"
            ),
            store_lock(place),
        ):
            pass
        holder.send_signal(signal.SIGSTOP)
        with store_lock(place) as held:
            holder.send_signal(signal.SIGCONT)
            answer, _ = holder.communicate("check\n", timeout=30)
            assert answer.startswith(f"StoreLockedError: Store {place} was taken over by process {os.getpid()} on ")
            time.sleep(0.5)
            held.check()


def test_a_killed_holder_is_followed_at_once(place):
    ensure_repository(place)
    with locker(place, 5, 30, "flock", "hold") as holder:
        assert holder.stdout.readline() == "held\n"
        holder.kill()
    started = time.monotonic()
    with store_lock(place) as held:
        held.check()
    assert time.monotonic() - started < 25, "without waiting for STALE_S"
