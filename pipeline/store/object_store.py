"""Small files of a store beside Icechunk's own, in a folder or a bucket: the five operations that a lease needs.

Creating a file is exclusive (`O_EXCL`, `If-None-Match`): if two processes create the same file, one of them gets False.
Every error is a StoreError of one line; a request on a network takes at most `TIMEOUT_S`.
"""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from ..errors import StoreError, os_error_reason
from ..io.buckets import Bucket, BucketError, Limits
from .location import StoreLocation

TIMEOUT_S = 20.0
PROBE = "locloc.probe"


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
            raise StoreError(f"{self._location.said} cannot be {action}: {os_error_reason(error)}") from None


class BucketObjectStore:
    """Files of a remote store."""

    def __init__(self, location: StoreLocation):
        self._location = location
        self._bucket = Bucket(location.scheme, location.bucket, Limits(read_s=10, attempts=3, deadline_s=TIMEOUT_S))

    def names(self, folder: str = "") -> list[str]:
        with self._errors("read"):
            return self._bucket.names(self._key(folder).rstrip("/"))

    def read(self, name: str) -> bytes | None:
        with self._errors("read"):
            try:
                return self._bucket.read(self._key(name))
            except BucketError as error:
                if error.is_missing:
                    return None
                raise

    def create(self, name: str, data: bytes) -> bool:
        with self._errors("written to"):
            try:
                self._bucket.create(self._key(name), data)
                return True
            except BucketError as error:
                if not error.exists:
                    raise
        return self.read(name) == data  # True for a retry after a lost answer: the file is its own

    def replace(self, name: str, data: bytes) -> None:
        with self._errors("written to"):
            self._bucket.write(self._key(name), data)

    def remove(self, name: str) -> None:
        with self._errors("written to"):
            self._bucket.remove(self._key(name))

    def replace_if(self, name: str, data: bytes, etag: str) -> bool:
        """S3 only: overwrites a file whose etag is `etag`; False if it has another."""
        with self._errors("written to"):
            try:
                self._bucket.write(self._key(name), data, etag)
                return True
            except BucketError as error:
                if error.exists:
                    return False
                raise

    def _key(self, name: str) -> str:
        return f"{self._location.path}/{name}"

    @contextmanager
    def _errors(self, action: str) -> Iterator[None]:
        try:
            yield
        except BucketError as error:
            raise StoreError(f"Store {self._location} cannot be {action}: {error}") from None
