"""Masks as polygons along the edges of pixels, in the continuous coordinates of resize_crop.py.

A loop follows the edges between object and background, so that it encloses exactly the object's pixels;
`cv2.findContours` joins pixel centres and loses half a pixel on each side. Holes and separate parts are joined to one
polygon by bridges of no width, there and back along the same line, for formats whose polygons have no holes.
"""

import cv2
import numpy as np


def outlines(mask: np.ndarray) -> list[np.ndarray]:
    """Mask `(H, W) bool` > its closed loops, each `(k, 2) int32` corners x, y.

    Seen on a screen, loops around the object run clockwise, loops around holes anticlockwise. Each corner is where a
    loop turns. Filled by the even-odd rule, all loops together give the mask.
    """
    padded = np.pad(mask, 1)
    left_below, right_below = padded[1:, :-1], padded[1:, 1:]
    left_above, right_above = padded[:-1, :-1], padded[:-1, 1:]
    around = left_above.astype(np.uint8) + right_above + left_below + right_below  # (H + 1, W + 1)
    crossing = (around == 2) & (left_above == right_below)  # two pixels that touch at this corner only
    turning = (around == 1) | (around == 3) | crossing
    y, x = np.nonzero(turning)
    if not len(x):
        return []
    repeats = 1 + crossing[y, x]  # two loops pass, or one twice
    y, x = y.repeat(repeats), x.repeat(repeats)
    # Along a row or a column of corners, the first and the second are the ends of an edge, and so on.
    by_column = np.lexsort((y, x))
    along, across = np.empty(len(x), np.int64), np.empty(len(x), np.int64)
    along[0::2], along[1::2] = np.arange(1, len(x), 2), np.arange(0, len(x), 2)
    across[by_column[0::2]], across[by_column[1::2]] = by_column[1::2], by_column[0::2]
    # The object is on the right hand of an edge: an edge above object runs to the right.
    starts = np.arange(0, len(x), 2)
    runs_right = padded[y[starts] + 1, x[starts] + 1]
    points, next_along, next_across = np.stack([x, y], 1).astype(np.int32), along.tolist(), across.tolist()
    unused = bytearray(b"\1") * len(x)
    loops = []
    for start, right in zip(starts.tolist(), runs_right.tolist(), strict=True):
        corner = start if right else start + 1
        if not unused[corner]:
            continue
        loop: list[int] = []
        while unused[corner]:
            end = next_along[corner]
            unused[corner] = unused[end] = 0
            loop += (corner, end)
            corner = next_across[end]
        loops.append(points[loop])
    return loops


def area(loop: np.ndarray) -> float:
    """Signed area of a loop `(k, 2)`: negative for a hole."""
    x, y = loop[:, 0].astype(np.float64), loop[:, 1].astype(np.float64)
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def polygons(loops: list[np.ndarray]) -> list[np.ndarray]:
    """Loops > one polygon `(k, 2)` for each part of the object, its holes joined to it."""
    sized = [(area(loop), loop) for loop in loops if len(loop) > 2]
    parts = sorted((size, number) for number, (size, _) in enumerate(sized) if size > 0)
    members: dict[int, list[np.ndarray]] = {number: [sized[number][1]] for _, number in parts}
    for size, hole in sized:
        if size < 0:
            around = (number for _, number in parts if _encloses(sized[number][1], hole))
            number = next(around, None)
            if number is not None:
                members[number].append(hole)
    return [joined(member) for member in members.values()]


def joined(loops: list[np.ndarray]) -> np.ndarray:
    """Loops > one polygon `(k, 2)` through all of them, each joined to those before it where they are closest."""
    whole = loops[0]
    for loop in loops[1:]:
        distance = ((whole[:, None].astype(np.float64) - loop[None]) ** 2).sum(2)
        at, of = divmod(int(distance.argmin()), len(loop))
        turned = np.roll(loop, -of, axis=0)
        whole = np.concatenate([whole[: at + 1], turned, turned[:1], whole[at:]])
    return whole


def simplified(loops: list[np.ndarray], tolerance_px: float) -> list[np.ndarray]:
    """Loops with fewer corners, none of them further than `tolerance_px` from its loop; 0: as they are."""
    if not tolerance_px:
        return loops
    return [cv2.approxPolyDP(loop.reshape(-1, 1, 2), tolerance_px, True).reshape(-1, 2) for loop in loops]


def centre_outlines(mask: np.ndarray) -> list[np.ndarray]:
    """Mask `(H, W) bool` > closed loops `(k, 2) int32` through the outermost pixels of the object, also around holes.

    These are pixels, not edges: `filled_with_border` of them, joined, gives the mask but for the bridges.
    """
    found, _ = cv2.findContours(mask.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    return [loop.reshape(-1, 2) for loop in found]


def filled_with_border(polygon: np.ndarray, width: int, height: int) -> np.ndarray:
    """A polygon `(k, 2)` of pixels > mask `(H, W) bool` that has its border too, as ultralytics draws labels."""
    canvas = np.zeros((height, width), np.uint8)
    return cv2.fillPoly(canvas, [polygon.astype(np.int32)], 1).astype(bool)


def _encloses(loop: np.ndarray, inner: np.ndarray) -> bool:
    """Whether every corner of `inner` is inside `loop` or on it."""
    shape = loop.reshape(-1, 1, 2).astype(np.float32)
    return all(cv2.pointPolygonTest(shape, (float(x), float(y)), False) >= 0 for x, y in inner.tolist())
