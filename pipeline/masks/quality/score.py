"""The parts of a quality > one number: the IoU with a true mask that is to be expected.

A logistic regression of the IoU itself, so that the masks of quality 0.8 have a mean IoU of about 0.8. It was fitted to
masks of several recipes, on photographs and on made scenes, with the backbones that docs/quality.md lists.
"""

import math

from . import PARTS

LOWEST = 0.001
"""The quality of an empty mask, and the least of any: 0 means unknown in a store."""

BIAS = -6.352
WEIGHTS = {
    "threshold_iou": 1.547,
    "map_stability": 0.22,
    "cut_stability": 1.713,
    "map_fit": 1.335,
    "head_fit": 1.244,
    "head_agreement": 0.008,
    "edge_contrast": 0.18,
    "colour_contrast": 0.864,
    "largest_share": 2.328,
    "border_share": -2.655,
}
"""By part; `threshold_iou` is one of the statistics of a row."""

TYPICAL = {"threshold_iou": 0.86, "cut_stability": 0.88, "edge_contrast": 1.3, "colour_contrast": 0.62}
"""Means of the parts that compare a mask with pixels, in place of those of an engine that uses none."""


def expected_iou(threshold_iou: float, parts: tuple[float, ...], uses_pixels: bool = True) -> float:
    """The quality of a mask that is not empty, in [LOWEST, 1].

    threshold_iou  IoU of the mask with the thresholded map
    parts          in the order of PARTS
    uses_pixels    False where the engine uses none: then the parts of TYPICAL are not known
    """
    values = {"threshold_iou": threshold_iou, **dict(zip(PARTS, parts, strict=True))}
    if not uses_pixels:
        values |= TYPICAL
    score = BIAS + sum(weight * values[name] for name, weight in WEIGHTS.items())
    return max(LOWEST, 1 / (1 + math.exp(-score)))
