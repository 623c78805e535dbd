"""Files by URL, through fsspec: `s3://bucket/prefix`, `gs://...`, and whatever other protocol has a package installed.

Credentials come from the environment, as each protocol's own library looks for them. None is taken from a URL, kept in
an object that is pickled, or repeated in a message.

A file that is not there, or that we may not read, is a fact about that file: FileNotFoundError. Everything else
(network, throttling, an outage, expired credentials) is UnreachableError, since a hiccup must not be written down as
a thousand missing images.
"""

import os
import re
import threading
from typing import Any

from ..errors import UnreachableError

# A request waits 5 s for a connection and 20 s for bytes; libraries try again with growing pauses. An endpoint that
# does not answer has failed after about 30 s, and a single file after `READ_DEADLINE_S` whatever the library does.
CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 20
READ_DEADLINE_S = 60
ATTEMPTS = 5

_S3, _GS = ("s3", "s3a"), ("gs", "gcs")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
# "name:secret@" (a secret may hold slashes, a port is none), and for web addresses whatever stands before an "@".
_SECRET = re.compile(r"(?<=://)[^/@:\s]*:(?!\d+(?:/|\Z))[^@\s]*@|(?<=http://)[^/@\s]+@|(?<=https://)[^/@\s]+@")

# What S3 says of one object; other codes concern the bucket or who asks, and a bare 403 or 404 is some proxy's.
_OBJECT_CODES = frozenset({"NoSuchKey", "NoSuchVersion", "AccessDenied", "InvalidObjectState", "KeyTooLongError"})
_OBJECT_STATUS = frozenset({403, 404, 410, 414})

_filesystems: dict[str, Any] = {}
_lock = threading.RLock()


def _forget() -> None:
    """A forked child must not use its parent's connections: it opens its own."""
    global _lock
    _filesystems.clear()
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_forget)


def is_url(text: object) -> bool:
    return isinstance(text, str) and _URL.match(text) is not None


def without_secrets(text: str) -> str:
    """`text` with `***` for the names and secrets that stand before an `@` in its URLs."""
    return _SECRET.sub("***@", text)


def tidy_url(url: str) -> str:
    """A URL with its protocol in lower case and no slash at its end.

    Raises ValueError with the reason: no bucket or host, a secret inside, a protocol that is unknown or lacks its
    package. Nothing is sent.
    """
    protocol, rest = _URL.fullmatch(url).groups()
    protocol, rest = protocol.lower(), rest.rstrip("/")
    shown = without_secrets(f"{protocol}://{rest}")
    if shown != f"{protocol}://{rest}":
        raise ValueError(f"{shown} holds a secret; give credentials by the environment, not in the address")
    if protocol in ("http", "https") and ("?" in rest or "#" in rest):
        raise ValueError(f"{shown.partition('?')[0].partition('#')[0]} goes on with '?' or '#'; give a plain address")
    if protocol != "memory" and (not rest.strip("/") or (protocol in (*_S3, *_GS) and rest.startswith("/"))):
        raise ValueError(f"{shown} names no bucket or host")
    _filesystem_class(protocol, shown)
    return f"{protocol}://{rest}"


def read_remote(url: str) -> bytes:
    """The bytes of one file; any number of threads at once.

    Raises FileNotFoundError with the reason: not there, or not ours to read. UnreachableError: all else.
    """
    filesystem = open_filesystem(url)
    path = filesystem._strip_protocol(url)
    try:
        if filesystem.async_impl:
            from fsspec.asyn import sync

            return sync(filesystem.loop, filesystem._cat_file, path, timeout=READ_DEADLINE_S)
        with _lock:  # FTP and its like are one conversation
            return filesystem.cat_file(path)
    except Exception as error:  # each library raises its own kinds
        if reason := _object_is_missing(error):
            raise FileNotFoundError(reason) from None
        raise _unreachable(url, error) from None


def list_remote(url: str) -> list[str]:
    """Names of all files below a URL, relative to it, in any order; one recursive listing.

    Raises FileNotFoundError and UnreachableError as `read_remote`; NotADirectoryError where the URL is a file.
    """
    filesystem = open_filesystem(url)
    try:
        base = filesystem._strip_protocol(url)
        found = filesystem.find(base)
    except Exception as error:
        if reason := _object_is_missing(error):
            raise FileNotFoundError(reason) from None
        raise _unreachable(url, error) from None
    if found == [base]:
        raise NotADirectoryError("a file, not a folder")
    begin = len(base.rstrip("/")) + 1
    return [name[begin:] for name in found]


def open_filesystem(url: str) -> Any:
    """The fsspec file system of a URL's bucket or host: one a process, shared by its threads."""
    host = "/".join(url.split("/", 3)[:3])
    with _lock:
        if host not in _filesystems:
            protocol = host.partition(":")[0]
            try:
                kind = _filesystem_class(protocol, without_secrets(host))
                options = kind._get_kwargs_from_urls(host) | _options(protocol)
                # not fsspec's own cache: that keeps one for every thread that ever was, for some protocols
                _filesystems[host] = kind(**options, skip_instance_cache=True, use_listings_cache=False)
            except Exception as error:
                raise _unreachable(url, error) from None
        return _filesystems[host]


def _filesystem_class(protocol: str, shown: str) -> Any:
    import fsspec

    try:
        kind = fsspec.get_filesystem_class(protocol)
        if protocol in _GS:  # the package's own default asks a second service about the bucket, and hung
            from gcsfs.core import GCSFileSystem as kind
        return kind
    except ImportError:
        mend = "pip install locloc[cluster]" if protocol in (*_S3, *_GS) else f"see fsspec's {protocol!r}"
        raise ValueError(f"{shown} needs a package that is not installed; {mend}") from None
    except ValueError:
        raise ValueError(f"{shown}: unknown protocol {protocol!r}; s3, gs and fsspec's others are known") from None


def _options(protocol: str) -> dict[str, Any]:
    if protocol in _S3:
        retries = {"mode": "standard", "total_max_attempts": ATTEMPTS}
        timeouts = {"connect_timeout": CONNECT_TIMEOUT_S, "read_timeout": READ_TIMEOUT_S}
        # with more than one part at a time, s3fs asks for the size first: two requests an image
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
    """The reason, where an error concerns the one file that was asked for; else the empty string."""
    answer = getattr(error.__cause__, "response", None)  # s3fs has botocore's error as the cause of a plain one
    if isinstance(answer, dict):
        code = str(answer.get("Error", {}).get("Code", ""))
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
