"""Engines measured in turn on the same problems: time, and what their masks agree with.

Every engine is compared with `cv2.grabCut` of as many rounds. That reference runs twice a problem, the second time with
another seed: the IoU of the two is the most that can be asked of any engine, and the ratio of their times is the noise
of this very run. Times are of the process, which a busy machine lengthens little, though its caches are shared.
"""

import statistics
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from ..geometry.boxes import mask_iou
from ..masks.grabcut import FastGrabCut, OpenCVGrabCut, Threshold, TorchGrabCut
from .energy import EnergyRow, score_energies
from .problems import Problem

Engine = Any
"""Called `engine(rgb, trimap, seed=0) -> mask`, with `unusable(trimap)`: see the package refine."""

ENGINES: dict[str, Engine] = {
    "fast, 8 neighbours, 1 round": FastGrabCut(neighbours=8),
    "fast, 8 neighbours, 5 rounds": FastGrabCut(neighbours=8, iterations=5),
    "fast, 4 neighbours, 1 round": FastGrabCut(neighbours=4),
    "fast, 4 neighbours, 5 rounds": FastGrabCut(neighbours=4, iterations=5),
    "fast, 4 neighbours, band, 1 round": FastGrabCut(neighbours=4, band_px=3),
    "fast, 4 neighbours, band, 5 rounds": FastGrabCut(neighbours=4, band_px=3, iterations=5),
    "threshold": Threshold(),
}
"""A row each. `cv2.grabCut` of as many rounds is added to them."""

SLOW: dict[str, Engine] = {"torch, 1 round": TorchGrabCut()}
"""Engines that are measured on the sample alone: this one is made for GPUs, and takes 300 ms an image on a CPU."""

SAMPLE = 10  # problems on which slow engines run and energies are compared
OTHER_SEED = 1_000_003


class NoProblemError(ValueError):
    """No problem is left that GrabCut can run on."""


@dataclass(frozen=True)
class EngineRow:
    """One engine on the problems that it was measured on; all means are over these."""

    name: str
    reference: str  # cv2.grabCut of as many rounds
    problems: int
    median_ms: float
    mean_ms: float
    times_reference: float  # the reference's time on the same problems by the engine's: 2 is twice as fast
    iou_to_reference: float
    iou_to_truth: float | None
    reference_to_truth: float | None  # IoU of the reference, on the same problems

    @property
    def images_per_s(self) -> float:
        """Of one core, refinement alone."""
        return 1e3 / self.mean_ms


@dataclass(frozen=True)
class EngineReport:
    """`unusable` problems have a trimap that GrabCut cannot run on, and are left out."""

    rows: list[EngineRow]
    energies: list[EnergyRow]
    unusable: int

    def row(self, name: str) -> EngineRow:
        return next(row for row in self.rows if row.name == name)


@dataclass
class _Readings:
    """One engine's, a problem each."""

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
    tell: Callable[[str], None] = lambda _: None,
) -> EngineReport:
    """Every engine on every problem, the slow ones on `sample` of them, on one thread; then energies on that sample.

    reference  makes the engine of so many rounds that others are compared with
    Raises NoProblemError where none of them has enough pixels of both sides.
    """
    usable = [one for one in problems if not OpenCVGrabCut().unusable(one.trimap)]
    if not usable:
        raise NoProblemError("no problem with enough pixels of both sides")
    sampled = spread_over(len(usable), sample)
    rounds = sorted({rounds_of(engine) for engine in (engines | slow).values()})
    references = {reference_name(number): reference(number) for number in rounds}
    everyone = references | {again(name): engine for name, engine in references.items()} | engines | slow
    readings = {name: _Readings() for name in everyone}
    with one_thread():
        tell("warming up (the first time on a machine, kernels are compiled for some 20 s)")
        for engine in everyone.values():
            engine(usable[0].rgb, usable[0].trimap, seed=0)
        tell(f"{len(usable)} problems, {len(everyone)} engines in turn")
        for number, problem in enumerate(usable):
            names = [name for name in everyone if name not in slow or number in sampled]
            _measure(problem, turned(names, number), everyone, readings, clock)
        tell("energies")
        first = {name: engine for name, engine in (references | engines | slow).items() if rounds_of(engine) == 1}
        energies = score_energies([usable[number] for number in sorted(sampled)], first)
    rows = [_row(name, reference_name(rounds_of(everyone[name])), found) for name, found in readings.items()]
    return EngineReport(rows, energies, len(problems) - len(usable))


def rounds_of(engine: Engine) -> int:
    """Rounds of fitting and cutting; an engine that has none is compared with one round."""
    return getattr(engine, "iterations", 1)


def reference_name(rounds: int) -> str:
    return f"opencv, {rounds} round{'s' if rounds > 1 else ''}"


def again(name: str) -> str:
    return f"{name}, another seed"


def turned(names: list[str], number: int) -> list[str]:
    """Forwards, then backwards, then from the next one on, so that none always comes after the same one, or first."""
    first = number // 2 % len(names)
    return (names[first:] + names[:first])[:: -1 if number % 2 else 1]


def spread_over(count: int, sample: int) -> set[int]:
    """`sample` numbers below `count`, evenly; all of them where it has no more."""
    sample = min(count, sample)
    return {location * count // sample for location in range(sample)}


@contextmanager
def one_thread():
    """OpenCV and torch compute on one thread inside."""
    import torch

    before, torch_before = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
        torch.set_num_threads(torch_before)


def _measure(
    problem: Problem, order: list[str], engines: dict[str, Engine], readings: dict[str, _Readings], clock
) -> None:
    seconds: dict[str, float] = {}
    masks: dict[str, np.ndarray] = {}
    for name in order:
        seed = problem.seed + (OTHER_SEED if name.endswith(again("")) else 0)
        began = clock()
        masks[name] = engines[name](problem.rgb, problem.trimap, seed=seed)
        seconds[name] = clock() - began
    for name in order:
        own, reference = readings[name], reference_name(rounds_of(engines[name]))
        own.seconds.append(seconds[name])
        own.reference_s.append(seconds[reference])
        own.to_reference.append(mask_iou(masks[name], masks[reference]))
        if problem.truth is not None:
            own.to_truth.append(mask_iou(masks[name], problem.truth))
            own.reference_to_truth.append(mask_iou(masks[reference], problem.truth))


def _row(name: str, reference: str, found: _Readings) -> EngineRow:
    return EngineRow(
        name,
        reference,
        len(found.seconds),
        statistics.median(found.seconds) * 1e3,
        statistics.fmean(found.seconds) * 1e3,
        sum(found.reference_s) / sum(found.seconds),
        statistics.fmean(found.to_reference),
        statistics.fmean(found.to_truth) if found.to_truth else None,
        statistics.fmean(found.reference_to_truth) if found.to_truth else None,
    )
