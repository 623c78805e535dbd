"""Fair clocks, and systems measured in turn.

A clock runs a function that says `lap(name)` after each of its stages. On a GPU laps are CUDA events, read once all
work has ended; on a CPU they are the process's own time over all its threads, which a busy machine does not lengthen.
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
"""Name of the second copy of the first system, against which it is measured: the benchmark's own noise."""


@dataclass(frozen=True)
class Reading:
    """One run."""

    stages: dict[str, float]  # seconds by name, in the order of the laps; the same name twice is summed
    wall_s: float

    @property
    def total_s(self) -> float:
        return sum(self.stages.values())


@dataclass(frozen=True)
class Spread:
    """Of several runs, in seconds."""

    median: float
    p10: float
    p90: float
    runs: int


class Clock(Protocol):
    """What a second is, in words, and a run by it."""

    unit: str

    def time(self, run: Run) -> Reading: ...


class ProcessClock:
    """CPU time of this process, all threads together."""

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
    """Time of the device between CUDA events; it idles while the CPU works, and that counts too."""

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


def in_turn(
    runs: dict[str, Run], clock: Clock, rounds: int, warm_up: int, done: Callable[[], object] = lambda: None
) -> dict[str, list[Reading]]:
    """Every run once a round, every second round backwards, so that none always comes after the same one.

    done  told after each run
    """
    names = list(runs)
    for name in names * warm_up:
        clock.time(runs[name])
        done()
    found: dict[str, list[Reading]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names[:: -1 if number % 2 else 1]:
            found[name].append(clock.time(runs[name]))
            done()
    return found


def spread(seconds: list[float]) -> Spread:
    """Median and the tenth and ninetieth percentiles, between neighbours linearly."""
    ordered = sorted(seconds)
    return Spread(statistics.median(ordered), _percentile(ordered, 0.1), _percentile(ordered, 0.9), len(ordered))


def _percentile(ordered: list[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def ratio(one: list[Reading], other: list[Reading]) -> float:
    """How many times as long `one` takes: the median over rounds, in each of which both were measured."""
    return statistics.median(a.total_s / b.total_s for a, b in zip(one, other, strict=True))


def noise(readings: dict[str, list[Reading]], name: str) -> float:
    """The ratio of a system's second copy to it; 1 on a quiet machine."""
    return ratio(readings[again(name)], readings[name])


def again(name: str) -> str:
    return f"{name}, {ALONE}"
