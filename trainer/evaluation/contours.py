"""The contours of a map at every threshold at once.

The input is a map of integer levels: pixel p is in the mask of threshold t if `levels[p] > t`. From the highest
threshold to the lowest, pixels join 8-connected components (union-find) whose boxes and areas are updated, so all
thresholds cost about as much as one. Results equal those of `cv2.findContours` and `cv2.contourArea`.

A component's area is that of its outer contour: the polygon through the centres of its outermost pixels, holes filled.
A component without holes has twice that area as a sum over squares of 2 x 2 pixels: 2 for all four pixels, 1 for three.
With holes this sum is a lower bound, and the box gives an upper bound. Only if the bounds leave several candidates for
the largest area are their contours traced, pixel by pixel.
"""

import numpy as np

from ...pipeline.masks.numba_kernels import kernel

# Neighbours as (dy, dx), clockwise from the left one.
_DY = np.array([0, -1, -1, -1, 0, 1, 1, 1])
_DX = np.array([-1, -1, 0, 1, 1, 1, 0, -1])

_NO_BOXES = np.zeros((0, 4))


def largest_boxes(levels: np.ndarray, count: int) -> np.ndarray:
    """Levels `(H, W)`, integers from 0 to `count`, > the box of each mask's largest contour, `(count, 4) int32`.

    Boxes are x, y, x + w, y + h of `cv2.boundingRect`; zeros for an empty mask. Ties in area are broken by the larger
    box, then the upper, then the left one, as in `locloc.pipeline.geometry.boxes`.
    """
    return _outer(np.ascontiguousarray(levels, np.int32), count, _NO_BOXES, 0.0, False)[0]


def contour_ious(
    levels: np.ndarray, count: int, truths: np.ndarray, plus: float, clipped: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The boxes of `largest_boxes`, and the best IoU of any contour, holes too, with a ground-truth box `(count,)`.

    truths   ground-truth boxes `(n, 4)` xyxy
    plus     added to widths and heights: 0, or 1 for protocols whose boxes include their last pixel
    clipped  boxes end at W - 1 and H - 1

    The IoU is NaN for an empty mask. A hole's contour runs through the pixels around it, as in `cv2.RETR_TREE`.
    """
    levels, truths = np.ascontiguousarray(levels, np.int32), np.ascontiguousarray(truths, np.float64)
    boxes, best = _outer(levels, count, truths, plus, clipped)
    _holes(levels, count, truths, plus, clipped, best)
    return boxes, best


@kernel()
def _root(parent, pixel):
    while parent[pixel] != pixel:
        parent[pixel] = parent[parent[pixel]]
        pixel = parent[pixel]
    return pixel


@kernel()
def _unite(root, child, parent, state):
    """Joins two components and their boxes; returns the root of the one with the larger box, and the other root."""
    if (state[child, 2] - state[child, 0]) * (state[child, 3] - state[child, 1]) > (state[root, 2] - state[root, 0]) * (
        state[root, 3] - state[root, 1]
    ):
        root, child = child, root
    parent[child] = root
    state[root, 0] = min(state[root, 0], state[child, 0])
    state[root, 1] = min(state[root, 1], state[child, 1])
    state[root, 2] = max(state[root, 2], state[child, 2])
    state[root, 3] = max(state[root, 3], state[child, 3])
    return root, child


@kernel()
def _sort_pixels(levels, count):
    """Pixel indices sorted by level, and the position of each level's first pixel."""
    flat = levels.ravel()
    starts = np.zeros(count + 2, np.int64)
    for level in flat:
        starts[level + 1] += 1
    for level in range(count + 1):
        starts[level + 1] += starts[level]
    fill, order = starts.copy(), np.empty(flat.size, np.int32)
    for pixel in range(flat.size):
        order[fill[flat[pixel]]] = pixel
        fill[flat[pixel]] += 1
    return order, starts


@kernel()
def _best_iou(x0, y0, x1, y1, truths, plus, clip_x, clip_y):
    x1, y1 = min(x1, clip_x), min(y1, clip_y)
    best = 0.0
    area = (x1 - x0 + plus) * (y1 - y0 + plus)
    for n in range(len(truths)):
        a, b, c, d = truths[n]
        wide, high = min(x1, c) - max(x0, a) + plus, min(y1, d) - max(y0, b) + plus
        if wide > 0 and high > 0:
            both = wide * high
            best = max(best, both / (area + (c - a + plus) * (d - b + plus) - both))
    return best


@kernel()
def _contour_area(levels, t, start):
    """Twice the area of the outer contour through `start`, the component's first pixel in reading order."""
    height, width = levels.shape
    y0, x0 = start // width, start % width
    first = -1
    for step in range(8):  # clockwise from the left neighbour, which is outside
        y, x = y0 + _DY[step], x0 + _DX[step]
        if 0 <= y < height and 0 <= x < width and levels[y, x] > t:
            first = step
            break
    if first < 0:
        return 0
    end_y, end_x = y0 + _DY[first], x0 + _DX[first]
    y, x, before, twice = y0, x0, first, 0
    while True:
        turn, ny, nx = before, y, x
        for step in range(1, 9):  # anticlockwise from where we came
            turn = (before - step) % 8
            ny, nx = y + _DY[turn], x + _DX[turn]
            if 0 <= ny < height and 0 <= nx < width and levels[ny, nx] > t:
                break
        twice += x * ny - nx * y
        if ny == y0 and nx == x0 and y == end_y and x == end_x:
            return abs(twice)
        y, x, before = ny, nx, (turn + 4) % 8


@kernel("(int32[:, ::1], int64, float64[:, ::1], float64, boolean)")
def _outer(levels, count, truths, plus, clipped):
    """The largest contour's box at each threshold, and the best IoU of any outer contour."""
    height, width = levels.shape
    order, starts = _sort_pixels(levels, count)
    size = height * width
    parent = np.full(size, -1, np.int32)
    state = np.empty((size, 6), np.int32)  # x0, y0, x1, y1, first pixel, twice the area without holes
    exact = np.empty(size, np.int64)  # twice the area, -1: not computed yet
    iou = np.empty(size, np.float64)
    position = np.empty(size, np.int32)  # of a root in `roots`
    roots, alive = np.empty(size, np.int32), 0
    boxes, best = np.zeros((count, 4), np.int32), np.full(count, np.nan)
    clip_x, clip_y = (width - 1, height - 1) if clipped else (width, height)
    for t in range(count - 1, -1, -1):
        if starts[t + 1] == starts[t + 2]:
            if t + 1 < count:
                boxes[t], best[t] = boxes[t + 1], best[t + 1]
            continue
        for n in range(starts[t + 1], starts[t + 2]):
            pixel = order[n]
            y, x = pixel // width, pixel % width
            parent[pixel] = pixel
            state[pixel, 0], state[pixel, 1], state[pixel, 2], state[pixel, 3] = x, y, x + 1, y + 1
            state[pixel, 4], state[pixel, 5] = pixel, 0
            position[pixel] = alive
            roots[alive] = pixel
            alive += 1
            root = pixel
            for step in range(8):
                ny, nx = y + _DY[step], x + _DX[step]
                if not (0 <= ny < height and 0 <= nx < width) or parent[ny * width + nx] < 0:
                    continue
                child = _root(parent, ny * width + nx)
                if child == root:
                    continue
                root, child = _unite(root, child, parent, state)
                state[root, 4] = min(state[root, 4], state[child, 4])
                state[root, 5] += state[child, 5]
                alive -= 1
                roots[position[child]] = roots[alive]
                position[roots[alive]] = position[child]
            for corner in range(4):  # the squares of 2 x 2 pixels with this one
                top, left, inside = y - corner // 2, x - corner % 2, 0
                if top < 0 or left < 0 or top + 1 >= height or left + 1 >= width:
                    continue
                for part in range(4):
                    inside += parent[(top + part // 2) * width + left + part % 2] >= 0
                state[root, 5] += inside >= 3
            exact[root], iou[root] = -1, -1.0
        least, highest = -1, 0.0
        for n in range(alive):
            least = max(least, state[roots[n], 5])
        for n in range(alive):
            if exact[roots[n]] > least:
                least = exact[roots[n]]
        winner, candidates = -1, 0
        for n in range(alive):
            root = roots[n]
            most = 2 * (state[root, 2] - state[root, 0] - 1) * (state[root, 3] - state[root, 1] - 1)
            if most >= least:
                candidates += 1
                winner = root
            if len(truths):
                if iou[root] < 0:
                    iou[root] = _best_iou(
                        state[root, 0], state[root, 1], state[root, 2], state[root, 3], truths, plus, clip_x, clip_y
                    )
                highest = max(highest, iou[root])
        if candidates > 1:
            winner, key = -1, (np.int64(-1), np.int64(0), np.int64(0), np.int64(0))
            for n in range(alive):
                root = roots[n]
                wide, high = state[root, 2] - state[root, 0], state[root, 3] - state[root, 1]
                most = 2 * (wide - 1) * (high - 1)
                if most < least:
                    continue
                if exact[root] < 0:
                    exact[root] = most if state[root, 5] == most else _contour_area(levels, t, state[root, 4])
                mine = (exact[root], np.int64(wide * high), np.int64(-state[root, 1]), np.int64(-state[root, 0]))
                if winner < 0 or mine > key:
                    winner, key = root, mine
        boxes[t] = state[winner, :4]
        best[t] = highest
    return boxes, best


@kernel("(int32[:, ::1], int64, float64[:, ::1], float64, boolean, float64[::1])")
def _holes(levels, count, truths, plus, clipped, best):
    """Updates `best` with the contours around holes: 4-connected background components that touch no edge."""
    height, width = levels.shape
    order, starts = _sort_pixels(levels, count)
    size = height * width
    parent = np.full(size, -1, np.int32)
    state = np.empty((size, 4), np.int32)
    iou = np.empty(size, np.float64)  # -1: not computed yet; 0 for components that touch an edge
    position = np.empty(size, np.int32)
    roots, alive, last = np.empty(size, np.int32), 0, 0.0
    clip_x, clip_y = (width - 1, height - 1) if clipped else (width, height)
    for t in range(count):
        if starts[t] < starts[t + 1]:
            for n in range(starts[t], starts[t + 1]):
                pixel = order[n]
                y, x = pixel // width, pixel % width
                parent[pixel] = pixel
                state[pixel, 0], state[pixel, 1], state[pixel, 2], state[pixel, 3] = x, y, x + 1, y + 1
                position[pixel] = alive
                roots[alive] = pixel
                alive += 1
                root = pixel
                for step in range(0, 8, 2):
                    ny, nx = y + _DY[step], x + _DX[step]
                    if not (0 <= ny < height and 0 <= nx < width) or parent[ny * width + nx] < 0:
                        continue
                    child = _root(parent, ny * width + nx)
                    if child == root:
                        continue
                    root, child = _unite(root, child, parent, state)
                    alive -= 1
                    roots[position[child]] = roots[alive]
                    position[roots[alive]] = position[child]
                iou[root] = -1.0
            last = 0.0
            for n in range(alive):
                root = roots[n]
                if iou[root] < 0:
                    x0, y0, x1, y1 = state[root]
                    inside = x0 > 0 and y0 > 0 and x1 < width and y1 < height
                    iou[root] = (
                        _best_iou(x0 - 1, y0 - 1, x1 + 1, y1 + 1, truths, plus, clip_x, clip_y) if inside else 0.0
                    )
                last = max(last, iou[root])
        if not np.isnan(best[t]):
            best[t] = max(best[t], last)
