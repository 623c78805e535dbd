"""Boxes and annotations that cannot be right: left out and counted, up to a share; their images stay."""

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from ..errors import CatalogError
from .left_out import Omissions

MAX_BAD = 10
MAX_BAD_SHARE = 0.05
OUTSIDE_PX = 1.0
"""A box may be this far outside the size that its annotation gives: pixels are counted from 0 or from 1."""

OUTSIDE = "outside the size that its annotation gives"
_LARGEST_PX = float(2**24)  # float32 holds every integer up to here


def good_boxes(
    boxes: Iterable[Sequence[float]], source: str, omissions: Omissions, size: tuple[int, int] = (0, 0)
) -> list[Sequence[float]]:
    """The boxes `x0 y0 x1 y1` that can be right, in their order; the others are counted as `box`.

    Left out: a coordinate that is not finite, or above 16 million; x1 <= x0 or y1 <= y0 (ImageNet has some); and where
    the annotation gives the image's `size` (width, height), a box that is more than a pixel outside it.
    """
    return [box for box in boxes if is_good_box(box, source, omissions, size)]


def is_good_box(
    box: Sequence[float],
    source: str,
    omissions: Omissions,
    size: tuple[int, int],
    outside: Callable[[], str] | None = None,
) -> bool:
    """False for a box that cannot be right, by the rules of `good_boxes`; it is counted as `box`.

    outside  the error line for a box outside `size`, where that ends the reading: raises CatalogError
    """
    problem = box_problem(box, size)
    if problem == OUTSIDE and outside is not None:
        raise CatalogError(outside())
    if problem:
        omissions.add("box", "", f"{source}: {box_text(box)}", problem)
    return not problem


def box_text(box: Sequence[float]) -> str:
    """`10 20 30.5 40`, for messages."""
    return " ".join(f"{value:g}" for value in box)


def box_problem(box: Sequence[float], size: tuple[int, int]) -> str:
    """Why `x0 y0 x1 y1` cannot be right, by the rules of `good_boxes`; "" where it can."""
    x0, y0, x1, y1 = box
    if not all(math.isfinite(value) and abs(value) <= _LARGEST_PX for value in box):
        return "not finite numbers of pixels"
    if x1 < x0 or y1 < y0:
        return "min above max"
    if np.float32(x1) <= np.float32(x0) or np.float32(y1) <= np.float32(y0):
        return "no area"
    width, height = size
    if width > 0 and height > 0 and (min(x0, y0) < -OUTSIDE_PX or x1 > width + OUTSIDE_PX or y1 > height + OUTSIDE_PX):
        return OUTSIDE
    return ""


def check_share(omissions: Omissions, annotations: int, where: str) -> None:
    """Raises CatalogError for more bad boxes and annotations than MAX_BAD and than MAX_BAD_SHARE of all annotations.

    annotations  read, good and bad
    where        the file or folder that they are in
    """
    bad = omissions.count("box", "annotation")
    if bad > MAX_BAD and bad > MAX_BAD_SHARE * annotations:
        first = "; ".join(omissions.first("box", "annotation"))
        raise CatalogError(
            f"{where}: {bad} of {annotations} annotations are bad, such as {first}; "
            f"up to {MAX_BAD_SHARE:.0%} are left out: mend them, or write a list of the images with their boxes"
        )
