"""Which images look alike: nearest neighbours by colours, and by the shape of their masks."""

import numpy as np

COUNT = 6
MAX_ROWS = 50_000
"""Of more rows no neighbours are computed: it takes the square of their number."""

DIMENSIONS = 24
_CHUNK = 256  # of rows, whose distances to all others are in memory


def nearest_rows(colours: np.ndarray, shapes: np.ndarray) -> np.ndarray | None:
    """The COUNT rows that look most like each row, nearest first: `(n, COUNT) uint32`; None for too many or too few.

    colours  (n, GRID, GRID, 3) float of the images
    shapes   (n, SHAPE_PX, SHAPE_PX) float of the masks
    """
    count = len(colours)
    if not COUNT < count <= MAX_ROWS:
        return None
    features = np.concatenate([colours.reshape(count, -1), shapes.reshape(count, -1)], 1).astype(np.float32)
    features -= features.mean(0)
    # The directions in which they differ most: the rest is noise, and takes time.
    covariance = features.T @ features
    directions = np.linalg.eigh(covariance)[1][:, ::-1][:, :DIMENSIONS]
    reduced = np.ascontiguousarray(features @ directions, np.float32)
    length = (reduced**2).sum(1)
    found = np.empty((count, COUNT), np.uint32)
    for start in range(0, count, _CHUNK):
        part = reduced[start : start + _CHUNK]
        distance = length[None] - 2 * part @ reduced.T
        distance[np.arange(len(part)), np.arange(start, start + len(part))] = np.inf
        near = np.argpartition(distance, COUNT, 1)[:, :COUNT]
        order = np.take_along_axis(distance, near, 1).argsort(1, kind="stable")
        found[start : start + len(part)] = np.take_along_axis(near, order, 1)
    return found
