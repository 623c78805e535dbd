"""Location of a store: a local folder, or a prefix in a bucket. The only module that knows schemes and endpoints.

A location never holds credentials. Icechunk and obstore read them from the environment of the process that needs them
(`AWS_ACCESS_KEY_ID`, `AWS_PROFILE`, an instance's role, `GOOGLE_APPLICATION_CREDENTIALS`, ...), so a location, and
everything opened from it, can be pickled, logged and stored.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Union

import icechunk

from ..errors import StoreError, did_you_mean
from ..io.buckets import s3_endpoint, s3_region
from ..io.fsspec_io import without_secrets

REMOTE_SCHEMES = ("s3", "gs")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):/+(.*)", re.DOTALL)  # pathlib folds the slashes of a URL into one


@dataclass(frozen=True)
class StoreLocation:
    """An absolute local folder (`scheme` "file", no bucket), or `s3://bucket/path`, `gs://bucket/path`."""

    scheme: str
    bucket: str
    path: str

    @classmethod
    def of(cls, where: Union[str, Path, "StoreLocation"]) -> "StoreLocation":
        """Parses a folder (also `~/...`) or URL as the user typed it.

        Raises StoreError for a wrong scheme or prefix or a password.
        """
        if isinstance(where, StoreLocation):
            return where
        url = _URL.fullmatch(os.fspath(where))
        if url is None:
            return cls("file", "", os.path.abspath(os.path.expanduser(where)))
        scheme, rest = url[1].lower(), url[2]
        bucket, _, path = rest.partition("/")
        if "@" in bucket or ":" in bucket:  # a password may contain slashes: repeat nothing of the URL
            raise StoreError(
                f"{scheme}://... has a password in it, which would end up in logs; "
                f"write {scheme}://BUCKET/PREFIX and keep credentials in the environment"
            )
        if scheme not in REMOTE_SCHEMES:
            raise StoreError(f"{scheme}:// cannot hold a store{did_you_mean(scheme, REMOTE_SCHEMES)}; or use a folder")
        parts = [part for part in path.split("/") if part]
        if not bucket or not parts:
            raise StoreError(
                f"{scheme}://{bucket} names no store: a store needs its own prefix in a bucket, "
                f"such as {scheme}://{bucket or 'BUCKET'}/masks.store"
            )
        if {".", ".."} & set(parts):
            raise StoreError(
                f"{scheme}://{bucket}/{path}: '.' and '..' mean nothing in a bucket; write the whole prefix"
            )
        return cls(scheme, bucket, "/".join(parts))

    def __str__(self) -> str:
        return f"{self.scheme}://{self.key}" if self.is_remote else self.path

    @property
    def kind(self) -> str:
        """What is written there: the lock of a store (`lock.py`) is a run's too."""
        return "store"

    @property
    def said(self) -> str:
        """How error lines of the lock begin."""
        return f"Store {self}"

    @property
    def is_remote(self) -> bool:
        return self.scheme != "file"

    @property
    def folder(self) -> Path:
        """The folder of a local store. Raises ValueError for a remote one."""
        if self.is_remote:
            raise ValueError(f"{self} is no folder")
        return Path(self.path)

    @property
    def key(self) -> str:
        """`bucket/path`."""
        return f"{self.bucket}/{self.path}"

    def storage(self) -> icechunk.Storage:
        """Icechunk's storage. Credentials are read from the environment at use and are not pickled."""
        if self.scheme == "s3":
            endpoint = _s3_endpoint()
            return icechunk.s3_storage(
                bucket=self.bucket,
                prefix=self.path,
                region=s3_region(),
                endpoint_url=endpoint,
                allow_http=endpoint is not None and endpoint.startswith("http://"),
                force_path_style=endpoint is not None,
                from_env=True,
            )
        if self.scheme == "gs":
            return icechunk.gcs_storage(bucket=self.bucket, prefix=self.path, from_env=True)
        return icechunk.local_filesystem_storage(self.path)


def _s3_endpoint() -> str | None:
    try:
        return s3_endpoint()
    except ValueError as error:
        raise StoreError(str(error)) from None


def split_version_name(name: str) -> tuple[str, str]:
    """`"STORE@VERSION"` > the store as the user wrote it, and the version. Raises StoreError for another form."""
    store, _, tag = str(name).rpartition("@")
    if not store or not tag or "/" in tag:
        raise StoreError(
            f"{without_secrets(str(name))!r} names no version; write {without_secrets(_advised(str(name)))}"
        )
    return store, tag


def _advised(name: str) -> str:
    """What may have been meant by a name without a store or a version: a shell completes `st@v1` to `st@v1/`."""
    trimmed = name.rstrip("/").rstrip("@")
    store, _, tag = trimmed.rpartition("@")
    if store and tag and "/" not in tag:
        return trimmed
    if not trimmed or trimmed.startswith("@"):
        return f"STORE{trimmed or '@latest'}, with the store's folder or URL"
    return f"{trimmed}@latest, or @v1 and so on"
