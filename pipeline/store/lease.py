"""A lease that names the one writer of a store, on any storage that can create a file exclusively.

It needs no flock and works across machines. `locloc.lease/` holds numbered epochs, one file each. The holder is the
process in the file with the highest number, unless that file is marked as released. Only the holder writes its file: a
thread raises its heartbeat counter every `HEARTBEAT_S`. A process that wants the lease creates the next number
exclusively, so only one process succeeds.

A lease is taken over without its holder's consent:

- at once if the holder's process has ended: same machine, same boot, same PID namespace, and no such process there;
- otherwise if its file has not changed for `STALE_S`, *by the clock of the process that watches it*. Clocks of two
  machines are never compared. A file that changes means that the holder is alive.

A holder that was suspended and then lost its lease must not continue. `check`, called before each commit, returns
without a request for `STALE_S / 2` after the start of the last successful heartbeat: nobody can have taken over by
then, and half of `STALE_S` is left for the commit itself. Later (the process was suspended, or heartbeats fail: disk
full, network down) `check` tests whether its number is still the highest and writes a heartbeat; if it can do neither,
it raises. No lease can exclude a process that freezes between `check` and its commit. Icechunk rejects that commit:
the branch has moved, because another builder resumed it or the garbage collector (`gc.py`) fenced it.
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
HEARTBEAT_S = 5.0
STALE_S = 30.0
POLL_S = 1.0

_FILE_BYTES = 512  # constant, so that a heartbeat needs no space on a full disk


@dataclass(frozen=True)
class Holder:
    """Content of a lease file: the process, the start of the lease, its heartbeat counter, and whether it was released.

    The names of the fields are the keys of the file's JSON.
    """

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
        boot, pid_namespace = _boot_and_pid_namespace()
        return cls(
            host=socket.gethostname(),
            pid=os.getpid(),
            boot=boot,
            pid_namespace=pid_namespace,
            started=_process_start(os.getpid()) or "",
            since=time.strftime("%F %T %z"),
            token=uuid.uuid4().hex,
        )

    @classmethod
    def parse(cls, data: bytes) -> "Holder | None":
        """None for a file that was created and not yet written."""
        try:
            return cls(**json.loads(data))
        except (ValueError, TypeError):
            return None

    def data(self) -> bytes:
        return json.dumps(asdict(self)).encode().ljust(_FILE_BYTES)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"

    def is_gone(self) -> bool:
        """True if the process is known to have ended: its PID is free, or belongs to a process started later."""
        if not self.boot or (self.boot, self.pid_namespace) != _boot_and_pid_namespace():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:  # alive, of another user
            pass
        return _process_start(self.pid) not in (self.started, None)


class Lease:
    """Held between `acquire` and `release`."""

    def __init__(self, location: StoreLocation):
        self._location, self._objects = location, open_object_store(location)
        self._number = 0
        self._new_holder: str | None = None  # the process that took over
        self._valid_until = 0.0  # nobody can have taken over before, by _clock()
        self._mutex = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._heartbeat_loop, name="locloc-lease", daemon=True)

    def acquire(self) -> None:
        """Raises StoreLockedError, naming the holder, as soon as its heartbeat is seen: a little over `HEARTBEAT_S`."""
        watched: tuple[int, bytes | None] | None = None
        watched_since = 0.0
        while True:
            number = newest_epoch(self._objects)
            data = self._objects.read(_name(number)) if number else None
            if number and data is None:  # a later holder has removed it
                continue
            holder = Holder.parse(data) if data is not None else None
            if number and not (holder is not None and (holder.released or holder.is_gone())):
                if watched is None:
                    watched, watched_since = (number, data), time.monotonic()
                if watched != (number, data):
                    raise locked_error(self._location, holder)
                if time.monotonic() - watched_since < STALE_S:
                    time.sleep(POLL_S)
                    continue
            if not self._create(number + 1):
                raise locked_error(self._location, current_holder(self._location))
            self._thread.start()
            return

    def check(self) -> None:
        """Raises StoreLockedError if another process has taken over, StoreError if that cannot be excluded."""
        with self._mutex:
            if self._new_holder is None and _clock() >= self._valid_until:
                try:
                    self._write_heartbeat()
                except StoreError as error:
                    raise StoreError(
                        f"{error}; without it the {self._location.kind}'s lock cannot be kept up"
                    ) from error
        if self._new_holder is not None:
            raise StoreLockedError(
                f"{self._location.said} was taken over by {self._new_holder} while this process was suspended or cut "
                "off; nothing was written since; run the command again when the other one has finished"
            )

    def release(self) -> None:
        """Marks its own file as released; another holder's file is never written."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        if self._new_holder is None and self._number:
            with contextlib.suppress(StoreError):  # unmarked, it is taken over as a dead holder's
                self._objects.replace(_name(self._number), replace(self._holder, released=True).data())

    def _create(self, number: int) -> bool:
        """Creates an epoch. False if another process created it first."""
        self._holder, started = Holder.this_process(), _clock()
        if not self._objects.create(_name(number), self._holder.data()):
            return False
        if newest_epoch(self._objects) != number:  # a whole epoch passed since `number` was chosen
            self._objects.remove(_name(number))
            return False
        self._number, self._valid_until = number, started + STALE_S / 2
        with contextlib.suppress(StoreError):  # older epochs have no effect: a leftover file is harmless
            for old in _epochs(self._objects):
                if old < number:
                    self._objects.remove(_name(old))
        return True

    def _heartbeat_loop(self) -> None:
        while not self._stop.wait(HEARTBEAT_S):
            with self._mutex, contextlib.suppress(StoreError):  # `check` raises if the failure lasts
                if self._new_holder is None:
                    self._write_heartbeat()

    def _write_heartbeat(self) -> None:
        started = _clock()
        if newest_epoch(self._objects) != self._number:
            self._new_holder = str(current_holder(self._location) or "another process")
            return
        self._holder = replace(self._holder, beat=self._holder.beat + 1)
        self._objects.replace(_name(self._number), self._holder.data())
        self._valid_until = started + STALE_S / 2


@contextmanager
def hold_lease(location: StoreLocation) -> Iterator[Lease]:
    """Holds the lease of a store. Raises StoreLockedError, naming the holder."""
    lease = Lease(location)
    try:
        lease.acquire()
        yield lease
    finally:
        lease.release()


def current_holder(location: StoreLocation) -> Holder | None:
    """The holder in the newest epoch; None if there is no epoch, or it is not yet written."""
    objects = open_object_store(location)
    number = newest_epoch(objects)
    data = objects.read(_name(number)) if number else None
    return Holder.parse(data) if data is not None else None


def locked_error(location: StoreLocation, holder: Holder | None) -> StoreLockedError:
    name = "another process" if holder is None or holder.released else str(holder)
    return StoreLockedError(f"{location.said} is being written to by {name}; wait for it")


def newest_epoch(objects: ObjectStore) -> int:
    """The highest number, 0 if there is none."""
    return max(_epochs(objects), default=0)


def _epochs(objects: ObjectStore) -> list[int]:
    stems = (name.removesuffix(".json") for name in objects.names(LEASE_FOLDER))
    return [int(stem) for stem in stems if stem.isdecimal()]


def _name(number: int) -> str:
    return f"{LEASE_FOLDER}/{number:06}.json"


def _clock() -> float:
    """Seconds, including time in which the machine was suspended if the system has such a clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def _boot_and_pid_namespace() -> tuple[str, str]:
    """Ids of this machine's boot and of this process's PID namespace; empty without /proc."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return boot, str(os.stat("/proc/self/ns/pid").st_ino)
    except OSError:
        return "", ""


def _process_start(pid: int) -> str | None:
    """Start of a process in ticks since boot; "" if it has ended, None if it cannot be read."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return None
    return "" if fields[0] in "ZX" else fields[19]
