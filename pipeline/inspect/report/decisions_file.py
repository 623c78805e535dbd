"""The CSV in which `masks serve` keeps decisions. Several servers, and editors, may write to it."""

import fcntl
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ...errors import StoreError
from ...io.outputs import write_output
from ...store.reader import Version
from .decisions_csv import decisions_csv, read_decisions_csv, rows_of_decisions


class DecisionsFile:
    """The decisions about a version's masks, in a CSV that `masks decide` reads.

    Each change is made to what the file holds then, and written at once, whole or not at all. A file that was removed
    is written again.
    """

    def __init__(self, file: Path, version: Version):
        """Raises StoreError for a file that cannot be read, and as `rows_of_decisions`."""
        self.file, self._version = file, version
        self._lock = threading.Lock()
        self._written: tuple[int, ...] | None = None  # what tells whether the file is as it was when it was last read
        self._decided: dict[str, tuple[str, str]] = {}
        self._read()

    def __len__(self) -> int:
        return len(self._decided)

    def as_json(self) -> list[list[str]]:
        """Id, decision and note of each. Raises StoreError."""
        with self._lock:
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
            self._decided, self._written = decided, _state(self.file)

    def _read(self) -> None:
        state = _state(self.file)
        if state is None or state == self._written:
            return
        decisions = {}
        if self.file.stat().st_size:
            try:
                decisions = read_decisions_csv(self.file)
            except StoreError as error:
                if "holds no decision" not in str(error):
                    raise
        rows_of_decisions(self._version, decisions)
        self._decided = {one.id: (one.decision, one.note) for one in decisions.values()}
        self._written = state


def _state(file: Path) -> tuple[int, ...] | None:
    """Differs as soon as another file is there, or other content; None where there is none, or a device."""
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else None


@contextmanager
def _locked_folder(file: Path) -> Iterator[None]:
    """Holds off other servers of this machine; where the file system locks nothing, a change may come in between."""
    folder = os.open(os.path.dirname(os.path.realpath(file)), os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)
