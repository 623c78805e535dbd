"""A synthetic problem for the engines."""

from collections.abc import Callable

import numpy as np
import pytest

from locloc.pipeline.bench import Problem


def noise_problem(seed: int, truth_rows: int | None = 2, side: int = 8) -> Problem:
    """An image of noise. Its trimap is sure in the first and last two rows; its truth is the first rows."""
    rng = np.random.default_rng(seed)
    trimap = rng.choice([2, 3], (side, side)).astype(np.uint8)
    trimap[:2], trimap[-2:] = 1, 0
    truth = None if truth_rows is None else np.arange(side)[:, None] + np.zeros(side, int) < truth_rows
    return Problem(rng.integers(0, 256, (side, side, 3), np.uint8), trimap, truth, seed)


@pytest.fixture
def problem() -> Callable[..., Problem]:
    """`problem(seed, truth_rows=2, side=8)`."""
    return noise_problem
