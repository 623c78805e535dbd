"""Saliency simulated from a true mask: problems for refinement engines that need no backbone.

Both are what a 14 x 14 attention map can show, resized to the mask. With thresholds 0.1, 0.35 and 0.6, on photographs
of horses at 224 px, about a third of the pixels is unknown; the map cut at the middle threshold has a mean IoU with the
truth of .77 (smooth) and .44 (rough).
"""

from collections.abc import Callable

import cv2
import numpy as np

from ..saliency import SaliencySettings

GRID = 14
THRESHOLDS = SaliencySettings(background_below=0.1, threshold=0.35, foreground_from=0.6)


def smooth_saliency(truth: np.ndarray, seed: int) -> np.ndarray:
    """Simulation A: truth `(S, S) bool` > saliency `(S, S) float32` in [0, 1]. All of the object, unevenly lit."""
    rng = np.random.default_rng(seed)
    coarse = _coarse(truth.astype(np.float32))
    return _shown(coarse * rng.uniform(0.3, 1.0, coarse.shape), rng, truth.shape)


def rough_saliency(truth: np.ndarray, seed: int) -> np.ndarray:
    """Simulation B: truth `(S, S) bool` > saliency `(S, S) float32` in [0, 1].

    Two or three blobs, cut at the object's outline, over part of it; with each, by a chance of 30 %, a spurious one
    whose middle is in the background.
    """
    rng, (height, width) = np.random.default_rng(seed), truth.shape
    y, x = np.mgrid[:height, :width]
    object_side = np.sqrt(truth.sum())

    def blob(inside: np.ndarray, strength: float) -> np.ndarray:
        middle_y, middle_x = inside[rng.integers(len(inside))]
        radius = object_side * rng.uniform(0.22, 0.37)
        return strength * np.exp(-((y - middle_y) ** 2 + (x - middle_x) ** 2) / (2 * radius**2), dtype=np.float32)

    seen, spurious = np.zeros(truth.shape, np.float32), np.zeros(truth.shape, np.float32)
    for _ in range(rng.integers(2, 4)):
        seen = np.maximum(seen, blob(np.argwhere(truth), rng.uniform(0.7, 1)))
        if rng.random() < 0.3:
            spurious = np.maximum(spurious, blob(np.argwhere(~truth), rng.uniform(0.4, 0.9)))
    return _shown(_coarse(np.maximum(seen * truth, spurious)), rng, truth.shape)


def _coarse(picture: np.ndarray) -> np.ndarray:
    return cv2.resize(picture, (GRID, GRID), interpolation=cv2.INTER_AREA)


def _shown(coarse: np.ndarray, rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    coarse = coarse + 0.05 * rng.random(coarse.shape)
    coarse = ((coarse - coarse.min()) / (coarse.max() - coarse.min())).astype(np.float32)
    return cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_LINEAR)


SIMULATIONS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {"A": smooth_saliency, "B": rough_saliency}
