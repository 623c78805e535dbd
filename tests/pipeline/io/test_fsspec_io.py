"""Files by URL: failures of one image, failures of the network or the disk; threads, forks and a deadline."""

import os
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from locloc.pipeline.catalogs import read_catalog
from locloc.pipeline.errors import UnreachableError
from locloc.pipeline.io import fsspec_io, image_files
from locloc.pipeline.io.images import MissingImageError, read_image_bytes


class Answer(Exception):
    def __init__(self, status):
        super().__init__(f"status {status}")
        self.status = status


def s3(error, code):
    """As s3fs raises: a plain error whose cause is botocore's."""
    error.__cause__ = Exception(code)
    error.__cause__.response = {"Error": {"Code": code}}
    return error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (FileNotFoundError("x"), "no such file"),
        (PermissionError("x"), "permission denied"),
        (IsADirectoryError("x"), "a directory, not a file"),
        (s3(FileNotFoundError("x"), "NoSuchKey"), "no such file"),
        (s3(PermissionError("x"), "AccessDenied"), "permission denied"),
        (s3(PermissionError("x"), "InvalidObjectState"), "InvalidObjectState"),
        (OSError("Forbidden: https://x"), "permission denied"),
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
        s3(OSError(16, "Please reduce your request rate"), "SlowDown"),
        s3(PermissionError("The token has expired"), "ExpiredToken"),
        s3(PermissionError("x"), "InvalidAccessKeyId"),
        s3(PermissionError("x"), "RequestTimeTooSkewed"),
        s3(FileNotFoundError("x"), "NoSuchBucket"),
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
    import asyncio

    from fsspec.asyn import get_loop

    async def never(path):
        await asyncio.sleep(3600)

    stuck = SimpleNamespace(async_impl=True, loop=get_loop(), _cat_file=never, _strip_protocol=lambda url: url)
    monkeypatch.setattr(fsspec_io, "open_filesystem", lambda url: stuck)
    monkeypatch.setattr(fsspec_io, "READ_DEADLINE_S", 0.2)
    begin = time.monotonic()
    with pytest.raises(UnreachableError, match="FSTimeoutError"):
        read_image_bytes("s3://bucket/a.jpg")
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
