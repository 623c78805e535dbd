"""Engines measured in turn on the same problems: time, and the IoU of their masks with a reference and the truth.

Every engine is compared with `cv2.grabCut` of the same number of rounds. That reference runs twice on each problem, the
second time with another seed: the IoU of the two is the highest that an engine can be expected to reach, and the ratio
of their times is the noise of the run. Times are process times, which other load on the machine changes little.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import cv2
import numpy as np

from ..geometry.boxes import mask_iou
from ..masks.grabcut import Engine, FastGrabCut, OpenCVGrabCut, Threshold, TorchGrabCut
from .energy import EnergyRow, score_energies
from .problems import Problem

ENGINES: dict[str, Engine] = {
    "fast, 8 neighbours, 1 round": FastGrabCut(neighbours=8),
    "fast, 8 neighbours, 5 rounds": FastGrabCut(neighbours=8, iterations=5),
    "fast, 4 neighbours, 1 round": FastGrabCut(neighbours=4),
    "fast, 4 neighbours, 5 rounds": FastGrabCut(neighbours=4, iterations=5),
    "fast, 4 neighbours, band, 1 round": FastGrabCut(neighbours=4, band_px=3),
    "fast, 4 neighbours, band, 5 rounds": FastGrabCut(neighbours=4, band_px=3, iterations=5),
    "threshold": Threshold(),
}
"""The rows of the table. `cv2.grabCut` of the same numbers of rounds is added to them."""

SLOW: dict[str, Engine] = {"torch, 1 round": TorchGrabCut()}
"""Engines that are measured on the sample alone: this one is for GPUs and takes 300 ms an image on a CPU."""

SAMPLE = 10  # problems on which slow engines run and energies are compared
OTHER_SEED = 1_000_003


class NoProblemError(ValueError):
    """GrabCut can run on none of the problems."""


@dataclass(frozen=True)
class EngineRow:
    """One engine; all means are over the problems that it was measured on."""

    name: str
    reference: str  # cv2.grabCut of the same number of rounds
    problems: int
    median_ms: float
    mean_ms: float
    times_reference: float  # speed-up: the reference's time on the same problems over the engine's
    iou_to_reference: float
    iou_to_truth: float | None
    reference_to_truth: float | None  # IoU of the reference, on the same problems

    @property
    def images_per_s(self) -> float:
        """On one core, refinement alone."""
        return 1e3 / self.mean_ms


@dataclass(frozen=True)
class EngineReport:
    """`unusable` counts the problems left out because GrabCut cannot run on their trimap."""

    rows: list[EngineRow]
    energies: list[EnergyRow]
    unusable: int

    def row(self, name: str) -> EngineRow:
        return next(row for row in self.rows if row.name == name)


@dataclass
class _Readings:
    """Measurements of one engine, one per problem."""

    seconds: list[float] = field(default_factory=list)
    reference_s: list[float] = field(default_factory=list)
    to_reference: list[float] = field(default_factory=list)
    to_truth: list[float] = field(default_factory=list)
    reference_to_truth: list[float] = field(default_factory=list)


def bench_engines(
    problems: list[Problem],
    engines: dict[str, Engine] = ENGINES,
    slow: dict[str, Engine] = SLOW,
    sample: int = SAMPLE,
    reference: Callable[[int], Engine] = lambda rounds: OpenCVGrabCut(iterations=rounds),
    clock: Callable[[], float] = time.process_time,
    report: Callable[[str], None] = lambda _: None,
) -> EngineReport:
    """Every engine on every problem, the slow ones on `sample` of them, on one thread; then energies on that sample.

    reference  makes the reference engine of a number of rounds
    report     receives what starts now, for progress

    Raises NoProblemError if GrabCut can run on none of the problems.
    """
    usable = [problem for problem in problems if not OpenCVGrabCut().unusable(problem.trimap)]
    if not usable:
        raise NoProblemError("no problem with enough pixels of both sides")
    sampled = spread_over(len(usable), sample)
    rounds = sorted({rounds_of(engine) for engine in (engines | slow).values()})
    references = {reference_name(number): reference(number) for number in rounds}
    all_engines = references | {again(name): engine for name, engine in references.items()} | engines | slow
    readings = {name: _Readings() for name in all_engines}
    with one_thread():
        report("warming up (the first time on a machine, kernels are compiled for some 20 s)")
        for engine in all_engines.values():
            engine(usable[0].rgb, usable[0].trimap, seed=0)
        report(f"{len(usable)} problems, {len(all_engines)} engines in turn")
        for number, problem in enumerate(usable):
            names = [name for name in all_engines if name not in slow or number in sampled]
            _measure(problem, turned(names, number), all_engines, readings, clock)
        report("energies")
        one_round = {name: engine for name, engine in (references | engines | slow).items() if rounds_of(engine) == 1}
        energies = score_energies([usable[number] for number in sorted(sampled)], one_round)
    rows = [_row(name, reference_name(rounds_of(all_engines[name])), reading) for name, reading in readings.items()]
    return EngineReport(rows, energies, len(problems) - len(usable))


def rounds_of(engine: Engine) -> int:
    """Rounds of fitting and cutting; an engine without any is compared with one round."""
    return getattr(engine, "iterations", 1)


def reference_name(rounds: int) -> str:
    return f"opencv, {rounds} round{'s' if rounds > 1 else ''}"


def again(name: str) -> str:
    return f"{name}, another seed"


def turned(names: list[str], number: int) -> list[str]:
    """The order on problem `number`: rotated and reversed, so that no engine is always first or after the same one."""
    start = number // 2 % len(names)
    return (names[start:] + names[:start])[:: -1 if number % 2 else 1]


def spread_over(count: int, sample: int) -> set[int]:
    """`sample` numbers below `count`, evenly spaced; all of them if `count` is not larger."""
    sample = min(count, sample)
    return {position * count // sample for position in range(sample)}


@contextmanager
def one_thread() -> Iterator[None]:
    """OpenCV and torch compute on one thread inside."""
    import torch

    cv2_threads, torch_threads = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(cv2_threads)
        torch.set_num_threads(torch_threads)


def _measure(
    problem: Problem,
    order: list[str],
    engines: dict[str, Engine],
    readings: dict[str, _Readings],
    clock: Callable[[], float],
) -> None:
    seconds: dict[str, float] = {}
    masks: dict[str, np.ndarray] = {}
    for name in order:
        seed = problem.seed + (OTHER_SEED if name.endswith(again("")) else 0)
        began = clock()
        masks[name] = engines[name](problem.rgb, problem.trimap, seed=seed)
        seconds[name] = clock() - began
    for name in order:
        reading, reference = readings[name], reference_name(rounds_of(engines[name]))
        reading.seconds.append(seconds[name])
        reading.reference_s.append(seconds[reference])
        reading.to_reference.append(mask_iou(masks[name], masks[reference]))
        if problem.truth is not None:
            reading.to_truth.append(mask_iou(problem.without_void(masks[name]), problem.truth))
            reading.reference_to_truth.append(mask_iou(problem.without_void(masks[reference]), problem.truth))


def _row(name: str, reference: str, reading: _Readings) -> EngineRow:
    return EngineRow(
        name,
        reference,
        len(reading.seconds),
        statistics.median(reading.seconds) * 1e3,
        statistics.fmean(reading.seconds) * 1e3,
        sum(reading.reference_s) / sum(reading.seconds),
        statistics.fmean(reading.to_reference),
        statistics.fmean(reading.to_truth) if reading.to_truth else None,
        statistics.fmean(reading.reference_to_truth) if reading.to_truth else None,
    )
