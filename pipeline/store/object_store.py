"""Small files of a store beside Icechunk's own, in a folder or a bucket: the five operations that a lease needs.

Creating a file is exclusive (`O_EXCL`, `If-None-Match`): if two processes create the same file, one of them gets False.
Every error is a StoreError of one line; a request on a network takes at most `TIMEOUT_S`.
"""

import logging
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from ..errors import StoreError, os_error_reason
from .location import StoreLocation, file_system

TIMEOUT_S = 20.0
PROBE = "locloc.probe"

_PRECONDITION_CODES = ("PreconditionFailed", "412", "ConditionalRequestConflict")


class ObjectStore(Protocol):
    """Files by their names relative to the store, such as `locloc.lease/000007.json`."""

    def names(self, folder: str = "") -> list[str]:
        """Names directly in a folder, sorted; none if it does not exist."""

    def read(self, name: str) -> bytes | None:
        """A file's content, None if it does not exist."""

    def create(self, name: str, data: bytes) -> bool:
        """Creates a file; False if it exists. `data` must be unique to this process."""

    def replace(self, name: str, data: bytes) -> None:
        """Overwrites an existing file."""

    def remove(self, name: str) -> None:
        """Removes a file if it exists."""


def open_object_store(location: StoreLocation) -> ObjectStore:
    return BucketObjectStore(location) if location.is_remote else FolderObjectStore(location)


def check_conditional_writes(location: StoreLocation) -> None:
    """Raises StoreError for a bucket that ignores If-None-Match or If-Match, where writers would overwrite each other.

    Icechunk moves a branch with If-Match, and a lease is created with If-None-Match. Writes a probe file three times
    and removes it.
    """
    bucket, name = BucketObjectStore(location), f"{PROBE}/{uuid.uuid4().hex}"
    bucket.create(name, b"1")
    try:
        exclusive = not bucket.create(name, b"2")
        compared = location.scheme != "s3" or not bucket.replace_if(name, b"3", etag=f'"{"0" * 32}"')
    finally:
        bucket.remove(name)
    if not (exclusive and compared):
        header = "If-Match" if exclusive else "If-None-Match"
        raise StoreError(
            f"Store {location}: this object storage ignores {header}, so writers could lose each other's work unseen; "
            "use one with conditional writes, or a local folder"
        )


class FolderObjectStore:
    """Files of a local store."""

    def __init__(self, location: StoreLocation):
        self._location = location

    def names(self, folder: str = "") -> list[str]:
        with self._errors("read"):
            try:
                return sorted(os.listdir(self._path(folder)))
            except FileNotFoundError:
                return []

    def read(self, name: str) -> bytes | None:
        with self._errors("read"):
            try:
                return self._path(name).read_bytes()
            except FileNotFoundError:
                return None

    def create(self, name: str, data: bytes) -> bool:
        with self._errors("written to"):
            self._path(name).parent.mkdir(exist_ok=True)
            try:
                file = os.open(self._path(name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            except FileExistsError:
                return False
            try:
                os.write(file, data)
            except OSError:
                self._path(name).unlink()
                raise
            finally:
                os.close(file)
        return True

    def replace(self, name: str, data: bytes) -> None:
        # In place, not by a rename: content of the same length needs no space, so a full disk does not end a lease,
        # and a file that another process removed is not created again.
        with self._errors("written to"):
            file = os.open(self._path(name), os.O_WRONLY)
            try:
                os.pwrite(file, data, 0)
                os.ftruncate(file, len(data))
            finally:
                os.close(file)

    def remove(self, name: str) -> None:
        with self._errors("written to"):
            self._path(name).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self._location.folder / name

    @contextmanager
    def _errors(self, action: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(f"Store {self._location} cannot be {action}: {os_error_reason(error)}") from None


class BucketObjectStore:
    """Files of a remote store, through fsspec."""

    def __init__(self, location: StoreLocation):
        self._location = location
        self._files = file_system(location)

    def names(self, folder: str = "") -> list[str]:
        top = self._key(folder).rstrip("/")
        try:
            paths = self._call("read", self._files._ls, top, detail=False)
        except FileNotFoundError:
            return []
        return sorted(path[len(top) + 1 :].rstrip("/") for path in paths if path.startswith(f"{top}/"))

    def read(self, name: str) -> bytes | None:
        try:
            content: bytes = self._call("read", self._files._cat_file, self._key(name))
        except FileNotFoundError:
            return None
        return content

    def create(self, name: str, data: bytes) -> bool:
        try:
            self._call("written to", self._files._pipe_file, self._key(name), data, mode="create")
        except FileExistsError:
            return self.read(name) == data  # True for a retry after a lost answer: the file is its own
        return True

    def replace(self, name: str, data: bytes) -> None:
        self._call("written to", self._files._pipe_file, self._key(name), data)

    def remove(self, name: str) -> None:
        try:
            self._call("written to", self._files._rm_file, self._key(name))
        except FileNotFoundError:
            return

    def replace_if(self, name: str, data: bytes, etag: str) -> bool:
        """S3 only: overwrites a file whose etag is `etag`; False if it has another."""
        bucket, _, key = self._key(name).partition("/")
        try:
            self._call(
                "written to", self._files._call_s3, "put_object", Bucket=bucket, Key=key, Body=data, IfMatch=etag
            )
        except FileExistsError:
            return False
        return True

    def _key(self, name: str) -> str:
        return f"{self._location.key}/{name}"

    def _call(self, action: str, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Runs a coroutine of fsspec. FileNotFoundError and FileExistsError pass; others become StoreError."""
        from fsspec.asyn import sync

        logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # it logs tracebacks of errors that it also raises
        try:
            return sync(self._files.loop, method, *args, timeout=TIMEOUT_S, **kwargs)
        except Exception as error:  # botocore, aiohttp and google.auth share no base class
            code = getattr(error.__cause__, "response", {}).get("Error", {}).get("Code")
            if isinstance(error, FileExistsError) or code in _PRECONDITION_CODES:
                raise FileExistsError(str(self._location)) from None
            if isinstance(error, FileNotFoundError) and "bucket does not exist" not in str(error):
                raise
            lines = (str(error) or type(error).__name__).strip().splitlines()
            reason = "no answer" if isinstance(error, TimeoutError) else lines[0].rstrip(".")
            raise StoreError(f"Store {self._location} cannot be {action}: {reason}") from error
