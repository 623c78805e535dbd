"""Counts the progress of a build, and passes snapshots of it to a callback."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..status import HAS_MASK
from .block import BlockResult


@dataclass(frozen=True)
class BuildProgress:
    """A snapshot: `done` of `total` images, `failed` of them without a mask. None: not known yet."""

    done: int
    total: int
    failed: int
    images_per_s: float
    eta_s: float | None
    workers: int | None
    message: str


class ProgressCounter:
    """Counts finished blocks, and calls `on_progress` after each."""

    def __init__(self, on_progress: Callable[[BuildProgress], None]):
        self._on_progress = on_progress
        self.total = self._resumed_rows = self._failed = 0
        self._started = self._last = time.monotonic()
        self.new_rows = self._done_rows = 0
        self.stage_s: Counter[str] = Counter()  # of the workers
        self.coordinator_s: Counter[str] = Counter()
        self.workers: int | None = None

    def begin(self, status: np.ndarray) -> None:
        """Takes the rows that are done already from `status` `(N,) uint8`."""
        self.total = len(status)
        self._resumed_rows = int((status > 0).sum())
        self._failed = self._resumed_rows - int(_usable(status))

    def start(self) -> None:
        """Starts the clock of the rates, when the workers are ready."""
        self._started = self._last = time.monotonic()

    def add(self, result: BlockResult, made: int) -> None:
        """Counts a finished block. `made`: its rows that were not taken over from a parent version."""
        status = result.columns["status"]
        self.new_rows += made
        self._done_rows += len(status)
        self._failed += len(status) - int(_usable(status))
        self.stage_s.update(result.seconds)
        self._last = time.monotonic()
        self.report("")

    def report(self, message: str) -> None:
        """Calls `on_progress` with a snapshot and `message`."""
        done, rate = self._resumed_rows + self._done_rows, self.images_per_s
        pace = self._done_rows / self.elapsed_s if rate else 0.0
        eta_s = (self.total - done) / pace if pace else None
        self._on_progress(BuildProgress(done, self.total, self._failed, rate, eta_s, self.workers, message))

    @property
    def elapsed_s(self) -> float:
        """From the start of the workers to the last result."""
        return self._last - self._started

    @property
    def images_per_s(self) -> float:
        return self.new_rows / self.elapsed_s if self.new_rows and self.elapsed_s else 0.0


def _usable(status: np.ndarray) -> int:
    """Rows with a mask."""
    return sum(int((status == code).sum()) for code in HAS_MASK)
