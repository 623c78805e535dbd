"""Objects in buckets, `s3://` and `gs://`, through obstore.

Credentials come from the environment of the process, by botocore's rules for S3 (variables, a profile, a role) and by
Google's for GCS (application default credentials). None is kept in an object that is pickled, or in a message.

A call may come from any thread. It waits at most `deadline_s`, and Ctrl-C ends the wait. obstore's threads do not
survive a fork: in a child of a process that has used a bucket, a call is an error, where it would wait for ever.
"""

import asyncio
import os
import re
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from obstore.store import GCSStore, S3Credential, S3Store

SCHEMES = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs"}
CONNECT_S = 5
CREDENTIALS_S = 600  # botocore renews what would expire sooner

# Codes of S3 and of GCS' XML interface that concern one object. Others concern the bucket, the client or the network.
OBJECT_CODES = frozenset({
    "NoSuchKey", "NoSuchVersion", "AccessDenied", "InvalidObjectState", "KeyTooLongError", "InvalidRange",
})  # fmt: skip

_CODE, _MESSAGE = re.compile(r"<Code>([^<]+)</Code>"), re.compile(r"<Message>([^<]+)</Message>")
_PROVIDER = re.compile(r"credential provider: \w+: (.+)")
_PREFIXES = ("AWS_", "GOOGLE_", "STORAGE_EMULATOR_HOST")
_FEW = 16  # requests at a time where a listing is checked

T = TypeVar("T")


class BucketError(Exception):
    """A request that failed, as one line; `code` is the server's, "" where it gave none."""

    def __init__(self, reason: str, code: str = "", exists: bool = False):
        super().__init__(reason)
        self.code, self.exists = code, exists

    @property
    def of_object(self) -> bool:
        """Whether the error concerns the requested object alone."""
        return self.code in OBJECT_CODES

    @property
    def is_missing(self) -> bool:
        return self.code in ("NoSuchKey", "NoSuchVersion")


@dataclass(frozen=True)
class Limits:
    """Seconds without bytes (`read_s`), attempts at a request, and seconds for all of them together."""

    read_s: float
    attempts: int
    deadline_s: float


@dataclass(frozen=True)
class Entry:
    """An object of a listing, by its whole key."""

    key: str
    size: int


@dataclass(frozen=True)
class Bucket:
    """A bucket, `scheme` "s3" or "gs", or what is below `prefix` in it. Its methods raise BucketError.

    Keys have no slash in front, and are relative to `prefix`.
    """

    scheme: str
    name: str
    limits: Limits
    prefix: str | None = None

    def read(self, key: str, start: int = 0, stop: int | None = None) -> bytes:
        """An object, or bytes `start` to `stop - 1` of it, as many as there are."""
        if stop is not None:
            return bytes(self._run(lambda: self.client.get_range_async(key, start=start, end=stop)))

        async def read() -> Any:
            part: Any = {"range": {"offset": start}} if start else {}
            return await (await self.client.get_async(key, options=part)).bytes_async()

        return bytes(self._run(read))

    def stamp(self, key: str) -> tuple[int, str]:
        """An object's size in bytes, and its ETag, or else its time. Its body is not read."""
        meta = self._run(lambda: self._meta(key))
        return meta["size"], str(meta["e_tag"] or meta["last_modified"])

    def below(self, prefix: str) -> list[Entry]:
        """All objects below a prefix, which is taken as a folder; "" for the whole bucket.

        A web console makes an empty folder as an empty object with a slash at its end, which obstore lists without the
        slash: what is empty is requested once more.
        """

        async def listing() -> list[Entry]:
            stream: AsyncIterator[Any] = self.client.list(prefix or None)
            found = [Entry(meta["path"], meta["size"]) async for part in stream for meta in part]
            found = [entry for entry in found if entry.key != prefix]
            few = asyncio.Semaphore(_FEW)
            folders = await asyncio.gather(*(self._is_folder(entry.key, few) for entry in found if not entry.size))
            marks = {key for key in folders if key is not None}
            return [entry for entry in found if entry.key not in marks]

        return self._run(listing)

    def names(self, prefix: str) -> list[str]:
        """Names directly below a prefix, folders too, sorted."""
        found = self._run(lambda: self.client.list_with_delimiter_async(prefix or None))
        keys = {*found["common_prefixes"], *(meta["path"] for meta in found["objects"])} - {prefix}
        return sorted(key.rpartition("/")[2] for key in keys)

    def create(self, key: str, data: bytes) -> None:
        """Raises BucketError with `exists` where the object exists already."""
        self._run(lambda: self.client.put_async(key, data, mode="create"))

    def write(self, key: str, data: bytes, etag: str | None = None) -> None:
        """Raises BucketError with `exists` where the object has another ETag than `etag`, which only S3 compares."""
        mode: Any = "overwrite" if etag is None else {"e_tag": etag}
        self._run(lambda: self.client.put_async(key, data, mode=mode))

    def remove(self, key: str) -> None:
        """Removes an object if it exists."""
        self._run(lambda: self.client.delete_async(key))

    async def _meta(self, key: str) -> Any:
        return (await self.client.get_async(key)).meta  # not HEAD, whose errors have no code

    async def _is_folder(self, key: str, few: asyncio.Semaphore) -> str | None:
        async with few:
            try:
                await self._meta(key)
            except FileNotFoundError:
                return key
        return None

    @property
    def client(self) -> "S3Store | GCSStore":
        """obstore's client, shared by this process's buckets of the same name, and its connections with it.

        Raises ImportError without obstore, and ValueError for an endpoint with a password.
        """
        return _client(self.scheme, self.name, self.prefix, self.limits, _environment())

    def _run(self, request: Callable[[], Awaitable[T]]) -> T:
        """The answer of a request. Raises BucketError, also where none comes in time."""
        if _Loop.lost_in_fork:
            raise BucketError(
                "this process was forked from one that had used a bucket; start worker processes by forkserver or spawn"
            )

        async def answer() -> T:
            return await request()

        try:
            self.client  # noqa: B018 - the first time it reads files
            waiting = asyncio.run_coroutine_threadsafe(answer(), _Loop.running())
            try:
                return waiting.result(self.limits.deadline_s)
            finally:
                waiting.cancel()
        except ImportError as error:
            raise BucketError(
                f"{self.scheme}:// needs the package {error.name}; `pip install locloc[cluster]` brings it"
            ) from None
        except Exception as error:  # obstore's classes, and Python's own
            raise _explained(error) from None


def _environment() -> tuple[tuple[str, str], ...]:
    """What a client depends on."""
    return tuple(sorted((name, text) for name, text in os.environ.items() if name.startswith(_PREFIXES)))


@lru_cache(maxsize=64)
def _client(
    scheme: str, name: str, prefix: str | None, limits: Limits, environment: tuple[tuple[str, str], ...]
) -> "S3Store | GCSStore":
    from obstore.store import GCSStore, S3Store

    options: Any = {
        "connect_timeout": timedelta(seconds=CONNECT_S),
        "read_timeout": timedelta(seconds=limits.read_s),
        "timeout": timedelta(seconds=limits.deadline_s),
    }
    retries: Any = {
        "max_retries": limits.attempts - 1,
        "retry_timeout": timedelta(seconds=limits.deadline_s),
        "backoff": {"init_backoff": timedelta(seconds=0.2), "max_backoff": timedelta(seconds=8), "base": 2},
    }
    if scheme == "s3":
        endpoint = s3_endpoint()
        session = _botocore_session()
        settings: Any = {"endpoint": endpoint} if endpoint else {}
        return S3Store(
            name,
            prefix=prefix,
            client_options=options | {"allow_http": bool(endpoint and endpoint.startswith("http://"))},
            retry_config=retries,
            region=s3_region() or session.get_config_variable("region") or "us-east-1",
            virtual_hosted_style_request=not endpoint and "." not in name,
            disable_bulk_delete=True,
            credential_provider=lambda: _s3_credentials(session),
            **settings,
        )
    emulator = os.environ.get("STORAGE_EMULATOR_HOST", "")
    settings = {"base_url": emulator, "skip_signature": True} if emulator else {}
    options["allow_http"] = emulator.startswith("http://")
    return GCSStore(name, prefix=prefix, client_options=options, retry_config=retries, **settings)


class _Loop:
    """The event loop of this process's requests, in a thread of its own from the first one on."""

    loop: asyncio.AbstractEventLoop | None = None
    lost_in_fork = False
    lock = threading.Lock()

    @classmethod
    def running(cls) -> asyncio.AbstractEventLoop:
        with cls.lock:
            if cls.loop is None:
                cls.loop = asyncio.new_event_loop()
                threading.Thread(target=cls.loop.run_forever, name="locloc-buckets", daemon=True).start()
            return cls.loop

    @classmethod
    def after_fork(cls) -> None:
        cls.lost_in_fork, cls.lock = cls.lost_in_fork or cls.loop is not None, threading.Lock()


os.register_at_fork(after_in_child=_Loop.after_fork)


def s3_endpoint() -> str | None:
    """`AWS_ENDPOINT_URL_S3`, else `AWS_ENDPOINT_URL`, else None for Amazon's own. Raises ValueError for a password."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None
    if endpoint and "@" in urlsplit(endpoint).netloc:
        raise ValueError("AWS_ENDPOINT_URL has a password in it, which would end up in logs; use AWS_ACCESS_KEY_ID")
    return endpoint


def s3_region() -> str | None:
    """`AWS_REGION`, else `AWS_DEFAULT_REGION`; a placeholder for other servers, which need some region."""
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return region or ("us-east-1" if s3_endpoint() else None)


def _botocore_session() -> Any:
    import botocore.session

    return botocore.session.get_session()


def _s3_credentials(session: Any) -> "S3Credential":
    credentials = session.get_credentials()
    if credentials is None:
        raise ValueError("Unable to locate credentials")
    now = credentials.get_frozen_credentials()
    return {
        "access_key_id": now.access_key,
        "secret_access_key": now.secret_key,
        "token": now.token,
        "expires_at": datetime.now(UTC) + timedelta(seconds=CREDENTIALS_S),
    }


def _explained(error: Exception) -> BucketError:
    """One line for an error of obstore, whose text is many lines of Rust's."""
    from obstore.exceptions import AlreadyExistsError, InvalidPathError, PreconditionError

    text = str(error)
    exists = isinstance(error, AlreadyExistsError | PreconditionError)
    code = found[1] if (found := _CODE.search(text)) else ""
    if isinstance(error, FutureTimeoutError) or "TimedOut" in text:
        return BucketError("no answer", exists=exists)
    if "kind: Connect" in text:
        return BucketError("could not connect to the endpoint")
    if isinstance(error, InvalidPathError) or (isinstance(error, ValueError) and "path segment" in text):
        return BucketError(text.splitlines()[0].removeprefix("Encountered object with invalid path: "), "InvalidKey")
    if found := _PROVIDER.search(text):
        return BucketError(found[1])
    message = found[1] if (found := _MESSAGE.search(text)) else ""
    first_line = next(iter(text.splitlines()), "").rpartition(" - ")[2] or type(error).__name__
    reason = message.rstrip(".") or first_line[:300]
    return BucketError(f"{reason} ({code})" if message and code and code not in reason else reason, code, exists)
