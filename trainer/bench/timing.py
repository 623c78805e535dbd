"""Clocks, and systems timed in alternating rounds.

A clock runs a function that calls `lap(name)` after each of its stages. On a GPU laps are CUDA events, read after all
work has ended. On a CPU they are the process time of all threads, which other processes do not lengthen.
"""

import itertools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

from .systems import Lap

Run = Callable[[Lap], object]

ALONE = "again"
"""Suffix of the second copy of the first system: timing the same system twice measures the benchmark's noise."""


@dataclass(frozen=True)
class Reading:
    """The times of one run."""

    stages: dict[str, float]  # seconds by lap name, in order; laps of the same name are summed
    wall_s: float

    @property
    def total_s(self) -> float:
        return sum(self.stages.values())


@dataclass(frozen=True)
class Spread:
    """The distribution of several runs, in seconds."""

    median: float
    p10: float
    p90: float
    runs: int


class Clock(Protocol):
    """Times one run."""

    unit: str  # of its seconds, in words

    def time(self, run: Run) -> Reading: ...


class ProcessClock:
    """CPU time of this process, summed over all threads."""

    unit = "process time"

    def time(self, run: Run) -> Reading:
        stages: dict[str, float] = {}
        wall, last = time.perf_counter(), time.process_time()

        def lap(name: str) -> None:
            nonlocal last
            now = time.process_time()
            stages[name] = stages.get(name, 0.0) + now - last
            last = now

        run(lap)
        return Reading(stages, time.perf_counter() - wall)


class CudaClock:
    """Device time between CUDA events, including the time that the device waits for the CPU."""

    unit = "device time"

    def time(self, run: Run) -> Reading:
        torch.cuda.synchronize()
        wall, marks = time.perf_counter(), [("", _event())]
        run(lambda name: marks.append((name, _event())))
        torch.cuda.synchronize()
        stages: dict[str, float] = {}
        for (_, before), (name, after) in itertools.pairwise(marks):
            stages[name] = stages.get(name, 0.0) + before.elapsed_time(after) / 1e3
        return Reading(stages, time.perf_counter() - wall)


def _event() -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def create_clock(device: torch.device) -> Clock:
    return CudaClock() if device.type == "cuda" else ProcessClock()


@dataclass(frozen=True)
class Where:
    """What systems run on, and what times them."""

    device: torch.device
    clock: Clock
    on_gpu: bool

    @classmethod
    def of(cls, device: torch.device) -> "Where":
        return cls(device, create_clock(device), device.type == "cuda")


def in_turn(
    runs: dict[str, Run], clock: Clock, rounds: int, warm_up: int, done: Callable[[], object] = lambda: None
) -> dict[str, list[Reading]]:
    """Times every run once per round; every second round in reverse, so that none always follows the same one.

    done  called after each run
    """
    names = list(runs)
    for name in names * warm_up:
        clock.time(runs[name])
        done()
    readings: dict[str, list[Reading]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names[:: -1 if number % 2 else 1]:
            readings[name].append(clock.time(runs[name]))
            done()
    return readings


def spread(seconds: list[float]) -> Spread:
    """Median, 10th and 90th percentile, with linear interpolation."""
    ordered = sorted(seconds)
    return Spread(statistics.median(ordered), _percentile(ordered, 0.1), _percentile(ordered, 0.9), len(ordered))


def _percentile(ordered: list[float], share: float) -> float:
    position = share * (len(ordered) - 1)
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (position - low) * (ordered[high] - ordered[low])


def ratio(readings: list[Reading], reference: list[Reading]) -> float:
    """Time relative to the reference: the median of the ratios of each round."""
    return statistics.median(a.total_s / b.total_s for a, b in zip(readings, reference, strict=True))


def noise(readings: dict[str, list[Reading]], name: str) -> float:
    """The ratio of a system's second copy to it; 1 on a quiet machine."""
    return ratio(readings[again(name)], readings[name])


def again(name: str) -> str:
    return f"{name}, {ALONE}"
