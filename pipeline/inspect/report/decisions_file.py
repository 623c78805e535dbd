"""The CSV in which `masks serve` keeps decisions. Several servers, and editors, may write to it."""

import errno
import fcntl
import os
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ...errors import StoreError, os_error_reason
from ...io.outputs import write_output
from ...store.reader import Version
from .decisions_csv import decisions_csv, read_decisions_csv, rows_of_decisions

LOCK_S = 5.0  # to wait for others that write


class DecisionsFile:
    """The decisions about a version's masks, in a CSV that `masks decide` reads.

    Each change is made to what the file holds then, and written at once, whole or not at all. A file that was removed
    is written again, with what was last read of it.
    """

    def __init__(self, file: Path, version: Version):
        """Raises StoreError for a file that cannot be read, and as `rows_of_decisions`."""
        self.file, self._version = file, version
        self._lock = threading.Lock()
        self._last_read: tuple[int, ...] | None = None
        self._decided: dict[str, tuple[str, str]] = {}
        self._read()

    def __len__(self) -> int:
        return len(self.as_json())

    def as_json(self) -> list[list[str]]:
        """Id, decision and note of each; those last known where the file cannot be read now."""
        with self._lock:
            with suppress(StoreError):
                self._read()
            return [[image_id, *decided] for image_id, decided in self._decided.items()]

    def change(self, changes: list[tuple[str, str | None, str]]) -> None:
        """Changes: id, one of WORDS or None to forget it, note. Raises StoreError as at first, OSError."""
        with self._lock, _locked_folder(self.file):
            self._read()
            decided = dict(self._decided)
            for image_id, decision, note in changes:
                if decision is None:
                    decided.pop(image_id, None)
                else:
                    decided[image_id] = decision, note
            write_output(self.file, decisions_csv((image_id, *decided[image_id]) for image_id in sorted(decided)))
            self._decided = decided

    def _read(self) -> None:
        """Reads the file where it is another than was last read."""
        try:
            found = self.file.stat()
        except FileNotFoundError:
            return
        except OSError as error:
            raise StoreError(f"{self.file} cannot be read: {os_error_reason(error)}") from None
        state = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        if not stat.S_ISREG(found.st_mode) or state == self._last_read:
            return
        decisions = {}
        if found.st_size:
            try:
                decisions = read_decisions_csv(self.file)
            except StoreError as error:
                if "holds no decision" not in str(error):
                    raise
        rows_of_decisions(self._version, decisions)
        self._decided = {one.id: (one.decision, one.note) for one in decisions.values()}
        self._last_read = state


@contextmanager
def _locked_folder(file: Path) -> Iterator[None]:
    """Holds off other servers of this machine; where a folder cannot be locked, a change may come in between."""
    try:
        folder = os.open(os.path.dirname(os.path.realpath(file)), os.O_RDONLY)
    except OSError:
        yield
        return
    try:
        give_up = time.monotonic() + LOCK_S
        while not _lock(folder):
            if time.monotonic() > give_up:
                raise TimeoutError(errno.ETIMEDOUT, "another process holds a lock on its folder")
            time.sleep(0.01)
        yield
    finally:
        os.close(folder)


def _lock(folder: int) -> bool:
    """Whether the folder is locked now, or cannot be."""
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
