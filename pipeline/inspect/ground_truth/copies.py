"""Ground-truth boxes that fit their images and were drawn on another scale: on smaller copies, or in percent.

No box alone shows it. All together make it likely where they end at one and the same share of width and height, below
0.6, and some end exactly there in each direction: these are objects that the border of a smaller copy cuts off. It is
a warning, because an image that was set into the upper left of a larger canvas has such boxes too, and they are right.
"""

import numpy as np

GRIDS = (100, 1000)  # sides of an image in units that are not pixels: percent, and those of vision-language models
HINT_IMAGES = 10  # fewer boxes say nothing about where boxes lie
LARGEST_COPY = 0.6  # of the image's side
AT_BORDER = 3  # images with a box that ends at the border of the copy, in each direction
SAME_SHARE = 0.01  # by which the shares of width and height may differ


def scale_hint(boxes: np.ndarray, box_row: np.ndarray, sizes: np.ndarray) -> list[str]:
    """A line where the boxes `(M, 4)` look as if drawn on copies of one share of their images' size.

    box_row  (M,) the row of each; sizes: (N, 2) of the upright images, zeros for unknown
    """
    size = np.asarray(sizes, np.float64)[box_row]
    known = (size > 0).all(1)
    size, ends, rows = size[known], boxes[known, 2:], box_row[known]
    if len(np.unique(rows)) < HINT_IMAGES:
        return []
    reach = (ends / size).max(0)  # (2,)
    at_border = ends >= (reach - SAME_SHARE / 2) * size - 1
    images = [len(np.unique(rows[at_border[:, axis]])) for axis in (0, 1)]
    if reach.max() > LARGEST_COPY or np.ptp(reach) > SAME_SHARE or min(images) < AT_BORDER:
        return []
    share = float(reach.mean())
    return [
        f"all true boxes end at {share:.2f} of their images' width and height, and {images[0]} and {images[1]} images "
        "have one that ends just there: they look as if drawn on smaller copies, and then every figure of boxes is "
        f"wrong; if they were, multiply them by {1 / share:.3g}"
    ]


def grid_hint(boxes: np.ndarray, box_row: np.ndarray, sizes: np.ndarray) -> list[str]:
    """A line where all boxes fill a square of 100 or 1000, and the images are larger."""
    known = (np.asarray(sizes)[box_row] > 0).all(1)
    size, ends = np.asarray(sizes, np.float64)[box_row][known], boxes[known, 2:]
    if len(np.unique(box_row[known])) < HINT_IMAGES:
        return []
    for side in GRIDS:
        if (
            (ends.max(0) <= side).all()
            and (ends.max(0) >= 0.9 * side).all()
            and (np.median(size, 0) > 1.2 * side).all()
        ):
            return [
                f"all true boxes lie within {side} x {side}, and the images are larger: are they in "
                f"{'percent' if side == 100 else 'thousandths'} of width and height? Boxes are read as pixels of the "
                "original image"
            ]
    return []


def corner_hint(boxes: np.ndarray, box_row: np.ndarray, sizes: np.ndarray) -> list[str]:
    """A line where all boxes lie in the upper left of their images."""
    size = np.asarray(sizes, np.float64)[box_row]
    known = (size > 0).all(1)
    if len(np.unique(box_row[known])) < HINT_IMAGES or (boxes[known, 2:] / size[known]).max() > 0.6:
        return []
    return [
        "all true boxes lie in the upper left of their images: were they drawn on smaller copies, "
        "or are they x y width height?"
    ]
