"""Files by URL: `s3://bucket/prefix` and `gs://...` (buckets.py), and other protocols through fsspec.

Credentials come from the environment, by the rules of each protocol's library. None is taken from a URL, kept in an
object that is pickled, or repeated in a message.

A file that does not exist or that we may not read is FileNotFoundError. Everything else (network, throttling,
outage, expired credentials) is UnreachableError: a network fault must not be recorded as a thousand missing images.
"""

import os
import re
import threading
from typing import Any, TypeGuard

from ..errors import UnreachableError
from .buckets import CONNECT_S, SCHEMES, Bucket, BucketError, Limits

# A request waits 5 s for a connection and 20 s for bytes, and is repeated with growing pauses. An endpoint that does
# not answer fails after about 30 s, a single file after `READ_DEADLINE_S` in any case.
READ_TIMEOUT_S = 20
READ_DEADLINE_S = 60
ATTEMPTS = 5

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
# "name:secret@" (a secret may hold slashes; a port number is no secret), and in web addresses all text before an "@".
_SECRET = re.compile(r"(?<=://)[^/@:\s]*:(?!\d+(?:/|\Z))[^@\s]*@|(?<=http://)[^/@\s]+@|(?<=https://)[^/@\s]+@")

_OBJECT_STATUS = frozenset({403, 404, 410, 414, 416})

# What file systems call the mark of a file's content, the surest first.
_MARKS = ("ETag", "etag", "LastModified", "last_modified", "updated", "mtime", "created")

_filesystems: dict[str, Any] = {}
_lock = threading.RLock()


def _reset_after_fork() -> None:
    """Drops connections in a forked child, which must not use its parent's."""
    global _lock
    _filesystems.clear()
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_reset_after_fork)


def is_url(text: object) -> TypeGuard[str]:
    return isinstance(text, str) and _URL.match(text) is not None


def without_secrets(text: str) -> str:
    """`text` with `***` for the names and secrets that stand before an `@` in its URLs."""
    return _SECRET.sub("***@", text)


def tidy_url(url: str) -> str:
    """A URL with its protocol in lower case and no slash at its end. Sends no request.

    Raises ValueError with the reason: no bucket or host, a secret inside, a protocol that is unknown or lacks its
    package.
    """
    match = _URL.fullmatch(url)
    assert match is not None, "callers test is_url first"
    protocol, rest = match[1].lower(), match[2].rstrip("/")
    shown = without_secrets(f"{protocol}://{rest}")
    if shown != f"{protocol}://{rest}":
        raise ValueError(f"{shown} holds a secret; give credentials by the environment, not in the address")
    if protocol in ("http", "https") and ("?" in rest or "#" in rest):
        raise ValueError(f"{shown.partition('?')[0].partition('#')[0]} goes on with '?' or '#'; give a plain address")
    if protocol != "memory" and (not rest.strip("/") or (protocol in SCHEMES and rest.startswith("/"))):
        raise ValueError(f"{shown} names no bucket or host")
    _check_protocol(protocol, shown)
    return f"{protocol}://{rest}"


def read_remote(url: str, start: int = 0, stop: int | None = None) -> bytes:
    """The bytes of one file, or bytes `start` to `stop - 1` of it, as many as there are. Thread-safe.

    Raises FileNotFoundError with the reason: no such file, or no permission. UnreachableError: everything else.
    """
    try:
        if (found := _in_bucket(url)) is not None:
            bucket, key = found
            return bucket.read(key, start, stop)
        filesystem = open_filesystem(url)
        if filesystem.async_impl:
            part = {} if stop is None and not start else {"start": start, "end": stop}
            data = filesystem.cat_file(url, timeout=READ_DEADLINE_S, **part)
        else:
            with _lock:  # FTP and similar protocols allow one request at a time
                data = filesystem.cat_file(url, start or None, stop)
    except Exception as error:  # each library raises its own classes
        raise _as_ours(url, error) from None
    if stop is not None and len(data) > stop - start:  # a web server that sends whole files
        return bytes(data[start:stop])
    return bytes(data)


def remote_stamp(url: str) -> tuple[int, str]:
    """The size of a file in bytes, and a text that changes with its content: the ETag, or a time. One request.

    Raises as `read_remote`.
    """
    try:
        if (found := _in_bucket(url)) is not None:
            bucket, key = found
            return bucket.stamp(key)
        with _lock:
            info = open_filesystem(url).info(url)
    except Exception as error:
        raise _as_ours(url, error) from None
    mark = next((info[key] for key in _MARKS if info.get(key)), "")
    return int(info.get("size") or 0), str(mark)


def list_remote(url: str) -> list[str]:
    """Names of all files below a URL, relative to it, in any order; one recursive listing.

    Raises FileNotFoundError and UnreachableError as `read_remote`; NotADirectoryError where the URL is a file.
    """
    try:
        if (found := _in_bucket(url)) is not None:
            bucket, base = found
            paths = [entry.key for entry in bucket.below(base)]
            if not paths and base:
                paths = [base] if _is_object(bucket, base) else []
        else:
            from fsspec.core import strip_protocol

            base = strip_protocol(url)
            paths = open_filesystem(url).find(url)
    except Exception as error:
        raise _as_ours(url, error) from None
    if paths == [base]:
        raise NotADirectoryError("a file, not a folder")
    prefix_length = len(base.rstrip("/")) + 1 if base else 0
    return [path[prefix_length:] for path in paths]


def _is_object(bucket: Bucket, key: str) -> bool:
    try:
        bucket.stamp(key)
    except BucketError as error:
        if error.is_missing:
            return False
        raise
    return True


def _in_bucket(url: str) -> tuple[Bucket, str] | None:
    """The bucket of a URL, one per process, and the object's key; None for other protocols."""
    protocol, _, rest = url.partition("://")
    if protocol not in SCHEMES:
        return None
    name, _, key = rest.partition("/")
    host = f"{protocol}://{name}"
    with _lock:
        if host not in _filesystems:
            _filesystems[host] = Bucket(SCHEMES[protocol], name, limits())
        return _filesystems[host], key


def open_filesystem(url: str) -> Any:
    """The fsspec file system of a URL's host, for protocols without buckets: one per process, shared by its threads."""
    host = "/".join(url.split("/", 3)[:3])
    with _lock:
        if host not in _filesystems:
            protocol = host.partition(":")[0]
            try:
                from fsspec.core import url_to_fs

                # fsspec's own cache is off: for some protocols it keeps an instance for every thread, also ended ones
                options = {"skip_instance_cache": True, "use_listings_cache": False, **_options(protocol)}
                _filesystems[host], _ = url_to_fs(host, **options)
            except Exception as error:
                raise _unreachable(url, error) from None
        return _filesystems[host]


def bucket_below(url: str) -> Bucket | None:
    """What is below a URL in a bucket; None for other protocols."""
    protocol, _, rest = url.partition("://")
    name, _, prefix = rest.partition("/")
    return Bucket(SCHEMES[protocol], name, limits(), prefix or None) if protocol in SCHEMES else None


def limits() -> Limits:
    return Limits(READ_TIMEOUT_S, ATTEMPTS, READ_DEADLINE_S)


def _check_protocol(protocol: str, shown: str) -> None:
    """Raises ValueError for a protocol that is unknown or lacks its package."""
    import importlib.util

    import fsspec

    try:
        if protocol not in SCHEMES:
            fsspec.get_filesystem_class(protocol)
        elif importlib.util.find_spec("obstore") is None:
            raise ImportError
    except ImportError:
        remedy = "pip install locloc[cluster]" if protocol in SCHEMES else f"see fsspec's {protocol!r}"
        raise ValueError(f"{shown} needs a package that is not installed; {remedy}") from None
    except ValueError:
        raise ValueError(f"{shown}: unknown protocol {protocol!r}; s3, gs and fsspec's others are known") from None


def _options(protocol: str) -> dict[str, Any]:
    return {"client_kwargs": {"timeout": _aiohttp_timeout()}} if protocol in ("http", "https") else {}


def _aiohttp_timeout() -> Any:
    from aiohttp import ClientTimeout

    return ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=READ_TIMEOUT_S)


def _as_ours(url: str, error: Exception) -> Exception:
    """FileNotFoundError with the reason, if the error concerns the requested file alone; else UnreachableError."""
    if isinstance(error, UnreachableError):
        return error
    reason = _object_is_missing(error)
    return FileNotFoundError(reason) if reason else _unreachable(url, error)


def _object_is_missing(error: Exception) -> str:
    """The reason, if the error concerns the requested file alone; else the empty string."""
    if isinstance(error, BucketError):
        if error.code == "InvalidKey":
            return f"{error}; rename it"
        if not error.of_object:
            return ""
        return {"AccessDenied": "permission denied"}.get(error.code, "no such file" if error.is_missing else error.code)
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, PermissionError):
        return "permission denied"
    if isinstance(error, IsADirectoryError):
        return "a directory, not a file"
    if isinstance(error, NotADirectoryError):
        return type(error).__name__
    status = next((value for name in ("status", "code", "status_code") if (value := getattr(error, name, None))), "")
    return f"status {status}" if str(status).isdigit() and int(status) in _OBJECT_STATUS else ""


def _unreachable(url: str, error: Exception) -> UnreachableError:
    first_line = next(iter(str(error).splitlines()), "")[:300]
    kind = "" if isinstance(error, BucketError) else type(error).__name__
    reason = without_secrets(": ".join(part for part in (kind, first_line) if part))
    return UnreachableError(
        f"Images cannot be reached: {without_secrets(url)}: {reason}; check network and credentials, then resume"
    )
