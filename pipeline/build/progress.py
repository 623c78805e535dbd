"""How far a build is: counted by the coordinator, shown by whoever asked for it."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..status import DONE
from .tasks import BlockResult


@dataclass(frozen=True)
class BuildProgress:
    """`done` of `total` images, `failed` of them without a mask. `eta_s` and `workers` are None while not known."""

    done: int
    total: int
    failed: int
    images_per_s: float
    eta_s: float | None
    workers: int | None
    message: str


class ProgressCounter:
    """Counts finished blocks and tells `on_progress`."""

    def __init__(self, on_progress: Callable[[BuildProgress], None]):
        self._on_progress = on_progress
        self.total = self._done_before = self._failed = 0
        self._started = self._last = time.monotonic()
        self.new_rows = self._done_rows = 0
        self.stage_s: Counter[str] = Counter()  # of the workers
        self.coordinator_s: Counter[str] = Counter()
        self.workers: int | None = None

    def begin(self, status: np.ndarray) -> None:
        """`(N,) uint8` as the store has it: what is done already."""
        self.total = len(status)
        self._done_before = int((status > 0).sum())
        self._failed = self._done_before - int(_usable(status))

    def start(self) -> None:
        """Workers are ready: rates count from here."""
        self._started = self._last = time.monotonic()

    def add(self, result: BlockResult, made: int) -> None:
        """A finished block, of whose rows `made` were not just taken over."""
        status = result.columns["status"]
        self.new_rows += made
        self._done_rows += len(status)
        self._failed += len(status) - int(_usable(status))
        self.stage_s.update(result.seconds)
        self._last = time.monotonic()
        self.say("")

    def say(self, message: str) -> None:
        done, rate = self._done_before + self._done_rows, self.images_per_s
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


def _usable(status) -> int:
    return sum(int((status == code).sum()) for code in DONE)
