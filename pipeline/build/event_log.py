"""The log of a build: one JSON object a line, with the time, the workers and the failures of its blocks.

begin       the version's provenance in short, rows, blocks, blocks to do
ready       seconds until the workers had loaded the model and the engine's compiled `kernels`
workers     their number, at every change
block       its index, worker, seconds by stage, rows by status, and number of the attempt (1 for the first)
fault       a block that has to be made again, and why
checkpoint  seconds, blocks done
verified    by workers: parts of 1,024 rows, and how many they found intact
end         the version, or the error
"""

import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from ..errors import os_error_reason
from ..store.location import StoreLocation


class EventLog:
    """Appends to a file while it can be written: errors of the log do not stop a build.

    file     None where it could not be opened
    trouble  a note for the user that says why, else None
    """

    def __init__(self, file: Path):
        self.file: Path | None = file
        self.trouble: str | None = None
        self._out: TextIO | None = None
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._out = file.open("a", encoding="utf-8")
        except OSError as error:
            self.file = None
            reason = os_error_reason(error)
            self.trouble = f"note: no log, since {file} cannot be written: {reason}"

    def __enter__(self) -> "EventLog":
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            self.write("end", error=f"{type(error).__name__}: {error}")
        self._close()

    def write(self, event: str, **facts: Any) -> None:
        if self._out is None:
            return
        try:
            line = {"time": round(time.time(), 3), "event": event, **facts}
            self._out.write(json.dumps(line) + "\n")
            self._out.flush()
        except OSError:  # disk full
            self._close()

    def _close(self) -> None:
        out, self._out = self._out, None
        if out is not None:
            with suppress(OSError):
                out.close()


def default_event_log(store: StoreLocation, build_id: str) -> Path:
    """A new file in a local store, or in the user's state folder where the store is a URL."""
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{build_id[:8]}-{os.getpid()}.jsonl"
    if not store.is_remote:
        return store.folder / "logs" / name
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state, "locloc", "logs", name)
