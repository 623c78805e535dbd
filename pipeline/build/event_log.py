"""A run's log: one JSON object a line, for those who look afterwards where the time and the failures were.

begin       what is made, where, with what settings
ready       seconds until workers were there, the model and the engine's compiled `kernels` in their memory
workers     how many there are, whenever it changes
block       which, by which worker, seconds by stage, rows by status, at which try
fault       a block that has to be done again, and why
checkpoint  seconds, blocks done
end         the version, or the error
"""

import json
import os
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from ..store.location import StoreLocation


class EventLog:
    """Appends to a file as long as that is possible: a log that cannot be written ends no build."""

    def __init__(self, file: Path):
        self.file = file
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._out = file.open("a", encoding="utf-8")
        except OSError as error:
            self.file, self._out = None, None
            reason = os.strerror(error.errno).lower()
            self.trouble: str | None = f"note: no log, since {file} cannot be written: {reason}"
        else:
            self.trouble = None

    def __enter__(self) -> "EventLog":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None:
            self.write("end", error=f"{kind.__name__}: {error}")
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
    """Inside a local store; for one by URL in the user's state folder."""
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{build_id[:8]}-{os.getpid()}.jsonl"
    if not store.is_remote:
        return store.folder / "logs" / name
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state, "locloc", "logs", name)
