"""Masks and boxes as the page draws them: SVG paths in pixels of the mask."""

import cv2
import numpy as np

SIMPLIFIED_PX = 0.6
"""An outline lies at most so many pixels of the mask beside the mask's own."""


def outline_path(mask: np.ndarray) -> str:
    """Mask `(S, S) bool` > an SVG path of its parts and holes, for `fill-rule: evenodd`; "" for an empty mask.

    Pixel i covers [i, i + 1): a mask that fills the image has the outline 0,0 to S,S.
    """
    side = len(mask)
    # Twice the size: the outline then runs along the edges of pixels, not through their centres.
    doubled = np.pad(mask.astype(np.uint8), 1).repeat(2, 0).repeat(2, 1)
    contours, _ = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    paths = []
    for contour in contours:
        simple = cv2.approxPolyDP(contour, 2 * SIMPLIFIED_PX, True)
        points = (simple if len(simple) > 2 else contour)[:, 0]  # of a speck nothing would be left
        # Index c of the doubled, padded mask is the pixel from (c - 2) / 2 on, whose centre is at (c - 1.5) / 2.
        paths.append(_path(np.rint((points - 1.5) / 2).astype(int).clip(0, side)))
    return "".join(paths)


def _path(points: np.ndarray) -> str:
    steps = np.diff(points, axis=0)
    steps = steps[steps.any(1)]
    (x, y), moves = points[0].tolist(), " ".join(f"{dx} {dy}" for dx, dy in steps.tolist())
    return f"M{x} {y}l{moves}z" if len(steps) else ""
