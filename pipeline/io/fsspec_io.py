"""Files by URL, through fsspec: `s3://bucket/prefix`, `gs://...`, and whatever other protocol has a package installed.

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

# A request waits 5 s for a connection and 20 s for bytes; libraries retry with growing pauses. An endpoint that does
# not answer fails after about 30 s, a single file after `READ_DEADLINE_S` in any case.
CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 20
READ_DEADLINE_S = 60
ATTEMPTS = 5

_S3, _GS = ("s3", "s3a"), ("gs", "gcs")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
# "name:secret@" (a secret may hold slashes; a port number is no secret), and in web addresses all text before an "@".
_SECRET = re.compile(r"(?<=://)[^/@:\s]*:(?!\d+(?:/|\Z))[^@\s]*@|(?<=http://)[^/@\s]+@|(?<=https://)[^/@\s]+@")

# S3's error codes for one object. Other codes concern the bucket or the client; a bare 403 or 404 comes from a proxy.
_OBJECT_CODES = frozenset({
    "NoSuchKey", "NoSuchVersion", "AccessDenied", "InvalidObjectState", "KeyTooLongError",
    "InvalidRange",
})  # fmt: skip
_OBJECT_STATUS = frozenset({403, 404, 410, 414, 416})

# What file systems call the mark of a file's content, the surest first.
_MARKS = ("ETag", "etag", "md5Hash", "LastModified", "last_modified", "updated", "mtime", "created")

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
    if protocol != "memory" and (not rest.strip("/") or (protocol in (*_S3, *_GS) and rest.startswith("/"))):
        raise ValueError(f"{shown} names no bucket or host")
    _filesystem_class(protocol, shown)
    return f"{protocol}://{rest}"


def read_remote(url: str, start: int = 0, stop: int | None = None) -> bytes:
    """The bytes of one file, or bytes `start` to `stop - 1` of it, as many as there are. Thread-safe.

    Raises FileNotFoundError with the reason: no such file, or no permission. UnreachableError: everything else.
    """
    filesystem = open_filesystem(url)
    path = filesystem._strip_protocol(url)
    try:
        if filesystem.async_impl:
            from fsspec.asyn import sync

            part = {} if stop is None and not start else {"start": start, "end": stop}
            data = sync(filesystem.loop, filesystem._cat_file, path, timeout=READ_DEADLINE_S, **part)
        else:
            with _lock:  # FTP and similar protocols allow one request at a time
                data = filesystem.cat_file(path, start or None, stop)
    except Exception as error:  # each library raises its own classes
        if reason := _object_is_missing(error):
            raise FileNotFoundError(reason) from None
        raise _unreachable(url, error) from None
    if stop is not None and len(data) > stop - start:  # a web server that sends whole files
        return data[start:stop]
    return data


def remote_stamp(url: str) -> tuple[int, str]:
    """The size of a file in bytes, and a text that changes with its content: the ETag, or a time. One request.

    Raises as `read_remote`.
    """
    filesystem = open_filesystem(url)
    try:
        with _lock:
            info = filesystem.info(filesystem._strip_protocol(url))
    except Exception as error:
        if reason := _object_is_missing(error):
            raise FileNotFoundError(reason) from None
        raise _unreachable(url, error) from None
    mark = next((info[key] for key in _MARKS if info.get(key)), "")
    return int(info.get("size") or 0), str(mark)


def list_remote(url: str) -> list[str]:
    """Names of all files below a URL, relative to it, in any order; one recursive listing.

    Raises FileNotFoundError and UnreachableError as `read_remote`; NotADirectoryError where the URL is a file.
    """
    filesystem = open_filesystem(url)
    try:
        base = filesystem._strip_protocol(url)
        paths = filesystem.find(base)
    except Exception as error:
        if reason := _object_is_missing(error):
            raise FileNotFoundError(reason) from None
        raise _unreachable(url, error) from None
    if paths == [base]:
        raise NotADirectoryError("a file, not a folder")
    prefix_length = len(base.rstrip("/")) + 1
    return [path[prefix_length:] for path in paths]


def open_filesystem(url: str) -> Any:
    """The fsspec file system of a URL's bucket or host: one per process, shared by its threads."""
    host = "/".join(url.split("/", 3)[:3])
    with _lock:
        if host not in _filesystems:
            protocol = host.partition(":")[0]
            try:
                filesystem_class = _filesystem_class(protocol, without_secrets(host))
                options = filesystem_class._get_kwargs_from_urls(host) | _options(protocol)
                # fsspec's own cache is off: for some protocols it keeps an instance for every thread, also ended ones
                _filesystems[host] = filesystem_class(**options, skip_instance_cache=True, use_listings_cache=False)
            except Exception as error:
                raise _unreachable(url, error) from None
        return _filesystems[host]


def _filesystem_class(protocol: str, shown: str) -> Any:
    import fsspec

    try:
        filesystem_class = fsspec.get_filesystem_class(protocol)
        if protocol in _GS:  # the package's default class asks a second service about the bucket, and hung
            from gcsfs.core import GCSFileSystem

            return GCSFileSystem
        return filesystem_class
    except ImportError:
        remedy = "pip install locloc[cluster]" if protocol in (*_S3, *_GS) else f"see fsspec's {protocol!r}"
        raise ValueError(f"{shown} needs a package that is not installed; {remedy}") from None
    except ValueError:
        raise ValueError(f"{shown}: unknown protocol {protocol!r}; s3, gs and fsspec's others are known") from None


def _options(protocol: str) -> dict[str, Any]:
    if protocol in _S3:
        retries = {"mode": "standard", "total_max_attempts": ATTEMPTS}
        timeouts = {"connect_timeout": CONNECT_TIMEOUT_S, "read_timeout": READ_TIMEOUT_S}
        # with max_concurrency above 1, s3fs requests the size first: two requests an image
        return {"config_kwargs": {**timeouts, "retries": retries}, "max_concurrency": 1}
    if protocol in _GS:
        return {"requests_timeout": _aiohttp_timeout()}
    if protocol in ("http", "https"):
        return {"client_kwargs": {"timeout": _aiohttp_timeout()}}
    return {}


def _aiohttp_timeout() -> Any:
    from aiohttp import ClientTimeout

    return ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=READ_TIMEOUT_S)


def _object_is_missing(error: Exception) -> str:
    """The reason, if the error concerns the requested file alone; else the empty string."""
    response = getattr(error.__cause__, "response", None)  # s3fs raises a plain error with botocore's as its cause
    if isinstance(response, dict):
        code = str(response.get("Error", {}).get("Code", ""))
        return _reason(error, code) if code in _OBJECT_CODES else ""
    if isinstance(error, (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)):
        return _reason(error)
    if type(error) is OSError and str(error).startswith("Forbidden: "):  # gcsfs
        return "permission denied"
    status = next((value for name in ("status", "code", "status_code") if (value := getattr(error, name, None))), "")
    return _reason(error, f"status {status}") if str(status).isdigit() and int(status) in _OBJECT_STATUS else ""


def _reason(error: Exception, code: str = "") -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, PermissionError) and code != "InvalidObjectState":
        return "permission denied"
    if isinstance(error, IsADirectoryError):
        return "a directory, not a file"
    return code or type(error).__name__


def _unreachable(url: str, error: Exception) -> UnreachableError:
    first_line = next(iter(str(error).splitlines()), "")[:300]
    reason = without_secrets(f"{type(error).__name__}: {first_line}" if first_line else type(error).__name__)
    return UnreachableError(
        f"Images cannot be reached: {without_secrets(url)}: {reason}; check network and credentials, then resume"
    )
