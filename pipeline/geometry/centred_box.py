"""The centred baseline, which ignores the image: the same box, or ellipse, in the middle of every image."""

import numpy as np

_SIDES = np.round(np.linspace(0.2, 1.0, 9), 1)

PROPORTIONS = np.array([(width, height) for width in _SIDES for height in _SIDES])
"""(81, 2): the widths and heights to try, as shares of the image's sides."""


def centred_boxes(proportions: np.ndarray, side_px: int) -> np.ndarray:
    """Shares of a square's sides `(..., 2)` > centred boxes `(..., 4) float64` in pixels."""
    half = np.asarray(proportions) / 2
    return np.concatenate([0.5 - half, 0.5 + half], axis=-1) * side_px
