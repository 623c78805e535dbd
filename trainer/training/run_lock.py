"""The lock that gives a run one writer at a time: that of stores (`pipeline/store/lock.py`), on the folder of the run.

Rank 0, or the process that starts the ranks, holds it from before its first write until the training ends. A process
that is killed no longer holds it. As in a store, its files stay in the folder.
"""

from contextlib import ExitStack
from pathlib import Path

from ...pipeline.errors import StoreError, TrainError, os_error_reason
from ...pipeline.store.lease import Lease
from ...pipeline.store.location import StoreLocation
from ...pipeline.store.lock import store_lock


class RunLocation(StoreLocation):
    """The folder of a run, for the lock and its error lines."""

    @property
    def kind(self) -> str:
        return "run"

    @property
    def said(self) -> str:
        return self.path


class RunLock:
    """Released at the end of its context, where `acquire` took it."""

    def __init__(self, out: Path):
        self._out = out
        self._held = ExitStack()
        self._lease: Lease | None = None

    def __enter__(self) -> "RunLock":
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def acquire(self) -> None:
        """Makes the folder, if there is none, and locks it. Raises TrainError that names the process that holds it."""
        try:
            self._out.mkdir(parents=True, exist_ok=True)
            self._lease = self._held.enter_context(store_lock(RunLocation("file", "", str(self._out))))
        except OSError as error:
            raise TrainError(f"{self._out} cannot be written: {os_error_reason(error)}; name another --out") from None
        except StoreError as error:
            raise TrainError(str(error)) from None

    def check(self) -> None:
        """Raises StoreLockedError if another process took the lock over while this one was suspended or cut off."""
        if self._lease is not None:
            self._lease.check()
