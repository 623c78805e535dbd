"""EXIF orientation: from the pixels as they are stored in a file to the upright image, for boxes and masks.

Orientation is EXIF's number: 1 upright, 2 mirrored, 3 turned by 180 degrees, 4 flipped, 5 transposed, 6 to be turned by
90 degrees clockwise, 7 transposed along the other diagonal, 8 to be turned by 90 degrees anticlockwise.
"""

import numpy as np

SWAPPED = (5, 6, 7, 8)
"""Orientations that exchange width and height."""

_MIRRORS_X = (2, 3, 6, 7)
_MIRRORS_Y = (3, 4, 7, 8)


def stored_size(size: np.ndarray, orientation: np.ndarray) -> np.ndarray:
    """Width and height `(n, 2)` of upright images > as they are stored; and the reverse, which is the same."""
    return np.where(np.isin(orientation, SWAPPED)[:, None], np.asarray(size)[:, ::-1], size)


def upright_boxes(boxes: np.ndarray, size: np.ndarray, orientation: np.ndarray) -> np.ndarray:
    """Boxes `(n, 4)` xyxy in stored pixels > in the upright image, `(n, 4)` of the same dtype.

    size         (n, 2) width and height of the upright image of each box
    orientation  (n,) of the image of each box
    """
    boxes = np.asarray(boxes)
    swapped, (width, height) = np.isin(orientation, SWAPPED)[:, None], np.asarray(size, boxes.dtype).T
    x, y = boxes[:, [0, 2]], boxes[:, [1, 3]]
    x, y = np.where(swapped, y, x), np.where(swapped, x, y)
    x = np.where(np.isin(orientation, _MIRRORS_X)[:, None], width[:, None] - x[:, ::-1], x)
    y = np.where(np.isin(orientation, _MIRRORS_Y)[:, None], height[:, None] - y[:, ::-1], y)
    return np.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], 1)


def upright_pixels(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Stored pixels `(H, W, ...)` > upright."""
    if orientation in SWAPPED:
        pixels = pixels.swapaxes(0, 1)
    if orientation in _MIRRORS_X:
        pixels = pixels[:, ::-1]
    if orientation in _MIRRORS_Y:
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)
