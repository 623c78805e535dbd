"""Files by URL: failures of one image, failures of the network or the disk; threads, forks and a deadline."""

import os
import pickle
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from locloc.pipeline.catalogs.registry import read_catalog
from locloc.pipeline.errors import UnreachableError
from locloc.pipeline.io import fsspec_io, image_files
from locloc.pipeline.io.buckets import BucketError
from locloc.pipeline.io.images import MissingImageError, read_image_bytes


class Answer(Exception):
    def __init__(self, status):
        super().__init__(f"status {status}")
        self.status = status


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (FileNotFoundError("x"), "no such file"),
        (PermissionError("x"), "permission denied"),
        (IsADirectoryError("x"), "a directory, not a file"),
        (BucketError("x", "NoSuchKey"), "no such file"),
        (BucketError("x", "AccessDenied"), "permission denied"),
        (BucketError("x", "InvalidObjectState"), "InvalidObjectState"),
        (BucketError("an empty segment", "InvalidKey"), "an empty segment; rename it"),
        (Answer(404), "status 404"),
        (Answer("403"), "status 403"),
    ],
)
def test_a_failure_of_one_image_is_its_status(memory, monkeypatch, error, reason):
    monkeypatch.setattr(type(memory), "cat_file", fail_with(error))
    with pytest.raises(MissingImageError, match=f"^{reason}$"):
        read_image_bytes("memory://b/a.jpg")


@pytest.mark.parametrize(
    "error",
    [
        TimeoutError("slow"),
        ConnectionResetError("gone"),
        OSError(5, "Internal error"),
        BucketError("Please reduce your request rate", "SlowDown"),
        BucketError("The token has expired", "ExpiredToken"),
        BucketError("x", "InvalidAccessKeyId"),
        BucketError("x", "RequestTimeTooSkewed"),
        BucketError("x", "NoSuchBucket"),
        Answer(503),
        Answer(401),
        Answer(429),
        RuntimeError("a library's own kind"),
        OSError("http://key:secret@host:9000 refused"),
    ],
)
def test_a_failure_of_the_network_is_no_status(memory, monkeypatch, error):
    monkeypatch.setattr(type(memory), "cat_file", fail_with(error))
    monkeypatch.setattr(type(memory), "find", fail_with(error))
    for read in (lambda: read_image_bytes("memory://b/a.jpg"), lambda: read_catalog("memory://b")):
        with pytest.raises(UnreachableError, match=r"^Images cannot be reached: memory://b.*; check network") as caught:
            read()
        assert "secret" not in str(caught.value)
        assert caught.value.__cause__ is None and caught.value.__suppress_context__
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def fail_with(error):
    def fail(*arguments, **options):
        raise error

    return fail


@pytest.mark.parametrize("number", sorted(image_files._SYSTEM_ERRORS))
def test_a_failing_disk_is_no_status(tmp_path, monkeypatch, number):
    (tmp_path / "a.jpg").touch()
    monkeypatch.setattr(image_files.os, "open", fail_with(OSError(number, os.strerror(number))))
    with pytest.raises(UnreachableError, match=r"^Images cannot be reached: .*/a.jpg: .*; check the disk"):
        read_image_bytes(tmp_path / "a.jpg")


def test_a_disk_that_fails_while_reading_is_no_status():
    with pytest.raises(UnreachableError, match=r"/proc/self/mem: reading failed: input/output error"):
        read_image_bytes(Path("/proc/self/mem"))  # page 0 is never mapped


def test_threads_share_one_file_system(memory):
    memory.pipe_file("/bucket/a.jpg", b"an image")
    url = "memory://bucket/a.jpg"
    opened = []

    def read(_):
        opened.append(fsspec_io.open_filesystem(url))
        return read_image_bytes(url)

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(read, range(200))) == {b"an image"}
    assert len(set(map(id, opened))) == 1


def test_a_read_without_an_answer_ends_at_the_deadline(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, never says a word
        monkeypatch.setattr(fsspec_io, "READ_DEADLINE_S", 0.2)
        begin = time.monotonic()
        with pytest.raises(UnreachableError, match="FSTimeoutError"):
            read_image_bytes(f"http://127.0.0.1:{silent.getsockname()[1]}/a.jpg")
    assert time.monotonic() - begin < 10


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # tests that it does not deadlock
def test_a_forked_child_opens_its_own_file_system(memory):
    parents = fsspec_io.open_filesystem("memory://bucket")
    held = threading.Event()

    def hold():
        with fsspec_io._lock:
            held.set()
            time.sleep(2)

    threading.Thread(target=hold).start()
    held.wait()
    child = os.fork()  # while another thread has the lock
    if child == 0:
        fresh = False
        try:
            fresh = not fsspec_io._filesystems and fsspec_io.open_filesystem("memory://bucket") is not parents
        finally:
            os._exit(0 if fresh else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
