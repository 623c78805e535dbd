"""The search: random points first, then moves from the best ones with ever smaller steps. Plain and seeded.

A trial is scored on a part of the images first, and goes on to the others only if it is not clearly worse there than
the best so far (a paired comparison). The order of trials does not depend on how many processes score one, so a seed
gives the same trials everywhere.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ...recipe import Recipe
from .space import Point, Space

RANDOM = 0.4  # share of the trials that are drawn at random
ELITE = 4  # moves start from one of so many best points, each half as often as the one before it
FIRST_STEP, LAST_STEP = 0.25, 0.05  # of moves, as shares of the ranges
PART = 0.25  # of the images, scored first
PART_IMAGES = 20  # at least; fewer say nothing
REDRAWS = 20  # at most, of a point whose recipe was tried already: a move may change nothing
CLEARLY = 2.0  # standard errors of the mean difference by which a trial that is given up is worse

Scores = Callable[[Recipe, int, int], np.ndarray]
"""Recipe, start and stop among the images > FIGURES `(stop - start, 5)` of each image."""


@dataclass(frozen=True)
class Trial:
    """A recipe that was tried. `figures`: FIGURES `(n, 5)` of all images, or of the first part if it was given up."""

    name: str
    recipe: Recipe
    figures: np.ndarray
    complete: bool


def search(
    space: Space,
    start: Sequence[tuple[str, Recipe]],
    scores: Scores,
    images: int,
    column: int,
    trials: int,
    seed: int,
    on_trial: Callable[[int, int], None] = lambda done, total: None,
) -> list[Trial]:
    """Tries the recipes of `start`, then `trials` others; all of them, in the order they were tried.

    start     name and recipe; scored on all images, and beginnings of moves like the trials
    images    their number, as of `scores`
    column    of FIGURES: what is to be high
    on_trial  called with the number of recipes done and of all
    """
    rng = np.random.default_rng(seed)
    total = len(start) + trials
    done: list[Trial] = []
    points: list[tuple[float, int, Point]] = []  # of complete trials: figure, number, point

    def add(trial: Trial, point: Point) -> None:
        done.append(trial)
        if trial.complete:
            points.append((-float(trial.figures[:, column].mean()), len(done), point))
            points.sort(key=lambda entry: entry[:2])
        on_trial(len(done), total)

    for name, recipe in start:
        add(Trial(name, recipe, scores(recipe, 0, images), True), space.point(recipe))
    for number in range(trials):
        for _ in range(REDRAWS):
            point = _next(space, number / max(trials - 1, 1), [point for _, _, point in points[:ELITE]], rng)
            if all(space.recipe(point) != trial.recipe for trial in done):
                break
        best = min(
            (trial for trial in done if trial.complete),
            key=lambda trial: -trial.figures[:, column].mean(),
            default=None,
        )
        add(_try(f"trial {number + 1}", space.recipe(point), scores, images, column, best), point)
    return done


def _next(space: Space, progress: float, elite: list[Point], rng: np.random.Generator) -> Point:
    """progress: from 0 to 1; elite: the best points, best first."""
    if progress < RANDOM or not elite:
        return space.draw(rng)
    weights = 0.5 ** np.arange(len(elite))
    start = elite[rng.choice(len(elite), p=weights / weights.sum())]
    step = FIRST_STEP + (LAST_STEP - FIRST_STEP) * (progress - RANDOM) / (1 - RANDOM)
    return space.near(start, step, rng)


def _try(name: str, recipe: Recipe, scores: Scores, images: int, column: int, best: Trial | None) -> Trial:
    part = max(PART_IMAGES, round(images * PART))
    if best is None or part >= images:
        return Trial(name, recipe, scores(recipe, 0, images), True)
    first = scores(recipe, 0, part)
    if _clearly_worse(first[:, column], best.figures[:part, column]):
        return Trial(name, recipe, first, False)
    return Trial(name, recipe, np.concatenate([first, scores(recipe, part, images)]), True)


def _clearly_worse(values: np.ndarray, best: np.ndarray) -> bool:
    """Whether the mean difference of the same images is below 0 by CLEARLY standard errors."""
    difference = values - best
    return bool(difference.mean() + CLEARLY * standard_error(difference) < 0)


def standard_error(values: np.ndarray) -> float:
    """Of the mean of `(n,)`; 0 for one value."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
