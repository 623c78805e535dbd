"""Which recipes are tried: a point of the search is a recipe's saliency and refinement settings, engine `fast`.

Levels are drawn as a threshold and the distances of the other two from it, so that they are always in order. What is a
factor (multiples of a mean, shares of a range, weights) is drawn uniformly in its logarithm.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ...masks.grabcut import FastGrabCut
from ...masks.saliency import SaliencySettings
from ...recipe import Recipe

Strategy = Literal["absolute", "relative", "contrast", "generator"]
Heads = tuple[int, ...] | Literal["mean", "off_border"]

DIGITS = 3  # of settings: more would say more than some hundred images can
RARE = 0.15  # share of draws for settings that seldom pay: no prior, and other starts than `split`
MOVED = 0.6  # share of a point's numbers that a move changes
INITS: tuple[Literal["split", "background", "foreground"], ...] = ("split", "background", "foreground")
ITERATIONS = (1, 2, 3)


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, uniform, or uniform in their logarithm."""

    low: float
    high: float
    log: bool = True

    def draw(self, rng: np.random.Generator) -> float:
        return self._value(rng.uniform(self._unit(self.low), self._unit(self.high)))

    def near(self, value: float, step: float, rng: np.random.Generator) -> float:
        """A number near `value`; step: standard deviation as a share of the range."""
        low, high = self._unit(self.low), self._unit(self.high)
        start = min(max(self._unit(max(value, self.low)), low), high)
        return self._value(min(max(start + rng.normal() * step * (high - low), low), high))

    def _unit(self, value: float) -> float:
        return math.log(value) if self.log else value

    def _value(self, unit: float) -> float:
        return math.exp(unit) if self.log else unit


# (threshold, foreground_from from it, background_below from it): differences of what is in DIFFERENCES, else factors.
LEVELS: dict[Strategy, tuple[Range, Range, Range]] = {
    "contrast": (Range(-0.3, 0.4, log=False), Range(0.05, 1.2), Range(0.05, 1.2)),
    "relative": (Range(0.2, 3.0), Range(1.1, 12.0), Range(0.02, 0.95)),
    "absolute": (Range(0.02, 0.7), Range(1.1, 12.0), Range(0.02, 0.95)),
    "generator": (Range(0.2, 0.8, log=False), Range(0.05, 0.8), Range(0.05, 0.8)),
}
DIFFERENCES = ("contrast", "generator")
PRIOR_WEIGHT = Range(0.1, 32.0)
GAMMA = Range(10.0, 200.0)


@dataclass(frozen=True)
class Point:
    strategy: Strategy
    heads: Heads
    levels: tuple[float, float, float]  # as in LEVELS
    unknown_init: Literal["background", "split", "foreground"]
    prior_weight: float
    gamma: float
    iterations: int


@dataclass(frozen=True)
class Space:
    """What can be tried on the maps of a version; `base` is its own recipe, which keeps what is not searched.

    heads  number of the maps' attention heads
    """

    base: Recipe
    heads: int

    @property
    def strategies(self) -> tuple[Strategy, ...]:
        """`contrast` and `generator` only where the version has their maps."""
        settings = self.base.backbone
        if settings.generator_maps:
            return ("generator", "contrast", "relative", "absolute")
        return ("contrast", "relative", "absolute") if settings.contrast_maps else ("relative", "absolute")

    @property
    def head_choices(self) -> tuple[Heads, ...]:
        """The rules, the version's own choice, and the paper's first three heads."""
        choices: dict[Heads, None] = {"off_border": None, "mean": None, self.base.saliency.heads: None}
        if self.heads >= 3:
            choices[(0, 1, 2)] = None
        return tuple(choices)

    def draw(self, rng: np.random.Generator) -> Point:
        strategy = self.strategies[rng.integers(len(self.strategies))]
        threshold, above, below = (part.draw(rng) for part in LEVELS[strategy])
        return Point(
            strategy,
            self._heads(strategy, rng),
            (threshold, above, below),
            _init(rng),
            0.0 if rng.random() < RARE else PRIOR_WEIGHT.draw(rng),
            GAMMA.draw(rng),
            ITERATIONS[rng.integers(len(ITERATIONS))],
        )

    def near(self, point: Point, step: float, rng: np.random.Generator) -> Point:
        """A point of the same strategy; step: standard deviation of a move, as a share of each range."""

        def moved(part: Range, value: float) -> float:
            return part.near(value, step, rng) if rng.random() < MOVED else value

        threshold, above, below = map(moved, LEVELS[point.strategy], point.levels)
        weight = moved(PRIOR_WEIGHT, point.prior_weight)
        if rng.random() < RARE:
            weight = PRIOR_WEIGHT.draw(rng) if not point.prior_weight else 0.0
        return replace(
            point,
            heads=self._heads(point.strategy, rng) if rng.random() < RARE else point.heads,
            levels=(threshold, above, below),
            unknown_init=_init(rng) if rng.random() < RARE else point.unknown_init,
            prior_weight=weight,
            gamma=moved(GAMMA, point.gamma),
            iterations=ITERATIONS[rng.integers(len(ITERATIONS))] if rng.random() < RARE else point.iterations,
        )

    def recipe(self, point: Point) -> Recipe:
        """The recipe of a point, its numbers rounded."""
        threshold, above, below = point.levels
        if point.strategy in DIFFERENCES:
            low, high = threshold - below, threshold + above
        else:
            low, high = threshold * below, threshold * above
        if point.strategy in ("absolute", "generator"):
            low, high = max(low, 0.0), min(high, 1.0)
        own = self.base.saliency
        kept = {"contrast_share", "prior_range"} if point.strategy == own.strategy else set()
        saliency = SaliencySettings(
            **own.model_dump(include=kept),
            strategy=point.strategy,
            heads=point.heads,
            foreground_from=_rounded(high),
            background_below=_rounded(low),
            threshold=_rounded(threshold),
            unknown_init=point.unknown_init,
        )
        refine = FastGrabCut(
            iterations=point.iterations, prior_weight=_rounded(point.prior_weight), gamma=_rounded(point.gamma)
        )
        return self.base.model_copy(update={"saliency": saliency, "refine": refine})

    def point(self, recipe: Recipe) -> Point:
        """The point nearest to any recipe, to search around it."""
        saliency, refine = recipe.saliency, recipe.refine
        middle = saliency.threshold
        high, low = saliency.foreground_from, saliency.background_below
        if saliency.strategy in DIFFERENCES:
            levels = (middle, high - middle, middle - low)
        else:
            middle = max(middle, LEVELS[saliency.strategy][0].low)
            levels = (middle, high / middle, low / middle)
        cut = refine if isinstance(refine, FastGrabCut) else FastGrabCut()
        return Point(
            saliency.strategy,
            saliency.heads,
            levels,
            saliency.unknown_init,
            cut.prior_weight,
            cut.gamma,
            cut.iterations,
        )

    def _heads(self, strategy: Strategy, rng: np.random.Generator) -> Heads:
        """Those of DIFFERENCES do not use them."""
        choices = self.head_choices
        return self.base.saliency.heads if strategy in DIFFERENCES else choices[rng.integers(len(choices))]


def _init(rng: np.random.Generator) -> Literal["background", "split", "foreground"]:
    return INITS[rng.integers(1, len(INITS))] if rng.random() < RARE else "split"


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
