"""Who writes to a store, on any storage that can create a file exclusively: also without flock, and across machines.

`locloc.lease/` holds numbered epochs. The holder is the one of the highest number, unless it is marked as released.
Only the holder writes its file: every `BEAT_S` a thread raises the beat in it. Whoever wants to follow creates the next
number, exclusively, so one process alone succeeds.

When may a holder be followed against its will?

- At once where its process is gone: same boot of the same machine, same process table, and no such process there.
- Else when its file has not changed for `STALE_S`, *by the clock of the one who watches*. Clocks of two machines are
  never compared. As soon as the file changes the holder is alive.

A holder that was suspended and followed meanwhile must not go on. So `check`, asked before each commit, is sure for
`STALE_S / 2` after the last beat that was written, counted from before it was written: nobody can have followed by
then, and half of `STALE_S` is left for the commit itself. After that (suspended, or beats fail: disk full, network
down) it looks whether its number is still the highest, and writes a beat; where it can do neither, it says so.
What no lease can exclude, a process frozen between check and commit, ends in Icechunk's own comparison: the
branch is not where the commit expects it, once another builder went on with it or `collect.py` went through.
"""

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ..errors import StoreError, StoreLockedError
from .location import StoreLocation
from .object_store import ObjectStore, open_object_store

LEASE_FOLDER = "locloc.lease"
BEAT_S = 5.0
STALE_S = 30.0
POLL_S = 1.0

_FILE_BYTES = 512  # always the same, so that a beat needs no space on a full disk


@dataclass(frozen=True)
class Holder:
    """What a lease's file says: which process, since when, its last beat, and whether it has let go."""

    host: str
    pid: int
    boot: str
    pid_namespace: str
    started: str
    since: str
    token: str
    beat: int = 0
    released: bool = False

    @classmethod
    def this_process(cls) -> "Holder":
        boot, table = _machine()
        since, token = time.strftime("%F %T %z"), uuid.uuid4().hex
        return cls(socket.gethostname(), os.getpid(), boot, table, _started(os.getpid()) or "", since, token)

    @classmethod
    def parse(cls, data: bytes) -> "Holder | None":
        """None for a file that has just been created, and not yet been written."""
        try:
            return cls(**json.loads(data))
        except (ValueError, TypeError):
            return None

    def data(self) -> bytes:
        return json.dumps(asdict(self)).encode().ljust(_FILE_BYTES)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"

    def is_gone(self) -> bool:
        """True where this machine can tell that the process has ended; a process of the same number is another."""
        if not self.boot or (self.boot, self.pid_namespace) != _machine():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:  # another user's, alive
            pass
        return _started(self.pid) not in (self.started, None)


class Lease:
    """Held between `take` and `release`."""

    def __init__(self, location: StoreLocation):
        self._place, self._objects = location, open_object_store(location)
        self._number = 0
        self._lost: str | None = None
        self._sure_until = 0.0
        self._mutex = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep_beating, name="locloc-lease", daemon=True)

    def take(self) -> None:
        """Raises StoreLockedError, naming the holder, as soon as it is seen alive: within `BEAT_S` and a little."""
        watched, watched_since = None, 0.0
        while True:
            number = newest_epoch(self._objects)
            data = self._objects.read(_name(number)) if number else None
            if number and data is None:  # whoever followed it has tidied it away
                continue
            holder = Holder.parse(data) if data is not None else None
            if number and not (holder is not None and (holder.released or holder.is_gone())):
                if watched is None:
                    watched, watched_since = (number, data), time.monotonic()
                if watched != (number, data):
                    raise locked_by(self._place, holder)
                if time.monotonic() - watched_since < STALE_S:
                    time.sleep(POLL_S)
                    continue
            if not self._create(number + 1):
                raise locked_by(self._place, current_holder(self._place))
            self._thread.start()
            return

    def check(self) -> None:
        """Raises StoreLockedError if another process has taken over, StoreError where that cannot be excluded."""
        with self._mutex:
            if self._lost is None and _clock() >= self._sure_until:
                try:
                    self._beat()
                except StoreError as error:
                    raise StoreError(f"{error}; without it the store's lock cannot be kept up") from error
        if self._lost is not None:
            raise StoreLockedError(
                f"Store {self._place} was taken over by {self._lost} while this process was suspended or cut off; "
                "nothing was written since; run the command again when the other one has finished"
            )

    def release(self) -> None:
        """Lets go; of nobody else's lease, as it writes to its own file alone."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        if self._lost is None and self._number:
            with contextlib.suppress(StoreError):  # the next one finds the process gone, or its beat standing still
                self._objects.replace(_name(self._number), replace(self._holder, released=True).data())

    def _create(self, number: int) -> bool:
        """Creates an epoch; False if another process was faster."""
        self._holder, started = Holder.this_process(), _clock()
        if not self._objects.create(_name(number), self._holder.data()):
            return False
        if newest_epoch(self._objects) != number:  # a whole epoch came and went since this process looked
            self._objects.remove(_name(number))
            return False
        self._number, self._sure_until = number, started + STALE_S / 2
        with contextlib.suppress(StoreError):  # they mean nothing any more
            for old in _epochs(self._objects):
                if old < number:
                    self._objects.remove(_name(old))
        return True

    def _keep_beating(self) -> None:
        while not self._stop.wait(BEAT_S):
            with self._mutex, contextlib.suppress(StoreError):  # `check` says so when it lasts
                if self._lost is None:
                    self._beat()

    def _beat(self) -> None:
        started = _clock()
        if newest_epoch(self._objects) != self._number:
            self._lost = str(current_holder(self._place) or "another process")
            return
        self._holder = replace(self._holder, beat=self._holder.beat + 1)
        self._objects.replace(_name(self._number), self._holder.data())
        self._sure_until = started + STALE_S / 2


@contextmanager
def leased(location: StoreLocation) -> Iterator[Lease]:
    """Holds the lease of a place. Raises StoreLockedError, naming the holder."""
    lease = Lease(location)
    try:
        lease.take()
        yield lease
    finally:
        lease.release()


def current_holder(location: StoreLocation) -> Holder | None:
    """What the newest epoch says, if there is one that has been written."""
    objects = open_object_store(location)
    number = newest_epoch(objects)
    data = objects.read(_name(number)) if number else None
    return Holder.parse(data) if data is not None else None


def locked_by(location: StoreLocation, holder: Holder | None) -> StoreLockedError:
    who = "another process" if holder is None or holder.released else str(holder)
    return StoreLockedError(f"Store {location} is being written to by {who}; wait for it")


def newest_epoch(objects: ObjectStore) -> int:
    """The highest number, 0 where there is none."""
    return max(_epochs(objects), default=0)


def _epochs(objects: ObjectStore) -> list[int]:
    stems = (name.removesuffix(".json") for name in objects.names(LEASE_FOLDER))
    return [int(stem) for stem in stems if stem.isdecimal()]


def _name(number: int) -> str:
    return f"{LEASE_FOLDER}/{number:06}.json"


def _clock() -> float:
    """Seconds that go on while the machine sleeps, where the system has such a clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def _machine() -> tuple[str, str]:
    """This boot of this machine, and the process table that this process sees; empty where there is no /proc."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return boot, str(os.stat("/proc/self/ns/pid").st_ino)
    except OSError:
        return "", ""


def _started(pid: int) -> str | None:
    """When a process started, in ticks since boot; "" for one that has ended, None where that is hidden."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return None
    return "" if fields[0] in "ZX" else fields[19]
